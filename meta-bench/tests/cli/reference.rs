//! The parts of the documentation that come from the code.

use std::fs;

use crate::workbench::{Workbench, root};

/// How a stale file is renewed.
const RENEW: &str = "write it again with `cargo run --release -- docs --write`";

#[test]
fn the_manifest_reference_is_not_stale() {
    let reference = Workbench::new("").run("docs manifest").ok().stdout;
    let stored = fs::read_to_string(root().join("docs/manifest.md")).unwrap_or_default();
    assert!(reference == stored, "docs/manifest.md is stale; {RENEW}");
}

#[test]
fn the_readme_lists_the_learners() {
    let table = Workbench::new("").run("docs learners").ok().stdout;
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(
        readme.contains(&table),
        "the table of learners in README.md is stale; {RENEW}"
    );
}

#[test]
fn stale_files_are_one_command_away() {
    let bench = Workbench::new("");
    insta::assert_snapshot!(bench.run("docs --write").mistake(), @"error: docs/manifest.md: cannot read: No such file or directory (os error 2); run `meta docs --write` at the root of the workspace");
    insta::assert_snapshot!(bench.run("docs").mistake(), @"error: expected --write, or what to print: manifest, learners, searches, ledger or results");
    let readme = |table: &str| {
        format!(
            "# meta\n<!-- written by `meta docs learners` -->\n{table}<!-- /learners -->\nend\n"
        )
    };
    bench.write("docs/manifest.md", "stale");
    bench.write("README.md", "# meta\n");
    let message = bench.run("docs --write").mistake();
    assert!(message.contains("README.md"), "{message}");
    assert_eq!(bench.bytes("docs/manifest.md"), b"stale", "all or nothing");
    bench.write("README.md", readme("old\n"));
    bench.run("docs --write").ok();
    let read = |name: &str| String::from_utf8(bench.bytes(name)).unwrap();
    assert_eq!(
        read("docs/manifest.md"),
        bench.run("docs manifest").ok().stdout
    );
    assert_eq!(
        read("README.md"),
        readme(&bench.run("docs learners").ok().stdout)
    );
    let again = bench.run("docs --write").ok().stdout;
    assert_eq!(again, "every file is up to date\n");
}
