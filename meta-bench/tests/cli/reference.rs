//! The parts of the documentation that come from the code.

use std::fs;

use crate::workbench::{Workbench, root};

#[test]
fn the_manifest_reference_is_not_stale() {
    let bench = Workbench::new("");
    let mut command = bench.command("docs manifest --root");
    let ran = crate::workbench::Ran::from(command.arg(root()).output().unwrap()).ok();
    let stored = fs::read_to_string(root().join("docs/manifest.md")).unwrap_or_default();
    assert!(
        ran.stdout == stored,
        "docs/manifest.md is stale; write it again with `cargo run --release -- docs manifest > \
         docs/manifest.md`"
    );
}

#[test]
fn the_readme_lists_the_learners() {
    let table = Workbench::new("").run("docs learners").ok().stdout;
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        readme.contains(&table),
        "the table of learners in README.md is stale; put in what `cargo run --release -- docs \
         learners` prints"
    );
}
