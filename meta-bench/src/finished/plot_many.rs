//! Draws many runs: curves with bands over seeds, scores over adaptation steps or over a setting, paired
//! differences, calibration, attention over layers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use meta_core::{
    stats::{Interval, mean},
    toolkit::Toolkit,
    train::eval::Metric,
};
use serde_json::Value;

use super::{
    compare::{CompareArgs, Compared, Group},
    metrics::Curves,
    plot_setting::title,
    store::Stored,
};
use crate::{
    failure::{CommandError, Result},
    output::{
        chart::score_axis,
        figure::{Difference, Figure, Forest, Point, Series, Spread},
    },
    run::{
        folder::{EXPLAIN, EXPLAIN_NUMBERS, read_json},
        predictions::{BINS, of_run},
        regret::regret_of_run,
    },
};

/// Lines that a figure has at most.
const MOST_LINES: usize = 40;
/// Runs whose calibration is drawn at most: each predicts again.
const MOST_PREDICTED: usize = 7;

/// Finished runs, in the groups of `meta compare`.
pub struct Many {
    notes: Vec<String>,
    compared: Compared,
    title: String,
}

impl Many {
    /// The runs in `paths` that meet the conditions, in groups by these keys, or by what tells them apart; what is
    /// left out is said on stderr.
    ///
    /// # Errors
    /// As `meta compare`.
    pub fn read(paths: &[PathBuf], conditions: &[String], group_by: &[String]) -> Result<Self> {
        let args = CompareArgs::of(paths.to_vec())
            .with_conditions(conditions.to_vec())
            .grouped_by(group_by.to_vec());
        let mut notes = Vec::new();
        let runs = args.finished(&mut notes)?;
        let title = title(&runs);
        let compared = args.compared(runs, notes.clone())?;
        Ok(Many {
            notes,
            compared,
            title,
        })
    }

    /// Says on stderr what is left out.
    pub fn say_what_is_left_out(&self) {
        for note in &self.notes {
            eprintln!("{note}");
        }
    }

    /// Whether no group differs from another in anything but this setting.
    pub fn differs_only_in(&self, key: &str) -> bool {
        let keys = self.compared.groups.iter().flat_map(|group| &group.label);
        keys.into_iter().all(|(name, _)| name == key)
    }

    /// The groups whose scores are those of the best one, at most as many as a figure has lines.
    fn alike(&self) -> Result<(Metric, Vec<&Group>)> {
        let groups = &self.compared.groups;
        let Some(first) = groups.first() else {
            return Err(CommandError::Usage("no finished run to draw".to_owned()));
        };
        let others = groups
            .iter()
            .filter(|group| group.metric != first.metric)
            .count();
        if others > 0 {
            eprintln!(
                "{others} rows are left out: accuracies and squared errors are not drawn in one picture"
            );
        }
        let alike = groups.iter().filter(|group| group.metric == first.metric);
        let alike: Vec<&Group> = alike.collect();
        if alike.len() > MOST_LINES {
            eprintln!("the best {MOST_LINES} of {} rows are drawn", alike.len());
        }
        Ok((first.metric, alike.into_iter().take(MOST_LINES).collect()))
    }

    fn figure(&self, metric: Metric, x: &str, series: Vec<Series>, note: &str) -> Figure {
        Figure {
            title: self.title.clone(),
            x: x.to_owned(),
            y: score_axis(metric).1.to_owned(),
            logarithmic: false,
            diagonal: false,
            spread: Spread::Band,
            series,
            note: note.to_owned(),
        }
    }

    /// Validation scores over training: a line a group, its band over seeds.
    ///
    /// # Errors
    /// When metrics cannot be read, or no run was validated.
    pub fn curves(&self) -> Result<Figure> {
        let (metric, groups) = self.alike()?;
        let factor = score_axis(metric).0;
        let mut series = Vec::new();
        for group in groups {
            let mut curves = Vec::new();
            for run in group.runs.iter().filter(|run| run.evaluation.is_none()) {
                let validation = Curves::read(&run.folder)?.validation;
                let points = validation.iter();
                let points = points.map(|logged| (logged.iteration as f64, factor * logged.score));
                curves.push(points.collect());
            }
            let points = over_runs(&curves);
            if !points.is_empty() {
                let name = named(group, &self.title);
                series.push(Series { name, points });
            }
        }
        if series.is_empty() {
            let expected = "no run has a validation to draw; expected train.validate_every above 0";
            return Err(CommandError::Usage(expected.to_owned()));
        }
        let note = "Validation scores while training; a line is the mean over seeds, its band the 95 % \
                    interval over seeds.";
        Ok(self.figure(metric, "iteration", series, note))
    }

    /// Test scores after each adaptation step: a line a group.
    ///
    /// # Errors
    /// When no run has steps.
    pub fn steps(&self) -> Result<Figure> {
        let (metric, groups) = self.alike()?;
        let factor = score_axis(metric).0;
        let mut series = Vec::new();
        for group in groups {
            let results = group.runs.iter().filter_map(|run| run.result.as_ref());
            let results: Vec<_> = results
                .filter(|result| !result.by_step.is_empty())
                .collect();
            let curves: Vec<Vec<(f64, f64)>> = results
                .iter()
                .map(|result| {
                    let steps = result.by_step.iter();
                    steps
                        .map(|step| (step.step as f64, factor * step.mean))
                        .collect()
                })
                .collect();
            let mut points = over_runs(&curves);
            if let [one] = results.as_slice() {
                // Of one run, the interval is over its episodes.
                for (point, step) in points.iter_mut().zip(&one.by_step) {
                    point.low = point.mean - factor * step.ci95;
                    point.high = point.mean + factor * step.ci95;
                }
            }
            if !points.is_empty() {
                let name = named(group, &self.title);
                series.push(Series { name, points });
            }
        }
        if series.is_empty() {
            let expected = "no run has adaptation steps to draw; expected learners such as maml";
            return Err(CommandError::Usage(expected.to_owned()));
        }
        let note = "Test scores after each adaptation step; 95 % intervals over seeds, of single runs over \
                    episodes.";
        Ok(self.figure(metric, "adaptation steps", series, note))
    }

    /// Test scores over a numeric setting: a line for each value of the others.
    ///
    /// # Errors
    /// When the setting is no number, or does not differ.
    pub fn over_setting(&self, key: &str, logarithmic: bool) -> Result<Figure> {
        let (metric, groups) = self.alike()?;
        let factor = score_axis(metric).0;
        let mut lines: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        for group in groups {
            let run = &group.runs[0];
            let found = run.settings.get(key);
            let x = found.and_then(Value::as_f64);
            let x = x.filter(|x| !logarithmic || *x > 0.0).ok_or_else(|| {
                let expected = if logarithmic {
                    "a number above 0"
                } else {
                    "a number"
                };
                CommandError::Usage(format!(
                    "{}: `{key}` is {}, expected {expected} to draw over",
                    run.name(),
                    run.shown(key)
                ))
            })?;
            let interval = match (group.over_seeds, group.over_episodes) {
                (seeds, Some(episodes)) if !seeds.half_width.is_finite() => episodes,
                (seeds, _) => seeds,
            };
            let half = factor
                * Some(interval.half_width)
                    .filter(|it| it.is_finite())
                    .unwrap_or(0.0);
            let mean = factor * interval.mean;
            let (low, high) = (mean - half, mean + half);
            lines
                .entry(group.title_without(key))
                .or_default()
                .push(Point { x, mean, low, high });
        }
        let single = lines.len() == 1;
        let series = lines.into_iter().map(|(name, mut points)| {
            points.sort_by(|one, other| one.x.total_cmp(&other.x));
            let name = if single && name.is_empty() {
                self.title.clone()
            } else {
                name
            };
            Series { name, points }
        });
        let series: Vec<Series> = series.collect();
        if series.iter().all(|line| line.points.len() < 2) {
            return Err(CommandError::Usage(format!(
                "`{key}` has one value in all runs that differ in nothing else; expected two or more to draw over"
            )));
        }
        let note = "Test scores; 95 % intervals over seeds, of single runs over episodes.";
        let name = if logarithmic {
            format!("{key} (logarithmic)")
        } else {
            key.to_owned()
        };
        Ok(Figure {
            logarithmic,
            spread: Spread::Bars,
            ..self.figure(metric, &name, series, note)
        })
    }

    /// Differences of the best group to the others.
    ///
    /// # Errors
    /// When no two groups can be paired.
    pub fn differences(&self) -> Result<Forest> {
        let groups = &self.compared.groups;
        let Some(first) = self.compared.differences.first() else {
            let expected = "no two rows can be paired; expected runs of two or more learners or settings that \
                            were tested on the same episodes";
            return Err(CommandError::Usage(expected.to_owned()));
        };
        let metric = groups[first.a].metric;
        let factor = score_axis(metric).0;
        let of_first = self.compared.differences.iter();
        let of_first = of_first.filter(|difference| difference.a == first.a);
        let rows = of_first.take(MOST_LINES).map(|difference| {
            let (interval, over) = match &difference.over_seeds {
                Some(paired) => (paired.difference, "seeds"),
                None => (difference.paired.difference, "episodes"),
            };
            Difference {
                name: format!("{} (over {over})", groups[difference.b].title()),
                mean: factor * interval.mean,
                half_width: factor * interval.half_width,
            }
        });
        let unit = match metric {
            Metric::Accuracy => "points",
            Metric::MeanSquaredError => "squared error",
            Metric::Return => "return",
        };
        Ok(Forest {
            title: format!("{} minus the others", groups[first.a].title()),
            x: format!("paired difference in {unit}, 95 % interval"),
            rows: rows.collect(),
        })
    }

    /// The regret of policies over the steps of a trial, mean over test tasks: a line a run, the first one of each
    /// group.
    ///
    /// # Errors
    /// When a run is of no policy, or the best return of its tasks is not known.
    pub fn regret<T: Toolkit>(&self, tasks: usize) -> Result<Figure> {
        let mut series = Vec::new();
        let mut counted = 0;
        for group in &self.compared.groups {
            let mut runs = group.runs.iter();
            let Some(run) = runs.find(|run| run.evaluation.is_none()) else {
                continue;
            };
            let regrets = regret_of_run::<T>(&run.folder, tasks)?;
            counted = regrets.len();
            let steps = regrets.first().map_or(0, Vec::len);
            let of_tasks = |step: usize| regrets.iter().map(|task| task[step]).collect();
            let points = (0..steps).map(|step| point_at((step + 1, of_tasks(step))));
            series.push(Series {
                name: named(group, &self.title),
                points: points.collect(),
            });
        }
        let note = format!(
            "Mean over {counted} test tasks, 95 % intervals. Regret: what the best policy, which knows the task, can \
             expect up to a step, less the rewards up to it."
        );
        Ok(Figure {
            y: "regret".to_owned(),
            ..self.figure(Metric::Return, "step of a trial", series, &note)
        })
    }

    /// The share that is right over the probability of predictions: a line a run.
    ///
    /// # Errors
    /// When data cannot be read, or no run classifies.
    pub fn calibration<T: Toolkit>(&self, data: Option<&Path>, episodes: usize) -> Result<Figure> {
        let groups = self.compared.groups.iter();
        let runs = groups.flat_map(|group| group.runs.iter().map(move |run| (group, run)));
        let runs = runs.filter(|(_, run)| run.evaluation.is_none());
        let runs: Vec<(&Group, &Stored)> = runs.collect();
        if runs.len() > MOST_PREDICTED {
            eprintln!(
                "the first {MOST_PREDICTED} of {} runs are drawn",
                runs.len()
            );
        }
        let mut series = Vec::new();
        for (group, run) in runs.into_iter().take(MOST_PREDICTED) {
            let predictions = of_run::<T>(&run.folder, data, episodes)?;
            let bins = predictions.bins();
            let filled = bins.iter().filter(|bin| bin.count > 0);
            let points: Vec<Point> = filled
                .map(|bin| {
                    let (x, mean) = (100.0 * bin.probability, 100.0 * bin.accuracy);
                    Point {
                        x,
                        mean,
                        low: mean,
                        high: mean,
                    }
                })
                .collect();
            if !points.is_empty() {
                let error = 100.0 * predictions.calibration_error();
                let seed = run.result.as_ref().map_or(0, |result| result.seed);
                let name = named(group, &self.title);
                let name = format!("{name}, seed {seed}: calibration error {error:.1} points");
                series.push(Series { name, points });
            }
        }
        if series.is_empty() {
            let expected =
                "no run classifies; expected runs on classes, with probabilities to compare";
            return Err(CommandError::Usage(expected.to_owned()));
        }
        let note = format!(
            "Share of right predictions in {BINS} bins of equal width, of the first {episodes} test episodes; on \
             the dashed line, probabilities are what they say."
        );
        let x = "probability of the prediction (%)";
        Ok(Figure {
            y: "right (%)".to_owned(),
            diagonal: true,
            ..self.figure(Metric::Accuracy, x, series, &note)
        })
    }

    /// How even the weights of each attention are, in the order of the network: a line a group, over the
    /// episodes that `meta explain` explained, mean over heads.
    ///
    /// # Errors
    /// When no run was explained, or none attends.
    pub fn attention(&self) -> Result<Figure> {
        let (metric, groups) = self.alike()?;
        let mut names: Vec<String> = Vec::new();
        let mut found = Vec::new();
        for group in groups {
            let runs = group.runs.iter().filter(|run| run.evaluation.is_none());
            let maps: Vec<_> = runs
                .map(|run| explained_maps(&run.folder))
                .collect::<Result<_>>()?;
            let maps = maps.concat();
            merge_orders(&mut names, maps.iter().map(|(name, _)| name.as_str()));
            found.push((named(group, &self.title), maps));
        }
        let series = found.into_iter().map(|(name, maps)| {
            let mut by_map: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for (name, evenness) in maps {
                let place = 1 + names.iter().take_while(|known| **known != name).count();
                by_map.entry(place).or_default().push(100.0 * evenness);
            }
            let points: Vec<Point> = by_map.into_iter().map(point_at).collect();
            Series { name, points }
        });
        let series: Vec<Series> = series.filter(|line| !line.points.is_empty()).collect();
        if series.is_empty() {
            let expected = "no run has attention to draw; expected runs of learners or encoders that attend, after \
                            `meta explain RUN` for each";
            return Err(CommandError::Usage(expected.to_owned()));
        }
        let list = (1..).zip(&names);
        let list: Vec<String> = list
            .map(|(number, name)| format!("{number}: {name}"))
            .collect();
        let note = format!(
            "Entropy of attention weights by that of even ones (100 %: everywhere alike; 0 %: one place), mean over \
             heads; 95 % intervals over the explained episodes. {}.",
            list.join("; ")
        );
        Ok(Figure {
            y: "evenness (%)".to_owned(),
            spread: Spread::Bars,
            ..self.figure(
                metric,
                "attention, in the order of the network",
                series,
                &note,
            )
        })
    }
}

/// Adds names to `all`, each that is new behind the one before it, so that both orders are kept.
fn merge_orders<'a>(all: &mut Vec<String>, names: impl Iterator<Item = &'a str>) {
    let mut next = 0;
    for name in names {
        let place = all.iter().position(|known| known == name);
        let place = place.unwrap_or_else(|| {
            all.insert(next, name.to_owned());
            next
        });
        next = place + 1;
    }
}

/// The attention of each episode that `meta explain` wrote into a run: its name, and how even it is.
fn explained_maps(run: &Path) -> Result<Vec<(String, f64)>> {
    let path = run.join(EXPLAIN).join(EXPLAIN_NUMBERS);
    if !path.exists() {
        eprintln!("{}: not explained; run `meta explain` on it", run.display());
        return Ok(Vec::new());
    }
    let numbers = read_json(&path)?;
    let episodes = numbers["episodes"].as_array().into_iter().flatten();
    let maps = episodes.flat_map(|episode| episode["maps"].as_array().into_iter().flatten());
    let even = |map: &Value| {
        let heads = map["evenness"].as_array()?.iter();
        let heads: Vec<f64> = heads.filter_map(Value::as_f64).collect();
        (!heads.is_empty()).then(|| {
            (
                map["name"].as_str().unwrap_or_default().to_owned(),
                mean(&heads),
            )
        })
    };
    Ok(maps.filter_map(even).collect())
}

/// What a group is called; the only one, what all runs are.
fn named(group: &Group, all: &str) -> String {
    match group.title() {
        title if title.is_empty() => all.to_owned(),
        title => title,
    }
}

/// The mean of several curves where they have a point, and the 95 % interval over them.
fn over_runs(curves: &[Vec<(f64, f64)>]) -> Vec<Point> {
    let mut by_place: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (x, value) in curves.iter().flatten() {
        by_place.entry(*x as u64).or_default().push(*value);
    }
    let places = by_place.into_iter();
    places
        .map(|(x, values)| point_at((x as usize, values)))
        .collect()
}

/// The mean of values at a place, and the 95 % interval over them.
fn point_at((x, values): (usize, Vec<f64>)) -> Point {
    let interval = Interval::t95(&values);
    let half = Some(interval.half_width)
        .filter(|half| half.is_finite())
        .unwrap_or(0.0);
    let mean = interval.mean;
    Point {
        x: x as f64,
        mean,
        low: mean - half,
        high: mean + half,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_orders_of_names_are_one() {
        let mut all = Vec::new();
        merge_orders(&mut all, ["c", "d", "c", "d"].into_iter());
        merge_orders(&mut all, ["a", "b", "c", "e", "d"].into_iter());
        assert_eq!(all, ["a", "b", "c", "e", "d"]);
    }

    /// The mean and Student's interval where several curves have a point; one has none.
    #[test]
    fn curves_are_averaged_by_place() {
        let points = over_runs(&[vec![(10.0, 1.0), (20.0, 2.0)], vec![(10.0, 3.0)]]);
        assert_eq!((points[0].x, points[0].mean), (10.0, 2.0));
        // t of 1 degree of freedom is 12.706; the standard error is 1.
        assert!((points[0].high - 14.706).abs() < 1e-3);
        assert_eq!((points[1].low, points[1].high), (2.0, 2.0));
    }
}
