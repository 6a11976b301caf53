//! The processes that share one run: they meet, make sure that they are alike, and fail together.
//!
//! The first process is the one that writes files and speaks. Until training begins, all hear of what goes wrong
//! in any of them, and end in order with one message. What goes wrong in one alone after that ends all at once.

use std::{collections::HashSet, fs, sync::LazyLock};

use meta_core::{
    processes::{Processes, launched},
    toolkit::Toolkit,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    experiment::Experiment,
    failure::{CommandError, Result},
    machine::{commit, cores, cores_allowed, instructions, machine_id},
    manifest::text::toml,
    output::text::visible,
};

/// The processes of this run; one, where the program was started plainly.
#[derive(Clone, Debug, Default)]
pub struct Together {
    processes: Processes,
    /// Number of this process among those of its machine.
    on_machine: usize,
    /// Threads of this process, where the cores of a machine are shared.
    share: Option<usize>,
}

/// Where a process runs: its machine, and the cores that it may use there.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    machine: String,
    cores: String,
}

/// What processes must have in common.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Alike {
    /// Version and content of the program.
    program: String,
    /// Instructions of the processor that results depend on.
    instructions: String,
    /// Hash of the data.
    data: String,
    /// Values of the manifest, as JSON.
    manifest: String,
}

impl Together {
    /// Meets the processes that the launcher has started with this one.
    ///
    /// # Errors
    /// When there are some and this build cannot talk to them.
    pub fn start() -> Result<Self> {
        match launched() {
            1 => Ok(Together::default()),
            _ => Self::meet(Processes::meet()?),
        }
    }

    fn meet(processes: Processes) -> Result<Self> {
        let place = Place {
            machine: machine_id(),
            cores: cores_allowed(),
        };
        let places = processes.gather(place)?;
        let own = &places[processes.rank()];
        let before = places[..processes.rank()].iter();
        let on_machine = before.filter(|other| other.machine == own.machine);
        let sharing = places.iter().filter(|other| *other == own).count();
        Ok(Together {
            on_machine: on_machine.count(),
            share: (processes.count() > 1).then(|| (cores() / sharing).max(1)),
            processes,
        })
    }

    /// How the processes talk.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Whether this is the process that writes and speaks.
    pub fn is_first(&self) -> bool {
        self.processes.rank() == 0
    }

    /// Threads of this process where `asked` is 0, which stands for all that it may have: its share of the cores
    /// that it may use.
    pub fn threads(&self, asked: usize) -> usize {
        match asked {
            0 => self.share.unwrap_or(0),
            asked => asked,
        }
    }

    /// Number of this process among those of its machine.
    pub fn on_machine(&self) -> usize {
        self.on_machine
    }

    /// Goes on where all processes do; where one has failed, all fail: the first process says why.
    ///
    /// # Errors
    /// When any has failed, or is gone.
    pub fn agree<V>(&self, own: Result<V>) -> Result<V> {
        let count = self.processes.count();
        if count == 1 {
            return own;
        }
        let said = own.as_ref().err();
        let said = said.map(|error| (error.to_string(), error.exit_code()));
        let all = self.processes.gather(said)?;
        let failed = || {
            let ranks = all.iter().enumerate();
            ranks.filter_map(|(rank, said)| Some((rank, said.as_ref()?)))
        };
        // An interruption only says that others were waited for.
        let worst = failed().find(|(_, (_, code))| *code != INTERRUPTED);
        let Some((rank, (message, code))) = worst.or_else(|| failed().next()) else {
            return own;
        };
        if !self.is_first() {
            return Err(CommandError::SaidElsewhere(*code));
        }
        let differ: HashSet<_> = all.iter().collect();
        Err(CommandError::Together(Box::new(match own {
            Err(error) if rank == 0 || differ.len() == 1 => error,
            _ if *code == INTERRUPTED => CommandError::Interrupted(message.clone()),
            _ => CommandError::Usage(format!("process {rank} of {count}: {message}")),
        })))
    }

    /// Makes sure that all processes compute the same: program, processor, data and manifest.
    ///
    /// # Errors
    /// As [`Together::agree`], with the number of a process that differs, and how.
    pub fn compare<T: Toolkit>(&self, experiment: &Experiment<T>) -> Result<()> {
        if self.processes.count() == 1 {
            return Ok(());
        }
        let all = self.processes.gather(Alike::of(experiment))?;
        let own = self.processes.rank();
        let difference = all[own].difference_from(&all[0]);
        self.agree(difference.map_or(Ok(()), |text| Err(CommandError::Usage(text))))
    }

    /// The message of the first process.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn hear_first(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        Ok(self.processes.hear_first(own)?)
    }

    /// Whether the first process says so.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn first_says(&self, own: bool) -> Result<bool> {
        let said = self.hear_first(vec![u8::from(own)])?;
        Ok(said.contains(&1))
    }

    /// Ends a command in order where all processes know of its end, and all processes where one has failed alone.
    ///
    /// # Errors
    /// As `ended`, which the first process has said.
    pub fn close<V>(&self, ended: Result<V>) -> Result<V> {
        match ended {
            Err(error) if self.processes.count() == 1 => Err(error),
            Err(error) if !error.is_known_to_all() => {
                let (rank, count) = (self.processes.rank(), self.processes.count());
                eprintln!("error: process {rank} of {count}: {error}");
                self.processes.end(i32::from(error.exit_code()))
            }
            // Said before any process ends: a launcher kills all when the first one has failed.
            Err(error) => {
                if self.is_first() {
                    eprintln!("error: {}", visible(&error.to_string()));
                }
                self.processes.any(false)?;
                Err(CommandError::SaidElsewhere(error.exit_code()))
            }
            done => done,
        }
    }
}

/// Exit code of an interruption.
const INTERRUPTED: u8 = 130;

impl Alike {
    fn of<T: Toolkit>(experiment: &Experiment<T>) -> Self {
        let mut manifest = experiment.manifest.values();
        for own in ["threads", "device", "init_from"] {
            if let Some(values) = manifest.as_object_mut() {
                values.remove(own);
            }
        }
        Alike {
            program: PROGRAM.clone(),
            instructions: instructions(),
            data: experiment.source.content_hash(),
            manifest: manifest.to_string(),
        }
    }

    /// How this process differs from the first one, if it does.
    fn difference_from(&self, first: &Alike) -> Option<String> {
        let differs = |what: &str, own: &str, first: &str| {
            (own != first).then(|| format!("has another {what} than process 0: {own}, not {first}"))
        };
        let program = differs("program", &self.program, &first.program);
        let instructions = || differs("processor", &self.instructions, &first.instructions);
        let manifest = || {
            let read = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
            let (key, own, there) = difference("", &read(&self.manifest), &read(&first.manifest))?;
            Some(format!(
                "has another manifest than process 0: `{key}` is {own}, not {there}"
            ))
        };
        let data = || {
            let short = |hash: &str| hash.chars().take(12).collect::<String>();
            differs(
                "content of the data",
                &short(&self.data),
                &short(&first.data),
            )
        };
        program
            .or_else(instructions)
            .or_else(manifest)
            .or_else(data)
    }
}

/// The first value that is another one in `other`: its key, and both.
fn difference(key: &str, one: &Value, other: &Value) -> Option<(String, String, String)> {
    let shown = |value: &Value| toml(value).unwrap_or_else(|| "nothing".to_owned());
    match (one.as_object(), other.as_object()) {
        (Some(one), Some(others)) => {
            let mut keys: Vec<&String> = one.keys().chain(others.keys()).collect();
            keys.sort();
            keys.dedup();
            keys.into_iter().find_map(|name| {
                let key = match key {
                    "" => name.clone(),
                    section => format!("{section}.{name}"),
                };
                let value = |values: &serde_json::Map<String, Value>| {
                    values.get(name).cloned().unwrap_or(Value::Null)
                };
                difference(&key, &value(one), &value(others))
            })
        }
        _ => (one != other).then(|| (key.to_owned(), shown(one), shown(other))),
    }
}

/// Version of this program, and the hash of its file.
static PROGRAM: LazyLock<String> = LazyLock::new(|| {
    let commit = commit();
    let program = std::env::current_exe().and_then(fs::read);
    let content = program.map_or("unknown".to_owned(), |bytes| {
        blake3::hash(&bytes).to_hex()[..12].to_owned()
    });
    format!(
        "{} (commit {commit}, file {content})",
        env!("CARGO_PKG_VERSION")
    )
});

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn alike() -> Alike {
        Alike {
            program: "a".to_owned(),
            instructions: "x86_64 fma".to_owned(),
            data: "0123456789abcdef".to_owned(),
            manifest: json!({ "seed": 1, "train": { "lr": 0.5 } }).to_string(),
        }
    }

    #[test]
    fn what_differs_is_named() {
        let first = alike();
        assert_eq!(alike().difference_from(&first), None);
        let other = Alike {
            manifest: json!({ "seed": 1, "train": { "lr": 0.25 } }).to_string(),
            ..alike()
        };
        let said = other.difference_from(&first).unwrap();
        assert!(said.contains("`train.lr` is 0.25, not 0.5"), "{said}");
        for (other, what) in [
            (
                Alike {
                    program: "b".to_owned(),
                    ..alike()
                },
                "program",
            ),
            (
                Alike {
                    instructions: "aarch64 ".to_owned(),
                    ..alike()
                },
                "processor",
            ),
            (
                Alike {
                    data: "1".to_owned(),
                    ..alike()
                },
                "data",
            ),
        ] {
            let said = other.difference_from(&first).unwrap();
            assert!(said.contains(what), "{said}");
        }
    }

    #[test]
    fn one_process_is_alone() {
        let alone = Together::default();
        assert!(alone.is_first());
        assert_eq!((alone.threads(0), alone.threads(3)), (0, 3));
        alone.agree(Ok(())).unwrap();
        let error = alone.agree::<()>(Err(CommandError::Usage("no".to_owned())));
        assert_eq!(error.unwrap_err().to_string(), "no");
    }
}
