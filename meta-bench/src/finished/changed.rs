//! What has changed of a run's code since it ran, by the repository that its record is kept in.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Where the code of learners lies; the rest of a repository changes no result.
const CODE: [&str; 3] = [
    ":/meta-algos/src",
    ":/meta-core/src",
    ":/meta-core/kernels/src",
];
/// Folders and files of `meta-core` that change no training: what is drawn, asked and said around it.
const AROUND: [&str; 5] = [
    "meta-core/src/acting_conformance",
    "meta-core/src/calibration",
    "meta-core/src/conformance",
    "meta-core/src/gradcheck",
    "meta-core/src/rl",
];

/// What short trainings of every learner end in, to the bit, by the instruction set; a test holds the code to it.
const FINGERPRINTS: [&str; 2] = [
    "meta-bench/tests/cli/fingerprints/avx2.json",
    "meta-bench/tests/cli/fingerprints/avx512.json",
];

/// What has changed of the code of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Nothing that a result follows from.
    Nothing,
    /// What every learner stands on.
    Core,
    /// That, and short trainings of the learner end in the same bits as before.
    CoreSameBits,
    /// The file of the learner.
    Learner,
    /// The commit is not in the repository, or there is none.
    Unknown,
}

impl Since {
    /// What is different now, in the repository of `folder`, from `commit`.
    pub fn of(folder: &Path, commit: &str, learner: &str) -> Self {
        if commit.is_empty() || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Since::Unknown;
        }
        let since = |commit: &str| {
            let arguments = [&["diff", "--name-only", commit, "--"][..], &CODE].concat();
            git(folder, &arguments).map(|files| Since::of_files(&files, learner))
        };
        match since(commit) {
            // Fingerprints speak of code that is committed.
            Some(Since::Core)
                if since("HEAD") == Some(Since::Nothing) && same_bits(folder, commit, learner) =>
            {
                Since::CoreSameBits
            }
            since => since.unwrap_or(Since::Unknown),
        }
    }

    /// By the files that have changed, one a line, from the root of the repository.
    fn of_files(changed: &str, learner: &str) -> Self {
        let own = format!("meta-algos/src/{learner}.rs");
        let shared = |file: &str| {
            file.starts_with("meta-core/") && !AROUND.iter().any(|around| file.starts_with(around))
        };
        if changed.lines().any(|file| file == own) {
            Since::Learner
        } else if changed.lines().any(shared) {
            Since::Core
        } else {
            Since::Nothing
        }
    }

    /// The cell of a table.
    pub fn words(self) -> &'static str {
        match self {
            Since::Nothing => "same",
            Since::Core => "core changed",
            Since::CoreSameBits => "core changed, same bits",
            Since::Learner => "learner changed",
            Since::Unknown => "unknown",
        }
    }
}

/// What git prints in the repository of a folder; none where it fails.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether all fingerprints of `learner` that were recorded at `commit` are those of now, and there are some.
fn same_bits(folder: &Path, commit: &str, learner: &str) -> bool {
    let of =
        |place: &str| fingerprints(&git(folder, &["show", place]).unwrap_or_default(), learner);
    let mut count = 0;
    for file in FINGERPRINTS {
        let (before, now) = (of(&format!("{commit}:{file}")), of(&format!("HEAD:{file}")));
        // A case that is not there any more was changed on purpose.
        if before
            .iter()
            .any(|(case, bits)| now.get(case) != Some(bits))
        {
            return false;
        }
        count += before.len();
    }
    count > 0
}

/// The fingerprints of a learner in a file of them: a case is a backend, a precision, a learner and the rest.
fn fingerprints(file: &str, learner: &str) -> BTreeMap<String, String> {
    let file: Value = serde_json::from_str(file).unwrap_or_default();
    let all = file["fingerprints"].as_object().into_iter().flatten();
    let own = all.filter(|(case, _)| case.split(' ').nth(2) == Some(learner));
    own.map(|(case, bits)| (case.clone(), bits.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_has_changed() {
        let of = |changed: &str| Since::of_files(changed, "maml");
        assert_eq!(of(""), Since::Nothing);
        assert_eq!(of("meta-algos/src/anil.rs\n"), Since::Nothing);
        assert_eq!(of("meta-core/src/rl/bandit.rs\n"), Since::Nothing);
        assert_eq!(of("meta-core/kernels/src/tile.rs\n"), Since::Core);
        let both = "meta-core/src/optim.rs\nmeta-algos/src/maml.rs\n";
        assert_eq!(of(both), Since::Learner);
    }

    #[test]
    fn a_repository_says_what_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(root);
            git.args(["-c", "user.name=a", "-c", "user.email=a@b"]);
            let output = git.args(arguments).output().expect("git runs");
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout)
                .expect("text")
                .trim()
                .to_owned()
        };
        let write_to = |file: &str, text: &str| {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        let write = |text: &str| write_to("meta-algos/src/maml.rs", text);
        let commit_all = || {
            git(&["add", "."]);
            git(&["commit", "-qm", "a"]);
            git(&["rev-parse", "HEAD"])
        };
        git(&["init", "-q"]);
        write("a");
        let bits = |maml: &str, anil: &str| {
            let all =
                format!(r#"{{"flex f32 maml sine": "{maml}", "flex f32 anil sine": "{anil}"}}"#);
            write_to(FINGERPRINTS[1], &format!(r#"{{"fingerprints": {all}}}"#));
        };
        bits("1", "2");
        let commit = commit_all();
        assert_eq!(Since::of(root, &commit, "maml"), Since::Nothing);
        write_to("meta-core/src/optim.rs", "a");
        bits("1", "3");
        commit_all();
        assert_eq!(Since::of(root, &commit, "maml"), Since::CoreSameBits);
        assert_eq!(Since::of(root, &commit, "anil"), Since::Core);
        assert_eq!(Since::of(root, &commit, "feat"), Since::Core);
        write_to("meta-core/src/optim.rs", "b");
        assert_eq!(Since::of(root, &commit, "maml"), Since::Core);
        git(&["rm", "-qf", "meta-core/src/optim.rs"]);
        write("b");
        assert_eq!(Since::of(root, &commit, "maml"), Since::Learner);
        assert_eq!(Since::of(root, &commit, "anil"), Since::Nothing);
        let absent = "0".repeat(40);
        for commit in ["", "--output=x", &absent] {
            assert_eq!(Since::of(root, commit, "maml"), Since::Unknown);
        }
        let nowhere = root.join("nowhere");
        assert_eq!(Since::of(&nowhere, &commit, "maml"), Since::Unknown);
    }
}
