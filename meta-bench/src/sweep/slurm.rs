//! Starts runs by Slurm: one job array for all runs of a plan.
//!
//! A task of the array is this program with one run of the plan. Shortly before its time is up, Slurm
//! signals the job's script. The run saves itself, and the script puts the task back into the queue. The
//! same command starts again what was cancelled, or lost with its machine.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    process::Command,
};

use meta_core::{Error, files::write_atomically, settings, settings::Settings, toolkit::Toolkit};
use serde_json::{Map, Value};

use super::{
    local::Launcher,
    plan::title,
    prepare::Sweep,
    runs::{Swept, results, tasks},
    task::{Outcome, Task},
    worker,
};
use crate::{
    failure::{CommandError, Result},
    manifest::{base::Document, text::parse},
    output::{print, table::Format, text::visible},
    run::{
        folder::{FAILURE, RECORD},
        state::State,
    },
};

settings! {
    /// Settings of `[slurm]`: what a run of the sweep asks Slurm for.
    pub struct SlurmSettings {
        /// Partition. Empty: Slurm's default.
        partition: String = String::new();
        /// Time limit of a run, as Slurm writes it (`02:00:00`); a run that needs more saves itself
        /// and goes back into the queue. Empty: Slurm's default.
        time: String = String::new();
        /// Seconds before the time limit at which a run saves itself.
        grace: u64 = 60;
        /// Cores of a run, of each of its processes.
        cpus: u64 = 1, at_least(1);
        /// GPUs of a run, of each of its processes.
        gpus: u64 = 0;
        /// Processes that share a run through MPI; more than one needs a build with `--features mpi`.
        processes: u64 = 1, between(1, 100_000);
        /// How `srun` connects the processes: a word of `srun --mpi=list`.
        mpi: String = "pmix".to_owned();
        /// Memory of a run, as Slurm writes it (`4G`). Empty: Slurm's default.
        memory: String = String::new();
        /// Runs at the same time, 0 for no limit.
        parallel: u64 = 0;
        /// More options of `sbatch`, each with its value in one (`["--account=name"]`).
        options: Vec<String> = Vec::new();
    }
}

impl SlurmSettings {
    /// The `[slurm]` of the files of a manifest, the extended ones first.
    ///
    /// # Errors
    /// For a value that is not one argument of `sbatch`, and as other settings.
    pub fn read(documents: &[Document]) -> Result<Self> {
        let mut values = Map::new();
        let mut origins: BTreeMap<String, String> = BTreeMap::new();
        for document in documents {
            for given in parse(&document.path, &document.text)? {
                let origin = format!("{}:{}", document.path.display(), given.line);
                if given.section.is_empty() && given.key == "slurm" {
                    let error = Error::setting("slurm", &given.value, "expected a table, [slurm]");
                    return Err(CommandError::At { origin, error });
                }
                if given.section == "slurm" && !given.key.is_empty() {
                    origins.insert(format!("slurm.{}", given.key), origin);
                    values.insert(given.key, given.value);
                }
            }
        }
        let settings = Self::from_value("slurm", &Value::Object(values)).and_then(Self::checked);
        settings.map_err(|error| {
            let key = match &error {
                Error::Setting { key, .. } | Error::Unknown { name: key, .. } => key.clone(),
                _ => String::new(),
            };
            match origins.get(&key) {
                Some(origin) => CommandError::At {
                    origin: origin.clone(),
                    error,
                },
                None => error.into(),
            }
        })
    }

    /// The same, if every value is one argument of `sbatch`.
    fn checked(self) -> Result<Self, Error> {
        let words = [
            ("partition", &self.partition),
            ("time", &self.time),
            ("memory", &self.memory),
            ("mpi", &self.mpi),
        ];
        for (key, word) in words {
            let fits = |letter: char| letter.is_alphanumeric() || "_-.,:+@/".contains(letter);
            if !word.chars().all(fits) {
                let expected = "expected one word of letters, digits and `_ - . , : + @ /`";
                return Err(Error::setting(
                    format!("slurm.{key}"),
                    visible(word),
                    expected,
                ));
            }
        }
        for option in &self.options {
            let name = option.split('=').next().unwrap_or_default();
            let named = name
                .trim_start_matches('-')
                .starts_with(char::is_alphanumeric);
            let alone = !name.contains(char::is_whitespace) && !option.contains(char::is_control);
            if !(name.starts_with('-') && named && alone) {
                let expected = "expected options of sbatch, each one argument without control \
                                characters, such as \"--account=name\"";
                return Err(Error::setting("slurm.options", visible(option), expected));
            }
        }
        Ok(self)
    }

    /// The arguments of `sbatch` for the runs `indices` of the plan in `sweep`: no shell reads them.
    fn arguments(&self, sweep: &str, name: &str, indices: &[usize]) -> Vec<String> {
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name={name}"),
            format!("--array={}", ranges(indices, self.parallel)),
            format!("--cpus-per-task={}", self.cpus),
            format!("--ntasks={}", self.processes),
            format!("--signal=B:USR1@{}", self.grace),
            "--requeue".to_owned(),
            "--open-mode=append".to_owned(),
            // In a file's name, Slurm replaces what follows `%`.
            format!("--output={}/logs/slurm-%A_%a.log", sweep.replace('%', "%%")),
        ];
        for (option, value) in [
            ("partition", &self.partition),
            ("time", &self.time),
            ("mem", &self.memory),
        ] {
            if !value.is_empty() {
                arguments.push(format!("--{option}={value}"));
            }
        }
        if self.gpus > 0 {
            arguments.push(format!("--gpus-per-task={}", self.gpus));
        }
        arguments.extend(self.options.iter().cloned());
        arguments
    }
}

/// What starts `processes` of one program in a job of Slurm; nothing for one process.
///
/// All end where one fails; standard input ends for all of them at once.
pub fn starter(processes: u64, mpi: &str) -> Vec<String> {
    match processes {
        1 => Vec::new(),
        processes => vec![
            "srun".to_owned(),
            format!("--mpi={mpi}"),
            format!("--ntasks={processes}"),
            "--kill-on-bad-exit=1".to_owned(),
        ],
    }
}

/// The script of the array for the runs of the plan in `sweep`.
fn script(sweep: &str, program: &str, settings: &SlurmSettings) -> String {
    let together = match settings.processes {
        1 => String::new(),
        processes => format!(" --processes {processes} --mpi {}", quoted(&settings.mpi)),
    };
    format!(
        "#!/bin/bash\n\
         # The time is nearly up: the run saves itself, and the task goes back into the queue.\n\
         requeue=\n\
         trap 'requeue=yes; kill -TERM \"$worker\"' USR1\n\
         {program} sweep task {sweep} \"$SLURM_ARRAY_TASK_ID\" --threads {cpus}{together} &\n\
         worker=$!\n\
         # A signal ends the wait, not the worker.\n\
         while :; do\n\
         \x20   wait \"$worker\"\n\
         \x20   code=$?\n\
         \x20   kill -0 \"$worker\" 2>/dev/null || break\n\
         done\n\
         if [ -n \"$requeue\" ] && [ \"$code\" = 130 ]; then\n\
         \x20   scontrol requeue \"$SLURM_JOB_ID\" && exit 0\n\
         fi\n\
         exit \"$code\"\n",
        program = quoted(program),
        sweep = quoted(sweep),
        cpus = settings.cpus,
    )
}

/// A path for the script and for `--output`.
///
/// # Errors
/// When it has what one of them cannot hold.
fn plain(path: &Path) -> Result<&str> {
    let text = path.to_str();
    let fits = |text: &&str| !text.contains(|letter: char| letter.is_control() || letter == '\\');
    text.filter(fits).ok_or_else(|| {
        CommandError::Usage(format!(
            "{}: --launcher slurm needs a path in UTF-8, without control characters and `\\`",
            path.display()
        ))
    })
}

/// A word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// `0-3,7%2`: the indices of an array with at most `parallel` at a time, 0 for no limit.
fn ranges(indices: &[usize], parallel: u64) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for &index in indices {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => spans.push((index, index)),
        }
    }
    let text: Vec<String> = spans
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    match parallel {
        0 => text.join(","),
        parallel => format!("{}%{parallel}", text.join(",")),
    }
}

/// The file with the numbers of the arrays of a sweep, one a line.
const JOBS: &str = "slurm-jobs.txt";

/// Runs of a sweep's plan that are in Slurm's queue, with their states (`PENDING`).
///
/// # Errors
/// When the queue cannot be asked although the sweep was given to it.
pub fn queue(sweep: &Path) -> Result<BTreeMap<usize, String>> {
    let jobs = fs::read_to_string(sweep.join(JOBS)).unwrap_or_default();
    let mut found = BTreeMap::new();
    if jobs.trim().is_empty() {
        return Ok(found);
    }
    let arrays: HashSet<&str> = jobs.lines().collect();
    // All jobs of the user: asked for one that it has forgotten, squeue fails.
    let text =
        call(Command::new("squeue").args(["--me", "--noheader", "--array", "--format=%F %K %T"]))?;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(array), Some(index), Some(state)) = (words.next(), words.next(), words.next())
            && arrays.contains(array)
            && let Ok(index) = index.parse()
        {
            found.insert(index, state.to_owned());
        }
    }
    Ok(found)
}

/// The output of a command of Slurm.
fn call(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| {
        CommandError::Usage(format!(
            "cannot run `{name}`: {error}; --launcher slurm needs a machine that submits to Slurm"
        ))
    })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said: Vec<&str> = said.lines().map(str::trim).collect();
        Err(CommandError::Usage(format!(
            "`{name}` refused: {}",
            said.join("; ")
        )))
    }
}

/// Gives all runs that are to do to Slurm, but those that are in its queue.
///
/// # Errors
/// Whatever Slurm says.
pub fn launch<T: Toolkit>(sweep: &Sweep<T>, retry: bool, format: Format) -> Result<()> {
    if sweep.tpe().is_some() || sweep.sets.iter().any(|set| set.spec.halving.is_some()) {
        return Err(CommandError::Usage(
            "[sweep.tpe] and [sweep.halving] choose runs by the results of others, which an array \
             cannot; submit `meta sweep` itself as one job"
                .to_owned(),
        ));
    }
    let settings = match sweep.sets.first() {
        Some(set) => SlurmSettings::read(&set.base.documents)?,
        None => SlurmSettings::default(),
    };
    let program = std::env::current_exe()
        .map_err(|error| CommandError::Usage(format!("cannot find this program: {error}")))?;
    // Whole: a relative path may look like an option.
    let folder = std::path::absolute(&sweep.folder)
        .map_err(|error| Error::io(&sweep.folder, "find", error))?;
    let (folder, program) = (plain(&folder)?, plain(&program)?);
    let queued = queue(&sweep.folder)?;
    sweep.write_plan(&sweep.runs)?;
    let mut indices: Vec<usize> = tasks(&sweep.runs, retry)
        .iter()
        .map(|task| task.index)
        .collect();
    indices.retain(|index| !queued.contains_key(index));
    if indices.is_empty() && queued.is_empty() {
        print(&results(&sweep.runs, &Default::default()).render(format))?;
        let swept = Swept {
            runs: sweep.runs.clone(),
            stopped: 0,
            fail_fast: false,
            left: Default::default(),
        };
        return swept.verdict(&sweep.folder);
    }
    if indices.is_empty() {
        eprintln!(
            "all {} runs that are due are in Slurm's queue",
            queued.len()
        );
        return Ok(());
    }
    if retry {
        for &index in &indices {
            // Seen by `status` as it is: waiting.
            let failure = sweep.runs[index].planned.folder.join(FAILURE);
            let recorded = failure
                .parent()
                .is_some_and(|folder| folder.join(RECORD).exists());
            if failure.exists() && recorded {
                fs::remove_file(&failure).map_err(|error| Error::io(&failure, "remove", error))?;
            }
        }
    }
    let name = sweep.folder.file_name().unwrap_or_default();
    let script = script(folder, program, &settings);
    let path = Path::new(folder).join("array.sh");
    write_atomically(&path, script.as_bytes())?;
    let arguments = settings.arguments(folder, &name.to_string_lossy(), &indices);
    let answer = call(Command::new("sbatch").args(arguments).arg(&path))?;
    // `number;cluster` where there are several clusters.
    let job = answer
        .trim()
        .split(';')
        .next()
        .unwrap_or_default()
        .to_owned();
    let jobs = fs::read_to_string(sweep.folder.join(JOBS)).unwrap_or_default();
    write_atomically(
        &sweep.folder.join(JOBS),
        format!("{jobs}{job}\n").as_bytes(),
    )?;
    eprintln!(
        "job {job}: {} of {} runs, {} in the queue before; `meta sweep status {}` shows how far they are",
        indices.len(),
        sweep.runs.len(),
        queued.len(),
        sweep.folder.display()
    );
    Ok(())
}

/// One run of a plan, in a task of the array.
///
/// # Errors
/// [`CommandError::Interrupted`] when it was asked to stop and has saved itself, [`CommandError::Runs`] when it
/// failed.
pub fn task(sweep: &Path, index: usize, threads: usize, by: Vec<String>) -> Result<()> {
    let lines = worker::read(sweep)?;
    let line = lines
        .get(index)
        .ok_or_else(|| CommandError::Usage(format!("{}: has no run {index}", sweep.display())))?;
    let launcher = Launcher {
        sweep: sweep.to_owned(),
        jobs: 1,
        fail_fast: false,
        quiet: false,
        by,
    };
    let task = Task {
        index,
        short: line.hash.chars().take(12).collect(),
        folder: line.folder.clone(),
        title: title(&line.label),
        threads,
        memory: line.memory,
        until: None,
    };
    if State::of(&line.folder) == State::Finished {
        return Ok(());
    }
    match launcher.run(&[task])?.pop() {
        Some(Outcome::Failed(error)) => Err(CommandError::Runs(error)),
        Some(Outcome::Stopped) => Err(CommandError::Interrupted("stopped and saved".to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SlurmSettings> {
        SlurmSettings::read(&[Document {
            path: "m.toml".into(),
            text: text.to_owned(),
        }])
    }

    #[test]
    fn sbatch_is_asked_for_what_the_table_says() {
        let settings = read(
            "[slurm]\npartition = 'gpu'\ntime = '02:00:00'\ncpus = 4\ngpus = 1\nmemory = '8G'\n\
             parallel = 5\noptions = ['--account=me', '--comment=two words']\n",
        )
        .unwrap();
        let arguments = settings.arguments("runs/100 %j/a", "a", &[0, 1, 2, 7]);
        for argument in [
            "--parsable",
            "--array=0-2,7%5",
            "--output=runs/100 %%j/a/logs/slurm-%A_%a.log",
            "--partition=gpu",
            "--time=02:00:00",
            "--cpus-per-task=4",
            "--ntasks=1",
            "--gpus-per-task=1",
            "--mem=8G",
            "--signal=B:USR1@60",
            "--account=me",
            "--comment=two words",
        ] {
            assert!(
                arguments.iter().any(|other| other == argument),
                "{argument} {arguments:?}"
            );
        }
        let script = script("runs/sweeps/a", "/opt/it's/meta", &settings);
        let line = "\n'/opt/it'\\''s/meta' sweep task 'runs/sweeps/a' \"$SLURM_ARRAY_TASK_ID\" --threads 4 &\n";
        assert!(script.contains(line), "{script}");
    }

    #[test]
    fn processes_of_a_run_are_started_by_srun() {
        let settings = read("[slurm]\nprocesses = 4\nmpi = 'pmi2'\ncpus = 2\n").unwrap();
        let arguments = settings.arguments("a", "a", &[0]);
        assert!(
            arguments.contains(&"--ntasks=4".to_owned()),
            "{arguments:?}"
        );
        let script = script("a", "meta", &settings);
        assert!(
            script.contains("--threads 2 --processes 4 --mpi 'pmi2' &"),
            "{script}"
        );
        assert_eq!(starter(1, "pmix"), Vec::<String>::new());
        let started = starter(4, "pmi2").join(" ");
        assert_eq!(started, "srun --mpi=pmi2 --ntasks=4 --kill-on-bad-exit=1");
        read("[slurm]\nprocesses = 0\n").unwrap_err();
        read("[slurm]\nmpi = 'a b'\n").unwrap_err();
    }

    /// What a hostile manifest or folder name would have to contain.
    const HOSTILE: [char; 16] = [
        '\n', '\r', '\0', '\'', '"', '`', '$', ';', '|', '&', '\\', ' ', '%', '-', 'a', '\u{202e}',
    ];

    /// Every text of up to three of these, and what they are in front of a command.
    fn hostile() -> Vec<String> {
        let one: Vec<String> = HOSTILE.iter().map(char::to_string).collect();
        let longer = |texts: &[String]| -> Vec<String> {
            let more = |text: &String| HOSTILE.map(|letter| format!("{text}{letter}"));
            texts.iter().flat_map(more).collect()
        };
        let two = longer(&one);
        let three = longer(&two);
        let all = [one, two, three].concat();
        all.into_iter()
            .map(|text| format!("{text}touch x"))
            .collect()
    }

    #[test]
    fn whatever_the_values_the_script_has_the_same_lines() {
        let expected = script("a", "b", &SlurmSettings::default()).lines().count();
        let mut accepted = 0;
        for text in hostile() {
            for path in [format!("runs/{text}"), format!("{text}/sweeps")] {
                let Ok(path) = plain(Path::new(&path)) else {
                    continue;
                };
                accepted += 1;
                let script = script(path, path, &SlurmSettings::default());
                assert_eq!(script.lines().count(), expected, "{text:?}");
                assert!(!script.contains(['\r', '\0']), "{text:?}");
            }
        }
        assert!(accepted > 1000);
    }

    /// One argument for each value, whatever it is, or it is refused by name.
    #[test]
    fn whatever_the_values_each_is_one_argument() {
        let plainly = SlurmSettings::default().arguments("a", "a", &[0]).len();
        for text in hostile() {
            let option = format!("--comment={text}");
            let settings = SlurmSettings {
                options: vec![option.clone()],
                ..Default::default()
            };
            match settings.checked() {
                Ok(settings) => {
                    let arguments = settings.arguments("a", "a", &[0]);
                    assert_eq!(arguments.len(), plainly + 1);
                    assert_eq!(arguments.last(), Some(&option));
                }
                Err(error) => {
                    assert!(text.contains(char::is_control), "{text:?}: {error}");
                    assert!(error.to_string().contains("slurm.options"), "{error}");
                }
            }
            for settings in [
                SlurmSettings {
                    partition: text.clone(),
                    ..Default::default()
                },
                SlurmSettings {
                    time: text.clone(),
                    ..Default::default()
                },
                SlurmSettings {
                    memory: text.clone(),
                    ..Default::default()
                },
            ] {
                settings.checked().unwrap_err();
            }
        }
        for option in [
            "",
            "-",
            "--",
            "x.sh",
            "--account me",
            "-A me",
            "-- wrap=x",
            "--=x",
        ] {
            let settings = SlurmSettings {
                options: vec![option.to_owned()],
                ..Default::default()
            };
            settings.checked().unwrap_err();
        }
    }

    /// A real shell reads of the script what is meant.
    #[test]
    fn a_shell_reads_a_path_as_one_word() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "a b",
            "it's",
            "$(touch x)",
            "`touch x`",
            "a;touch x",
            "\"|&*?~#",
            "%j",
        ] {
            let output = Command::new("bash")
                .current_dir(folder.path())
                .args(["-c", &format!("printf '%s\\n' {}", quoted(name))])
                .output()
                .unwrap();
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                format!("{name}\n")
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn mistakes_name_the_place() {
        for (text, parts) in [
            (
                "[slurm]\npartion = 'x'",
                ["m.toml:2", "`slurm.partion`", "`partition`"],
            ),
            ("[slurm]\ncpus = 'x'", ["m.toml:2", "slurm.cpus", "u64"]),
            (
                "[slurm]\ncpus = 0",
                ["m.toml:2", "slurm.cpus", "at least 1"],
            ),
            (
                "[slurm]\ntime = '1; rm'",
                ["m.toml:2", "slurm.time", "one word"],
            ),
            ("slurm = 1", ["m.toml:1", "slurm", "a table"]),
        ] {
            let message = read(text).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{text}: {message}");
            }
        }
        assert_eq!(read("").unwrap(), SlurmSettings::default());
    }
}
