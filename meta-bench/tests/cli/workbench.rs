//! A temporary folder in which the binary is run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

/// A regression run of seconds: the smallest one that has everything (inner steps, validation, best
/// parameters, checkpoints).
pub const SINUSOID: &str = r#"name = "tiny"
[data]
source = "sinusoid"
way = 1
shot = 5
query = 5
[encoder]
name = "mlp"
hidden = [16, 16]
[learner]
name = "maml"
inner_lr = 0.01
test_steps = 2
[train]
iterations = 60
meta_batch = 4
log_every = 1
validate_every = 20
validation_episodes = 10
checkpoint_every = 10
[test]
episodes = 20
"#;

/// A classification run of seconds.
pub const GLYPHS: &str = r#"name = "glyphs"
[data]
source = "glyphs"
image_size = 8
query = 3
[encoder]
name = "conv4"
channels = 4
blocks = 2
[learner]
name = "protonet"
[train]
iterations = 30
meta_batch = 2
log_every = 1
validate_every = 10
validation_episodes = 10
checkpoint_every = 5
[test]
episodes = 20
"#;

/// Whether this build has the backend; says that what needs it is skipped where it has not.
pub fn compiled(name: &str) -> bool {
    let found = meta_core::backend::check(name).is_ok();
    if !found {
        eprintln!("skipped: this build is without `--features {name}`");
    }
    found
}

/// The manifests in a folder of the workspace.
pub fn manifests(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.is_file()).collect()
}

/// Whether a number and a unit of time stand in a text.
pub fn says_a_time(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let unit = pair[1].trim_end_matches([',', '.', ';', ':']);
        let units = ["s", "seconds", "min", "minutes", "h", "hours"];
        pair[0].parse::<f64>().is_ok() && units.contains(&unit)
    })
}

/// What a run of the binary came to.
pub struct Ran {
    /// Exit code; none when killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// The same, if the exit code is 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stderr: {}", self.stderr);
        self
    }

    /// The error message, if the exit code is 2 and nobody panicked.
    #[track_caller]
    pub fn mistake(self) -> String {
        assert_eq!(self.code, Some(2), "stderr: {}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let mut errors = self
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        let message = errors.next().expect("an error message").to_owned();
        assert_eq!(errors.next(), None, "one message only: {}", self.stderr);
        message
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A temporary folder with a manifest `m.toml`.
pub struct Workbench {
    folder: TempDir,
}

impl Workbench {
    /// A folder with `manifest` in `m.toml`.
    pub fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("m.toml"), manifest).expect("the manifest is written");
        Workbench { folder }
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders are made");
        fs::write(path, content).expect("the file is written");
    }

    /// The binary with `arguments` (split at spaces), in the folder.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meta"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env_remove("META_DATA")
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, arguments: &str) -> Ran {
        self.command(arguments)
            .output()
            .expect("the binary runs")
            .into()
    }

    /// Starts the binary with its output thrown away.
    pub fn start(&self, arguments: &str) -> Child {
        self.command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts")
    }

    /// Names of what is in a folder of the workbench, sorted; nothing where there is none.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The text of a file.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("UTF-8")
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The only run folder in `runs`.
    #[track_caller]
    pub fn only_run(&self) -> String {
        let names = self.names("runs");
        assert_eq!(names.len(), 1, "{names:?}");
        format!("runs/{}", names[0])
    }
}

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
