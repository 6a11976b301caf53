//! Evaluation: a learner's score on a frozen set of episodes, with its confidence interval.
//!
//! A set is named by (source, split, seed, shape, count) and has a hash; every learner that is
//! evaluated on it sees the same episodes, so that two learners can be compared in pairs. Evaluation
//! runs on the plain backend, a chunk of tasks at a time, and the score of an episode is computed
//! from the predictions on the host in f64: the fraction of queries whose highest class score is the
//! right one (ties: the lowest class) or whose sequence is right as a whole, or the mean squared error of a
//! regression.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    calibration::{Confidence, Pooled, Reliability, Scored as ScoredQuery, auroc},
    data::{
        Episode, EpisodeShape, Items, Prefetch, Source, Split, Targets, Task, before_end,
        episode_set_hash,
    },
    device,
    learner::{Learner, PredictAt},
    parallel::TaskChunks,
    primitives::Primitives,
    processes::Processes,
    rng::Seed,
    stats::{Interval, mean},
    task::{TaskBatch, TaskSpec},
    train::instances::accuracy_by_instance,
};

/// Chunks of episodes that are prepared ahead of the computation.
const PREFETCH: usize = 2;

/// What the score of an episode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Fraction of queries answered right, by their class or by the whole of their sequence; higher is
    /// better.
    Accuracy,
    /// Mean squared error over queries and outputs; lower is better.
    MeanSquaredError,
    /// Mean return of the trials of a task; higher is better.
    Return,
}

impl Metric {
    /// The metric by which tasks of this kind are scored.
    pub fn of(task: Task) -> Self {
        match task {
            Task::Classification | Task::Sequences { .. } => Metric::Accuracy,
            Task::Regression { .. } => Metric::MeanSquaredError,
            Task::Acting { .. } => Metric::Return,
        }
    }

    /// Its name in results: `accuracy`, `mean_squared_error`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::MeanSquaredError => "mean_squared_error",
            Metric::Return => "return",
        }
    }

    /// Whether a higher score is a better one.
    pub fn higher_is_better(self) -> bool {
        self != Metric::MeanSquaredError
    }
}

/// A set of episodes that is the same for every learner.
#[derive(Clone)]
pub struct FrozenEpisodes {
    /// Where the episodes come from.
    pub source: Arc<dyn Source>,
    /// The classes they are drawn from.
    pub split: Split,
    /// Seed of the episode stream.
    pub seed: Seed,
    /// Way, shot and query.
    pub shape: EpisodeShape,
    /// Number of episodes, from index 0 on.
    pub count: usize,
}

impl FrozenEpisodes {
    /// Hash of the set: equal hashes, equal episodes.
    pub fn hash(&self) -> String {
        episode_set_hash(
            self.source.as_ref(),
            self.seed,
            self.split,
            self.shape,
            self.count as u64,
        )
    }
}

/// The scores of a learner on a frozen set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// What the scores are.
    pub metric: Metric,
    /// Score of each episode after each adaptation step, `[step][episode]`, as far as they were asked
    /// for; the last is that of the learner's answer.
    pub scores: Vec<Vec<f64>>,
    /// Query loss of each episode after the last step: cross-entropy in nats, or mean squared error;
    /// of a learner that predicts densities, the negative log-likelihood.
    pub losses: Vec<f64>,
    /// Share of the places of sequences, up to their ends, where the right symbol is, by episode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<f64>,
    /// Log-likelihoods of the queries, where the learner predicts densities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_likelihood: Option<LogLikelihoods>,
    /// Accuracy for the support at the first presentation of a class, the second, … , `[instance][episode]`, where the
    /// learner answers for its items ([`Learner::support_answers`]) and the scores of every step were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_instance: Vec<Vec<f64>>,
    /// Area under the curve of true over false positives by episode, of tasks of two classes that both have
    /// queries; empty of others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auroc: Vec<f64>,
    /// How sure the learner was of its answer for each query of each episode; empty for regression.
    #[serde(skip)]
    pub confidences: Vec<Vec<Confidence>>,
}

/// Mean over the query of the log-density of its targets given the support, in nats, by episode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogLikelihoods {
    /// By the learner.
    pub learner: Vec<f64>,
    /// By the distribution that the source draws from; empty where it does not know it.
    pub exact: Vec<f64>,
}

impl Evaluation {
    /// Scores of the learner's answer, by episode.
    pub fn last(&self) -> &[f64] {
        self.scores.last().map_or(&[], Vec::as_slice)
    }

    /// Mean score of the learner's answer, with its interval over episodes.
    pub fn score(&self) -> Interval {
        Interval::t95(self.last())
    }

    /// Mean score after each adaptation step.
    pub fn by_step(&self) -> Vec<Interval> {
        self.scores.iter().map(|step| Interval::t95(step)).collect()
    }

    /// Expected calibration error over the queries of all episodes; none for regression.
    pub fn calibration_error(&self) -> Option<Pooled> {
        let by_episode = self.confidences.iter();
        let by_episode = by_episode.map(|queries| Reliability::of(queries.iter().copied()));
        Reliability::pooled_error(&by_episode.collect::<Vec<_>>())
    }

    /// Mean query loss of the learner's answer.
    pub fn loss(&self) -> Interval {
        Interval::t95(&self.losses)
    }
}

/// Evaluates `learner` on `set`: the scores of its answer, or those after every step of its adaptation
/// as well. `progress` receives the number of episodes that are done.
///
/// As many tasks are read at a time as `graphs` holds; where it does not say how many graphs, those of one.
/// The graphs bound memory. They change no episode and, but for rounding, no score; how many are computed
/// side by side changes nothing at all.
///
/// # Errors
/// When an episode cannot be drawn or read; [`Error::DivergedEpisode`] for the first one whose score is not
/// finite, or whose cross-entropy single precision could not compute ([`Checked`]).
pub fn evaluate<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    set: &FrozenEpisodes,
    answers: PredictAt,
    graphs: TaskChunks,
    device: &B::Device,
    progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let asked = Asked {
        spec,
        set,
        answers,
        graphs,
        device,
    };
    evaluate_together(&Processes::default(), learner, &asked, progress)
}

/// What [`evaluate`] is asked for.
pub struct Asked<'a, B: Primitives> {
    /// Shapes of items and episodes.
    pub spec: &'a TaskSpec,
    /// The episodes.
    pub set: &'a FrozenEpisodes,
    /// Which scores.
    pub answers: PredictAt,
    /// How they are cut into graphs.
    pub graphs: TaskChunks,
    /// Where to compute.
    pub device: &'a B::Device,
}

/// [`evaluate`] by several processes: each scores a contiguous range of the graphs, and all have all scores.
/// `progress` receives the number of episodes that this process has done.
///
/// # Errors
/// As [`evaluate`], on all processes; when one is gone.
pub fn evaluate_together<B: Primitives>(
    processes: &Processes,
    learner: &dyn Learner<B>,
    asked: &Asked<'_, B>,
    progress: impl FnMut(usize),
) -> Result<Evaluation> {
    let own = score_own(processes, learner, asked, progress)?;
    let metric = Metric::of(asked.spec.task);
    let mut scores: Vec<Vec<f64>> = Vec::new();
    let mut losses = Vec::new();
    let mut places = Vec::new();
    let mut densities = LogLikelihoods::default();
    let mut areas = Vec::new();
    let mut confidences = Vec::new();
    let mut by_instance: Vec<Vec<f64>> = Vec::new();
    for graph in processes.gather(own)?.into_iter().flatten() {
        graph.check(metric, asked.set.split, losses.len() as u64)?;
        scores.resize(graph.steps.len(), Vec::new());
        for (scores, step) in scores.iter_mut().zip(&graph.steps) {
            scores.extend(step.iter().map(|(score, _)| score));
        }
        let last = graph.steps.last().into_iter().flatten();
        losses.extend(last.map(|(_, loss)| loss));
        places.extend(graph.places);
        densities.learner.extend(graph.densities);
        densities.exact.extend(graph.exact);
        areas.extend(graph.areas);
        confidences.extend(graph.confidences);
        for task in graph.by_instance {
            by_instance.resize(task.len(), Vec::new());
            let instances = by_instance.iter_mut().zip(task);
            instances.for_each(|(all, accuracy)| all.push(accuracy));
        }
    }
    let log_likelihood = (!densities.learner.is_empty()).then_some(densities);
    if let Some(densities) = &log_likelihood {
        losses = densities.learner.iter().map(|density| -density).collect();
    }
    Ok(Evaluation {
        metric,
        scores,
        losses,
        places,
        log_likelihood,
        by_instance,
        auroc: areas.into_iter().collect::<Option<_>>().unwrap_or_default(),
        confidences,
    })
}

/// What the graphs of this process come to. Alone, it ends with the first that is no result; with others, it goes
/// on, and all find it when they have heard of each other.
fn score_own<B: Primitives>(
    processes: &Processes,
    learner: &dyn Learner<B>,
    asked: &Asked<'_, B>,
    mut progress: impl FnMut(usize),
) -> Result<Vec<Scored>> {
    let &Asked {
        spec,
        set,
        answers,
        graphs,
        device,
    } = asked;
    let of_graph = match graphs.tasks {
        0 => set.count.max(1),
        of_graph => of_graph,
    };
    let own = processes.share(set.count.div_ceil(of_graph));
    let (first, end) = (own.start * of_graph, set.count.min(own.end * of_graph));
    let chunk = graphs.tasks_at_a_time().unwrap_or(set.count);
    let chunk = chunk.min(set.count).max(1);
    let mut episodes = Prefetch::new(
        set.source.clone(),
        set.seed,
        set.split,
        set.shape,
        first as u64,
        chunk,
        PREFETCH,
    );
    let mut all = Vec::new();
    let mut done = first;
    while done < end {
        let mut batch = episodes.next()?;
        batch.truncate(end - done);
        let mut scored = graphs.each(&batch, B::SIDE_BY_SIDE, |episodes| {
            let mut scored = score_graph(learner, spec, answers, episodes, device);
            if !scored.densities.is_empty() {
                let exact = |episode| set.source.log_likelihood(set.seed, set.split, episode);
                scored.exact = episodes.iter().filter_map(exact).collect();
            }
            scored
        });
        if processes.count() == 1 {
            let mut first = done as u64;
            for graph in &scored {
                graph.check(Metric::of(spec.task), set.split, first)?;
                first += graph.tasks() as u64;
            }
        }
        all.append(&mut scored);
        done += batch.len();
        progress(done - own.start * of_graph);
    }
    Ok(all)
}

/// What a graph's tasks came to.
#[derive(Serialize, Deserialize)]
struct Scored {
    /// Score and loss of each task after each step.
    steps: Vec<Vec<(f64, f64)>>,
    /// Share of the right symbols after the last step; empty where there are no sequences.
    places: Vec<f64>,
    /// Log-likelihood of each task's query, where the learner predicts densities.
    densities: Vec<f64>,
    /// And by the distribution that the source draws from, where it knows it.
    exact: Vec<f64>,
    /// AUROC of each task of two classes after the last step; empty for others.
    areas: Vec<Option<f64>>,
    /// How sure each task's answers after the last step are; empty for regression.
    confidences: Vec<Vec<Confidence>>,
    /// Accuracy of each task by instance, where it was asked for.
    by_instance: Vec<Vec<f64>>,
}

impl Scored {
    fn tasks(&self) -> usize {
        self.steps.first().map_or(0, Vec::len)
    }

    /// Checks that the scores of episodes from `first` on are results.
    fn check(&self, metric: Metric, split: Split, first: u64) -> Result<()> {
        let last = self.steps.len().saturating_sub(1);
        for (step, scored) in self.steps.iter().enumerate() {
            for (episode, &(score, loss)) in (first..).zip(scored) {
                let checked = Checked {
                    metric,
                    split,
                    episode,
                    step: (last > 0).then_some(step),
                };
                checked.check(score, (step == last).then_some(loss))?;
            }
        }
        for (episode, &density) in (first..).zip(&self.densities) {
            if !density.is_finite() {
                return Err(diverged(
                    split,
                    episode,
                    "log-likelihood".to_owned(),
                    density,
                    FINITE,
                ));
            }
        }
        Ok(())
    }
}

const FINITE: &str = "a finite number";
/// From here on the distance between two neighbouring numbers of single precision is more than a nat, so
/// that no difference of class scores means anything.
const MOST_NATS: f64 = (1 << 24) as f64;

fn diverged(split: Split, episode: u64, what: String, value: f64, expected: &'static str) -> Error {
    Error::DivergedEpisode {
        split: split.to_string(),
        episode,
        what,
        value,
        expected,
    }
}

/// An episode whose score and loss are checked: they must be finite, and a cross-entropy below 2²⁴ nats.
/// Above that, class scores in single precision are further apart than a nat, and an accuracy is that of
/// whichever class comes first.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// What its score is.
    pub metric: Metric,
    /// Part of the source.
    pub split: Split,
    /// Number of the episode.
    pub episode: u64,
    /// Adaptation steps that were taken, where there are several numbers of them.
    pub step: Option<usize>,
}

impl Checked {
    /// Checks the score, and the loss where one is given.
    ///
    /// # Errors
    /// [`Error::DivergedEpisode`].
    pub fn check(self, score: f64, loss: Option<f64>) -> Result<()> {
        let refuse = |what: &str, value: f64, expected| {
            let steps = self.step.map(|step| format!(" after {step} steps"));
            let what = format!("{what}{}", steps.unwrap_or_default());
            Err(diverged(self.split, self.episode, what, value, expected))
        };
        if !score.is_finite() {
            return refuse(&self.metric.name().replace('_', " "), score, FINITE);
        }
        match loss {
            Some(loss) if !loss.is_finite() => refuse("loss", loss, FINITE),
            Some(loss) if self.metric == Metric::Accuracy && loss >= MOST_NATS => refuse(
                "loss",
                loss,
                "at most 2^24 nats, beyond which class scores are nothing but rounding",
            ),
            _ => Ok(()),
        }
    }
}

fn score_graph<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    answers: PredictAt,
    episodes: &[Episode],
    device: &B::Device,
) -> Scored {
    let tasks = TaskBatch::new(episodes, spec, device);
    let answered = learner.predict(&tasks, answers);
    let confidences = match (spec.task, answered.last()) {
        (Task::Classification, Some(last)) => confidences_of(last.clone(), episodes),
        _ => Vec::new(),
    };
    let areas = match (spec.task, answered.last()) {
        (Task::Classification, Some(last)) => areas_of(last.clone(), episodes),
        _ => Vec::new(),
    };
    let places = match (spec.task, answered.last()) {
        (Task::Sequences { .. }, Some(last)) => right_places(last.clone(), episodes),
        _ => Vec::new(),
    };
    let steps = answered.into_iter();
    let steps = steps
        .map(|predictions| score_tasks(spec.task, predictions, episodes))
        .collect();
    let densities = match learner.log_likelihood(&tasks) {
        Some(given) => given.into_data().iter::<f64>().collect(),
        None => Vec::new(),
    };
    let sequence = match answers {
        PredictAt::EveryStep => learner.support_answers(&tasks),
        PredictAt::LastStep => None,
    };
    let by_instance = sequence.map(|given| accuracy_by_instance(given, &tasks));
    device::check();
    Scored {
        steps,
        places,
        densities,
        exact: Vec::new(),
        areas,
        confidences,
        by_instance: by_instance.unwrap_or_default(),
    }
}

/// How well class scores `[t, q, 2]` tell the queries of the second class from those of the first, by task; none
/// where one has no queries.
fn areas_of<B: Primitives>(predictions: Tensor<B, 3>, episodes: &[Episode]) -> Vec<Option<f64>> {
    let [_, q, outputs] = predictions.dims();
    if outputs != 2 {
        return vec![None; episodes.len()];
    }
    let values: Vec<f64> = predictions.into_data().iter::<f64>().collect();
    let tasks = values.chunks(q * outputs).zip(episodes);
    tasks
        .map(|(task, episode)| {
            let Targets::Classes(labels) = &episode.query.targets else {
                return None;
            };
            let of = |class: u32| -> Vec<f64> {
                let rows = task.chunks(outputs).zip(labels).enumerate();
                let own = rows
                    .filter(|(item, (_, label))| **label == class && episode.query.is_there(*item));
                own.map(|(_, (scores, _))| scores[1] - scores[0]).collect()
            };
            auroc(&of(1), &of(0)).filter(|area| area.is_finite())
        })
        .collect()
}

/// How sure the answers of class scores `[t, q, n]` are, for the queries of each task that are there.
fn confidences_of<B: Primitives>(
    predictions: Tensor<B, 3>,
    episodes: &[Episode],
) -> Vec<Vec<Confidence>> {
    let [_, q, outputs] = predictions.dims();
    let values: Vec<f64> = predictions.into_data().iter::<f64>().collect();
    let tasks = values.chunks(q * outputs).zip(episodes);
    tasks
        .map(|(task, episode)| match &episode.query.targets {
            Targets::Classes(labels) => {
                let rows = task.chunks(outputs).zip(labels).enumerate();
                let there = rows.filter(|(item, _)| episode.query.is_there(*item));
                let scored = there.map(|(_, (scores, &label))| ScoredQuery {
                    scores: scores.to_vec(),
                    class: label as usize,
                });
                scored.map(|query| query.confidence(1.0)).collect()
            }
            Targets::Values(_) | Targets::Sequences(_) => Vec::new(),
        })
        .collect()
}

/// Score and loss of each task from predictions `[t, q, outputs]`; those of a policy are its returns.
fn score_tasks<B: Primitives>(
    task: Task,
    predictions: Tensor<B, 3>,
    episodes: &[Episode],
) -> Vec<(f64, f64)> {
    let [t, q, outputs] = predictions.dims();
    assert_eq!(t, episodes.len(), "one prediction per episode");
    let values: Vec<f64> = predictions.into_data().iter::<f64>().collect();
    device::check();
    values
        .chunks(q * outputs)
        .zip(episodes)
        .map(|(values, episode)| match task {
            Task::Acting { .. } => (mean(values), -mean(values)),
            _ => score_those_there(values, outputs, &episode.query),
        })
        .collect()
}

/// [`score_items`] of the items that are there.
fn score_those_there(predictions: &[f64], outputs: usize, items: &Items) -> (f64, f64) {
    let Some(mask) = &items.mask else {
        return score_items(predictions, outputs, &items.targets);
    };
    let there: Vec<usize> = (0..items.len()).filter(|&item| mask.items[item]).collect();
    let targets = items.targets.select(&there, items.len());
    let rows = there
        .iter()
        .flat_map(|&item| &predictions[item * outputs..(item + 1) * outputs]);
    let kept: Vec<f64> = rows.copied().collect();
    score_items(&kept, outputs, &targets)
}

/// Score and loss of predictions `[b, outputs]` for items with these targets: accuracy and mean
/// cross-entropy, of classes or of whole sequences and their places, or the mean squared error twice.
pub fn score_items(predictions: &[f64], outputs: usize, targets: &Targets) -> (f64, f64) {
    match targets {
        Targets::Classes(classes) => {
            let classes: Vec<usize> = classes.iter().map(|&class| class as usize).collect();
            classification(predictions, outputs, &classes)
        }
        Targets::Values(values) => {
            let errors: Vec<f64> = predictions
                .iter()
                .zip(values)
                .map(|(prediction, target)| (prediction - f64::from(*target)).powi(2))
                .collect();
            let error = mean(&errors);
            (error, error)
        }
        Targets::Sequences(symbols) => {
            let items = of_sequences(predictions, outputs, symbols);
            let whole = items
                .iter()
                .map(|item| f64::from(item.right == item.places));
            let losses = items.iter().map(|item| item.loss);
            (
                mean(&whole.collect::<Vec<_>>()),
                mean(&losses.collect::<Vec<_>>()),
            )
        }
    }
}

/// How a sequence came out, at its symbols and its first end.
struct SequenceScore {
    places: usize,
    /// Places of the right symbol.
    right: usize,
    /// Mean cross-entropy of the places.
    loss: f64,
}

/// Of sequences `[b, places]` from scores `[b, outputs]`.
fn of_sequences(predictions: &[f64], outputs: usize, symbols: &[u32]) -> Vec<SequenceScore> {
    let width = symbols.len() * outputs / predictions.len().max(1);
    let n = outputs / width.max(1);
    let rows = predictions
        .chunks(outputs)
        .zip(symbols.chunks(width.max(1)));
    rows.map(|(scores, target)| {
        let length = before_end(target, n as u32 - 1).len();
        let places = (length + 1).min(width);
        let wanted: Vec<usize> = target[..places]
            .iter()
            .map(|&symbol| symbol as usize)
            .collect();
        let (share, loss) = classification(&scores[..places * n], n, &wanted);
        SequenceScore {
            places,
            right: (share * places as f64).round() as usize,
            loss,
        }
    })
    .collect()
}

/// Share of the places of the queries' sequences where the right symbol is, of each task.
fn right_places<B: Primitives>(predictions: Tensor<B, 3>, episodes: &[Episode]) -> Vec<f64> {
    let [_, q, outputs] = predictions.dims();
    let values: Vec<f64> = predictions.into_data().iter::<f64>().collect();
    let tasks = values.chunks(q * outputs).zip(episodes);
    tasks
        .map(|(task, episode)| {
            let Targets::Sequences(symbols) = &episode.query.targets else {
                return 0.0;
            };
            let items = of_sequences(task, outputs, symbols);
            let sum = |of: fn(&SequenceScore) -> usize| items.iter().map(of).sum::<usize>() as f64;
            sum(|item| item.right) / sum(|item| item.places).max(1.0)
        })
        .collect()
}

/// Accuracy and mean cross-entropy of class scores `[q, outputs]`.
fn classification(logits: &[f64], outputs: usize, classes: &[usize]) -> (f64, f64) {
    let mut correct = 0usize;
    let mut loss = 0.0;
    for (row, &class) in logits.chunks(outputs).zip(classes) {
        correct += usize::from(highest(row) == Some(class));
        let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - top).exp()).sum();
        loss += top + sum.ln() - row[class];
    }
    let count = classes.len() as f64;
    (correct as f64 / count, loss / count)
}

/// Index of the highest score, the lowest among equals; none where a score is not a number.
pub fn highest(row: &[f64]) -> Option<usize> {
    if row.iter().any(|score| score.is_nan()) {
        return None;
    }
    (0..row.len()).reduce(|best, next| if row[next] > row[best] { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lowest_class_and_not_a_number_is_wrong() {
        assert_eq!(highest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(highest(&[1.0, f64::NAN]), None);
        assert_eq!(highest(&[f64::NEG_INFINITY; 2]), Some(0));
    }

    /// Two queries over two classes: scores (0, 0) cost ln 2, scores (ln 3, 0) cost ln(4/3).
    #[test]
    fn accuracy_and_cross_entropy_match_closed_forms() {
        let (accuracy, loss) = classification(&[0.0, 0.0, 3.0f64.ln(), 0.0], 2, &[1, 0]);
        assert_eq!(accuracy, 0.5);
        let expected = 0.5 * (2.0f64.ln() + (4.0f64 / 3.0).ln());
        assert!((loss - expected).abs() < 1e-15, "{loss} is not {expected}");
    }

    /// Sequences `1` and `0 1` of two symbols, the end being 2: one is right, the other at two places of
    /// three; what is said after an end counts for nothing.
    #[test]
    fn sequences_are_right_as_a_whole_or_by_place() {
        let says = |symbols: [usize; 6]| -> Vec<f64> {
            let places = symbols.map(|said| [0, 1, 2].map(|s| if s == said { 0.0 } else { -1e3 }));
            places.into_iter().flatten().collect()
        };
        let targets = Targets::Sequences(vec![1, 2, 2, 0, 1, 2]);
        let (score, loss) = score_items(&says([1, 2, 0, 0, 1, 1]), 9, &targets);
        assert_eq!((score, loss), (0.5, 1e3 / 3.0 / 2.0));
        assert_eq!(
            score_items(&says([1, 2, 2, 0, 1, 2]), 9, &targets),
            (1.0, 0.0)
        );
    }

    /// Queries of two classes: of four pairs three are in order. Of one class alone nothing can be said.
    #[test]
    fn the_area_under_the_curve_is_the_share_of_pairs_in_order() {
        let shape = EpisodeShape::new(2, 1, 2);
        let items = |classes: Vec<u32>| {
            let count = classes.len();
            Items::new(vec![0.0; count], Targets::Classes(classes), vec![0; count])
        };
        let support = items(vec![0, 1]);
        let episode =
            |query: Vec<u32>| Episode::new(0, shape, support.clone(), items(query), Vec::new());
        let scores = [[[0.0, 0.1], [0.0, 0.5], [0.0, 0.3], [0.0, 0.9]]; 2];
        let scores = Tensor::<crate::backend::Cpu, 3>::from_floats(scores, &Default::default());
        let episodes = [episode(vec![0, 0, 1, 1]), episode(vec![1; 4])];
        assert_eq!(areas_of(scores, &episodes), [Some(0.75), None]);
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let (_, loss) = classification(&[1000.0, 0.0], 2, &[1]);
        assert_eq!(loss, 1000.0);
    }

    #[test]
    fn what_is_no_result_names_its_episode() {
        let scored = |steps: Vec<Vec<(f64, f64)>>, densities: Vec<f64>| Scored {
            steps,
            places: Vec::new(),
            densities,
            exact: Vec::new(),
            areas: Vec::new(),
            confidences: Vec::new(),
            by_instance: Vec::new(),
        };
        let message = |scored: &Scored, metric| {
            let checked = scored.check(metric, Split::Test, 10);
            checked.map_or_else(|error| error.to_string(), |()| String::new())
        };
        let (squares, accuracy) = (Metric::MeanSquaredError, Metric::Accuracy);
        let good = vec![(1.0, 1.0), (2.0, 2.0)];
        let bad = vec![(1.0, 1.0), (f64::NAN, f64::NAN)];
        assert_eq!(
            message(&scored(vec![good.clone()], vec![0.0; 2]), squares),
            ""
        );
        assert_eq!(
            message(&scored(vec![good.clone(), bad], Vec::new()), squares),
            "test episode 11: mean squared error after 1 steps is NaN, expected a finite number"
        );
        let message_of =
            |loss: f64| message(&scored(vec![vec![(0.2, loss)]], Vec::new()), accuracy);
        assert_eq!(message_of(1e6), "");
        assert!(message_of(5e11).starts_with("test episode 10: loss is 500000000000, expected"));
        assert!(message_of(f64::INFINITY).contains("loss is inf"));
        // A squared error has no scale of its own.
        assert_eq!(
            message(&scored(vec![vec![(5e11, 5e11)]], Vec::new()), squares),
            ""
        );
        let message = message(&scored(vec![good], vec![0.0, f64::NEG_INFINITY]), squares);
        assert!(
            message.contains("episode 11: log-likelihood is -inf"),
            "{message}"
        );
    }

    #[test]
    fn an_evaluation_reports_its_last_step() {
        let evaluation = Evaluation {
            metric: Metric::Accuracy,
            scores: vec![vec![0.2, 0.2], vec![0.8, 1.0]],
            losses: vec![0.5, 0.7],
            places: Vec::new(),
            log_likelihood: None,
            by_instance: Vec::new(),
            auroc: Vec::new(),
            confidences: Vec::new(),
        };
        assert!((evaluation.score().mean - 0.9).abs() < 1e-12);
        assert_eq!(evaluation.by_step().len(), 2);
        assert_eq!(evaluation.by_step()[0].mean, 0.2);
    }
}
