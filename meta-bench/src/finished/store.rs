//! Reads many run folders, and selects among them.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use meta_core::Error;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    failure::{CommandError, Result},
    manifest::{
        entries::flat,
        text::{parse_value, toml},
    },
    run::{
        evaluations::{self, Evaluation},
        folder::{CHECKSUMS, EVALS, RECORD, SCORES, TAGS},
        result::{TestResult, read_result},
        state::State,
    },
};

/// A run folder as it was found.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The folder.
    pub folder: PathBuf,
    /// Identity of the run; empty where it came to none.
    pub hash: String,
    /// Its settings by dotted key.
    pub settings: BTreeMap<String, Value>,
    /// How far it is.
    pub state: State,
    /// Its result, if it is finished.
    pub result: Option<TestResult>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The file with the scores of every episode.
    pub scores: PathBuf,
    /// Hash of what the episodes that it was tested on depend on; empty where that is not recorded.
    pub content: String,
    /// The first digits of the evaluation that this is, where it is not the run's own test.
    pub evaluation: Option<String>,
}

/// Where an evaluation was tested: a key beside the settings, where a run has an evaluation on other data.
pub const TESTED_ON: &str = "test.on";

/// The first letters of a hash.
pub fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// What is read of a record.
#[derive(Deserialize)]
struct Record {
    hash: String,
    manifest: Value,
    #[serde(default)]
    data: Value,
}

/// The hash of what the test episodes of recorded data depend on.
fn content_of(data: &Value) -> String {
    let hash = data["frozen"].as_str().or(data["content"].as_str());
    hash.unwrap_or_default().to_owned()
}

impl Stored {
    /// Reads the run folder at `folder`.
    ///
    /// # Errors
    /// When its record or result is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let state = State::of(folder);
        if let State::Foreign(why) = state {
            return Err(CommandError::Usage(why));
        }
        let record = folder.join(RECORD);
        let (hash, settings, content) = match fs::read(&record) {
            Ok(bytes) => {
                let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
                    CommandError::from(Error::data(&record, format!("is damaged: {error}")))
                })?;
                let settings = flat(&record.manifest);
                let settings = settings.map(|(key, value)| (key, value.clone())).collect();
                (record.hash, settings, content_of(&record.data))
            }
            // A run that failed before it had a folder of its own.
            Err(_) if matches!(state, State::Failed(_)) => {
                (String::new(), BTreeMap::new(), String::new())
            }
            Err(error) => return Err(Error::io(&record, "read", error).into()),
        };
        let result = match state {
            State::Finished => Some(read_result(folder)?),
            _ => None,
        };
        let tags = fs::read_to_string(folder.join(TAGS)).unwrap_or_default();
        Ok(Stored {
            scores: folder.join(SCORES),
            content,
            evaluation: None,
            folder: folder.to_owned(),
            hash,
            settings,
            state,
            result,
            tags: tags.lines().map(str::to_owned).collect(),
        })
    }

    /// One of the run's evaluations, as a run of its own.
    fn evaluated(&self, evaluation: Evaluation) -> Self {
        let flat = flat(&evaluation.manifest);
        let mut settings: BTreeMap<String, Value> =
            flat.map(|(key, value)| (key, value.clone())).collect();
        if let Some(on) = &evaluation.on {
            settings.insert(TESTED_ON.to_owned(), Value::String(on.clone()));
        }
        Stored {
            scores: evaluation.path(&self.folder),
            content: content_of(&evaluation.data),
            evaluation: Some(evaluation.short().to_owned()),
            folder: self.folder.clone(),
            hash: evaluation.hash,
            settings,
            state: self.state.clone(),
            result: Some(evaluation.result),
            tags: self.tags.clone(),
        }
    }

    /// The last part of the folder's path, and the evaluation after it.
    pub fn name(&self) -> String {
        let folder = self
            .folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        match &self.evaluation {
            Some(digits) => format!("{folder}/{EVALS}/{digits}"),
            None => folder.into_owned(),
        }
    }

    /// The value of a setting for people, `–` where there is none.
    pub fn shown(&self, key: &str) -> String {
        match self.settings.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => toml(value).unwrap_or_else(|| "–".to_owned()),
            None => "–".to_owned(),
        }
    }
}

/// Run folders in `paths`, each of which is one or a folder of them; sorted, each once.
///
/// # Errors
/// When a path is neither.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    // One that lost its record is damaged, and is named where runs are read.
    let is_run = |path: &Path| {
        path.join(RECORD).exists()
            || path.join(CHECKSUMS).exists()
            || matches!(State::of(path), State::Failed(_))
    };
    let mut found = Vec::new();
    for path in paths {
        if path.join(RECORD).exists() {
            found.push(path.clone());
            continue;
        }
        let entries =
            fs::read_dir(path).map_err(|error| Error::io(path, "look for runs in", error))?;
        let hidden = |path: &Path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        };
        let inner = entries.flatten().map(|entry| entry.path());
        found.extend(inner.filter(|path| !hidden(path) && is_run(path)));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Reads all run folders in `paths`; the second part says which ones could not be read.
///
/// # Errors
/// When a path does not exist.
pub fn read(paths: &[PathBuf]) -> Result<(Vec<Stored>, Vec<String>)> {
    let read: Vec<Result<Stored>> = find(paths)?
        .par_iter()
        .map(|folder| Stored::read(folder))
        .collect();
    let mut runs = Vec::with_capacity(read.len());
    let mut damaged = Vec::new();
    for run in read {
        match run {
            Ok(run) => runs.push(run),
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok((runs, damaged))
}

/// As [`read`], each run followed by its evaluations besides its own test.
///
/// # Errors
/// As there.
pub fn read_with_evaluations(paths: &[PathBuf]) -> Result<(Vec<Stored>, Vec<String>)> {
    let (runs, mut damaged) = read(paths)?;
    let mut all = Vec::with_capacity(runs.len());
    for run in runs {
        let mut evaluated = Vec::new();
        if run.state == State::Finished {
            for read in evaluations::all(&run.folder)? {
                match read {
                    Ok(evaluation) if evaluation.is_own_test => {}
                    Ok(evaluation) => evaluated.push(run.evaluated(evaluation)),
                    Err(error) => damaged.push(error.to_string()),
                }
            }
        }
        all.push(run);
        all.extend(evaluated);
    }
    let is_elsewhere = |run: &Stored| run.settings.contains_key(TESTED_ON);
    if all.iter().any(is_elsewhere) {
        let own = Value::String("own data".to_owned());
        for run in &mut all {
            run.settings
                .entry(TESTED_ON.to_owned())
                .or_insert_with(|| own.clone());
        }
    }
    Ok((all, damaged))
}

/// A condition on runs: `learner.name=maml`, `train.lr<0.01`, `tag=paper`, `state!=failed`.
#[derive(Clone, Debug)]
pub struct Condition {
    key: String,
    operator: &'static str,
    value: Value,
}

const OPERATORS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];

/// Keys of conditions besides settings.
const OWN_KEYS: [&str; 3] = ["state", "tag", "run"];

impl Condition {
    fn parse(text: &str) -> Result<Self> {
        let first = OPERATORS
            .into_iter()
            .filter_map(|operator| Some((text.find(operator)?, operator)))
            .min_by_key(|(position, operator)| (*position, 2 - operator.len()));
        let Some((position, operator)) = first else {
            return Err(CommandError::Usage(format!(
                "`{text}`: expected a condition such as learner.name=maml, train.lr<0.01 or tag=paper"
            )));
        };
        let key = text[..position].trim().to_owned();
        let value = parse_value(&key, text[position + operator.len()..].trim())?;
        Ok(Condition {
            key,
            operator,
            value,
        })
    }

    fn holds(&self, run: &Stored) -> bool {
        let text = |text: &str| Value::String(text.to_owned());
        let found = match self.key.as_str() {
            "tag" => {
                let tagged = run.tags.iter().any(|tag| text(tag) == self.value);
                return tagged == (self.operator == "=");
            }
            "state" => Some(text(run.state.name())),
            "run" => Some(text(&run.name())),
            key => run.settings.get(key).cloned(),
        };
        let Some(found) = found else {
            return self.operator == "!=";
        };
        let order = match (found.as_f64(), self.value.as_f64()) {
            (Some(found), Some(value)) => found.partial_cmp(&value),
            _ if found == self.value => Some(Ordering::Equal),
            _ => found
                .as_str()
                .zip(self.value.as_str())
                .map(|(found, value)| found.cmp(value)),
        };
        match (self.operator, order) {
            ("!=", order) => order != Some(Ordering::Equal),
            ("=", order) => order == Some(Ordering::Equal),
            ("<", order) => order == Some(Ordering::Less),
            (">", order) => order == Some(Ordering::Greater),
            ("<=", order) => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            (_, order) => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// Checks that `key` is a setting of one of the runs, or one of `others`.
///
/// # Errors
/// With the nearest key that there is.
pub fn check_key(key: &str, runs: &[Stored], others: &[&str]) -> Result<()> {
    let known = || {
        runs.iter()
            .flat_map(|run| run.settings.keys().map(String::as_str))
    };
    if runs.is_empty() || others.contains(&key) || known().any(|known| known == key) {
        return Ok(());
    }
    let mut all: Vec<&str> = known().chain(others.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    Err(Error::unknown("key", key, all).into())
}

/// The runs for which all `conditions` hold.
///
/// # Errors
/// A condition that is none, or on a key that no run has.
pub fn filter(runs: Vec<Stored>, conditions: &[String]) -> Result<Vec<Stored>> {
    let conditions: Vec<Condition> = conditions
        .iter()
        .map(|text| Condition::parse(text))
        .collect::<Result<_>>()?;
    for condition in &conditions {
        check_key(&condition.key, &runs, &OWN_KEYS)?;
    }
    let holds = |run: &Stored| conditions.iter().all(|condition| condition.holds(run));
    Ok(runs.into_iter().filter(holds).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_compare_numbers_names_states_and_tags() {
        let run = Stored {
            folder: PathBuf::from("runs/a-1"),
            hash: String::new(),
            settings: BTreeMap::from([
                ("train.lr".to_owned(), json!(0.01)),
                ("learner.name".to_owned(), json!("maml")),
            ]),
            state: State::Finished,
            result: None,
            tags: vec!["paper".to_owned()],
            scores: PathBuf::from("runs/a-1/scores.json"),
            content: String::new(),
            evaluation: None,
        };
        for (text, expected) in [
            ("train.lr=0.01", true),
            ("train.lr<0.01", false),
            ("train.lr<=0.01", true),
            ("train.lr>0.001", true),
            ("train.lr!=0.01", false),
            ("learner.name=maml", true),
            ("learner.name!=maml", false),
            ("learner.inner_lr=1", false),
            ("learner.inner_lr!=1", true),
            ("state=finished", true),
            ("state=failed", false),
            ("tag=paper", true),
            ("tag!=paper", false),
            ("tag=draft", false),
            ("run=a-1", true),
        ] {
            let condition = Condition::parse(text).unwrap();
            assert_eq!(condition.holds(&run), expected, "{text}");
        }
        assert!(Condition::parse("maml").is_err());
        let message = filter(vec![run], &["learner.nme=maml".to_owned()])
            .unwrap_err()
            .to_string();
        assert!(message.contains("did you mean `learner.name`"), "{message}");
    }
}
