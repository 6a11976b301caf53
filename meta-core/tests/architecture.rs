//! Layers import downwards only, siblings not at all; backends are told apart in one place.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The modules of this crate, lowest layer first.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["device", "graphs", "rng", "settings", "stats"],
    &["data", "params"],
    &["optim", "primitives", "task"],
    &["backend", "gradcheck", "nn"],
    &["checkpoint", "learner"],
    &["adapt", "amortize"],
    &["unroll"],
    &["eval", "meta_gradcheck", "selection"],
    &["train"],
];

/// Modules of `nn` that are layered among themselves, lowest first.
const NETWORK_LAYERS: &[&[&str]] = &[
    &[
        "dropout",
        "init",
        "loss",
        "metric",
        "noise",
        "presentation",
        "solve",
    ],
    &["conv", "linear", "norm", "predictive", "tokens"],
    &[
        "attention",
        "feed_forward",
        "modulation",
        "recurrent",
        "temporal",
    ],
    &["encoder"],
    &["network"],
];

fn crate_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .join(name)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file up to its tests, without comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a readable file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The modules directly below `root` that `code` names: `root::a`, `root::{a, b::c}`.
fn imports(code: &str, root: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let start = format!("{root}::");
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + start.len()..];
        if !rest.starts_with('{') {
            found.insert(identifier(rest));
            continue;
        }
        // The names at the first level of the braces.
        let (mut depth, mut fresh) = (0, true);
        for (position, character) in rest.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => fresh = depth == 1,
                _ if depth == 1 && fresh && !character.is_whitespace() => {
                    found.insert(identifier(&rest[position..]));
                    fresh = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn layer_of(layers: &[&[&str]], module: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.contains(&module))
}

/// The module of `folder` that a file belongs to.
fn module(folder: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(folder).expect("a file of the folder");
    let first = inside.iter().next().expect("a name");
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

fn check(folder: &Path, layers: &[&[&str]], roots: &[&str], top: &[&str]) {
    for path in rust_files(folder) {
        let module = module(folder, &path);
        if top.contains(&module.as_str()) {
            continue;
        }
        let own = layer_of(layers, &module)
            .unwrap_or_else(|| panic!("`{module}` is in no layer: add it to this test"));
        let code = code(&path);
        for root in roots {
            for import in imports(&code, root) {
                if import == module {
                    continue;
                }
                if let Some(imported) = layer_of(layers, &import) {
                    assert!(
                        imported < own,
                        "{} imports `{root}::{import}`, which is not below it",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn imports_are_understood() {
    let code = "use crate::{a, b::{c, d}, e};\nfn f() { crate::g::h(); my_crate::i(); }";
    let found: Vec<String> = imports(code, "crate").into_iter().collect();
    assert_eq!(found, ["a", "b", "e", "g"]);
}

#[test]
fn the_layers_of_meta_core_import_downwards_only() {
    check(&crate_folder("meta-core/src"), LAYERS, &["crate"], &["lib"]);
}

#[test]
fn the_layers_of_the_networks_import_downwards_only() {
    let folder = crate_folder("meta-core/src/nn");
    check(&folder, NETWORK_LAYERS, &["crate::nn", "super"], &["mod"]);
}

/// A learner stands alone: what two share moves down to `meta-core`.
#[test]
fn learners_do_not_import_each_other() {
    let folder = crate_folder("meta-algos/src");
    let names: Vec<String> = rust_files(&folder)
        .iter()
        .map(|path| module(&folder, path))
        .filter(|name| name != "lib")
        .collect();
    for path in rust_files(&folder) {
        let own = module(&folder, &path);
        if own == "lib" {
            continue;
        }
        for import in imports(&code(&path), "crate") {
            assert!(
                import == own || !names.contains(&import),
                "{} imports the learner `{import}`",
                path.display()
            );
        }
    }
}

/// The crates import downwards: meta-core ← meta-algos ← meta-bench.
#[test]
fn the_crates_import_downwards_only() {
    for (below, above) in [
        ("meta-core/src", "meta_algos"),
        ("meta-core/src", "meta_bench"),
        ("meta-algos/src", "meta_bench"),
    ] {
        for path in rust_files(&crate_folder(below)) {
            assert!(
                imports(&code(&path), above).is_empty(),
                "{} imports {above}",
                path.display()
            );
        }
    }
}

/// Loops know the contract and no learner; the host side knows no tensors.
#[test]
fn the_host_side_knows_no_tensors() {
    for layer in [&LAYERS[0], &LAYERS[1], &LAYERS[2]] {
        for module in layer.iter().filter(|module| **module != "params") {
            let file = crate_folder("meta-core/src").join(format!("{module}.rs"));
            let files = match file.exists() {
                true => vec![file],
                false => rust_files(&crate_folder("meta-core/src").join(module)),
            };
            for path in files {
                assert!(
                    imports(&code(&path), "burn").is_empty(),
                    "{} imports burn",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn only_backend_rs_tells_backends_apart() {
    for name in ["meta-core/src", "meta-algos/src", "meta-bench/src"] {
        for path in rust_files(&crate_folder(name)) {
            let inside = path.ends_with("meta-core/src/backend.rs");
            let text = code(&path);
            let found = text.contains("cfg(feature")
                || text.contains("cfg!(feature")
                || text.contains("cfg(any(feature")
                || text.contains("cfg(all(feature");
            assert!(
                inside || !found,
                "{} has a cfg(feature): backends are told apart in backend.rs",
                path.display()
            );
        }
    }
}

/// `unsafe` stands in the CPU kernels alone, each time with its reason.
#[test]
fn unsafe_stands_in_the_kernels_with_its_reason() {
    for name in ["meta-core/src", "meta-algos/src", "meta-bench/src"] {
        for path in rust_files(&crate_folder(name)) {
            let text = fs::read_to_string(&path).expect("a readable file");
            let kernel = path.to_string_lossy().contains("primitives/cpu/kernels");
            for (number, line) in text.lines().enumerate() {
                let line = line.trim_start();
                if line.starts_with("//") || !line.contains("unsafe {") {
                    continue;
                }
                assert!(kernel, "{}:{}: unsafe", path.display(), number + 1);
                let before: Vec<&str> = text.lines().take(number).collect();
                let reason = before.iter().rev().take(8).any(|l| l.contains("SAFETY:"));
                assert!(
                    reason,
                    "{}:{}: unsafe without its reason",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}
