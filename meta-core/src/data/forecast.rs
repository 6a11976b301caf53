//! Forecasting: windows of one long series as a task.
//!
//! A task is one series, cut at a time of its own. An item is a window of it, its target what comes next:
//!
//! ```text
//! x = (s_i, …, s_{i+w−1}),    y = (s_{i+w}, …, s_{i+w+h−1})
//! ```
//!
//! Support windows end, with their targets, before the targets of all queries begin, so nothing that is asked for
//! has been seen. Values are centred and scaled by those before the cut alone. An item is `[w, 1, 2]`: a row for
//! each step with its value and a 1, as in `series`.
//!
//! Series of one split are not in another. Without files, series are drawn: a line, two seasons with periods of
//! their own, and noise.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::class_splits::{Fractions, Splits};
use super::episode::{Episode, EpisodeShape, ItemShape, Items, Split, Targets, Task};
use super::formats::Lines;
use super::image_files::resolve;
use super::series::interpolate;
use super::source::{Source, SourceSettings, check_regression};
use crate::error::{Error, Result};
use crate::rng::Seed;
use crate::settings;
use crate::settings::Settings;

/// Enters the content hash: any change to what is drawn must change it.
const VERSION: u32 = 1;
/// The most numbers of all series.
const MAXIMUM_NUMBERS: usize = 1 << 28;

/// How series stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesLayout {
    /// A series a line, its name first; a first line that is no series is a header (M4).
    Rows,
    /// A series a column, its name in the first line; columns that hold no numbers, such as dates, are left
    /// out.
    Columns,
}

settings! {
    /// Settings of [`ForecastSource`].
    ///
    /// Files are `.csv` (commas) or `.tsv`, `.txt` (tabs), each also with `.gz`; numbers may stand in quotation
    /// marks. Relative paths start at the data folder when there is one, else at the working directory.
    pub struct ForecastSettings {
        /// Files of series; empty for series that are drawn.
        files: Vec<String> = Vec::new();
        /// How series stand in the files: `rows` or `columns`.
        layout: SeriesLayout = SeriesLayout::Rows;
        /// Steps `w` of an item.
        window: usize = 24, between(2, 4096);
        /// Steps `h` that are predicted.
        horizon: usize = 1, between(1, 1024);
        /// Whether values are centred and scaled by those before the cut between support and queries.
        normalise: bool = true;
        /// Number of series that are drawn, without files.
        count: usize = 500, between(1, 100_000);
        /// Steps of a series that is drawn.
        length: usize = 160, between(8, 65_536);
        /// Standard deviation of its noise.
        noise: f64 = 0.1, between(0.0, 10.0);
        /// Seed of what is drawn: another number gives other series.
        world: u64 = 0;
        /// The expected fraction of series that validate, decided by the BLAKE3 hash of a name alone. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// The expected fraction of series that test, decided likewise. In 0..=1, and at most 1 together with
        /// `validation_fraction`.
        test_fraction: f64 = 0.2;
    }
}

impl ForecastSettings {
    /// Reads or draws the series.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used; [`Error::Data`] or [`Error::Io`], naming file and
    /// line, for files that are missing or damaged, numbers that are none, series of one point, and names that
    /// are there twice.
    pub fn build(&self, data_dir: Option<&Path>) -> Result<ForecastSource> {
        self.check_ranges("data")?;
        let fractions = Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        };
        fractions.check()?;
        let mut found = Found::default();
        for file in &self.files {
            found.read(&resolve(file, data_dir), self.layout)?;
        }
        if self.files.is_empty() {
            for number in 0..self.count {
                found
                    .series
                    .push((format!("series {number}"), self.drawn(number)));
            }
        }
        let names = found.series.iter().map(|(name, _)| name.as_str());
        let splits = fractions.by_name(names);
        Ok(ForecastSource {
            content_hash: self.hash(&found.series, &splits),
            series: found.series.into_iter().map(|(_, values)| values).collect(),
            settings: self.clone(),
            splits,
        })
    }

    /// A line, two seasons and noise.
    fn drawn(&self, number: usize) -> Vec<f32> {
        let mut stream = Seed(self.world).stream("forecast", number as u64, "series");
        let slope = 2.0 * stream.normal() / self.length as f64;
        let seasons = [(); 2].map(|()| {
            let period = stream.uniform_in(4.0, 32.0);
            let (strength, phase) = (stream.uniform_in(0.2, 1.0), stream.uniform_in(0.0, 1.0));
            move |step: f64| strength * (std::f64::consts::TAU * (step / period + phase)).sin()
        });
        let value = |step: usize| {
            let time = step as f64;
            let clean = slope * time + seasons[0](time) + seasons[1](time);
            (clean + self.noise * stream.normal()) as f32
        };
        (0..self.length).map(value).collect()
    }

    fn hash(&self, series: &[(String, Vec<f32>)], splits: &Splits) -> String {
        let mut hasher = blake3::Hasher::new();
        let head = json!([self.window, self.horizon, self.normalise, splits]);
        hasher.update(format!("forecast {VERSION}\n{head}\n").as_bytes());
        for (name, values) in series {
            hasher.update(format!("{}\n{}\n", json!(name), values.len()).as_bytes());
            for value in values {
                hasher.update(&value.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Windows of a series of `length` steps.
    fn windows(&self, length: usize) -> usize {
        (length + 1).saturating_sub(self.window + self.horizon)
    }

    /// Steps that a series needs for tasks of this shape: as many windows, and `h − 1` between those of the
    /// support and those of the queries.
    fn least_length(&self, shape: EpisodeShape) -> usize {
        let items = shape.shot.0.saturating_add(shape.query.0);
        items.saturating_add(self.window + 2 * self.horizon - 2)
    }
}

impl SourceSettings for ForecastSettings {
    const NAME: &str = "forecast";
    const SUMMARY: &str =
        "regression of what comes next in a series (csv, M4); without files, series that are drawn";

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

/// The series of all files, by name.
#[derive(Default)]
struct Found {
    series: Vec<(String, Vec<f32>)>,
    names: std::collections::HashSet<String>,
    numbers: usize,
}

/// A number; not a number where it is missing, and nothing where the text is none.
fn number(text: &str) -> Option<f32> {
    let text = text.trim().trim_matches('"').trim();
    if matches!(text, "" | "?" | "NA") || text.eq_ignore_ascii_case("nan") {
        return Some(f32::NAN);
    }
    text.parse::<f32>().ok().filter(|number| number.is_finite())
}

fn name(text: &str) -> String {
    text.trim().trim_matches('"').trim().to_owned()
}

impl Found {
    fn read(&mut self, path: &Path, layout: SeriesLayout) -> Result<()> {
        let own = path.to_string_lossy().to_ascii_lowercase();
        let own = own.strip_suffix(".gz").unwrap_or(&own);
        let between = if own.ends_with(".csv") { ',' } else { '\t' };
        let before = self.series.len();
        let mut lines = Lines::open(path)?;
        match layout {
            SeriesLayout::Rows => {
                while let Some((line, text)) = lines.next_line()? {
                    self.row(path, line, text.trim_end_matches('\r'), between)?;
                }
            }
            SeriesLayout::Columns => {
                let Some((_, header)) = lines.next_line()? else {
                    return Err(Error::data(path, "is empty"));
                };
                let names: Vec<String> = header.split(between).map(name).collect();
                let mut columns = vec![Some(Vec::new()); names.len()];
                let mut rows = 0;
                while let Some((line, text)) = lines.next_line()? {
                    if !text.trim().is_empty() {
                        row_of_columns(
                            path,
                            line,
                            text.trim_end_matches('\r'),
                            between,
                            rows,
                            &mut columns,
                        )?;
                        rows += 1;
                    }
                }
                for (name, values) in names.into_iter().zip(columns) {
                    if let Some(values) = values {
                        let place = format!("column `{name}`");
                        self.take(path, &place, name, values)?;
                    }
                }
            }
        }
        match self.series.len() > before {
            true => Ok(()),
            false => Err(Error::data(path, "holds no series")),
        }
    }

    fn row(&mut self, path: &Path, line: u64, text: &str, between: char) -> Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let place = format!("line {line}");
        let Some((own, values)) = text.split_once(between) else {
            return Err(Error::data(path, format!("{place} has no name and values")));
        };
        let mut numbers = Vec::new();
        for text in values.split(between) {
            match number(text) {
                Some(number) => numbers.push(number),
                // A header, where there is one, comes before all values.
                None if line == 1 => return Ok(()),
                None => {
                    let message = format!("{place} has `{}` for a number", text.trim());
                    return Err(Error::data(path, message));
                }
            }
        }
        self.take(path, &place, name(own), numbers)
    }

    fn take(&mut self, path: &Path, place: &str, name: String, mut values: Vec<f32>) -> Result<()> {
        let fault = |reason: String| Err(Error::data(path, format!("{place} {reason}")));
        // Files fill up series that are shorter, and columns that begin later.
        let first = values.iter().position(|value| !value.is_nan());
        let last = values.iter().rposition(|value| !value.is_nan());
        let there = values.iter().filter(|value| !value.is_nan()).count();
        let (Some(first), Some(last), true) = (first, last, there > 1) else {
            return fault(format!(
                "has a series of {there} points; 2 or more are read"
            ));
        };
        values.truncate(last + 1);
        values.drain(..first);
        interpolate(&mut values);
        self.numbers += values.len();
        if self.numbers > MAXIMUM_NUMBERS {
            return fault(format!(
                "is beyond the {MAXIMUM_NUMBERS} numbers that are read"
            ));
        }
        if name.is_empty() {
            return fault("has a series without a name".to_owned());
        }
        if !self.names.insert(name.clone()) {
            return fault(format!("has the name `{name}` of a series before it"));
        }
        self.series.push((name, values));
        Ok(())
    }
}

/// Takes a line of a table of series; a column whose first value is no number is none.
fn row_of_columns(
    path: &Path,
    line: u64,
    text: &str,
    between: char,
    rows: usize,
    columns: &mut [Option<Vec<f32>>],
) -> Result<()> {
    let values: Vec<&str> = text.split(between).collect();
    if values.len() != columns.len() {
        let message = format!(
            "line {line} has {} values, and the header {}",
            values.len(),
            columns.len()
        );
        return Err(Error::data(path, message));
    }
    for (text, column) in values.into_iter().zip(columns) {
        let Some(own) = column else {
            continue;
        };
        match number(text) {
            Some(number) => own.push(number),
            None if rows == 0 => *column = None,
            None => {
                let message = format!("line {line} has `{}` for a number", text.trim());
                return Err(Error::data(path, message));
            }
        }
    }
    Ok(())
}

/// Tasks of forecasting one series each.
pub struct ForecastSource {
    settings: ForecastSettings,
    series: Vec<Vec<f32>>,
    splits: Splits,
    content_hash: String,
}

impl ForecastSource {
    /// The series of a split that are long enough.
    fn long_enough(&self, split: Split, shape: EpisodeShape) -> Vec<usize> {
        let least = self.settings.least_length(shape);
        let own = self.splits[split.position()].iter().copied();
        own.filter(|&series| self.series[series].len() >= least)
            .collect()
    }

    /// Windows of `series` that begin at `starts`; `scale` is the mean and the deviation of what was seen.
    fn items(&self, series: usize, starts: &[usize], (mean, deviation): (f64, f64)) -> Items {
        let ForecastSettings {
            window, horizon, ..
        } = self.settings;
        let values = &self.series[series];
        let scaled = |value: &f32| ((f64::from(*value) - mean) / deviation) as f32;
        let mut inputs = Vec::with_capacity(2 * window * starts.len());
        let mut targets = Vec::with_capacity(horizon * starts.len());
        for &start in starts {
            let (seen, asked) = values[start..start + window + horizon].split_at(window);
            inputs.extend(seen.iter().flat_map(|value| [scaled(value), 1.0]));
            targets.extend(asked.iter().map(scaled));
        }
        let id = |&start: &usize| (series as u64) << 32 | start as u64;
        Items::new(
            inputs,
            Targets::Values(targets),
            starts.iter().map(id).collect(),
        )
    }
}

/// Mean and standard deviation; 1 for one of 0.
fn scale_of(values: &[f32]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares = values
        .iter()
        .map(|&value| (f64::from(value) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count).sqrt();
    // Below this it is rounding of the numbers in the file.
    match deviation > 1e-7 * mean.abs().max(1e-30) {
        true => (mean, deviation),
        false => (mean, 1.0),
    }
}

impl Source for ForecastSource {
    fn name(&self) -> &'static str {
        ForecastSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Regression {
            outputs: self.settings.horizon,
        }
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: self.settings.window,
            width: 1,
            channels: 2,
        }
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        check_regression(shape)?;
        if self.long_enough(split, shape).is_empty() {
            let own = self.splits[split.position()].iter();
            let longest = own
                .map(|&series| self.series[series].len())
                .max()
                .unwrap_or(0);
            let expected = format!(
                "with {} queries, `data.window` and `data.horizon` needs a series of {} steps, and the longest of \
                 {split} (`data.{split}_fraction`, for training what others leave) has {longest}",
                shape.query,
                self.settings.least_length(shape),
            );
            return Err(Error::setting("data.shot", shape.shot, expected));
        }
        Ok(())
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let long = self.long_enough(split, shape);
        let mut stream = seed.stream(split.scope(), index, "windows");
        let series = long[stream.below(long.len())];
        let values = &self.series[series];
        let (shot, query) = (shape.shot.0, shape.query.0);
        let windows = self.settings.windows(values.len());
        let horizon = self.settings.horizon;
        // Support windows begin before `cut`, those of queries `h − 1` steps behind it or later.
        let cut = shot + stream.below(windows + 2 - shot - query - horizon);
        let later = cut + horizon - 1;
        let support = stream.choose_distinct(cut, shot);
        let asked = stream.choose_distinct(windows - later, query);
        let asked: Vec<usize> = asked.into_iter().map(|start| start + later).collect();
        let scale = match self.settings.normalise {
            true => scale_of(&values[..later + self.settings.window]),
            false => (0.0, 1.0),
        };
        let support = self.items(series, &support, scale);
        let asked = self.items(series, &asked, scale);
        Ok(Episode::new(index, shape, support, asked, Vec::new()))
    }

    fn content_hash(&self) -> String {
        self.content_hash.clone()
    }

    fn describe(&self) -> Value {
        let counts = |split: Split| json!({ "series": self.splits[split.position()].len() });
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "series": self.series.len(),
            "steps": self.series.iter().map(Vec::len).sum::<usize>(),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        (folder, path)
    }

    /// Every value is its step, so that a window says where it lies.
    fn counting(layout: SeriesLayout, horizon: usize) -> ForecastSource {
        let steps = (0..20).map(|step| step.to_string()).collect::<Vec<_>>();
        let (name, text) = match layout {
            SeriesLayout::Rows => (
                "a.csv",
                format!("V1,V2\n\"a\",\"{}\"\n", steps.join("\",\"")),
            ),
            SeriesLayout::Columns => {
                let rows = steps.iter().map(|step| format!("2020-01-01\t{step}\n"));
                ("a.tsv", format!("date\ta\n{}", rows.collect::<String>()))
            }
        };
        let (folder, _) = written(name, &text);
        let settings = ForecastSettings {
            files: vec![name.to_owned()],
            layout,
            window: 3,
            horizon,
            normalise: false,
            validation_fraction: 0.0,
            test_fraction: 0.0,
            ..ForecastSettings::default()
        };
        settings.build(Some(folder.path())).expect("a series")
    }

    /// The targets of all queries lie behind those of the support, and each behind its window.
    #[test]
    fn nothing_that_is_asked_for_has_been_seen() {
        for layout in [SeriesLayout::Rows, SeriesLayout::Columns] {
            for horizon in [1, 3] {
                let source = counting(layout, horizon);
                let shape = EpisodeShape::new(1, 4, 5);
                let mut starts = std::collections::BTreeSet::new();
                for index in 0..200 {
                    let episode = source.episode(Seed(1), Split::Train, shape, index);
                    let episode = episode.expect("a task");
                    let targets = |items: &Items| match &items.targets {
                        Targets::Values(values) => values.clone(),
                        _ => panic!("regression has values"),
                    };
                    let seen = targets(&episode.support).into_iter().fold(0.0, f32::max);
                    for (item, targets) in episode
                        .query
                        .inputs
                        .chunks_exact(6)
                        .zip(targets(&episode.query).chunks_exact(horizon))
                    {
                        assert!(targets[0] > seen && targets[0] == item[4] + 1.0);
                        assert_eq!([item[1], item[3], item[5]], [1.0; 3]);
                    }
                    starts.extend(episode.query.ids);
                }
                // Of the windows of 20 steps, all but the first four and those between.
                assert_eq!(starts.len(), 20 - 3 - horizon + 1 - 4 - (horizon - 1));
            }
        }
    }

    /// What is scaled is scaled by what lies before the cut.
    #[test]
    fn series_that_are_drawn_are_normalised_by_their_past() {
        let source = ForecastSettings::default().build(None).expect("defaults");
        let shape = EpisodeShape::new(1, 10, 10);
        let mut squares = 0.0;
        for index in 0..50 {
            let episode = source.episode(Seed(1), Split::Test, shape, index);
            let inputs = episode.expect("a task").support.inputs;
            squares += inputs.iter().step_by(2).map(|x| x * x).sum::<f32>() / 12_000.0;
        }
        // Windows overlap and series have trends: about 1, not exactly.
        assert!((0.5..2.0).contains(&squares), "{squares}");
    }

    #[test]
    fn bad_files_are_named_with_their_lines() {
        for (text, expected) in [
            ("a,1,2\nb,1,x\n", "line 2 has `x` for a number"),
            ("a,1,2\nb,1\n", "line 2 has a series of 1 points"),
            ("a,1,2\na,1,3\n", "line 2 has the name `a`"),
            ("a,1,2\nb\n", "line 2 has no name and values"),
            ("", "holds no series"),
        ] {
            let (_folder, path) = written("a.csv", text);
            let settings = ForecastSettings {
                files: vec![path.to_string_lossy().into_owned()],
                ..ForecastSettings::default()
            };
            let message = settings.build(None).err().expect("a refusal").to_string();
            assert!(
                message.contains(expected) && message.contains("a.csv"),
                "{message}"
            );
        }
        let source = ForecastSettings::default().build(None).expect("defaults");
        let shape = EpisodeShape::new(1, 200, 10);
        let message = source.check(Split::Train, shape).expect_err("short");
        assert!(
            message.to_string().contains("needs a series of 234 steps"),
            "{message}"
        );
    }
}
