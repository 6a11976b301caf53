//! Rejection: how well the highest class score of a query tells whether its class is in the support.
//!
//! Beside the queries of an episode stand outsiders, queries of classes that the episode does not have, as
//! "none of the above" in FewRel 2.0 (Gao et al., EMNLP 2019). They are items of no class, where the source has
//! such ([`Source::outsiders`](crate::data::Source::outsiders): rows that CLINC150 calls out of scope), and else
//! come from other episodes of the same stream, so that every learner sees the same ones.

use serde::{Deserialize, Serialize};

use super::{
    answer::{Answerer, Queries, Support},
    eval::{FrozenEpisodes, highest},
};
use crate::{
    Error, Result,
    calibration::{auroc, share_reaching, threshold},
    data::{Episode, Items, Targets, Task},
    learner::Learner,
    primitives::Primitives,
    task::TaskSpec,
};

/// Share of queries of the support's classes that are accepted where figures of rejection are taken.
const ACCEPTED: f64 = 0.95;
/// Where the episodes begin that outsiders come from, and how many are looked at for one.
const ELSEWHERE: u64 = 1 << 40;
const LOOKS: u64 = 64;

/// Figures of rejection by episode.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rejection {
    /// Probability that a query of the support's classes has a higher score than an outsider.
    pub auroc: Vec<f64>,
    /// Share of outsiders that reach the score which 95 % of the other queries reach.
    pub fpr95: Vec<f64>,
    /// Share of all that reach it, outsiders among them, that are answered rightly.
    pub accepted_accuracy: Vec<f64>,
}

/// Predictions for the queries of an episode, each by itself or all together.
///
/// # Errors
/// For a support that cannot be used.
pub fn answers_of<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    episode: &Episode,
    queries: &[f32],
    how: Queries,
    device: &B::Device,
) -> Result<super::answer::Predictions> {
    let support = there(&episode.support, spec.item.features());
    let reads_masks = episode.support.mask.is_some();
    let answerer = Answerer::new(learner, spec, &support, reads_masks, how, device)?
        .with_class_vectors(episode.class_vectors.clone());
    Ok(answerer.answer(queries))
}

/// The items that are there; a number that is missing is NaN.
pub fn there(items: &Items, features: usize) -> Support {
    let kept: Vec<usize> = (0..items.len())
        .filter(|&item| items.is_there(item))
        .collect();
    let numbers = items.mask.as_ref().and_then(|mask| mask.numbers.as_ref());
    let number = |place: usize| match numbers {
        Some(there) if !there[place] => f32::NAN,
        _ => items.inputs[place],
    };
    let places = kept
        .iter()
        .flat_map(|&item| item * features..(item + 1) * features);
    let inputs = places.map(number).collect();
    let targets = items.targets.select(&kept, items.len());
    Support { inputs, targets }
}

/// Measures rejection on `set` with a share `outsiders` of all queries, in (0, 1). A learner that is
/// `transductive` sees the queries and the outsiders of an episode together.
///
/// # Errors
/// [`Error::Setting`] naming `test.outsiders` where the split has no other classes; when an episode cannot be
/// drawn.
pub fn rejection<B: Primitives>(
    learner: &dyn Learner<B>,
    spec: &TaskSpec,
    set: &FrozenEpisodes,
    outsiders: f64,
    device: &B::Device,
    mut progress: impl FnMut(usize),
) -> Result<Rejection> {
    let features = spec.item.features();
    let mut found = Rejection::default();
    for index in 0..set.count {
        let episode = set
            .source
            .episode(set.seed, set.split, set.shape, index as u64)?;
        let inside = there(&episode.query, features);
        let Targets::Classes(labels) = &inside.targets else {
            return Err(Error::setting(
                "test.outsiders",
                outsiders,
                "is for classes",
            ));
        };
        let wanted = (labels.len() as f64 * outsiders / (1.0 - outsiders)).round();
        let wanted = (wanted as usize).max(1);
        let own = set
            .source
            .outsiders(set.seed, set.split, index as u64, wanted)?;
        let outside = match own {
            Some(own) => own,
            None => {
                check_classes(set, outsiders)?;
                from_elsewhere(set, &episode, wanted, features)?
            }
        };
        let mut queries = inside.inputs.clone();
        queries.extend(&outside);
        let how = Queries::Together;
        let predictions = answers_of(learner, spec, &episode, &queries, how, device)?;
        let rows: Vec<&[f64]> = predictions.rows().collect();
        let top = |row: &&[f64]| row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let scores: Vec<f64> = rows.iter().map(top).collect();
        let (known, others) = scores.split_at(labels.len());
        let (Some(area), Some(bar)) = (auroc(known, others), threshold(known, ACCEPTED)) else {
            continue;
        };
        let right = rows.iter().zip(labels).zip(known);
        let right = right
            .filter(|((row, label), score)| {
                **score >= bar && highest(row) == Some(**label as usize)
            })
            .count();
        let accepted = scores.iter().filter(|&&score| score >= bar).count();
        found.auroc.push(area);
        found.fpr95.push(share_reaching(others, bar));
        found
            .accepted_accuracy
            .push(right as f64 / accepted.max(1) as f64);
        progress(index + 1);
    }
    Ok(found)
}

/// Checks that there are outsiders for the episodes of `set`: items of no class, or classes that a task does not
/// have. A share of 0, and tasks without classes, need none.
///
/// # Errors
/// As [`rejection`].
pub fn check_outsiders(set: &FrozenEpisodes, outsiders: f64) -> Result<()> {
    if outsiders == 0.0 || set.source.task() != Task::Classification {
        return Ok(());
    }
    match set.source.outsiders(set.seed, set.split, 0, 1)? {
        Some(_) => Ok(()),
        None => check_classes(set, outsiders),
    }
}

/// Checks that the split has classes that a task does not have.
fn check_classes(set: &FrozenEpisodes, outsiders: f64) -> Result<()> {
    let classes = set.source.classes(set.split).unwrap_or(0);
    if classes > set.shape.way.0 {
        return Ok(());
    }
    let expected = format!(
        "needs {} classes beside those of a task, and there are {classes} in all of {} a task",
        set.split, set.shape.way
    );
    Err(Error::setting("test.outsiders", outsiders, expected))
}

/// As many queries of classes that the episode does not have, `[count, f]`: the first such ones of other
/// episodes of its stream.
fn from_elsewhere(
    set: &FrozenEpisodes,
    episode: &Episode,
    count: usize,
    features: usize,
) -> Result<Vec<f32>> {
    let own: Vec<u32> = episode.classes.iter().map(|class| class.class).collect();
    let mut rows = Vec::new();
    for look in 0..LOOKS {
        let index = ELSEWHERE + episode.index * LOOKS + look;
        let other = set.source.episode(set.seed, set.split, set.shape, index)?;
        let Targets::Classes(labels) = &other.query.targets else {
            break;
        };
        for (item, &label) in labels.iter().enumerate() {
            let class = other.classes.get(label as usize);
            let is_new = class.is_some_and(|class| !own.contains(&class.class));
            if is_new && other.query.is_there(item) && rows.len() < count * features {
                rows.extend(&other.query.inputs[item * features..(item + 1) * features]);
            }
        }
        if rows.len() == count * features {
            return Ok(rows);
        }
    }
    let expected = format!(
        "needs {count} queries of other {} classes for episode {}; none are drawn often enough",
        set.split, episode.index
    );
    Err(Error::setting("test.outsiders", count, expected))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        backend::Cpu,
        data::{EpisodeShape, FeaturesSettings, Split},
        learner::{MetaGradient, PredictAt},
        params::Params,
        rng::Seed,
        task::TaskBatch,
    };
    use burn::tensor::Tensor;

    /// Scores are minus squared distances to the class means: a rule that needs no training.
    struct Nearest;

    impl Learner<Cpu> for Nearest {
        fn parameters(&self) -> Params<Cpu> {
            Params::default()
        }

        fn set_parameters(&mut self, _parameters: Params<Cpu>) {}

        fn meta_gradient(&self, _tasks: &TaskBatch<Cpu>) -> MetaGradient<Cpu> {
            unreachable!("not trained")
        }

        fn predict(&self, tasks: &TaskBatch<Cpu>, _at: PredictAt) -> Vec<Tensor<Cpu, 3>> {
            let labels = tasks.support.targets.labels();
            let means = crate::nn::distance::class_means(
                tasks.support.inputs.clone(),
                labels,
                tasks.shape.way.0,
            );
            let scores =
                crate::nn::distance::squared_distances(tasks.query.inputs.clone(), means).neg();
            vec![scores]
        }
    }

    /// Synthetic vectors whose classes are apart: outsiders are told, all of them the same ones each time, and
    /// their number is the share that was asked for.
    #[test]
    fn outsiders_are_of_other_classes_and_told_apart() {
        let source = FeaturesSettings::default().build(None).expect("synthetic");
        let shape = EpisodeShape::new(3, 5, 7);
        let spec = TaskSpec::of(&source, shape);
        let set = FrozenEpisodes {
            source: Arc::new(source),
            split: Split::Test,
            seed: Seed(1),
            shape,
            count: 8,
        };
        let features = spec.item.features();
        let episode = set
            .source
            .episode(set.seed, set.split, shape, 3)
            .expect("drawn");
        let first = from_elsewhere(&set, &episode, 9, features).expect("other classes");
        assert_eq!(first.len(), 9 * features);
        assert_eq!(
            first,
            from_elsewhere(&set, &episode, 9, features).expect("again")
        );
        let device = Default::default();
        let mut seen = 0;
        let found = rejection(&Nearest, &spec, &set, 0.3, &device, |done| seen = done);
        let found = found.expect("figures");
        assert_eq!((found.auroc.len(), seen), (8, 8));
        let mean = found.auroc.iter().sum::<f64>() / 8.0;
        // Chance is 0.5; the classes of the synthetic vectors overlap little.
        assert!(mean > 0.8, "{found:?}");
        let whole = FrozenEpisodes {
            shape: EpisodeShape::new(set.source.classes(Split::Test).expect("classes"), 1, 1),
            ..set
        };
        let refused = rejection(&Nearest, &spec, &whole, 0.3, &device, |_| {});
        let message = refused.expect_err("no other classes").to_string();
        assert!(message.contains("`test.outsiders = 0.3`"), "{message}");
    }
}
