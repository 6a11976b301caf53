//! The report of one run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{Markup, html};
use meta_core::{Error, files::read_regular, train::eval::Metric};
use serde_json::Value;

use super::{
    charts::{COLOURS, Chart, Line, Style, matrix, place},
    page::{pairs, table},
    words,
};
use crate::{
    finished::{
        metrics::{Curves, smoothed},
        store::{Stored, TESTED_ON},
    },
    output::{
        chart::score_axis,
        table::{Cell, Table},
        units::duration_text,
    },
    run::{
        folder::EXPLAIN,
        predictions::{BINS, Predictions},
        result::TestResult,
    },
};

/// Classes that the matrix of confusions shows at most.
const MATRIX: usize = 24;
/// Rows of the tables of classes.
const HARDEST: usize = 12;
/// Pictures that are shown at most, and bytes of all of them.
const PICTURES: usize = 12;
const PICTURE_BYTES: u64 = 3 << 20;
/// Points of a smoothed curve.
const POINTS: usize = 100;

/// A finished run with everything that its report shows.
pub struct Single<'a> {
    /// The run.
    pub run: &'a Stored,
    /// Its result.
    pub result: &'a TestResult,
    /// Its evaluations besides its own test.
    pub evaluations: &'a [Stored],
    /// Its record.
    pub record: &'a Value,
    /// Its curves.
    pub curves: &'a Curves,
    /// What it predicts for its test episodes, or why that is not known.
    pub predictions: &'a Result<Predictions, String>,
}

/// Factor and decimals of scores.
pub fn unit(metric: Metric) -> (f64, usize, &'static str) {
    match metric {
        Metric::Accuracy => (100.0, 2, " %"),
        Metric::MeanSquaredError => (1.0, 4, ""),
        Metric::Return => (1.0, 2, ""),
    }
}

/// A score with half of its interval's width.
pub fn score(metric: Metric, mean: f64, half_width: f64) -> String {
    let (factor, decimals, unit) = unit(metric);
    match half_width.is_finite() {
        true => format!(
            "{:.decimals$} ± {:.decimals$}{unit}",
            factor * mean,
            factor * half_width
        ),
        false => format!("{:.decimals$}{unit}", factor * mean),
    }
}

/// What kind of tasks a result is of.
pub fn tasks(result: &TestResult) -> String {
    match result.metric {
        Metric::Accuracy => format!("{}-way {}-shot", result.way, result.shot),
        Metric::MeanSquaredError => format!("{}-shot regression", result.shot),
        Metric::Return => format!("trials of {} episodes", result.shot),
    }
}

impl Single<'_> {
    /// The name of the run, its score, and what it is the score of.
    pub fn headline(&self) -> Markup {
        let result = self.result;
        let metric = result.metric.name().replace('_', " ");
        html! {
            h1 { bdi { (result.name) } }
            p class="grey" {
                bdi { (result.learner) } " with " bdi { (result.encoder) } " on " bdi { (result.source) } ", "
                (tasks(result)) ", " (result.split) " split"
            }
            div class="headline" {
                (score(result.metric, result.mean, result.ci95)) " " small { "test " (metric) }
            }
            p class="grey" { (words::interval(result)) }
            @if let Some(untrained) = &result.untrained {
                p {
                    "The same learner before training, on the same episodes: "
                    (score(result.metric, untrained.score.mean, untrained.score.ci95))
                    @if !untrained.has_learned(result.metric) { "; training made it no better (95 %, paired)" }
                    "."
                }
            }
            @if let Some(density) = &result.log_likelihood {
                p {
                    "Log-likelihood of the queries: " (density.learner) " nats"
                    @if let (Some(exact), Some(below)) = (density.exact, density.below_exact) {
                        "; by the distribution that tasks are drawn from: " (exact) ", which is " (below)
                        " above the learner (paired by episode)"
                    }
                    "."
                }
            }
        }
    }

    /// Scores over training and over adaptation steps.
    pub fn curves(&self) -> Markup {
        let result = self.result;
        let (factor, decimals, _) = unit(result.metric);
        let (_, name) = score_axis(result.metric);
        let validation = &self.curves.validation;
        let scaled = |(x, y): (f64, f64)| (x, factor * y);
        let last = self.curves.train.iter().chain(validation);
        let last = last.map(|logged| logged.iteration).max().unwrap_or(0) as f64;
        let train = smoothed(&self.curves.train, POINTS);
        let test = factor * result.mean;
        let lines = vec![
            Line {
                name: "training tasks (means of stretches)".to_owned(),
                colour: 0,
                style: Style::Plain,
                points: train.into_iter().map(scaled).collect(),
                ..Line::default()
            },
            Line {
                name: "validation tasks, 95 % interval".to_owned(),
                colour: 1,
                points: validation
                    .iter()
                    .map(|logged| (logged.iteration as f64, factor * logged.score))
                    .collect(),
                band: validation
                    .iter()
                    .map(|logged| {
                        let (mean, half) = (factor * logged.score, factor * logged.half_width);
                        (mean - half, mean + half)
                    })
                    .collect(),
                ..Line::default()
            },
            Line {
                name: format!("test: {}", score(result.metric, result.mean, result.ci95)),
                colour: 2,
                style: Style::Dashed,
                points: vec![(0.0, test), (last, test)],
                ..Line::default()
            },
        ];
        let training = Chart {
            title: "scores over training",
            x: "iteration",
            y: name,
            decimals,
            lines,
            shown: Vec::new(),
        };
        let protocol = &self.record["protocol"];
        let shapes = protocol["train"].as_str().zip(protocol["test"].as_str());
        html! {
            h2 { "Curves" }
            div class="grid" {
                @if last > 0.0 {
                    figure {
                        (training.draw())
                        @if let Some((train, test)) = shapes.filter(|(train, test)| train != test) {
                            figcaption {
                                "Training tasks are " (train) ", validation and test tasks " (test)
                                ": the curves do not compare."
                            }
                        }
                    }
                }
                @if result.by_step.len() > 1 { figure { (self.steps()) } }
            }
            @if last == 0.0 && result.by_step.len() < 2 { p class="note" { "Nothing was trained." } }
        }
    }

    fn steps(&self) -> Markup {
        let result = self.result;
        let (factor, decimals, _) = unit(result.metric);
        let steps = &result.by_step;
        Chart {
            title: "scores over adaptation steps",
            x: "adaptation steps at test",
            y: score_axis(result.metric).1,
            decimals,
            lines: vec![Line {
                name: "test tasks, 95 % interval".to_owned(),
                colour: 2,
                points: steps
                    .iter()
                    .map(|step| (step.step as f64, factor * step.mean))
                    .collect(),
                band: steps
                    .iter()
                    .map(|step| {
                        (
                            factor * (step.mean - step.ci95),
                            factor * (step.mean + step.ci95),
                        )
                    })
                    .collect(),
                ..Line::default()
            }],
            shown: Vec::new(),
        }
        .draw()
    }

    /// Which classes are hard, what they are taken for, and whether probabilities mean what they say.
    pub fn predictions(&self) -> Markup {
        if self.result.metric != Metric::Accuracy {
            return html! {};
        }
        html! {
            h2 { "Predictions" }
            @match self.predictions {
                Err(why) => { p class="note" { "Not shown: " bdi { (why) } } }
                Ok(predictions) if predictions.all.is_empty() => { p class="note" { "There are none." } }
                Ok(predictions) => {
                    p {
                        (predictions.all.len()) " queries of the first " (predictions.episodes.len())
                        " test episodes, whose classes are " (predictions.classes.len())
                        " of the source; " (format!("{:.2}", 100.0 * predictions.accuracy()))
                        " % are right. A class can be taken for another only where both are in one episode: "
                        "shares are of the queries of those episodes."
                    }
                    div class="grid" {
                        figure { (confusion_matrix(predictions)) }
                        figure { (calibration(predictions)) }
                    }
                    div class="grid" {
                        div { h3 { "Hardest classes" } (hardest(predictions)) }
                        div { h3 { "Most frequent confusions" } (confusions(predictions)) }
                    }
                }
            }
        }
    }

    /// The pictures that `meta explain` left in the run folder.
    pub fn pictures(&self) -> Result<Markup, Error> {
        if self.run.evaluation.is_some() {
            return Ok(html! {});
        }
        let pictures = pictures(&self.run.folder)?;
        Ok(html! {
            h2 { "Episodes" }
            @if pictures.is_empty() {
                p class="note" {
                    "No pictures: " code { "meta explain RUN" } " draws what the learner predicts and attends to, "
                    "and a report made after it shows them."
                }
            }
            @for (name, bytes) in &pictures {
                figure {
                    img alt=(name) src=(format!("data:image/png;base64,{}", STANDARD.encode(bytes)));
                    figcaption { bdi { (name) } }
                }
            }
        })
    }

    /// What the run was tested on besides its own test.
    pub fn evaluations(&self) -> Markup {
        let mut rows = Table::new([
            "evaluation",
            "tested on",
            "tasks",
            "split",
            "episodes",
            "score",
        ]);
        for run in self.evaluations {
            let Some(result) = &run.result else { continue };
            rows.rows.push(vec![
                run.evaluation.clone().unwrap_or_default().into(),
                run.settings
                    .get(TESTED_ON)
                    .map_or("own data".to_owned(), |_| run.shown(TESTED_ON))
                    .into(),
                tasks(result).into(),
                result.split.to_string().into(),
                Cell::new(result.episodes.to_string(), result.episodes),
                Cell::new(score(result.metric, result.mean, result.ci95), result.mean),
            ]);
        }
        html! {
            @if !rows.rows.is_empty() {
                h2 { "Other evaluations" }
                (table(&rows))
            }
        }
    }

    /// What the numbers mean, in sentences.
    pub fn words(&self) -> Markup {
        html! {
            h2 { "What was measured, and how" }
            ul { @for sentence in words::protocol(self.result, self.record) { li { (sentence) } } }
        }
    }

    /// Device, versions, hashes.
    pub fn environment(&self) -> Markup {
        let (result, record) = (self.result, self.record);
        let text = |value: &Value| match value {
            Value::Null => "not recorded".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let versions = &record["versions"];
        html! {
            h2 { "Environment" }
            (pairs(&[
                ("program", format!("meta {}, commit {}, Burn {}", text(&versions["meta"]),
                    text(&record["commit"]), text(&versions["burn"]))),
                ("computed on", format!("{}, {}, backend {}, {}, {} threads", text(&record["system"]),
                    text(&record["device"]), result.backend, text(&record["dtype"]),
                    text(&record["threads"]))),
                ("parameters", result.parameters.to_string()),
                ("time", format!("training {}, test {}", duration_text(result.train_seconds),
                    duration_text(result.test_seconds))),
                ("peak memory", result.peak_bytes.map_or("not recorded".to_owned(),
                    crate::output::units::bytes_text)),
                ("identity of the run", self.run.hash.clone()),
                ("content of the data", text(&record["data"]["content"])),
                ("test episodes", result.episode_set.clone()),
            ]))
        }
    }
}

/// Names and files of the pictures in a run folder, the first ones of each kind, up to what a mail takes.
fn pictures(run: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let entries = fs::read_dir(run.join(EXPLAIN))
        .into_iter()
        .flatten()
        .flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "png"))
        .collect();
    paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for path in paths.into_iter().take(PICTURES) {
        let picture = read_regular(&path, PICTURE_BYTES)?;
        bytes += picture.len() as u64;
        if bytes > PICTURE_BYTES {
            break;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        shown.push((name.into_owned(), picture));
    }
    Ok(shown)
}

/// The classes with the most wrong answers, and shares of what they are taken for.
fn confusion_matrix(predictions: &Predictions) -> Markup {
    let mut shown: Vec<usize> = predictions
        .hardest()
        .iter()
        .take(MATRIX)
        .map(|one| one.class)
        .collect();
    shown.sort_unstable();
    let names: Vec<String> = shown
        .iter()
        .map(|&class| predictions.classes[class].clone())
        .collect();
    let mut cells = vec![vec![None; shown.len()]; shown.len()];
    let at = |class: usize| shown.iter().position(|&other| other == class);
    for one in predictions.confusions() {
        if let (Some(row), Some(column)) = (at(one.class), at(one.taken_for)) {
            let share = one.count as f64 / one.of.max(1) as f64;
            let (class, other) = (&names[row], &names[column]);
            let text = format!(
                "{class} → {other}: {} of {} ({:.1} %)",
                one.count,
                one.of,
                100.0 * share
            );
            cells[row][column] = Some((share, text));
        }
    }
    let all = predictions.classes.len();
    html! {
        (matrix("confusion matrix", &names, &cells))
        figcaption {
            "Confusion matrix"
            @if all > names.len() { " of the " (names.len()) " hardest classes" }
            ": a row is a class, a column what it was taken for; green is right."
        }
    }
}

fn hardest(predictions: &Predictions) -> Markup {
    let mut rows = Table::new(["class", "recognised", "queries"]);
    for one in predictions.hardest().into_iter().take(HARDEST) {
        let share = one.accuracy();
        rows.rows.push(vec![
            predictions.classes[one.class].clone().into(),
            Cell::new(format!("{:.1} %", 100.0 * share), share),
            Cell::new(one.queries.to_string(), one.queries),
        ]);
    }
    table(&rows)
}

fn confusions(predictions: &Predictions) -> Markup {
    let mut rows = Table::new(["class", "taken for", "queries", "of"]);
    let wrong = predictions.confusions().into_iter();
    let wrong = wrong.filter(|one| one.class != one.taken_for);
    for one in wrong.take(HARDEST) {
        rows.rows.push(vec![
            predictions.classes[one.class].clone().into(),
            predictions.classes[one.taken_for].clone().into(),
            Cell::new(one.count.to_string(), one.count),
            Cell::new(one.of.to_string(), one.of),
        ]);
    }
    html! {
        @if rows.rows.is_empty() { p class="note" { "None: every query was recognised." } }
        @else { (table(&rows)) }
    }
}

/// The share that is right over the probability that was given to the prediction.
fn calibration(predictions: &Predictions) -> Markup {
    let bins = predictions.bins();
    let filled: Vec<_> = bins.iter().filter(|bin| bin.count > 0).collect();
    let chart = Chart {
        title: "calibration",
        x: "probability of the prediction (%)",
        y: "right (%)",
        decimals: 1,
        lines: vec![
            Line {
                name: "as it should be".to_owned(),
                colour: COLOURS - 1,
                style: Style::Dashed,
                points: vec![(0.0, 0.0), (100.0, 100.0)],
                ..Line::default()
            },
            Line {
                name: "predictions".to_owned(),
                colour: 0,
                points: filled
                    .iter()
                    .map(|bin| (100.0 * bin.probability, 100.0 * bin.accuracy))
                    .collect(),
                ..Line::default()
            },
        ],
        shown: Vec::new(),
    };
    html! {
        (chart.draw())
        figcaption {
            "Calibration in " (BINS) " bins of equal width; expected calibration error "
            (place(100.0 * predictions.calibration_error())) " points."
        }
    }
}
