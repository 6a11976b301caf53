//! Reads what a sweep is: the `[sweep]` table of a manifest, and axes on the command line.
//!
//! Reading checks the axes. Their values are checked when the runs are resolved ([`super::plan`]).

use std::{collections::HashSet, hash::Hash, path::Path};

use meta_core::Error;
use serde_json::{Map, Value};
use toml::de::DeTable;

use super::{
    ranges::{Drawn, drawn},
    sourced::{Axis, Sourced, at, axes, in_order, layers, split, twice, unknown},
    trials::read_csv,
};
use crate::{
    failure::{CommandError, Result},
    manifest::{
        base::Document,
        layer::{Layer, is_path},
        origin::Origin,
        text::{Lines, parse_value, syntax, toml},
    },
};

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

/// Successive halving: all runs start, and at each rung only the best part continues.
#[derive(Clone, Copy, Debug)]
pub struct Halving {
    /// Iterations of the first rung.
    pub first: u64,
    /// One in so many continues; the next rung is so many times longer.
    pub factor: u64,
}

impl Halving {
    fn read(table: &Sourced<'_>, origin: &dyn Fn(usize) -> Origin) -> Result<Self> {
        let mut halving = Halving {
            first: 0,
            factor: 3,
        };
        for given in table.inner(origin)? {
            match given.path[1].as_str() {
                "first" => halving.first = given.whole(1)?,
                "factor" => halving.factor = given.whole(2)?,
                other => return Err(unknown(&given, other, &["first", "factor"])),
            }
        }
        if halving.first == 0 {
            return Err(table.refuse("needs `first`, the iterations of the first rung"));
        }
        Ok(halving)
    }
}

/// By what a search or halving chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchObjective {
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
    pub objective: SearchObjective,
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

/// The largest `max_runs`: each run is planned in memory.
const MOST_RUNS: u64 = 10_000_000;

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
            objective: SearchObjective::Score,
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
        let lines = Lines::of(&document.text);
        let origin = |position: usize| Origin::File {
            path: document.path.display().to_string(),
            line: lines.at(position),
        };
        let Some(sweep) = sweep.get_ref().as_table() else {
            let error = Error::setting("sweep", "…", "expected a table, [sweep]");
            return Err(at(&origin(name.span().start), error));
        };
        let folder = document.path.parent().unwrap_or(Path::new(""));
        for (key, value) in in_order(sweep) {
            let given = Sourced {
                path: vec![key.get_ref().to_string()],
                value: value.get_ref(),
                origin: origin(key.span().start),
            };
            self.set(&given, &origin, folder)?;
        }
        Ok(())
    }

    /// Sets what a key of `[sweep]` gives; paths are from `folder`.
    fn set(
        &mut self,
        given: &Sourced<'_>,
        origin: &dyn Fn(usize) -> Origin,
        folder: &Path,
    ) -> Result<()> {
        match given.path[0].as_str() {
            "grid" => {
                for axis in axes(given.inner(origin)?, origin)? {
                    replace(&mut self.grid, axis, |axis| &axis.key);
                }
            }
            "zip" => {
                for axis in axes(given.inner(origin)?, origin)? {
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
            "random" => self.search(Method::Random, given, origin)?,
            "tpe" => self.search(Method::Tpe, given, origin)?,
            "halving" => self.halving = Some(Halving::read(given, origin)?),
            "trials" => {
                let name = given.value()?;
                let name = name.as_str().filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| given.refuse("expected the path of a CSV file"))?;
                self.trials = read_csv(&folder.join(name))?;
            }
            "metric" => {
                self.objective = match given.value()?.as_str() {
                    Some("score") => SearchObjective::Score,
                    Some("loss") => SearchObjective::Loss,
                    _ => {
                        let expected = "expected \"score\" or \"loss\", those of the validation";
                        return Err(given.refuse(expected));
                    }
                }
            }
            "search_seed" => self.search_seed = given.whole(0)?,
            "max_runs" => {
                let runs = given.whole(1)?;
                if runs > MOST_RUNS {
                    return Err(given.refuse(&format!("expected at most {MOST_RUNS} runs")));
                }
                self.max_runs = runs as usize;
                self.max_runs_origin = Some(given.origin.clone());
            }
            "memory" => {
                let text = given.value()?;
                let bytes = text.as_str().and_then(bytes);
                self.memory = Some(bytes.ok_or_else(|| given.refuse(MEMORY_FORM))?);
            }
            other => return Err(unknown(given, other, &KEYS)),
        }
        Ok(())
    }

    /// Sets the search that `table` describes.
    fn search(
        &mut self,
        method: Method,
        table: &Sourced<'_>,
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
        for given in table.inner(origin)? {
            let count = |given: &Sourced<'_>| given.whole(1).map(|count| count as usize);
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
            let given = argument.split_once('=');
            let Some((key, text)) = given.filter(|(key, _)| is_path(key.trim())) else {
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
                (1, _) => {
                    check_tables(&axis)?;
                    self.fixed.extend(layers(&axis, 0));
                }
                (_, "seed") => self.seed = Some(axis),
                _ => self.grid.push(axis),
            }
        }
        Ok(())
    }

    /// Checks axes against each other.
    fn check(&self) -> Result<()> {
        self.check_cap()?;
        self.check_values()?;
        self.check_zip()?;
        self.check_search()?;
        self.check_keys()
    }

    /// Every axis has values, and none of them twice.
    fn check_values(&self) -> Result<()> {
        for axis in self.axes() {
            if axis.values.is_empty() {
                let message = "the axis is empty; expected at least one value";
                return Err(at(&axis.origin, Error::setting(&axis.key, "[]", message)));
            }
            check_tables(axis)?;
        }
        for axis in self.grid.iter().chain(&self.seed) {
            if let Some(index) = again(axis.values.iter().map(identity)) {
                let shown = toml(&axis.values[index]).unwrap_or_default();
                let message = "the axis has this value twice";
                return Err(at(&axis.origin, Error::setting(&axis.key, shown, message)));
            }
        }
        Ok(())
    }

    /// Axes that step together are equally long, and have no combination twice.
    fn check_zip(&self) -> Result<()> {
        let Some(first) = self.zip.first() else {
            return Ok(());
        };
        let count = first.values.len();
        let differs = |axis: &&Axis| axis.values.len() != count;
        if let Some(other) = self.zip.iter().find(differs) {
            let message = format!(
                "axes of [sweep.zip] need equally many values; `{}` has {count}",
                first.key
            );
            let count = format!("[{} values]", other.values.len());
            return Err(at(
                &other.origin,
                Error::setting(&other.key, count, message),
            ));
        }
        // In step, a value may come again, but not all of them together.
        let row = |index: usize| {
            let values = self.zip.iter().map(|axis| identity(&axis.values[index]));
            values.collect::<Vec<_>>()
        };
        if let Some(index) = again((0..count).map(row)) {
            let shown = toml(&first.values[index]).unwrap_or_default();
            let message = "the axes of [sweep.zip] have this combination twice";
            return Err(at(
                &first.origin,
                Error::setting(&first.key, shown, message),
            ));
        }
        Ok(())
    }

    /// A search has keys, and stands alone where it looks at results.
    fn check_search(&self) -> Result<()> {
        let Some(search) = &self.search else {
            return Ok(());
        };
        if search.axes.is_empty() {
            return Err(CommandError::Usage(format!(
                "[sweep.{}] has no key to draw values for",
                search.method.name()
            )));
        }
        if self.halving.is_some() && search.method == Method::Tpe {
            return Err(CommandError::Usage(
                "a sweep has [sweep.tpe] or [sweep.halving], not both".to_owned(),
            ));
        }
        Ok(())
    }

    /// No key is set by two axes, or by an axis and something else.
    fn check_keys(&self) -> Result<()> {
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
                let other = if axis == *other {
                    place.to_string()
                } else {
                    format!("the axis `{other}` ({place})")
                };
                return Err(twice(&path, origin, &other));
            }
            if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.path() == path) {
                return Err(twice(&path, origin, &format!("{}", fixed.origin())));
            }
            if let Some(row) = self.trials.first()
                && let Some(layer) = row.iter().find(|layer| layer.path() == path)
            {
                let other = format!("the trials ({})", layer.origin());
                return Err(twice(&path, origin, &other));
            }
            set.push((path, axis, origin));
        }
        Ok(())
    }

    /// The search, where it looks at results.
    pub fn tpe(&self) -> Option<&Search> {
        let search = self.search.as_ref();
        search.filter(|search| search.method == Method::Tpe)
    }

    /// All axes with a list of values.
    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        self.grid.iter().chain(&self.zip).chain(&self.seed)
    }
}

/// Refuses a value that is a table without keys.
fn check_tables(axis: &Axis) -> Result<()> {
    let nothing = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    if axis.values.iter().any(nothing) {
        let message = "an empty table sets nothing; expected keys and values";
        return Err(at(&axis.origin, Error::setting(&axis.key, "{}", message)));
    }
    Ok(())
}

/// Puts `item` in the place of the one with the same key, or at the end.
fn replace<T>(items: &mut Vec<T>, item: T, key: impl Fn(&T) -> &String) {
    match items.iter().position(|other| key(other) == key(&item)) {
        Some(index) => items[index] = item,
        None => items.push(item),
    }
}

/// How a size is written.
pub const MEMORY_FORM: &str = "expected a size such as \"2 GB\" or \"500 MB\"";

/// A size in bytes, at least one.
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
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes >= 1.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// Where one of `values` comes again, if one does.
fn again<V: Eq + Hash>(values: impl Iterator<Item = V>) -> Option<usize> {
    let mut seen = HashSet::new();
    let mut values = values.enumerate();
    values.find_map(|(index, value)| (!seen.insert(value)).then_some(index))
}

/// A value so that equal ones are equal texts: 0.0 and −0.0 are.
fn identity(value: &Value) -> String {
    match value.as_f64() {
        Some(0.0) if value.is_f64() => "0.0".to_owned(),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

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
            (
                "[sweep]\nmemory = '99999999999 GB'",
                &[],
                &["m.toml:2", "sweep.memory", "a size such as"],
            ),
            (
                "[sweep.random]\ntrials = 3\nlearner.inner_steps = { log_integer = [0, 8] }",
                &[],
                &[
                    "m.toml:3",
                    "sweep.random.learner.inner_steps",
                    "1 <= low < high",
                ],
            ),
            ("", &["=1"], &["`=1`", "key.path=value"]),
            ("", &[".=1,2"], &["`.=1,2`", "key.path=value"]),
            ("", &["train.=1"], &["`train.=1`", "key.path=value"]),
            (
                "",
                &["train={}"],
                &["command line", "`train", "sets nothing"],
            ),
            (
                "[sweep.grid]\nlearner = [{}, { name = 'maml' }]",
                &[],
                &["m.toml:2", "`learner", "sets nothing"],
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
    fn sizes_have_units() {
        assert_eq!(bytes("2 GB"), Some(2_000_000_000));
        assert_eq!(bytes("1.5M"), Some(1_500_000));
        for text in [
            "2",
            "GB",
            "-1 GB",
            "0 MB",
            "1 TBs",
            "0.0001 kB",
            "99999999999 GB",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
