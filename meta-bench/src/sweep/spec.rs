//! What a sweep is: the `[sweep]` table of a manifest, and axes on the command line.
//!
//! Reading says whether the axes make sense; whether their values do is said by resolving the runs
//! ([`super::plan`]).

use std::path::{Path, PathBuf};

use meta_core::Error;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use crate::{
    failure::{CommandError, Result},
    manifest::{Document, Layer, Origin, json, parse_value, syntax, toml},
};

/// A list of values for a key, or of tables for a section.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The key (`train.lr`) or section (`learner`).
    pub key: String,
    /// Where it was given.
    pub origin: Origin,
    /// Its values, at least one.
    pub values: Vec<Value>,
}

/// Where the values of a random axis come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// Real numbers, all equally likely.
    Uniform(f64, f64),
    /// Positive real numbers whose logarithms are equally likely.
    LogUniform(f64, f64),
    /// Whole numbers, both ends included.
    Integer(i64, i64),
    /// One of a list.
    Choice(Vec<Value>),
}

/// A key whose values are drawn or searched.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The key.
    pub key: String,
    /// Where it was given.
    pub origin: Origin,
    /// Where its values come from.
    pub range: Range,
}

/// How the values of [`Drawn`] keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Independently of all results.
    Random,
    /// By tree-structured Parzen estimators, from the results so far.
    Tpe,
}

impl Method {
    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Method::Random => "random",
            Method::Tpe => "tpe",
        }
    }
}

/// Keys with drawn values.
#[derive(Clone, Debug)]
pub struct Search {
    /// How they are chosen.
    pub method: Method,
    /// How many combinations are.
    pub trials: usize,
    /// Trials that are chosen at once, before their results are known (TPE).
    pub parallel: usize,
    /// Random trials before the first one chosen from results (TPE).
    pub startup: usize,
    /// The keys.
    pub axes: Vec<Drawn>,
}

/// Successive halving: all runs start, and at each rung only the best part goes on.
#[derive(Clone, Copy, Debug)]
pub struct Halving {
    /// Iterations of the first rung.
    pub first: u64,
    /// One in so many goes on; the next rung is so many times longer.
    pub factor: u64,
}

/// By what a search or halving chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Score of a validation: accuracy, or mean squared error.
    Score,
    /// Loss of a validation.
    Loss,
}

/// A sweep as it was asked for.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Every combination of these.
    pub grid: Vec<Axis>,
    /// These step together.
    pub zip: Vec<Axis>,
    /// Seeds, the fastest axis.
    pub seed: Option<Axis>,
    /// Drawn values.
    pub search: Option<Search>,
    /// Rows of a CSV file: values by key.
    pub trials: Vec<Vec<Layer>>,
    /// Early termination.
    pub halving: Option<Halving>,
    /// Values for all runs.
    pub fixed: Vec<Layer>,
    /// By what a search or halving chooses.
    pub metric: Metric,
    /// Seed of draws and searches.
    pub search_seed: u64,
    /// The largest number of runs.
    pub max_runs: usize,
    /// Where `max_runs` was given.
    pub max_runs_origin: Option<Origin>,
    /// Bytes that a run may use.
    pub memory: Option<u64>,
}

/// Without `max_runs`, more runs than this are taken for a mistake.
const MAX_RUNS: usize = 100_000;

const KEYS: [&str; 11] = [
    "grid",
    "zip",
    "random",
    "tpe",
    "halving",
    "seed",
    "trials",
    "metric",
    "search_seed",
    "max_runs",
    "memory",
];

/// A key of `[sweep]` with its place.
struct Given<'a> {
    path: Vec<String>,
    value: &'a DeValue<'a>,
    origin: Origin,
}

impl Given<'_> {
    fn dotted(&self) -> String {
        format!("sweep.{}", self.path.join("."))
    }

    fn value(&self) -> Result<Value> {
        json(&self.dotted(), self.value).map_err(|error| self.at(error))
    }

    fn at(&self, error: Error) -> CommandError {
        at(&self.origin, error)
    }

    fn refuse(&self, expected: &str) -> CommandError {
        let shown = self.value().ok().and_then(|value| toml(&value));
        self.at(Error::setting(
            self.dotted(),
            shown.unwrap_or_default(),
            expected,
        ))
    }

    fn whole(&self, least: u64) -> Result<u64> {
        let number = self.value()?.as_u64().filter(|number| *number >= least);
        number.ok_or_else(|| self.refuse(&format!("expected a whole number of at least {least}")))
    }

    fn list(&self) -> Result<Vec<Value>> {
        match self.value()? {
            Value::Array(values) => Ok(values),
            _ => Err(self.refuse("expected a list of values, such as [1, 2]")),
        }
    }
}

fn at(origin: &Origin, error: Error) -> CommandError {
    CommandError::At {
        origin: origin.to_string(),
        error,
    }
}

impl Spec {
    /// The sweep of the files of a manifest, the extended ones first, and of the command line.
    ///
    /// # Errors
    /// An axis that is empty, given twice, or not a list; a key that does not exist; a range that is
    /// none. Each names the axis and where it was given.
    pub fn read(
        documents: &[Document],
        arguments: &[String],
        trials: Option<&Path>,
    ) -> Result<Self> {
        let mut spec = Spec {
            grid: Vec::new(),
            zip: Vec::new(),
            seed: None,
            search: None,
            trials: Vec::new(),
            halving: None,
            fixed: Vec::new(),
            metric: Metric::Score,
            search_seed: 0,
            max_runs: MAX_RUNS,
            max_runs_origin: None,
            memory: None,
        };
        for document in documents {
            spec.lay(document)?;
        }
        if let Some(path) = trials {
            spec.trials = read_csv(path)?;
        }
        spec.command_line(arguments)?;
        spec.check()?;
        Ok(spec)
    }

    /// Lays the `[sweep]` of a file over what is there.
    fn lay(&mut self, document: &Document) -> Result<()> {
        let table = DeTable::parse(&document.text)
            .map_err(|error| syntax(&document.path, &document.text, &error))?;
        let Some((name, sweep)) = table
            .get_ref()
            .iter()
            .find(|(name, _)| name.get_ref() == "sweep")
        else {
            return Ok(());
        };
        let origin = |position: usize| {
            let before = document.text.as_bytes().get(..position).unwrap_or_default();
            Origin::File {
                path: document.path.display().to_string(),
                line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
            }
        };
        let Some(sweep) = sweep.get_ref().as_table() else {
            let error = Error::setting("sweep", "…", "expected a table, [sweep]");
            return Err(at(&origin(name.span().start), error));
        };
        for (key, value) in in_order(sweep) {
            let given = Given {
                path: vec![key.get_ref().to_string()],
                value: value.get_ref(),
                origin: origin(key.span().start),
            };
            let inner = || -> Result<Vec<Given<'_>>> {
                let table = given.value.as_table();
                let table = table.ok_or_else(|| given.refuse("expected a table"))?;
                let inner = in_order(table).into_iter().map(|(key, value)| Given {
                    path: vec![given.path[0].clone(), key.get_ref().to_string()],
                    value: value.get_ref(),
                    origin: origin(key.span().start),
                });
                Ok(inner.collect())
            };
            match given.path[0].as_str() {
                "grid" => {
                    for axis in axes(inner()?, &origin)? {
                        replace(&mut self.grid, axis, |axis| &axis.key);
                    }
                }
                "zip" => {
                    for axis in axes(inner()?, &origin)? {
                        replace(&mut self.zip, axis, |axis| &axis.key);
                    }
                }
                "seed" => {
                    self.seed = Some(Axis {
                        key: "seed".to_owned(),
                        values: given.list()?,
                        origin: given.origin.clone(),
                    });
                }
                "random" => self.search(Method::Random, inner()?, &given, &origin)?,
                "tpe" => self.search(Method::Tpe, inner()?, &given, &origin)?,
                "halving" => {
                    let mut halving = Halving {
                        first: 0,
                        factor: 3,
                    };
                    for given in inner()? {
                        match given.path[1].as_str() {
                            "first" => halving.first = given.whole(1)?,
                            "factor" => halving.factor = given.whole(2)?,
                            other => return Err(unknown(&given, other, &["first", "factor"])),
                        }
                    }
                    if halving.first == 0 {
                        return Err(given.refuse("needs `first`, the iterations of the first rung"));
                    }
                    self.halving = Some(halving);
                }
                "trials" => {
                    let name = given.value()?;
                    let name = name.as_str().filter(|name| !name.is_empty());
                    let name =
                        name.ok_or_else(|| given.refuse("expected the path of a CSV file"))?;
                    let folder = document.path.parent().unwrap_or(Path::new(""));
                    self.trials = read_csv(&folder.join(name))?;
                }
                "metric" => {
                    self.metric = match given.value()?.as_str() {
                        Some("score") => Metric::Score,
                        Some("loss") => Metric::Loss,
                        _ => {
                            return Err(given.refuse(
                                "expected \"score\" or \"loss\", those of the validation",
                            ));
                        }
                    }
                }
                "search_seed" => self.search_seed = given.whole(0)?,
                "max_runs" => {
                    self.max_runs = usize::try_from(given.whole(1)?).unwrap_or(usize::MAX);
                    self.max_runs_origin = Some(given.origin.clone());
                }
                "memory" => {
                    let text = given.value()?;
                    let bytes = text.as_str().and_then(bytes);
                    let bytes = bytes.ok_or_else(|| given.refuse(MEMORY_FORM))?;
                    self.memory = Some(bytes);
                }
                other => return Err(unknown(&given, other, &KEYS)),
            }
        }
        Ok(())
    }

    fn search(
        &mut self,
        method: Method,
        inner: Vec<Given<'_>>,
        table: &Given<'_>,
        origin: &dyn Fn(usize) -> Origin,
    ) -> Result<()> {
        if self
            .search
            .as_ref()
            .is_some_and(|search| search.method != method)
        {
            return Err(table.refuse("a sweep has [sweep.random] or [sweep.tpe], not both"));
        }
        let mut search = self.search.take().unwrap_or(Search {
            method,
            trials: 0,
            parallel: 1,
            startup: 10,
            axes: Vec::new(),
        });
        for given in inner {
            let count = |given: &Given<'_>| given.whole(1).map(|count| count as usize);
            match (given.path[1].as_str(), method) {
                ("trials", _) => search.trials = count(&given)?,
                ("parallel", Method::Tpe) => search.parallel = count(&given)?,
                ("startup", Method::Tpe) => search.startup = count(&given)?,
                _ => {
                    for drawn in drawn(&given, origin)? {
                        replace(&mut search.axes, drawn, |drawn| &drawn.key);
                    }
                }
            }
        }
        if search.trials == 0 {
            return Err(table.refuse("needs `trials`, how many combinations are drawn"));
        }
        self.search = Some(search);
        Ok(())
    }

    /// Axes (`key=v1,v2`) and values (`key=value`) of the command line, which replace those of files.
    fn command_line(&mut self, arguments: &[String]) -> Result<()> {
        let mut seen: Vec<String> = Vec::new();
        for argument in arguments {
            let Some((key, text)) = argument.split_once('=') else {
                return Err(CommandError::Usage(format!(
                    "`{argument}`: expected key.path=value or an axis key.path=value,value, such as \
                     train.lr=0.01,0.001 (manifests end in .toml)"
                )));
            };
            let key = key.trim().to_owned();
            if seen.contains(&key) {
                return Err(twice(&key, &Origin::CommandLine, "command line"));
            }
            seen.push(key.clone());
            self.grid.retain(|axis| axis.key != key);
            self.zip.retain(|axis| axis.key != key);
            if let Some(search) = &mut self.search {
                search.axes.retain(|drawn| drawn.key != key);
            }
            if key == "seed" {
                self.seed = None;
            }
            let parts = split(text);
            let mut values = Vec::new();
            for part in &parts {
                if part.trim().is_empty() {
                    let message = match parts.len() {
                        1 => "the axis is empty; expected a value, or values with commas between",
                        _ => "a value between the commas is missing",
                    };
                    return Err(at(
                        &Origin::CommandLine,
                        Error::setting(&key, text, message),
                    ));
                }
                values.push(parse_value(&key, part.trim())?);
            }
            let axis = Axis {
                key: key.clone(),
                origin: Origin::CommandLine,
                values,
            };
            match (axis.values.len(), key.as_str()) {
                (1, _) => self.fixed.extend(layers(&axis, 0)),
                (_, "seed") => self.seed = Some(axis),
                _ => self.grid.push(axis),
            }
        }
        Ok(())
    }

    /// Checks axes against each other.
    fn check(&self) -> Result<()> {
        for axis in self.axes() {
            if axis.values.is_empty() {
                let message = "the axis is empty; expected at least one value";
                return Err(at(&axis.origin, Error::setting(&axis.key, "[]", message)));
            }
        }
        for axis in self.grid.iter().chain(&self.seed) {
            for (index, value) in axis.values.iter().enumerate() {
                if axis.values[..index].contains(value) {
                    let shown = toml(value).unwrap_or_default();
                    let message = "the axis has this value twice";
                    return Err(at(&axis.origin, Error::setting(&axis.key, shown, message)));
                }
            }
        }
        if let Some(first) = self.zip.first()
            && let Some(other) = self
                .zip
                .iter()
                .find(|axis| axis.values.len() != first.values.len())
        {
            let message = format!(
                "axes of [sweep.zip] need equally many values; `{}` has {}",
                first.key,
                first.values.len()
            );
            let count = format!("[{} values]", other.values.len());
            return Err(at(
                &other.origin,
                Error::setting(&other.key, count, message),
            ));
        }
        // In step, a value may come again, but not all of them together.
        if let Some(first) = self.zip.first() {
            let row = |index: usize| self.zip.iter().map(move |axis| &axis.values[index]);
            for index in 0..first.values.len() {
                if (0..index).any(|earlier| row(earlier).eq(row(index))) {
                    let shown = toml(&first.values[index]).unwrap_or_default();
                    let message = "the axes of [sweep.zip] have this combination twice";
                    return Err(at(
                        &first.origin,
                        Error::setting(&first.key, shown, message),
                    ));
                }
            }
        }
        if let Some(search) = &self.search
            && search.axes.is_empty()
        {
            return Err(CommandError::Usage(format!(
                "[sweep.{}] has no key to draw values for",
                search.method.name()
            )));
        }
        if self.halving.is_some()
            && self
                .search
                .as_ref()
                .is_some_and(|search| search.method == Method::Tpe)
        {
            return Err(CommandError::Usage(
                "a sweep has [sweep.tpe] or [sweep.halving], not both".to_owned(),
            ));
        }
        // Every key that an axis sets, with the axis.
        let mut set: Vec<(String, &str, &Origin)> = Vec::new();
        let drawn = self.search.iter().flat_map(|search| &search.axes);
        let keys = self
            .axes()
            .flat_map(|axis| {
                let paths = axis.values.iter().enumerate().flat_map(|(index, _)| {
                    layers(axis, index).into_iter().map(|layer| layer.path())
                });
                let mut paths: Vec<String> = paths.collect();
                paths.sort();
                paths.dedup();
                paths
                    .into_iter()
                    .map(|path| (path, axis.key.as_str(), &axis.origin))
            })
            .chain(drawn.map(|drawn| (drawn.key.clone(), drawn.key.as_str(), &drawn.origin)));
        for (path, axis, origin) in keys {
            if let Some((_, other, place)) = set.iter().find(|(known, ..)| *known == path) {
                return Err(twice(
                    &path,
                    origin,
                    &if axis == *other {
                        place.to_string()
                    } else {
                        format!("the axis `{other}` ({place})")
                    },
                ));
            }
            if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.path() == path) {
                return Err(twice(&path, origin, &format!("{}", fixed.origin())));
            }
            if let Some(row) = self.trials.first()
                && let Some(layer) = row.iter().find(|layer| layer.path() == path)
            {
                return Err(twice(
                    &path,
                    origin,
                    &format!("the trials ({})", layer.origin()),
                ));
            }
            set.push((path, axis, origin));
        }
        Ok(())
    }

    /// All axes with a list of values.
    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        self.grid.iter().chain(&self.zip).chain(&self.seed)
    }
}

fn twice(key: &str, origin: &Origin, other: &str) -> CommandError {
    let other = if origin.to_string() == other {
        String::new()
    } else {
        format!("; the other is {other}")
    };
    CommandError::Usage(format!("{origin}: axis `{key}` is given twice{other}"))
}

fn unknown(given: &Given<'_>, key: &str, known: &[&str]) -> CommandError {
    let section = given.path[..given.path.len() - 1].iter();
    let section: Vec<&str> = std::iter::once("sweep")
        .chain(section.map(String::as_str))
        .collect();
    let error = meta_core::settings::unknown_key(&section.join("."), key, known.iter().copied());
    given.at(error)
}

type Entry<'a> = (
    &'a toml::Spanned<toml::de::DeString<'a>>,
    &'a toml::Spanned<DeValue<'a>>,
);

/// The entries of a table as they stand in the file.
fn in_order<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// Puts `item` in the place of the one with the same key, or at the end.
fn replace<T>(items: &mut Vec<T>, item: T, key: impl Fn(&T) -> &String) {
    match items.iter().position(|other| key(other) == key(&item)) {
        Some(index) => items[index] = item,
        None => items.push(item),
    }
}

/// The axes of a table. `learner.name = […]` and `"learner.name" = […]` are the same axis.
fn axes(inner: Vec<Given<'_>>, origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Axis>> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut push = |given: Given<'_>, key: String| -> Result<()> {
        let axis = Axis {
            values: given.list()?,
            key,
            origin: given.origin.clone(),
        };
        if let Some(other) = axes.iter().find(|other| other.key == axis.key) {
            return Err(twice(&axis.key, &axis.origin, &other.origin.to_string()));
        }
        axes.push(axis);
        Ok(())
    };
    for given in inner {
        match given.value.as_table() {
            None => {
                let key = given.path[1].clone();
                push(given, key)?;
            }
            Some(table) => {
                for (key, value) in in_order(table) {
                    let mut path = given.path.clone();
                    path.push(key.get_ref().to_string());
                    let name = path[1..].join(".");
                    let given = Given {
                        path,
                        value: value.get_ref(),
                        origin: origin(key.span().start),
                    };
                    push(given, name)?;
                }
            }
        }
    }
    Ok(axes)
}

const RANGES: [&str; 4] = ["uniform", "log_uniform", "integer", "choice"];

/// The drawn keys at `given`: one, or those of a section.
fn drawn(given: &Given<'_>, origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Drawn>> {
    const FORM: &str = "expected { uniform = [low, high] }, { log_uniform = [low, high] }, \
                        { integer = [low, high] } or { choice = [value, …] }";
    let table = given.value.as_table().ok_or_else(|| given.refuse(FORM))?;
    let is_range = |name: &str| RANGES.contains(&name);
    if given.path.len() == 2 && !table.iter().any(|(name, _)| is_range(name.get_ref())) {
        // A section, or a range with a name that does not exist.
        if table
            .iter()
            .all(|(_, value)| value.get_ref().as_table().is_none())
        {
            return Err(given.refuse(FORM));
        }
        let mut all = Vec::new();
        for (name, value) in in_order(table) {
            let mut path = given.path.clone();
            path.push(name.get_ref().to_string());
            all.extend(drawn(
                &Given {
                    path,
                    value: value.get_ref(),
                    origin: origin(name.span().start),
                },
                origin,
            )?);
        }
        return Ok(all);
    }
    let value = given.value()?;
    let mut entries = value.as_object().into_iter().flatten();
    let (Some((kind, list)), None) = (entries.next(), entries.next()) else {
        return Err(given.refuse(FORM));
    };
    let list = list.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| given.refuse(FORM))?;
    let ends = |low_limit: f64| -> Option<(f64, f64)> {
        let [low, high] = list.as_slice() else {
            return None;
        };
        let (low, high) = (low.as_f64()?, high.as_f64()?);
        (low < high && low > low_limit).then_some((low, high))
    };
    let range = match kind.as_str() {
        "uniform" => ends(f64::NEG_INFINITY).map(|(low, high)| Range::Uniform(low, high)),
        "log_uniform" => ends(0.0).map(|(low, high)| Range::LogUniform(low, high)),
        "integer" => match list.as_slice() {
            [low, high] => low
                .as_i64()
                .zip(high.as_i64())
                .filter(|(low, high)| low < high)
                .map(|(low, high)| Range::Integer(low, high)),
            _ => None,
        },
        "choice" => Some(Range::Choice(list.clone())),
        _ => return Err(given.refuse(FORM)),
    };
    let range = range.ok_or_else(|| {
        given.refuse(match kind.as_str() {
            "log_uniform" => "expected two numbers, 0 < low < high",
            "integer" => "expected two whole numbers, low < high",
            _ => "expected two numbers, low < high",
        })
    })?;
    Ok(vec![Drawn {
        key: given.path[1..].join("."),
        origin: given.origin.clone(),
        range,
    }])
}

/// The layers of the value at `index` of `axis`: one for a value, one a key for a table of a section.
pub fn layers(axis: &Axis, index: usize) -> Vec<Layer> {
    let value = &axis.values[index];
    match value.as_object() {
        Some(table) if !axis.key.contains('.') => table
            .iter()
            .map(|(name, value)| {
                let path = format!("{}.{name}", axis.key);
                Layer::new(&path, value.clone(), axis.origin.clone())
            })
            .collect(),
        _ => vec![Layer::new(&axis.key, value.clone(), axis.origin.clone())],
    }
}

/// Splits at the commas that are in no bracket, brace or quotation.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0usize;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(letter),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("never empty").push(letter);
    }
    parts
}

/// How a size is written.
pub const MEMORY_FORM: &str = "expected a size such as \"2 GB\" or \"500 MB\"";

/// A size in bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let factor = match unit.trim() {
        "kB" | "KB" | "K" | "k" => 1e3,
        "MB" | "M" => 1e6,
        "GB" | "G" => 1e9,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    (number > 0.0).then_some((number * factor) as u64)
}

/// The trials of a CSV file: a header with keys, a row for each trial; an empty cell sets nothing.
fn read_csv(path: &Path) -> Result<Vec<Vec<Layer>>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, "read", error))?;
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let refuse = |line: usize, message: String| CommandError::Syntax {
        path: PathBuf::from(path),
        line: line + 1,
        message,
    };
    let header: Vec<String> = match lines.next() {
        Some((_, line)) => split(line)
            .iter()
            .map(|key| key.trim().to_owned())
            .collect(),
        None => {
            return Err(refuse(
                0,
                "expected a header with keys, found nothing".to_owned(),
            ));
        }
    };
    if let Some(index) = (0..header.len()).find(|&index| header[..index].contains(&header[index])) {
        return Err(refuse(
            0,
            format!("column `{}` is there twice", header[index]),
        ));
    }
    let mut rows = Vec::new();
    for (number, line) in lines {
        let cells = split(line);
        if cells.len() != header.len() {
            let (found, expected) = (cells.len(), header.len());
            return Err(refuse(
                number,
                format!("has {found} cells, the header has {expected}"),
            ));
        }
        let origin = Origin::File {
            path: path.display().to_string(),
            line: number + 1,
        };
        let row: Result<Vec<Layer>> = header
            .iter()
            .zip(&cells)
            .filter(|(_, cell)| !cell.trim().is_empty())
            .map(|(key, cell)| {
                let value = parse_value(key, cell.trim())
                    .map_err(|error| refuse(number, error.to_string()))?;
                Ok(Layer::new(key, value, origin.clone()))
            })
            .collect();
        rows.push(row?);
    }
    if rows.is_empty() {
        Err(refuse(0, "has a header and no trial".to_owned()))
    } else {
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, arguments: &[&str]) -> Result<Spec> {
        let document = Document {
            path: PathBuf::from("m.toml"),
            text: text.to_owned(),
        };
        let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
        Spec::read(&[document], &arguments, None)
    }

    fn keys(axes: &[Axis]) -> Vec<&str> {
        axes.iter().map(|axis| axis.key.as_str()).collect()
    }

    #[test]
    fn axes_keep_their_order_and_the_command_line_replaces_them() {
        let text = "[sweep]\nseed = [0, 1]\n[sweep.grid]\ntrain.lr = [0.1, 0.2]\n\
                    \"learner.name\" = ['maml', 'anil']\n[sweep.zip]\ndata.way = [2, 5]\n";
        let spec = read(text, &[]).unwrap();
        assert_eq!(keys(&spec.grid), ["train.lr", "learner.name"]);
        assert_eq!(spec.grid[0].origin.to_string(), "m.toml:4");
        assert_eq!(spec.seed.unwrap().values.len(), 2);
        let spec = read(
            text,
            &["train.lr=1", "encoder.hidden=[1,2],[3]", "seed=5,6,7"],
        )
        .unwrap();
        assert_eq!(keys(&spec.grid), ["learner.name", "encoder.hidden"]);
        assert_eq!(spec.grid[1].values.len(), 2);
        assert_eq!(spec.fixed.len(), 1);
        assert_eq!(spec.seed.unwrap().values.len(), 3);
    }

    #[test]
    fn mistakes_name_the_axis_and_the_place() {
        for (text, arguments, parts) in [
            (
                "[sweep]\nsede = [1]",
                &[][..],
                &["m.toml:2", "`sweep.sede`", "`seed`"][..],
            ),
            (
                "[sweep]\nseed = 1",
                &[],
                &["m.toml:2", "sweep.seed = 1", "a list"],
            ),
            (
                "[sweep]\nseed = []",
                &[],
                &["m.toml:2", "`seed = []`", "empty"],
            ),
            (
                "[sweep]\nseed = [1, 1]",
                &[],
                &["m.toml:2", "`seed = 1`", "twice"],
            ),
            ("", &["seed="], &["command line", "`seed = `", "empty"]),
            ("", &["seed=1,,2"], &["command line", "seed", "missing"]),
            ("", &["seed=1,2", "seed=3"], &["axis `seed` is given twice"]),
            ("", &["seed"], &["`seed`", "key.path=value"]),
            (
                "[sweep.grid]\ndata.way = [2]\n\"data.way\" = [3]",
                &[],
                &["m.toml:3", "axis `data.way` is given twice", "m.toml:2"],
            ),
            (
                "[sweep.grid]\ndata.way = [2]\n[sweep.zip]\ndata.way = [3]",
                &[],
                &["m.toml:4", "axis `data.way` is given twice", "m.toml:2"],
            ),
            (
                "[sweep.grid]\nlearner = [{ name = 'maml', inner_lr = 1 }]\nlearner.inner_lr = [3]",
                &[],
                &["m.toml:3", "dotted key"],
            ),
            (
                "[sweep.grid]\nlearner = [{ name = 'maml', inner_lr = 1 }]",
                &["learner.inner_lr=3,4"],
                &["`learner.inner_lr` is given twice", "m.toml:2"],
            ),
            (
                "[sweep.zip]\ndata.way = [2, 3]\ndata.shot = [1]",
                &[],
                &["m.toml:3", "data.shot", "`data.way` has 2"],
            ),
            (
                "[sweep.random]\ntrials = 3\ntrain.lr = { log_uniform = [0, 1] }",
                &[],
                &["m.toml:3", "sweep.random.train.lr", "0 < low < high"],
            ),
            (
                "[sweep.random]\ntrials = 3\ntrain.lr = { logUniform = [0, 1] }",
                &[],
                &["m.toml:3", "sweep.random.train.lr", "log_uniform"],
            ),
            (
                "[sweep.random]\nseed = { integer = [0, 9] }",
                &[],
                &["needs `trials`"],
            ),
            ("[sweep.tpe]\ntrials = 3", &[], &["[sweep.tpe] has no key"]),
            (
                "[sweep.halving]\nfactor = 1",
                &[],
                &["m.toml:2", "at least 2"],
            ),
            (
                "[sweep]\nmemory = '2 potatoes'",
                &[],
                &["m.toml:2", "\"2 GB\""],
            ),
            ("sweep = 5", &[], &["m.toml:1", "expected a table"]),
        ] {
            let message = read(text, arguments).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "{text:?} {arguments:?}: {message}");
            }
        }
    }

    #[test]
    fn a_csv_file_is_a_list_of_trials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_csv(&path)
        };
        let rows = read("train.lr,learner.name\n0.1,maml\n,protonet\n").unwrap();
        assert_eq!((rows[0].len(), rows[1].len()), (2, 1));
        assert_eq!(rows[1][0].path(), "learner.name");
        for (text, part) in [
            ("", "t.csv:1"),
            ("a,b\n1\n", "t.csv:2: has 1 cells, the header has 2"),
            ("a,a\n1,2\n", "column `a`"),
            ("a\n", "no trial"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("2 GB"), Some(2_000_000_000));
        assert_eq!(bytes("1.5M"), Some(1_500_000));
        for text in ["2", "GB", "-1 GB", "0 MB", "1 TBs"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
