//! Imports run downwards in every crate, no files import each other in a circle, backends are told apart in
//! one place, `unsafe` stands in the kernels with its reason, and no gradient goes through Burn's `div_scalar`.

mod imports;
mod rooms;

use std::{
    fs,
    path::{Path, PathBuf},
};

use imports::{Crate, bare, functions, rust_files};
use rooms::{CORE, ROOMS};

fn crate_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .join(name)
        .join("src")
}

const CRATES: [&str; 4] = ["meta-core/kernels", "meta-core", "meta-algos", "meta-bench"];

/// The line that names `room`.
fn line_of(lines: &[&str], room: &str) -> Option<usize> {
    lines
        .iter()
        .position(|line| line.split(' ').any(|name| name == room))
}

/// Checks that the modules below `folder` import from lower lines only.
fn check(found: &Crate, folder: &str, lines: &[&str]) {
    let prefix: Vec<String> = folder
        .split("::")
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let room = |module: &imports::Module| -> Option<String> {
        let inside = module.strip_prefix(prefix.as_slice())?;
        Some(inside.first().map_or("mod".to_owned(), Clone::clone))
    };
    for (module, imports) in &found.imports {
        let Some(own) = room(module) else { continue };
        let Some(line) = line_of(lines, &own) else {
            assert!(
                own == "mod" || own == "main",
                "`{own}` of `{folder}` is in no line: add it to rooms.rs"
            );
            continue;
        };
        for import in imports {
            let Some(other) = room(import).filter(|other| *other != own) else {
                continue;
            };
            if let Some(imported) = line_of(lines, &other) {
                assert!(
                    imported < line,
                    "{} imports {}, which is not below it",
                    module.join("::"),
                    import.join("::")
                );
            }
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for name in CRATES {
        let circle = Crate::read(&crate_folder(name)).circle();
        assert_eq!(circle, None, "a circle of files in {name}");
    }
}

#[test]
fn rooms_import_downwards_only() {
    for rooms in ROOMS {
        let found = Crate::read(&crate_folder(rooms.package));
        check(&found, rooms.folder, rooms.lines);
    }
}

#[test]
fn no_function_is_longer_than_a_hundred_lines() {
    for name in CRATES {
        for (module, code) in Crate::read(&crate_folder(name)).code {
            for (function, lines) in functions(&code) {
                let place = module.join("::");
                assert!(
                    lines <= 100,
                    "{name}: {place}::{function} has {lines} lines"
                );
            }
        }
    }
}

/// A learner stands alone: what two share moves down to `meta-core`.
#[test]
fn learners_do_not_import_each_other() {
    let found = Crate::read(&crate_folder("meta-algos"));
    for (module, imports) in &found.imports {
        assert!(
            module.is_empty()
                || imports
                    .iter()
                    .all(|import| import.first() == module.first()),
            "{} imports another learner: {imports:?}",
            module.join("::")
        );
    }
}

/// The crates import downwards: meta-kernels ← meta-core ← meta-algos ← meta-bench.
#[test]
fn the_crates_import_downwards_only() {
    for (below, above) in [
        ("meta-core/kernels", "meta_core::"),
        ("meta-core", "meta_algos::"),
        ("meta-core", "meta_bench::"),
        ("meta-algos", "meta_bench::"),
    ] {
        for (module, code) in Crate::read(&crate_folder(below)).code {
            assert!(!code.contains(above), "{below}: {module:?} imports {above}");
        }
    }
}

/// The host side knows no tensors, so that sampling is tested in milliseconds.
#[test]
fn the_host_side_knows_no_tensors() {
    let tensors = ["params", "optim", "primitives", "task"];
    for (module, code) in Crate::read(&crate_folder("meta-core")).code {
        let Some(room) = module.first() else { continue };
        let low = line_of(CORE, room).is_some_and(|line| line <= 3);
        if low && !tensors.contains(&room.as_str()) {
            assert!(
                !code.contains("burn::"),
                "{} imports burn",
                module.join("::")
            );
        }
    }
}

/// Burn 0.21 computes the gradient of `div_scalar` by a reciprocal in f32 (`docs/numerics.md`); products with a
/// reciprocal in f64 are used instead.
#[test]
fn nothing_is_divided_by_a_scalar() {
    let mut products = 0;
    for name in ["meta-core", "meta-algos"] {
        for path in rust_files(&crate_folder(name)) {
            let text = bare(&fs::read_to_string(&path).expect("a readable file"));
            products += text.matches(".mul_scalar(").count();
            assert!(!text.contains(".div_scalar("), "{}", path.display());
        }
    }
    assert!(products > 50, "the search finds what there is: {products}");
}

/// The table of the front page and that of `docs/architecture.md` say what this test checks.
#[test]
fn the_documents_show_these_rooms() {
    let page = crate_folder("meta-core").join("lib.rs");
    let front = fs::read_to_string(page).expect("the front page");
    let rows = front.lines().filter(|line| line.starts_with("//! | `"));
    let shown: Vec<String> = rows
        .map(|row| {
            let rooms = row.split('|').nth(1).unwrap_or_default();
            let names = rooms.split('`').skip(1).step_by(2);
            names.collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(shown, CORE, "the table of meta-core/src/lib.rs");
    let document = crate_folder("docs").with_file_name("architecture.md");
    let document = fs::read_to_string(document).expect("docs/architecture.md");
    let chain = document.split("meta-core    ").nth(1).unwrap_or_default();
    let chain = chain.split("```").next().unwrap_or_default();
    let words: Vec<&str> = chain.split_whitespace().collect();
    assert_eq!(words.join(" "), CORE.join(" → "), "docs/architecture.md");
}

#[test]
fn only_the_backend_module_tells_backends_apart() {
    for name in CRATES {
        let folder = crate_folder(name);
        for path in rust_files(&folder) {
            let inside = path.ends_with("meta-core/src/backend/mod.rs");
            // Conformance needs a CPU backend, whichever.
            let inside = inside || path.ends_with("meta-core/src/lib.rs");
            // A format that costs a build is a feature too.
            let inside = inside
                || path.ends_with("meta-core/src/data/formats/mod.rs")
                || path.ends_with("meta-core/src/data/text.rs")
                || path.ends_with("meta-core/tests/data/subwords.rs");
            // So are MPI, the server and the live view.
            let inside = inside
                || path.ends_with("meta-core/src/processes/mod.rs")
                || path.ends_with("use_trained/serve/mod.rs")
                || path.ends_with("meta-bench/src/watch/mod.rs");
            let text = fs::read_to_string(&path).expect("a readable file");
            let found = text.contains("cfg(feature")
                || text.contains("cfg!(feature")
                || text.contains("cfg(any(feature")
                || text.contains("cfg(not(feature")
                || text.contains("cfg(all(feature");
            assert!(
                inside || !found,
                "{} has a cfg(feature): backends are told apart in backend/mod.rs",
                path.display()
            );
        }
    }
}

/// `unsafe` stands in the CPU kernels alone: a block with its reason, a function with its contract.
#[test]
fn unsafe_stands_in_the_kernels_with_its_reason() {
    let mut count = 0;
    for name in CRATES {
        for path in rust_files(&crate_folder(name)) {
            let text = fs::read_to_string(&path).expect("a readable file");
            let kernel = name == "meta-core/kernels";
            let lines: Vec<&str> = text.lines().collect();
            for (number, code) in bare(&text).lines().enumerate() {
                let unsafe_here = [
                    "unsafe {",
                    "unsafe fn ",
                    "unsafe impl",
                    "unsafe trait",
                    "unsafe extern",
                ]
                .iter()
                .any(|start| code.contains(start));
                // A type of function pointers promises nothing; its calls do.
                if !unsafe_here || code.trim_start().starts_with("type ") {
                    continue;
                }
                count += 1;
                let place = format!("{}:{}", path.display(), number + 1);
                assert!(kernel, "{place}: unsafe outside the kernels");
                let before = lines[..number].iter().rev().take(12);
                let reason = before
                    .take_while(|line| !line.trim().is_empty() || code.contains("unsafe {"))
                    .any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
                assert!(reason, "{place}: unsafe without its reason");
            }
        }
    }
    assert!(count > 20, "the search finds what there is: {count}");
}
