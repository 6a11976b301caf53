//! `meta explain`: shows what a trained learner predicts, which classes it confuses, what it attends to, how
//! it adapts, and whether masking what it attends to hurts. It writes pictures, and the numbers behind them.
//!
//! Every learner has the pictures of its episodes: the items with what was predicted for them, and where they
//! are in the space of its encoder.

mod acting;
mod curves;
mod deletion;
mod episode_pictures;
mod episode_view;
mod explained;
mod heatmap;
mod map_pictures;
mod maps;
mod mask;
mod numbers;
mod own;
mod pictures;
mod sentences;
mod sequences;
mod space;
mod stream;

use std::path::PathBuf;

use clap::Args;
use meta_core::{
    backend::{WithBackend, dispatch},
    data::{Episode, Targets, Task},
    learner::Learner,
    nn::attention::MapAxis,
    primitives::Primitives,
    rl::ActingWorld,
    task::TaskBatch,
    toolkit::Toolkit,
    train::eval::Metric,
};
use serde_json::{Value, json};

use crate::{
    command::Execute,
    experiment::{Experiment, split_named},
    failure::{CommandError, Result},
    output::{pace::Work, progress::Progress},
    run::{
        elsewhere::{Changes, TrainedRun, trained},
        eval::best_parameters,
        folder::{EXPLAIN, EXPLAIN_NUMBERS},
        predictions::{Predictions, Which, predictions},
    },
};
pub use explained::ExplainedBatch;
pub use own::{OwnItem, OwnSetting, own_pictures};
pub use pictures::check_target;

use acting::{Acted, StepMap};
use curves::Trajectory;
use deletion::{Deletion, deletion};
use episode_view::{EpisodeView, Shown, bitmap};
use explained::ExplainedEpisode;
use map_pictures::{caption, draw_map, draw_matrices};
use maps::Map;
use mask::shortened;
use numbers::{confusion_numbers, episode_numbers, map_numbers, space_numbers};
use pictures::{KIND, Pictures, slug};
use sequences::page_of_words;
use space::{Space, embeddings};
use stream::Stream;

/// Episodes that are explained unless told otherwise.
const EPISODES: usize = 3;
/// Queries that a picture shows, about.
const QUERIES: usize = 10;
/// Version of the form of the numbers.
const VERSION: u64 = 1;

/// Show what a trained learner predicts, attends to and how it adapts, as pictures and as numbers.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The run folder.
    run_dir: PathBuf,
    /// Changes, as for `meta eval`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Numbers of the episodes, separated by commas [default: the first three].
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        conflicts_with = "count"
    )]
    episodes: Vec<u64>,
    /// How many episodes to explain, from the first.
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Split of the data source: train, validation or test.
    #[arg(long, default_value = "test")]
    split: String,
    /// Queries of each class in a picture [default: about ten in all; every one in regression].
    #[arg(long, value_name = "N")]
    queries: Option<usize>,
    /// Episodes of the deletion check, from the first; 0 for none [default: 100].
    #[arg(long, value_name = "N")]
    deletion_episodes: Option<usize>,
    /// Episodes whose predictions show which classes are confused, from the first; 0 for none [default: 100].
    #[arg(long, value_name = "N")]
    confusion_episodes: Option<usize>,
    /// The folder to write [default: RUN_DIR/explain].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what an earlier `meta explain` wrote there.
    #[arg(long)]
    force: bool,
    /// Folder with the data sets [default: that of the run].
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long)]
    quiet: bool,
}

impl Execute for ExplainArgs {
    /// Writes the pictures and the numbers.
    ///
    /// # Errors
    /// Whatever is wrong with the folder, the episodes or the data.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let out = self
            .out
            .clone()
            .unwrap_or_else(|| self.run_dir.join(EXPLAIN));
        let changes = Changes {
            overrides: &self.overrides,
            on: None,
            data: self.data.as_deref(),
        };
        let TrainedRun {
            experiment, record, ..
        } = trained::<T>(&self.run_dir, changes)?;
        check_target(&out, self.force)?;
        let stream = Stream::of(&experiment, split_named(&self.split)?);
        let indices = self.indices(&stream)?;
        let checked =
            self.first_episodes(&stream, "--deletion-episodes", self.deletion_episodes)?;
        let confused =
            self.first_episodes(&stream, "--confusion-episodes", self.confusion_episodes)?;
        let target = experiment.manifest.run.target();
        let explainer = Explainer {
            experiment,
            record,
            args: &self,
            stream,
            indices,
            checked,
            confused,
        };
        dispatch(&target, explainer)??.write(&out)
    }
}

impl ExplainArgs {
    /// The numbers of the episodes that are explained.
    fn indices(&self, stream: &Stream) -> Result<Vec<u64>> {
        match (&self.episodes[..], self.count) {
            ([], Some(0)) => Err(CommandError::Usage(
                "`--count 0`: must be at least 1".to_owned(),
            )),
            ([], count) => {
                let known = stream.count.unwrap_or(usize::MAX);
                let count = count.unwrap_or(EPISODES.min(known)) as u64;
                stream.check(&format!("--count {count}"), count - 1)?;
                Ok((0..count).collect())
            }
            (named, _) => {
                let mut indices = Vec::new();
                for &index in named {
                    stream.check(&format!("--episodes {index}"), index)?;
                    if !indices.contains(&index) {
                        indices.push(index);
                    }
                }
                Ok(indices)
            }
        }
    }

    /// How many episodes from the first on `option` asks for; 100 unless it says.
    fn first_episodes(&self, stream: &Stream, option: &str, asked: Option<usize>) -> Result<usize> {
        match (asked, stream.count) {
            (Some(count), _) if count > 0 => {
                stream.check(&format!("{option} {count}"), count as u64 - 1)?;
                Ok(count)
            }
            (Some(_), _) => Ok(0),
            (None, known) => Ok(known.unwrap_or(usize::MAX).min(100)),
        }
    }
}

/// An explanation on a backend whose name is known only now.
struct Explainer<'a, T: Toolkit> {
    experiment: Experiment<T>,
    record: Value,
    args: &'a ExplainArgs,
    stream: Stream,
    indices: Vec<u64>,
    /// Episodes of the deletion check.
    checked: usize,
    /// Episodes whose predictions are counted.
    confused: usize,
}

impl<T: Toolkit> WithBackend for Explainer<'_, T> {
    type Output = Result<Pictures>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.experiment;
        let mut learner = experiment.learner::<B>(&device);
        let best = best_parameters(&self.args.run_dir, &learner.parameters(), &device)?;
        learner.set_parameters(best.parameters);
        if experiment.spec.task.is_acting() {
            return self.explain_acting(learner.as_ref(), &device);
        }
        let (explained, of_batch, spaces) = self.explain(learner.as_ref(), &device)?;
        let mut pictures = Pictures::default();
        let of_episodes: Vec<Value> = explained
            .iter()
            .zip(&spaces)
            .map(|(explained, space)| self.draw_episode(explained, space, &mut pictures))
            .collect::<Result<_>>()?;
        let of_batch: Vec<Value> = of_batch
            .iter()
            .map(|map| self.draw_batch(map, &explained[0].view, &mut pictures))
            .collect::<Result<_>>()?;
        let checks: Vec<Value> = self
            .check(learner.as_ref(), &device)?
            .iter()
            .map(|check| self.draw_check(check, &mut pictures))
            .collect::<Result<_>>()?;
        let which = Which {
            split: self.stream.split,
            seed: self.stream.seed,
            shape: self.stream.shape,
            count: self.confused,
        };
        let predicted = predictions(experiment, learner.as_ref(), which, &device)?;
        let confusion = self.draw_confusion(&predicted, &mut pictures)?;
        if self.checked > 0 && checks.is_empty() {
            pictures.sentences.push(
                "no deletion check: nothing attends to support items or to parts of the queries"
                    .to_owned(),
            );
        }
        let manifest = &experiment.manifest;
        let numbers = json!({
            "kind": KIND,
            "version": VERSION,
            "run": {
                "name": manifest.run.name,
                "hash": self.record["hash"],
                "iteration": best.iteration,
                "learner": manifest.learner.name,
                "encoder": manifest.encoder.name,
                "source": experiment.source.name(),
            },
            "split": self.stream.split,
            "seed": self.stream.seed.0,
            "shape": self.stream.shape,
            "metric": Metric::of(experiment.spec.task),
            "episodes": of_episodes,
            "batch": of_batch,
            "confusion": confusion,
            "deletion": checks,
        });
        let numbers = format!("{numbers}\n").into_bytes();
        pictures.files.push((EXPLAIN_NUMBERS.to_owned(), numbers));
        Ok(pictures)
    }
}

impl<T: Toolkit> Explainer<'_, T> {
    /// Pictures and numbers of what a policy did in the tasks.
    fn explain_acting<B: Primitives>(
        &self,
        learner: &dyn Learner<B>,
        device: &B::Device,
    ) -> Result<Pictures> {
        let experiment = &self.experiment;
        let episodes: Vec<Episode> = self
            .indices
            .iter()
            .map(|&index| self.stream.episode(experiment, index))
            .collect::<Result<_>>()?;
        let tasks = TaskBatch::new(&episodes, &experiment.spec, device);
        let explanation = learner.explain(&tasks);
        let maps: Vec<StepMap> = explanation.maps.into_iter().map(StepMap::of).collect();
        let world = ActingWorld::of(tasks.world.as_ref());
        let mut pictures = Pictures::default();
        let mut of_tasks = Vec::new();
        for (place, &task) in self.indices.iter().enumerate() {
            let acted = Acted {
                title: format!("{}: task {task}", self.name()),
                setting: self.setting(),
                described: world.family.describe_task(world.seed, world.split, task),
                trials: explanation
                    .trials
                    .iter()
                    .filter(|trial| trial.task == task)
                    .collect(),
                observations: world.family.observations(),
                actions: world.family.actions(),
            };
            of_tasks.push(acted.draw(task, place, &maps, &mut pictures)?);
        }
        let numbers = json!({
            "kind": KIND,
            "version": VERSION,
            "run": {
                "name": experiment.manifest.run.name,
                "hash": self.record["hash"],
                "learner": experiment.manifest.learner.name,
                "source": experiment.source.name(),
            },
            "split": self.stream.split,
            "seed": self.stream.seed.0,
            "shape": self.stream.shape,
            "metric": Metric::of(experiment.spec.task),
            "tasks": of_tasks,
        });
        let numbers = format!("{numbers}\n").into_bytes();
        pictures.files.push((EXPLAIN_NUMBERS.to_owned(), numbers));
        Ok(pictures)
    }

    /// The run, as the first line above pictures.
    fn name(&self) -> &str {
        &self.experiment.manifest.run.name
    }

    fn setting(&self) -> String {
        let manifest = &self.experiment.manifest;
        let shape = self.stream.shape;
        let shape = match self.experiment.spec.task {
            Task::Classification => {
                format!("{}-way {}-shot", shape.way, shape.shot)
            }
            Task::Regression { .. } => format!("{} support points", shape.shot),
            Task::Sequences { .. } => format!("{} examples", shape.shot),
            Task::Acting { .. } => format!("trials of {} episodes", shape.shot),
        };
        format!(
            "{} with {} · {}, {shape}, {} split",
            manifest.learner.name,
            manifest.encoder.name,
            self.experiment.source.name(),
            self.stream.split
        )
    }

    /// What the learner says of the episodes, the maps of all of them together, and where the items of each
    /// episode are.
    fn explain<B: Primitives>(
        &self,
        learner: &dyn Learner<B>,
        device: &B::Device,
    ) -> Result<(Vec<ExplainedEpisode>, Vec<Map>, Vec<Space>)> {
        let experiment = &self.experiment;
        let episodes: Vec<Episode> = self
            .indices
            .iter()
            .map(|&index| self.stream.episode(experiment, index))
            .collect::<Result<_>>()?;
        let batch = TaskBatch::new(&episodes, &experiment.spec, device);
        let [t, s] = batch.support.dims();
        let q = batch.query.dims()[1];
        let explained = ExplainedBatch::new(learner.explain(&batch), [t, s, q]);
        let raw = || -> Vec<Space> {
            let of_episode = |episode: &Episode| Space::raw(&episode.support, &episode.query);
            episodes.iter().map(of_episode).collect()
        };
        let spaces = embeddings(experiment, &learner.parameters(), &batch, device);
        let spaces = spaces.unwrap_or_else(raw);
        let (explained, of_batch) =
            explained.by_episode(episodes, |episode, answers| self.view(episode, answers));
        let metric = Metric::of(experiment.spec.task);
        for explained in &explained {
            explained.check(metric, self.stream.split)?;
        }
        Ok((explained, of_batch, spaces))
    }

    /// The deletion checks, where they are asked for.
    fn check<B: Primitives>(
        &self,
        learner: &dyn Learner<B>,
        device: &B::Device,
    ) -> Result<Vec<Deletion>> {
        if self.checked == 0 {
            return Ok(Vec::new());
        }
        let experiment = &self.experiment;
        let metric = Metric::of(experiment.spec.task);
        let mut progress = Progress::new(self.args.quiet, metric, 0, Work::default(), 1);
        progress.start_test(self.checked);
        let features = experiment.spec.item.features();
        let episodes: Vec<Episode> = (0..self.checked as u64)
            .map(|index| Ok(shortened(self.stream.episode(experiment, index)?, features)))
            .collect::<Result<_>>()?;
        let seed = experiment.frozen_seed();
        let checks = deletion(learner, &experiment.spec, &episodes, seed, device, |done| {
            progress.test(done)
        });
        progress.finish();
        for check in &checks {
            check.check(metric, self.stream.split)?;
        }
        Ok(checks)
    }

    fn view(&self, mut episode: Episode, answers: Vec<Vec<f64>>) -> EpisodeView {
        let shape = episode.shape;
        let per_class = shape.query.0;
        let default = match shape.way.0 {
            0 | 1 => per_class,
            way => QUERIES.div_ceil(way),
        };
        let shown_per_class = self
            .args
            .queries
            .unwrap_or(default)
            .clamp(1, per_class.max(1));
        let shown = (0..episode.query.len())
            .filter(|query| query % per_class.max(1) < shown_per_class)
            .collect();
        let source = self.experiment.source.as_ref();
        let classes = episode.classes.iter();
        let class_names = classes
            .map(|class| source.class_name(*class))
            .collect::<Option<_>>();
        let item = self.experiment.spec.item;
        let drawn = [&episode.support, &episode.query]
            .into_iter()
            .flat_map(|items| {
                let rows = items.inputs.chunks_exact(item.features().max(1));
                rows.map(|row| source.draw_item(row).and_then(bitmap))
            });
        let drawn = drawn.collect();
        let words = [&episode.support, &episode.query]
            .into_iter()
            .flat_map(|items| {
                let rows = items.inputs.chunks_exact(item.features().max(1));
                rows.map(|row| source.item_words(row))
            });
        let words = words.collect();
        if item.height * item.width > 1 {
            for items in [&mut episode.support, &mut episode.query] {
                let images = items.inputs.chunks_exact_mut(item.features());
                images.for_each(|image| source.to_picture(image));
            }
        }
        EpisodeView {
            title: format!("{}: episode {}", self.name(), episode.index),
            setting: self.setting(),
            class_names: class_names.unwrap_or_default(),
            item,
            drawn,
            words,
            lexicon: source.lexicon(),
            episode,
            answers,
            shown,
        }
    }

    fn draw_episode(
        &self,
        explained: &ExplainedEpisode,
        space: &Space,
        pictures: &mut Pictures,
    ) -> Result<Value> {
        let (view, index) = (&explained.view, explained.view.episode.index);
        let mut names: Vec<String> = Vec::new();
        if let Some(drawing) = episode_pictures::items(view) {
            names.push(pictures.add(&format!("episode-{index}"), &drawing)?);
        }
        if let Some(drawing) = episode_pictures::projection(view, space) {
            names.push(pictures.add(&format!("episode-{index}-projection"), &drawing)?);
        }
        let mut maps = Vec::new();
        for map in &explained.maps {
            let base = format!("episode-{index}-{}", slug(&map.name));
            let mut own = Vec::new();
            for (suffix, drawing) in draw_map(view, map) {
                own.push(pictures.add(&format!("{base}{suffix}"), &drawing)?);
            }
            if let (Some(page), Some(name)) = (page_of_words(view, map), own.first()) {
                let file = (format!("{name}.html"), page.into_bytes());
                pictures.files.push(file);
            }
            maps.push(map_numbers(map, &own));
        }
        if let Some(drawing) = curves::function(view, &explained.maps) {
            names.push(pictures.add(&format!("episode-{index}-function"), &drawing?)?);
        }
        if explained.steps.len() > 1 {
            let of = |part: fn(&(f64, f64)) -> f64| {
                explained.steps.iter().map(part).collect::<Vec<f64>>()
            };
            let classes = matches!(view.episode.query.targets, Targets::Classes(_));
            let drawing = curves::trajectory(
                view,
                &Trajectory {
                    losses: &of(|step| step.1),
                    accuracies: &if classes {
                        of(|step| step.0)
                    } else {
                        Vec::new()
                    },
                    movement: &explained.movement,
                },
            )?;
            names.push(pictures.add(&format!("episode-{index}-adaptation"), &drawing)?);
        }
        let mut numbers = episode_numbers(explained, maps, &names);
        numbers["space"] = space_numbers(view, space);
        Ok(numbers)
    }

    fn draw_confusion(&self, predicted: &Predictions, pictures: &mut Pictures) -> Result<Value> {
        if predicted.all.is_empty() {
            return Ok(Value::Null);
        }
        let title = format!("{}: confusion of classes", self.name());
        let drawing = episode_pictures::confusion(&title, &self.setting(), predicted);
        let mut numbers = confusion_numbers(predicted);
        if let Some(drawing) = drawing {
            numbers["pictures"] = json!([pictures.add("confusion", &drawing)?]);
        }
        let right = 100.0 * predicted.accuracy();
        pictures.sentences.push(format!(
            "{} of the {} queries of {} episodes are right ({right:.2} %)",
            predicted
                .all
                .iter()
                .filter(|one| one.class == one.predicted)
                .count(),
            predicted.all.len(),
            predicted.episodes.len()
        ));
        Ok(numbers)
    }

    fn draw_batch(&self, map: &Map, view: &EpisodeView, pictures: &mut Pictures) -> Result<Value> {
        let shown = |axis: &MapAxis, count: usize| match axis {
            MapAxis::Task if count == self.indices.len() => Shown::episodes(&self.indices),
            other => view.shown(other, count),
        };
        let (rows, columns) = (
            shown(&map.rows, map.dims[2]),
            shown(&map.columns, map.dims[3]),
        );
        let title = format!("{}: {} episodes together", self.name(), self.indices.len());
        let lines = [view.setting.clone(), caption(map, &rows, &columns)];
        let base = format!("batch-{}", slug(&map.name));
        let mut own = Vec::new();
        for (suffix, drawing) in draw_matrices(&map.over_things(), &title, lines, &rows, &columns) {
            own.push(pictures.add(&format!("{base}{suffix}"), &drawing)?);
        }
        Ok(map_numbers(map, &own))
    }

    fn draw_check(&self, check: &Deletion, pictures: &mut Pictures) -> Result<Value> {
        let title = format!("{}: deletion check", self.name());
        let drawing = curves::deletion(&title, &self.setting(), check)?;
        let name = format!("deletion-{}", slug(check.masked.name()));
        let name = pictures.add(&name, &drawing)?;
        pictures.sentences.push(check.sentence());
        let mut numbers = check.numbers();
        numbers["pictures"] = json!([name]);
        Ok(numbers)
    }
}
