//! `meta explain`: what a trained learner attends to, how it adapts, and whether masking what it
//! attends to hurts; as pictures, and as the numbers behind them.

mod curves;
mod deletion;
mod episode_view;
mod heatmap;
mod maps;
mod svg;

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::Tensor;
use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    data::{Episode, EpisodeShape, Split, Targets},
    files::write_atomically,
    nn::attention::MapAxis,
    primitives::Primitives,
    rng::Seed,
    task::TaskBatch,
    train::eval::{Metric, score_items},
};
use serde_json::{Value, json};

use crate::{
    Toolkit,
    cli::ExplainArgs,
    experiment::Experiment,
    failure::{CommandError, Result},
    output::print,
    output::progress::Progress,
    run::{best_parameters, trained},
};
use curves::Trajectory;
use deletion::{Deletion, deletion, shortened};
use episode_view::{EpisodeView, Shown, axis_name};
use maps::{Map, Matrix, Of, split};

/// The file with the numbers.
const NUMBERS: &str = "explain.json";
/// Episodes that are explained unless told otherwise.
const EPISODES: usize = 3;
/// Queries that a picture shows, about.
const QUERIES: usize = 10;
/// Version of the form of the numbers.
const VERSION: u64 = 1;

/// The episodes of a split.
struct Stream {
    split: Split,
    seed: Seed,
    shape: EpisodeShape,
    /// How many there are; no limit where absent.
    count: Option<usize>,
}

impl Stream {
    fn of<T: Toolkit>(experiment: &Experiment<T>, split: Split) -> Self {
        let manifest = &experiment.manifest;
        let (seed, shape, count) = match split {
            Split::Train => (experiment.seed(), experiment.spec.train, None),
            Split::Validation => (
                experiment.frozen_seed(),
                experiment.spec.test,
                Some(manifest.train.validation_episodes),
            ),
            Split::Test => (
                experiment.frozen_seed(),
                experiment.spec.test,
                Some(manifest.test.episodes),
            ),
        };
        Stream {
            split,
            seed,
            shape,
            count,
        }
    }

    fn check(&self, option: &str, index: u64) -> Result<()> {
        match self.count {
            Some(count) if index >= count as u64 => Err(CommandError::Usage(format!(
                "`{option}`: there is no episode {index}; the {} split of this run has {count}, \
                 from 0 to {}",
                self.split,
                count.saturating_sub(1)
            ))),
            _ => Ok(()),
        }
    }

    fn episode<T: Toolkit>(&self, experiment: &Experiment<T>, index: u64) -> Result<Episode> {
        let source = experiment.source.as_ref();
        let episode = source.episode(self.seed, self.split, self.shape, index);
        episode.map_err(|error| experiment.manifest.locate(error))
    }
}

/// `meta explain`.
///
/// # Errors
/// Whatever is wrong with the folder, the episodes or the data; and when there is nothing to show.
pub fn explain<T: Toolkit>(args: &ExplainArgs) -> Result<()> {
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| args.run_dir.join("explain"));
    let (experiment, record) = trained::<T>(&args.run_dir, &args.overrides, args.data.as_deref())?;
    check_target(&out, args.force)?;
    let split = Split::ALL
        .into_iter()
        .find(|split| split.name() == args.split)
        .ok_or_else(|| Error::unknown("split", &args.split, Split::ALL.map(Split::name)))?;
    let stream = Stream::of(&experiment, split);
    let indices: Vec<u64> = match (&args.episodes[..], args.count) {
        ([], Some(0)) => {
            return Err(CommandError::Usage(
                "`--count 0`: must be at least 1".to_owned(),
            ));
        }
        ([], count) => {
            let known = stream.count.unwrap_or(usize::MAX);
            let count = count.unwrap_or(EPISODES.min(known)) as u64;
            stream.check(&format!("--count {count}"), count - 1)?;
            (0..count).collect()
        }
        (named, _) => {
            let mut indices = Vec::new();
            for &index in named {
                stream.check(&format!("--episodes {index}"), index)?;
                if !indices.contains(&index) {
                    indices.push(index);
                }
            }
            indices
        }
    };
    let checked = match (args.deletion_episodes, stream.count) {
        (Some(count), _) if count > 0 => {
            stream.check(&format!("--deletion-episodes {count}"), count as u64 - 1)?;
            count
        }
        (Some(_), _) => 0,
        (None, known) => known.unwrap_or(usize::MAX).min(100),
    };
    let target = experiment.manifest.run.target();
    let pictures = dispatch(
        &target,
        Explainer::<T> {
            experiment,
            record,
            args,
            stream,
            indices,
            checked,
            toolkit: std::marker::PhantomData,
        },
    )??;
    pictures.write(&out)
}

/// Refuses to write over what is there, unless it is what this command wrote and `force` is given.
fn check_target(out: &Path, force: bool) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    let refused = |expected: &str| {
        Err(CommandError::Usage(format!(
            "{}: exists already; {expected}",
            out.display()
        )))
    };
    match (out.join(NUMBERS).exists(), force) {
        (true, true) => Ok(()),
        (true, false) => refused("--force replaces it, --out names another folder"),
        (false, _) => {
            refused("it was not made by `meta explain`, so --out must name another folder")
        }
    }
}

/// Everything that goes into the folder.
struct Pictures {
    files: Vec<(String, Vec<u8>)>,
    sentences: Vec<String>,
}

impl Pictures {
    /// Adds a picture in both forms under a name that is not taken; returns the name.
    fn add(&mut self, name: &str, svg: String) -> Result<String> {
        let taken = |name: &str| {
            self.files
                .iter()
                .any(|(file, _)| *file == format!("{name}.svg"))
        };
        let name = (1..)
            .map(|number| match number {
                1 => name.to_owned(),
                _ => format!("{name}-{number}"),
            })
            .find(|name| !taken(name))
            .expect("numbers do not end");
        self.files.push((format!("{name}.png"), svg::png(&svg)?));
        self.files.push((format!("{name}.svg"), svg.into_bytes()));
        Ok(name)
    }

    /// Writes the folder, all or nothing, and says what is in it.
    fn write(&self, out: &Path) -> Result<()> {
        let parent = match out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(|error| Error::io(&parent, "create folder", error))?;
        let name = out.file_name().unwrap_or_default().to_string_lossy();
        let beside = |what: &str| parent.join(format!(".{name}.{}.{what}", std::process::id()));
        let (temporary, old) = (beside("tmp"), beside("old"));
        let made = self.fill(&temporary).and_then(|()| {
            if out.exists() {
                fs::rename(out, &old).map_err(|error| Error::io(out, "replace", error))?;
            }
            fs::rename(&temporary, out).map_err(|error| Error::io(out, "create folder", error))?;
            Ok(())
        });
        if made.is_err() {
            // Best effort: the reason to report is the first one.
            let _ = fs::remove_dir_all(&temporary);
            if !out.exists() {
                let _ = fs::rename(&old, out);
            }
        }
        made?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(|error| Error::io(&old, "remove", error))?;
        }
        let pictures = self
            .files
            .iter()
            .filter(|(name, _)| name.ends_with(".svg"))
            .count();
        let mut said = format!("{}: {pictures} pictures, and {NUMBERS}\n", out.display());
        for sentence in &self.sentences {
            said.push_str(&format!("{sentence}\n"));
        }
        print(&said)
    }

    fn fill(&self, folder: &Path) -> Result<()> {
        fs::create_dir(folder).map_err(|error| Error::io(folder, "create folder", error))?;
        for (name, bytes) in &self.files {
            write_atomically(&folder.join(name), bytes)?;
        }
        Ok(())
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
    toolkit: std::marker::PhantomData<T>,
}

/// What a learner says of one episode.
struct ExplainedEpisode {
    view: EpisodeView,
    /// PredictAt for the queries by step.
    answers: Vec<Vec<Vec<f64>>>,
    /// Query loss and score by step.
    steps: Vec<(f64, f64)>,
    maps: Vec<Map>,
    movement: Vec<(String, Vec<f64>)>,
}

impl<T: Toolkit> WithBackend for Explainer<'_, T> {
    type Output = Result<Pictures>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.experiment;
        let mut learner = experiment.learner::<B>(&device);
        let best = best_parameters(&self.args.run_dir, &learner.parameters(), &device)?;
        learner.set_parameters(best.parameters);
        let episodes: Vec<Episode> = self
            .indices
            .iter()
            .map(|&index| self.stream.episode(experiment, index))
            .collect::<Result<_>>()?;
        let batch = TaskBatch::new(&episodes, &experiment.spec, &device);
        let explanation = learner.explain(&batch);
        let [t, s] = batch.support.dims();
        let q = batch.query.dims()[1];
        let answers = self.answers(&explanation.predictions, t);
        let (maps, of_batch) = split(explanation.maps, [t, s, q]);
        if maps.iter().all(Vec::is_empty) && of_batch.is_empty() && answers[0].len() < 2 {
            let manifest = &experiment.manifest;
            return Err(CommandError::Usage(format!(
                "{}: nothing to show: learner `{}` with encoder `{}` attends to nothing and adapts \
                 in no steps",
                self.args.run_dir.display(),
                manifest.learner.name,
                manifest.encoder.name,
            )));
        }
        let movement = explanation.movement.iter().map(|(layer, by_step)| {
            let by_step: Vec<Vec<f64>> = by_step.iter().cloned().map(values).collect();
            (layer.clone(), by_step)
        });
        let movement: Vec<(String, Vec<Vec<f64>>)> = movement.collect();
        let explained: Vec<ExplainedEpisode> = episodes
            .into_iter()
            .zip(answers)
            .zip(maps)
            .enumerate()
            .map(|(place, ((episode, answers), maps))| {
                let steps = answers.iter().map(|step| scored(step, &episode)).collect();
                let of_episode = |by_step: &Vec<Vec<f64>>| {
                    by_step
                        .iter()
                        .map(|tasks| tasks[place])
                        .collect::<Vec<f64>>()
                };
                ExplainedEpisode {
                    view: self.view(episode, answers.last().cloned().unwrap_or_default()),
                    answers,
                    steps,
                    maps,
                    movement: movement
                        .iter()
                        .map(|(layer, by_step)| (layer.clone(), of_episode(by_step)))
                        .collect(),
                }
            })
            .collect();
        let mut pictures = Pictures {
            files: Vec::new(),
            sentences: Vec::new(),
        };
        let of_episodes: Vec<Value> = explained
            .iter()
            .map(|explained| self.draw_episode(explained, &mut pictures))
            .collect::<Result<_>>()?;
        let of_batch: Vec<Value> = of_batch
            .iter()
            .map(|map| self.draw_batch(map, &explained[0].view, &mut pictures))
            .collect::<Result<_>>()?;
        let checks = match self.checked {
            0 => Vec::new(),
            count => {
                let mut progress =
                    Progress::new(self.args.quiet, Metric::of(experiment.spec.task), 0, 0, 1);
                progress.start_test(count);
                let features = experiment.spec.item.features();
                let episodes: Vec<Episode> = (0..count as u64)
                    .map(|index| Ok(shortened(self.stream.episode(experiment, index)?, features)))
                    .collect::<Result<_>>()?;
                let seed = experiment.frozen_seed();
                let checks = deletion(
                    learner.as_ref(),
                    &experiment.spec,
                    &episodes,
                    seed,
                    &device,
                    |done| progress.test(done),
                )?;
                progress.finish();
                checks
            }
        };
        let checks: Vec<Value> = checks
            .iter()
            .map(|check| self.draw_check(check, &mut pictures))
            .collect::<Result<_>>()?;
        if self.checked > 0 && checks.is_empty() {
            pictures.sentences.push(
                "no deletion check: nothing attends to support items or to parts of the queries"
                    .to_owned(),
            );
        }
        let manifest = &experiment.manifest;
        let numbers = json!({
            "kind": "meta explain",
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
            "deletion": checks,
        });
        let numbers = format!("{numbers}\n").into_bytes();
        pictures.files.push((NUMBERS.to_owned(), numbers));
        Ok(pictures)
    }
}

impl<T: Toolkit> Explainer<'_, T> {
    /// The run, as the first line above pictures.
    fn name(&self) -> &str {
        &self.experiment.manifest.run.name
    }

    fn setting(&self) -> String {
        let manifest = &self.experiment.manifest;
        let shape = self.stream.shape;
        let shape = match self.experiment.spec.task {
            meta_core::data::Task::Classification => {
                format!("{}-way {}-shot", shape.way, shape.shot)
            }
            meta_core::data::Task::Regression { .. } => format!("{} support points", shape.shot),
        };
        format!(
            "{} with {} · {}, {shape}, {} split",
            manifest.learner.name,
            manifest.encoder.name,
            self.experiment.source.name(),
            self.stream.split
        )
    }

    /// PredictAt by episode, step and query.
    fn answers<B: Primitives>(
        &self,
        predictions: &[Tensor<B, 3>],
        episodes: usize,
    ) -> Vec<Vec<Vec<Vec<f64>>>> {
        let mut answers = vec![Vec::new(); episodes];
        for step in predictions {
            let [_, q, outputs] = step.dims();
            let values: Vec<f64> = step.clone().into_data().iter::<f64>().collect();
            for (answers, task) in answers.iter_mut().zip(values.chunks_exact(q * outputs)) {
                answers.push(task.chunks_exact(outputs).map(<[f64]>::to_vec).collect());
            }
        }
        answers
    }

    fn view(&self, episode: Episode, answers: Vec<Vec<f64>>) -> EpisodeView {
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
        EpisodeView {
            title: format!("{}: episode {}", self.name(), episode.index),
            setting: self.setting(),
            item: self.experiment.spec.item,
            episode,
            answers,
            shown,
        }
    }

    fn draw_episode(&self, explained: &ExplainedEpisode, pictures: &mut Pictures) -> Result<Value> {
        let (view, index) = (&explained.view, explained.view.episode.index);
        let mut names: Vec<String> = Vec::new();
        let mut maps = Vec::new();
        for map in &explained.maps {
            let base = format!("episode-{index}-{}", slug(&map.name));
            let mut own = Vec::new();
            for (suffix, svg) in draw_map(view, map) {
                own.push(pictures.add(&format!("{base}{suffix}"), svg)?);
            }
            maps.push(map_numbers(map, &own));
        }
        if let Some(svg) = curves::function(view, &explained.maps) {
            names.push(pictures.add(&format!("episode-{index}-function"), svg?)?);
        }
        if explained.steps.len() > 1 {
            let of = |part: fn(&(f64, f64)) -> f64| {
                explained.steps.iter().map(part).collect::<Vec<f64>>()
            };
            let classes = matches!(view.episode.query.targets, Targets::Classes(_));
            let svg = curves::trajectory(
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
            names.push(pictures.add(&format!("episode-{index}-adaptation"), svg)?);
        }
        Ok(episode_numbers(explained, maps, &names))
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
        let lines = [view.setting.clone(), said(map, &rows, &columns)];
        let base = format!("batch-{}", slug(&map.name));
        let mut own = Vec::new();
        for (suffix, svg) in draw_matrices(&map.over_things(), &title, lines, &rows, &columns) {
            own.push(pictures.add(&format!("{base}{suffix}"), svg)?);
        }
        Ok(map_numbers(map, &own))
    }

    fn draw_check(&self, check: &Deletion, pictures: &mut Pictures) -> Result<Value> {
        let title = format!("{}: deletion check", self.name());
        let svg = curves::deletion(&title, &self.setting(), check)?;
        let name = format!("deletion-{}", slug(check.masked.name()));
        let name = pictures.add(&name, svg)?;
        pictures.sentences.push(check.sentence());
        let mut numbers = check.numbers();
        numbers["pictures"] = json!([name]);
        Ok(numbers)
    }
}

fn values<B: Primitives>(tensor: Tensor<B, 1>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Score and loss of the answers of one step.
fn scored(answers: &[Vec<f64>], episode: &Episode) -> (f64, f64) {
    let outputs = answers.first().map_or(1, Vec::len);
    score_items(&answers.concat(), outputs, &episode.query.targets)
}

/// A name as part of a file's name.
fn slug(name: &str) -> String {
    let letters = name.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            '-'
        }
    });
    let dashed: String = letters.collect();
    let words: Vec<&str> = dashed.split('-').filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// What a picture of a map shows, in words.
fn said(map: &Map, rows: &Shown, columns: &Shown) -> String {
    let some = |shown: &Shown, count: usize| match shown.places.len() {
        all if all == count => String::new(),
        some => format!(", {some} of {count} shown"),
    };
    let of = match map.of {
        Of::Episode => String::new(),
        Of::Support => "; mean over support items".to_owned(),
        Of::Query => "; mean over queries".to_owned(),
        Of::Item => "; mean over items".to_owned(),
        Of::Other(count) => format!("; mean over {count} of them"),
    };
    format!(
        "“{}”: each row ({}{}) attends to the columns ({}{}){of}",
        map.name,
        axis_name(&map.rows),
        some(rows, map.dims[2]),
        axis_name(&map.columns),
        some(columns, map.dims[3]),
    )
}

/// The pictures of a map: what is added to their file's name, and the SVG text.
fn draw_map(view: &EpisodeView, map: &Map) -> Vec<(&'static str, String)> {
    if let Some(grid) = map.over_parts() {
        let line = format!(
            "“{}”: attention that each part of an item receives, mean over what attends ({})",
            map.name,
            axis_name(&map.rows)
        );
        let lines = [view.setting.as_str(), &line];
        if let Some(svg) = heatmap::over_parts(view, map, grid, &view.title, &lines) {
            return vec![("", svg)];
        }
    }
    let rows = view.shown(&map.rows, map.dims[2]);
    let columns = view.shown(&map.columns, map.dims[3]);
    let lines = [view.setting.clone(), said(map, &rows, &columns)];
    draw_matrices(&map.over_things(), &view.title, lines, &rows, &columns)
}

/// The mean over heads, and all heads where there are several.
fn draw_matrices(
    by_head: &[Matrix],
    title: &str,
    [setting, line]: [String; 2],
    rows: &Shown,
    columns: &Shown,
) -> Vec<(&'static str, String)> {
    let drawn = |line: &str| {
        heatmap::Subject {
            title,
            lines: &[&setting, line],
            rows,
            columns,
        }
        .one(&Matrix::mean(by_head))
    };
    match by_head.len() {
        1 => vec![("", drawn(&line))],
        heads => {
            let mean = drawn(&format!("{line}; mean of {heads} heads"));
            let all = heatmap::Subject {
                title,
                lines: &[&setting, &format!("{line}; each of {heads} heads")],
                rows,
                columns,
            };
            vec![("", mean), ("-heads", all.heads(by_head))]
        }
    }
}

/// Six decimals: what single precision holds of a weight.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn matrix_numbers(matrix: &Matrix) -> Value {
    let rows = matrix.values.chunks(matrix.columns.max(1));
    rows.map(|row| {
        row.iter()
            .map(|&value| rounded(value))
            .collect::<Vec<f64>>()
    })
    .collect()
}

fn axis_numbers(axis: &MapAxis, count: usize) -> Value {
    match axis {
        MapAxis::Part(rows, columns) => {
            json!({ "of": "part", "count": count, "grid": [rows, columns] })
        }
        MapAxis::Other(name) => json!({ "of": "other", "name": name, "count": count }),
        MapAxis::Query => json!({ "of": "query", "count": count }),
        MapAxis::Support => json!({ "of": "support", "count": count }),
        MapAxis::Item => json!({ "of": "item", "count": count }),
        MapAxis::Class => json!({ "of": "class", "count": count }),
        MapAxis::Task => json!({ "of": "task", "count": count }),
    }
}

/// The numbers of a map: its matrices by head, or what the parts of each item receive.
fn map_numbers(map: &Map, pictures: &[String]) -> Value {
    let [things, heads, rows, columns] = map.dims;
    let mut numbers = json!({
        "name": map.name,
        "rows": axis_numbers(&map.rows, rows),
        "columns": axis_numbers(&map.columns, columns),
        "of": map.of.name(),
        "heads": heads,
        "pictures": pictures,
    });
    if map.over_parts().is_some() {
        let received = |thing: usize| -> Vec<Vec<f64>> {
            let by_head = map.by_head(thing);
            by_head
                .iter()
                .map(|matrix| matrix.received().into_iter().map(rounded).collect())
                .collect()
        };
        numbers["received"] = json!((0..things).map(received).collect::<Vec<_>>());
    } else {
        let by_head = map.over_things();
        numbers["weights"] = by_head.iter().map(matrix_numbers).collect();
        numbers["mean"] = matrix_numbers(&Matrix::mean(&by_head));
    }
    numbers
}

fn episode_numbers(explained: &ExplainedEpisode, maps: Vec<Value>, pictures: &[String]) -> Value {
    let view = &explained.view;
    let episode = &view.episode;
    let items = |items: &meta_core::data::Items| {
        let mut numbers = json!({ "ids": items.ids });
        match &items.targets {
            Targets::Classes(classes) => numbers["classes"] = json!(classes),
            Targets::Values(values) => {
                numbers["inputs"] = json!(items.inputs);
                numbers["values"] = json!(values);
            }
        }
        numbers
    };
    let mut query = items(&episode.query);
    if matches!(episode.query.targets, Targets::Classes(_)) {
        let predicted: Vec<Option<usize>> = (0..view.queries())
            .map(|query| view.predicted(query))
            .collect();
        query["predicted"] = json!(predicted);
    }
    let answers = explained.answers.last().map(|step| -> Vec<Vec<f64>> {
        step.iter()
            .map(|scores| scores.iter().map(|&score| rounded(score)).collect())
            .collect()
    });
    let steps: Vec<Value> = explained
        .steps
        .iter()
        .enumerate()
        .map(|(step, (score, loss))| json!({ "step": step, "loss": loss, "score": score }))
        .collect();
    let movement: Vec<Value> = explained
        .movement
        .iter()
        .map(|(layer, by_step)| json!({ "layer": layer, "distance": by_step }))
        .collect();
    json!({
        "episode": episode.index,
        "classes": episode.classes,
        "support": items(&episode.support),
        "query": query,
        "answers": answers,
        "steps": steps,
        "movement": movement,
        "maps": maps,
        "pictures": pictures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_maps_are_names_of_files() {
        assert_eq!(
            slug("encoder.block 1, inducing"),
            "encoder-block-1-inducing"
        );
        assert_eq!(slug("Support → query"), "support-query");
    }

    /// A folder that this command did not write is never replaced.
    #[test]
    fn what_is_there_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        check_target(&out, false).unwrap();
        let pictures = |text: &str| Pictures {
            files: vec![(NUMBERS.to_owned(), text.as_bytes().to_vec())],
            sentences: Vec::new(),
        };
        pictures("one").write(&out).unwrap();
        let message = check_target(&out, false).unwrap_err().to_string();
        assert!(message.contains("--force replaces it"), "{message}");
        check_target(&out, true).unwrap();
        pictures("two").write(&out).unwrap();
        assert_eq!(fs::read_to_string(out.join(NUMBERS)).unwrap(), "two");
        assert_eq!(
            fs::read_dir(root.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        let message = check_target(root.path(), true).unwrap_err().to_string();
        assert!(message.contains("not made by `meta explain`"), "{message}");
    }
}
