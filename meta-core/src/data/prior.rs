//! Tasks from a prior over tables: what a prior-fitted network learns to learn from (Müller et al.,
//! *Transformers can do Bayesian inference*, ICLR 2022; Hollmann et al., *TabPFN*, ICLR 2023, section 4).
//!
//! A task is a table that nobody measured. Its sizes, its noise and the shares of its kinds of columns are
//! uniform in the ranges of the settings; its function is of one of five families, by their weights:
//!
//! | family | features | target before noise |
//! |---|---|---|
//! | `scm` | nodes of a random causal graph | another node, with at least one cause among the features |
//! | `mlp` | independent or mixed columns | a random network: width, depth, curves, unused inputs |
//! | `gp` | likewise | a Gaussian process, RBF or Matérn, a length scale for each feature |
//! | `linear` | likewise | a weighted sum, some weights 0 |
//! | `tree` | likewise | one to four trees that cut one feature at a time |
//!
//! Normal noise is added to the target, of a deviation relative to that of the target (`gp`: to its
//! variance of 1). In classification the target is then cut by rank into as many intervals as classes, or
//! more, which are given to the classes in random order: each class has exactly the rows that its share
//! says. In regression the target has mean 0 and variance 1 over the rows of the task; that of `gp` is left
//! as it is, so that it stays a Gaussian process.
//!
//! Some columns are then skewed or cut into categories, which are numbered in random order; some numbers
//! are missing, completely at random.
//!
//! With `gp` alone, regression, and columns as they are, the exact posterior is known: results have its
//! log-likelihood as the bound that no learner exceeds on average.
//!
//! # Differences from the papers
//! Graphs grow node by node with one to three parents, instead of dropping connections of an MLP. There
//! are no label flips, and no columns that are copies of others.

mod columns;
mod problem;

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::columns::Columns;
pub use self::problem::ProcessKernel;
use self::problem::{Drawn, Graph, Process, whole};
use super::cholesky::{JITTER, log_density, posterior};
use super::episode::{ClassRef, Episode, EpisodeShape, Extras, ItemShape, Split, Targets, Task};
use super::rows::{Fill, items_of_rows, places};
use super::source::{Source, SourceSettings, check_items, check_regression, settings_hash};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::{LARGEST_SIZE, Settings};

/// Rows of the largest task of a Gaussian process: its covariance has their square.
const MOST_PROCESS_ROWS: usize = 2048;
/// The deepest tree, whose leaves are 2 to that power.
const DEEPEST: usize = 10;

/// What is asked of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriorTask {
    /// A class of each row.
    Classification,
    /// A number of each row.
    Regression,
}

settings! {
    /// Settings of [`PriorSource`]. Ranges are `[lowest, highest]`; each task draws from them uniformly.
    pub struct PriorSettings {
        /// What is asked of a task: `classification` or `regression`.
        task: PriorTask = PriorTask::Classification;
        /// Fewest and most features of a task. At least 1.
        features: [usize; 2] = [2, 10];
        /// The least number of classes of a task, up to `way`; 0 for always `way`.
        least_way: usize = 0, size(0);
        /// The least number of shots of a task's largest class (regression: of its support rows), up to
        /// `shot`; 0 for always `shot`.
        least_shot: usize = 0, size(0);
        /// How many times more rows the largest class has than the smallest. At least 1. The largest has
        /// the shots and queries of the task, each other at least one of both.
        imbalance: [f64; 2] = [1.0, 1.0];
        /// Weight of structural causal models in the mixture.
        scm: f64 = 2.0, at_least(0.0);
        /// Weight of multi-layer perceptrons.
        mlp: f64 = 2.0, at_least(0.0);
        /// Weight of Gaussian processes.
        gp: f64 = 1.0, at_least(0.0);
        /// Weight of linear rules.
        linear: f64 = 1.0, at_least(0.0);
        /// Weight of trees.
        tree: f64 = 1.0, at_least(0.0);
        /// Deviation of the noise of the target, relative to that of the target. At least 0.
        noise: [f64; 2] = [0.0, 0.3];
        /// Share of columns that hold categories, in \[0, 1\].
        categorical: [f64; 2] = [0.0, 0.3];
        /// Fewest and most categories of such a column. At least 2.
        categories: [usize; 2] = [2, 6];
        /// Share of the other columns that are skewed, in \[0, 1\].
        skewed: [f64; 2] = [0.0, 0.3];
        /// Share of numbers that are missing, in \[0, 1).
        missing: [f64; 2] = [0.0, 0.0];
        /// Hidden layers of a perceptron. At least 1.
        layers: [usize; 2] = [1, 3];
        /// Units of a hidden layer. At least 1.
        hidden: [usize; 2] = [4, 16];
        /// Length scale of a process, log-uniform, in units of √features. Above 0.
        length_scale: [f64; 2] = [0.4, 2.0];
        /// Deviation of the logarithms of a process's length scales around the common one, drawn between 0 and
        /// this: 0 for the same in all features.
        length_spread: f64 = 0.7, at_least(0.0);
        /// Kernel of a process: `rbf`, `matern` (ν = 5/2), or `either`, drawn for each task.
        kernel: ProcessKernel = ProcessKernel::Either;
        /// What stands for a number that is missing, and in features that a task has not. `mask`: a mask says so,
        /// for learners that read masks, such as `pfn`. `mean`: 0, the mean of the column, for any learner.
        fill: Fill = Fill::Mask;
        /// Depth of a tree, 1 to 10.
        depth: [usize; 2] = [2, 5];
    }
}

impl PriorSettings {
    /// Checks the settings and makes the source.
    ///
    /// # Errors
    /// [`Error::Setting`] for a range that is empty or has numbers that cannot be, and for weights that
    /// are all 0.
    pub fn build(&self) -> Result<PriorSource> {
        self.check_ranges("data")?;
        for (key, range, least, most) in [
            ("features", self.features, 1, 1 << 12),
            ("categories", self.categories, 2, 1 << 10),
            ("layers", self.layers, 1, 64),
            ("hidden", self.hidden, 1, 1 << 12),
            ("depth", self.depth, 1, DEEPEST),
        ] {
            let [low, high] = range;
            if !(least <= low && low <= high && high <= most) {
                let expected = format!("must be [lowest, highest], both in {least}..={most}");
                return Err(Error::setting(
                    format!("data.{key}"),
                    json!(range),
                    expected,
                ));
            }
        }
        let largest = LARGEST_SIZE as f64;
        for (key, range, least, most) in [
            ("imbalance", self.imbalance, 1.0, largest),
            ("noise", self.noise, 0.0, largest),
            ("categorical", self.categorical, 0.0, 1.0),
            ("skewed", self.skewed, 0.0, 1.0),
            ("missing", self.missing, 0.0, 0.99),
            ("length_scale", self.length_scale, 1e-3, 1e6),
        ] {
            let [low, high] = range;
            if !(least <= low && low <= high && high <= most) {
                let expected = format!("must be [lowest, highest], both in [{least}, {most}]");
                return Err(Error::setting(
                    format!("data.{key}"),
                    json!(range),
                    expected,
                ));
            }
        }
        let total: f64 = self.weights().iter().sum();
        if !(total > 0.0 && total.is_finite()) {
            let expected = "must be finite, and not 0 together with those of the other families \
                            (`scm`, `mlp`, `gp`, `linear`, `tree`)";
            return Err(Error::setting("data.scm", self.scm, expected));
        }
        Ok(PriorSource {
            settings: self.clone(),
        })
    }

    /// Weights of the families, in the order of [`Family::ALL`].
    fn weights(&self) -> [f64; 5] {
        [self.scm, self.mlp, self.gp, self.linear, self.tree]
    }
}

impl SourceSettings for PriorSettings {
    const NAME: &str = "prior";
    const SUMMARY: &str = "tables from a prior: causal graphs, networks, processes, linear rules, trees; \
                           needs no files";
    const TABLES: bool = true;

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build()?))
    }
}

/// The family that a task's function is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Scm,
    Mlp,
    Gp,
    Linear,
    Tree,
}

impl Family {
    const ALL: [Family; 5] = [
        Family::Scm,
        Family::Mlp,
        Family::Gp,
        Family::Linear,
        Family::Tree,
    ];
}

/// What a task has, before its rows are drawn.
struct Sizes {
    family: Family,
    features: usize,
    /// Relative deviation of the noise.
    noise: f64,
    columns: Columns,
    /// Support and query rows of each class; of regression one pair.
    rows: Vec<(usize, usize)>,
}

/// Tables that are drawn from a prior; an item is a row, padded to the most features of a task.
#[derive(Clone, Debug)]
pub struct PriorSource {
    settings: PriorSettings,
}

impl PriorSource {
    fn sizes(&self, shape: EpisodeShape, stream: &mut Stream) -> Sizes {
        let settings = &self.settings;
        let mut number = |[low, high]: [f64; 2]| stream.uniform_in(low, high);
        let (noise, imbalance) = (number(settings.noise), number(settings.imbalance));
        let columns = Columns {
            skewed: number(settings.skewed),
            categorical: number(settings.categorical),
            categories: settings.categories,
            missing: number(settings.missing),
        };
        let weights = settings.weights();
        let mut left = stream.uniform() * weights.iter().sum::<f64>();
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave nothing: the last family that has a weight.
        let last = weights.iter().rposition(|&weight| weight > 0.0);
        let family = Family::ALL[chosen.or(last).unwrap_or_default()];
        let features = whole(settings.features, stream);
        let least = |least: usize, most: usize| if least == 0 { most } else { least };
        let way = whole(
            [least(settings.least_way, shape.way.0), shape.way.0],
            stream,
        );
        let shot = whole(
            [least(settings.least_shot, shape.shot.0), shape.shot.0],
            stream,
        );
        let mut rows: Vec<(usize, usize)> = (0..way)
            .map(|class| {
                let place = class as f64 / (way.max(2) - 1) as f64;
                let share = imbalance.powf(-place);
                let part = |most: usize| ((share * most as f64).round() as usize).clamp(1, most);
                (part(shot), part(shape.query.0))
            })
            .collect();
        stream.shuffle(&mut rows);
        Sizes {
            family,
            features,
            noise,
            columns,
            rows,
        }
    }

    /// Rows of the function of a task, without noise.
    fn draw(&self, family: Family, rows: usize, features: usize, stream: &mut Stream) -> Drawn {
        let settings = &self.settings;
        match family {
            Family::Scm => Graph::draw(features, stream).rows(rows, stream),
            Family::Mlp => problem::mlp(rows, features, settings.layers, settings.hidden, stream),
            Family::Gp => self.process(features, stream).rows(rows, stream),
            Family::Linear => problem::linear(rows, features, stream),
            Family::Tree => problem::trees(rows, features, settings.depth, stream),
        }
    }

    /// The process of a task.
    fn process(&self, features: usize, stream: &mut Stream) -> Process {
        let PriorSettings {
            kernel,
            length_scale,
            length_spread,
            ..
        } = self.settings;
        Process::draw(features, kernel, length_scale, length_spread, stream)
    }

    /// Whether the posterior of its tasks is that of a Gaussian process.
    fn is_process(&self) -> bool {
        let PriorSettings {
            scm,
            mlp,
            linear,
            tree,
            ..
        } = self.settings;
        let plain = |[_, high]: [f64; 2]| high == 0.0;
        self.settings.task == PriorTask::Regression
            && [scm, mlp, linear, tree] == [0.0; 4]
            && plain(self.settings.categorical)
            && plain(self.settings.skewed)
            && plain(self.settings.missing)
    }
}

/// Adds noise of that relative deviation; the targets of all but a process are then standardised.
fn add_noise(targets: &mut [f64], relative: f64, family: Family, stream: &mut Stream) {
    let deviation = match family {
        Family::Gp => 1.0,
        _ => moments(targets).1,
    };
    for target in &mut *targets {
        *target += relative * deviation * stream.normal();
    }
    if family != Family::Gp {
        let (mean, deviation) = moments(targets);
        let scale = if deviation > 0.0 {
            1.0 / deviation
        } else {
            1.0
        };
        targets
            .iter_mut()
            .for_each(|target| *target = (*target - mean) * scale);
    }
}

/// Mean and standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / count).sqrt())
}

/// Cuts targets by rank so that class `c` has `counts[c]` rows: the rows of each class, in the order in
/// which they were drawn. A class has one interval or two.
fn cut(targets: &[f64], counts: &[usize], stream: &mut Stream) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by(|&a, &b| targets[a].total_cmp(&targets[b]).then(a.cmp(&b)));
    let twice = stream.uniform() < 0.3;
    let mut intervals: Vec<(usize, usize)> = Vec::with_capacity(2 * counts.len());
    for (class, &count) in counts.iter().enumerate() {
        let first = match twice {
            true => stream.below(count + 1),
            false => count,
        };
        intervals.push((class, first));
        intervals.push((class, count - first));
    }
    stream.shuffle(&mut intervals);
    let mut classes: Vec<Vec<usize>> = counts
        .iter()
        .map(|&count| Vec::with_capacity(count))
        .collect();
    let mut places = order.into_iter();
    for (class, count) in intervals {
        classes[class].extend(places.by_ref().take(count));
    }
    classes.iter_mut().for_each(|rows| rows.sort_unstable());
    classes
}

impl Source for PriorSource {
    fn name(&self) -> &'static str {
        PriorSettings::NAME
    }

    fn task(&self) -> Task {
        match self.settings.task {
            PriorTask::Classification => Task::Classification,
            PriorTask::Regression => Task::Regression { outputs: 1 },
        }
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: self.settings.features[1],
        }
    }

    fn extras(&self) -> Extras {
        let PriorSettings {
            least_way,
            least_shot,
            imbalance,
            features: [fewest, most],
            missing,
            fill,
            ..
        } = self.settings;
        Extras {
            items: least_way > 0 || least_shot > 0 || imbalance[1] > 1.0,
            numbers: fill == Fill::Mask && (fewest < most || missing[1] > 0.0),
            class_vector: 0,
        }
    }

    fn check(&self, _split: Split, shape: EpisodeShape) -> Result<()> {
        let settings = &self.settings;
        match settings.task {
            PriorTask::Regression => check_regression(shape)?,
            PriorTask::Classification => {
                if shape.way.0 < 2 {
                    let expected = "classification needs at least 2 classes per task";
                    return Err(Error::setting("data.way", shape.way, expected));
                }
                check_items(shape)?;
            }
        }
        let classes = settings.task == PriorTask::Classification;
        for (key, least, lowest, most) in [
            (
                "least_way",
                settings.least_way,
                2,
                if classes { shape.way.0 } else { 0 },
            ),
            ("least_shot", settings.least_shot, 1, shape.shot.0),
        ] {
            if least != 0 && !(lowest..=most).contains(&least) {
                let expected = format!(
                    "must be 0, or in {lowest}..={most}, the `{}` of these tasks",
                    key.trim_start_matches("least_")
                );
                return Err(Error::setting(format!("data.{key}"), least, expected));
            }
        }
        let rows = shape.support_items() + shape.query_items();
        if settings.gp > 0.0 && rows > MOST_PROCESS_ROWS {
            let expected = format!(
                "makes tasks of {rows} rows, and those of a Gaussian process have at most \
                 {MOST_PROCESS_ROWS}; ask for fewer, or set `data.gp = 0`"
            );
            return Err(Error::setting("data.query", shape.query, expected));
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
        let stream = |purpose: &str| seed.stream(split.scope(), index, purpose);
        let sizes = self.sizes(shape, &mut stream("sizes"));
        let f = sizes.features;
        let counts: Vec<usize> = sizes.rows.iter().map(|(s, q)| s + q).collect();
        let total = counts.iter().sum();
        let mut drawn = self.draw(sizes.family, total, f, &mut stream("function"));
        add_noise(
            &mut drawn.targets,
            sizes.noise,
            sizes.family,
            &mut stream("noise"),
        );
        let there = sizes
            .columns
            .apply(&mut drawn.inputs, f, &mut stream("columns"));
        let extras = self.extras();
        let classes = match self.settings.task {
            PriorTask::Classification => cut(&drawn.targets, &counts, &mut stream("classes")),
            PriorTask::Regression => vec![(0..total).collect()],
        };
        let number = |row: usize, feature: usize| {
            let place = row * f + feature;
            let is_there = feature < f && there.as_ref().is_none_or(|there| there[place]);
            match (is_there, self.settings.fill) {
                (true, _) => Some(drawn.inputs[place] as f32),
                (false, Fill::Mask) => None,
                (false, Fill::Mean) => Some(0.0),
            }
        };
        let labels_of_all: Vec<u32> = (0..classes.len() as u32).collect();
        let part = |of_query: bool, per_class: usize| {
            let own = classes.iter().zip(&sizes.rows).map(|(rows, &(shots, _))| {
                let (support, query) = rows.split_at(shots);
                if of_query { query } else { support }
            });
            let own: Vec<&[usize]> = own.collect();
            let (rows, labels) = places(&own, shape.way.0, per_class);
            let targets = match self.settings.task {
                PriorTask::Classification => Targets::Classes(labels),
                PriorTask::Regression => {
                    let value = |row: usize| drawn.targets[row] as f32;
                    let values = rows.iter().map(|row| row.map_or(0.0, value));
                    Targets::Values(values.collect())
                }
            };
            items_of_rows(
                &rows,
                self.settings.features[1],
                targets,
                &labels_of_all,
                extras,
                number,
            )
        };
        let (support, query) = (part(false, shape.shot.0), part(true, shape.query.0));
        let reference = |label: usize| ClassRef {
            class: label as u32,
            position: label as u32,
            quarter_turns: 0,
        };
        let references = match self.settings.task {
            PriorTask::Classification => (0..classes.len()).map(reference).collect(),
            PriorTask::Regression => Vec::new(),
        };
        Ok(Episode::new(index, shape, support, query, references))
    }

    fn log_likelihood(&self, seed: Seed, split: Split, episode: &Episode) -> Option<f64> {
        if !self.is_process() {
            return None;
        }
        let (Targets::Values(support), Targets::Values(query)) =
            (&episode.support.targets, &episode.query.targets)
        else {
            return None;
        };
        let stream = |purpose: &str| seed.stream(split.scope(), episode.index, purpose);
        let sizes = self.sizes(episode.shape, &mut stream("sizes"));
        let f = sizes.features;
        let process = self.process(f, &mut stream("function"));
        let width = self.settings.features[1];
        let (mut rows, mut y): (Vec<Vec<f64>>, Vec<f64>) = (Vec::new(), Vec::new());
        for (items, targets) in [(&episode.support, support), (&episode.query, query)] {
            for (place, item) in items.inputs.chunks_exact(width).enumerate() {
                if items.is_there(place) {
                    rows.push(item[..f].iter().map(|&x| f64::from(x)).collect());
                    y.push(f64::from(targets[place]));
                }
            }
        }
        let known = (0..episode.support.len()).filter(|&item| episode.support.is_there(item));
        let known = known.count();
        let own = sizes.noise.powi(2) + JITTER;
        let k = |i: usize, j: usize| process.covariance(&rows[i], &rows[j]);
        let (support, query) = y.split_at(known);
        let predicted = posterior(k, own, support, query.len());
        let densities = predicted.iter().zip(query);
        let sum: f64 = densities
            .map(|(&(mean, variance), &y)| log_density(y, mean, variance))
            .sum();
        Some(sum / query.len().max(1) as f64)
    }

    fn content_hash(&self) -> String {
        settings_hash("prior 1", &self.settings.entries())
    }

    fn describe(&self) -> Value {
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "settings": self.settings.to_value(),
            "content_hash": self.content_hash(),
        })
    }
}

#[cfg(test)]
mod tests;
