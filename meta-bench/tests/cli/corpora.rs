//! Every input that once made a reader of files fail, fed to it again: the corpora of the fuzz targets.

use std::{fs, path::PathBuf};

use meta_bench::untrusted::READERS;

use crate::workbench::root;

fn corpora() -> PathBuf {
    root().join("meta-bench/fuzz/corpus")
}

/// Feeds the corpus of a reader to it; the names of what was accepted.
fn accepted(name: &str) -> Vec<String> {
    let reader = READERS.iter().find(|reader| reader.name == name).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(corpora().join(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 8, "{name}");
    let accepts = |file: &PathBuf| {
        let folder = tempfile::tempdir().unwrap();
        // A panic would not say which file it is about.
        eprintln!("{}", file.display());
        (reader.read)(&fs::read(file).unwrap(), folder.path()).is_ok()
    };
    let accepted = files.into_iter().filter(accepts);
    accepted
        .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[track_caller]
fn accepts(name: &str, file: &str) {
    let accepted = accepted(name);
    assert!(
        accepted.iter().any(|other| other == file),
        "{name}: {accepted:?}"
    );
}

#[test]
fn every_corpus_has_its_reader() {
    let mut found: Vec<String> = fs::read_dir(corpora())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let mut names = READERS.map(|reader| reader.name);
    names.sort_unstable();
    assert_eq!(found, names);
    for name in names {
        let target = corpora().join(format!("../fuzz_targets/{name}.rs"));
        assert!(
            fs::read_to_string(target)
                .unwrap()
                .contains(&format!("\"{name}\""))
        );
    }
}

#[test]
fn manifests() {
    accepts("manifest", "usual.toml");
}

#[test]
fn overrides() {
    accepts("overrides", "empty.txt");
    assert!(
        !accepted("overrides")
            .iter()
            .any(|file| file.starts_with("no-"))
    );
}

#[test]
fn archives() {
    accepts("archive", "whole.zip");
}

#[test]
fn images() {
    let accepted = accepted("image");
    assert!(
        !accepted
            .iter()
            .any(|file| file == "cut.png" || file == "tall.png"),
        "{accepted:?}"
    );
}

#[test]
fn checkpoints() {
    assert!(
        accepted("checkpoint").is_empty(),
        "none of them has its checksum"
    );
}

#[test]
fn run_folders() {
    accepts("run_folder", "finished.txt");
}

#[test]
fn tables() {
    for name in [
        "stored.npz",
        "packed.npz",
        "table.safetensors",
        "table.pt",
        "table.csv",
    ] {
        accepts("table", name);
    }
    assert!(
        !accepted("table")
            .iter()
            .any(|file| file.starts_with("bad-"))
    );
}

#[test]
fn trials() {
    accepts("trials", "usual.csv");
}
