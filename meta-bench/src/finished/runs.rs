//! `meta runs`: manages the runs directory.

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use meta_core::{Error, files::write_atomically, toolkit::Toolkit};

use super::store::{self, Stored};
use crate::{
    command::Execute,
    failure::{CommandError, Result},
    output::{
        print,
        table::{Format, Table},
    },
    run::{
        checksums, evaluations,
        folder::{RECORD, RunFolder, TAGS, abandoned, foreign, hold_tags},
        result::{read_result, score_cell},
        state::{State, folders},
    },
};

/// Where removed runs go, in the folder of run folders.
const TRASH: &str = ".trash";

/// List, tag, remove, clean and verify runs.
#[derive(Debug, Args)]
pub struct RunsArgs {
    /// What to do [default: list].
    #[command(subcommand)]
    action: Option<RunsAction>,
    /// Folder with the run folders.
    #[arg(long, value_name = "DIR", default_value = "runs", global = true)]
    runs: PathBuf,
}

/// What can be done with runs. A run is named by its folder, its folder's name or the first digits of
/// its identity.
#[derive(Debug, Subcommand)]
enum RunsAction {
    /// List runs.
    List {
        /// Only runs that meet this condition, such as `state=failed`, `learner.name=maml`, `tag=paper`.
        #[arg(long = "where", value_name = "CONDITION")]
        conditions: Vec<String>,
        /// Form of the table.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Add a tag to runs, or remove it.
    Tag {
        /// The tag: letters, digits, `-`, `_`, `.`.
        tag: String,
        /// The runs.
        #[arg(required = true, value_name = "RUN")]
        names: Vec<String>,
        /// Remove the tag.
        #[arg(long)]
        remove: bool,
    },
    /// Move runs to the trash folder, runs/.trash.
    Remove {
        /// The runs.
        #[arg(required = true, value_name = "RUN")]
        names: Vec<String>,
    },
    /// Move all runs without a result to the trash folder, except those in progress, and what kills have
    /// left behind.
    Clean {
        /// Only show them.
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare the files of runs with their checksums.
    Verify {
        /// The runs [default: all].
        #[arg(value_name = "RUN")]
        names: Vec<String>,
    },
}

impl Execute for RunsArgs {
    /// Lists runs, or changes what is asked for.
    ///
    /// # Errors
    /// Whatever is wrong with a run, a name or a tag.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let root = &self.runs;
        match &self.action {
            None => list(root, &[], Format::Text),
            Some(RunsAction::List { conditions, format }) => list(root, conditions, *format),
            Some(RunsAction::Tag { tag, names, remove }) => self::tag(root, tag, names, *remove),
            Some(RunsAction::Remove { names }) => remove(root, names),
            Some(RunsAction::Clean { dry_run }) => clean(root, *dry_run),
            Some(RunsAction::Verify { names }) => verify(root, names),
        }
    }
}

/// Moves all of the runs to the trash, or none.
fn remove(root: &Path, names: &[String]) -> Result<()> {
    let folders = named(root, names)?;
    let mut held = Vec::new();
    for folder in &folders {
        if let Some(name) = foreign(folder)? {
            return Err(CommandError::Usage(format!(
                "{}: expected a file of a run, found something that this program did not write; move it \
                 elsewhere first",
                folder.join(name).display()
            )));
        }
        held.push(RunFolder::open(folder)?);
    }
    for folder in &folders {
        to_trash(root, folder)?;
    }
    Ok(())
}

fn list(root: &Path, conditions: &[String], format: Format) -> Result<()> {
    let (runs, damaged) = store::read_with_evaluations(&[root.to_owned()])?;
    let mut table = Table::new([
        "run", "state", "learner", "encoder", "source", "seed", "score", "tags",
    ]);
    for run in store::filter(runs, conditions)? {
        table.rows.push(vec![
            run.name().into(),
            run.state.name().into(),
            run.shown("learner.name").into(),
            run.shown("encoder.name").into(),
            run.shown("data.source").into(),
            run.shown("seed").into(),
            match (&run.evaluation, &run.result) {
                (Some(_), Some(result)) => result.cell(),
                _ => score_cell(&run.folder, &run.state),
            },
            run.tags.join(" ").into(),
        ]);
    }
    print(&table.render(format))?;
    for text in damaged {
        eprintln!("{text}");
    }
    Ok(())
}

/// The folders of the runs called `names`: paths, names in `root`, or the first digits of identities.
fn named(root: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let all = if root.exists() {
        store::find(&[root.to_owned()])?
    } else {
        Vec::new()
    };
    let digits: HashMap<PathBuf, String> = folders(root)
        .into_iter()
        .map(|(digits, folder)| (folder, digits))
        .collect();
    let mut found: Vec<PathBuf> = Vec::new();
    for name in names {
        let direct = [PathBuf::from(name), root.join(name)];
        let mut foreign = None;
        let run = direct.into_iter().find(|path| match State::of(path) {
            State::New => false,
            State::Foreign(why) => {
                foreign.get_or_insert(why);
                false
            }
            _ => true,
        });
        let folder = match run {
            Some(path) => path,
            None => by_digits(root, name, &all, &digits)
                .map_err(|error| foreign.map_or(error, CommandError::Usage))?,
        };
        if !found.contains(&folder) {
            found.push(folder);
        }
    }
    Ok(found)
}

/// The one folder of `all` whose identity starts with `name`.
fn by_digits(
    root: &Path,
    name: &str,
    all: &[PathBuf],
    digits: &HashMap<PathBuf, String>,
) -> Result<PathBuf> {
    let starts = |folder: &&PathBuf| {
        let own = digits.get(*folder);
        name.len() >= 4 && own.is_some_and(|digits| digits.starts_with(name))
    };
    match all.iter().filter(starts).collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let file_name = |folder: &PathBuf| {
                let name = folder.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            };
            let names: Vec<String> = all.iter().map(file_name).collect();
            let nearest = Error::unknown("run", name, names.iter().map(String::as_str));
            let hint = match nearest {
                Error::Unknown {
                    nearest: Some(nearest),
                    ..
                } => format!(" (did you mean `{nearest}`?)"),
                _ => String::new(),
            };
            Err(CommandError::Usage(format!(
                "no run `{name}` in {}{hint}; `meta runs` lists them",
                root.display()
            )))
        }
        many => Err(CommandError::Usage(format!(
            "`{name}` begins the identities of {} runs; give more digits",
            many.len()
        ))),
    }
}

fn tag(root: &Path, tag: &str, names: &[String], remove: bool) -> Result<()> {
    let valid = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if tag.is_empty() || !tag.chars().all(valid) {
        return Err(CommandError::Usage(format!(
            "`{tag}`: expected a tag of letters, digits, `-`, `_` and `.`"
        )));
    }
    for folder in named(root, names)? {
        let _held = hold_tags(&folder)?;
        let mut tags = Stored::read(&folder)?.tags;
        tags.retain(|other| other != tag);
        if !remove {
            tags.push(tag.to_owned());
        }
        tags.sort();
        let text: String = tags.iter().map(|tag| format!("{tag}\n")).collect();
        write_atomically(&folder.join(TAGS), text.as_bytes())?;
    }
    Ok(())
}

/// Moves a run folder to the trash of `root`.
fn to_trash(root: &Path, folder: &Path) -> Result<()> {
    let trash = root.join(TRASH);
    fs::create_dir_all(&trash).map_err(|error| Error::io(&trash, "create folder", error))?;
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let numbered = (1..).map(|number| trash.join(format!("{name}.{number}")));
    // An empty folder of its own, which the run then takes.
    let made = std::iter::once(trash.join(&name))
        .chain(numbered)
        .map(|target| (fs::create_dir(&target), target))
        .find(|(made, _)| {
            !made
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::AlreadyExists)
        });
    let (made, target) = made.expect("there is always another number");
    made.and_then(|()| fs::rename(folder, &target))
        .map_err(|error| Error::io(folder, "move to the trash", error))?;
    print(&format!("{} → {}\n", folder.display(), target.display()))
}

fn clean(root: &Path, dry_run: bool) -> Result<()> {
    for folder in store::find(&[root.to_owned()])? {
        let state = State::of(&folder);
        if !matches!(state, State::Unfinished | State::Failed(_)) {
            continue;
        }
        if let Some(name) = foreign(&folder)? {
            print(&format!(
                "{} stays: this program did not write its `{name}`\n",
                folder.display()
            ))?;
        } else if dry_run {
            print(&format!("{} ({})\n", folder.display(), state.name()))?;
        } else if let Ok(_held) = RunFolder::open(&folder) {
            to_trash(root, &folder)?;
        }
    }
    for folder in abandoned(root)? {
        match dry_run {
            true => print(&format!("{} (left behind by a kill)\n", folder.display()))?,
            false => to_trash(root, &folder)?,
        }
    }
    Ok(())
}

fn verify(root: &Path, names: &[String]) -> Result<()> {
    let folders = if names.is_empty() {
        store::find(&[root.to_owned()])?
    } else {
        named(root, names)?
    };
    let (mut good, mut unfinished, mut bad) = (0, 0, 0);
    for folder in folders {
        let verified = match State::of(&folder) {
            State::Finished => checksums::verify(&folder, true)
                .and_then(|()| evaluations::verify(&folder))
                .map_err(CommandError::from)
                .and_then(|()| read_result(&folder))
                .map(|_| &mut good),
            State::Foreign(why) => Err(CommandError::Usage(why)),
            State::Running => Ok(&mut unfinished),
            _ if folder.join(RECORD).exists() => checksums::verify(&folder, false)
                .map_err(CommandError::from)
                .map(|()| &mut unfinished),
            _ => Ok(&mut unfinished),
        };
        match verified {
            Ok(count) => *count += 1,
            Err(damage) => {
                bad += 1;
                print(&format!("{damage}\n"))?;
            }
        }
    }
    print(&format!(
        "{good} runs are as they were written, {unfinished} are not finished\n"
    ))?;
    match bad {
        0 => Ok(()),
        bad => Err(CommandError::Runs(format!(
            "{bad} runs are not as they were written"
        ))),
    }
}
