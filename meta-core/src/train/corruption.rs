//! Corrupted training tasks: items that have changed places, so that their targets say nothing of them.
//!
//! What task selection is for: a share of the tasks that come in cannot be learned from. Zhang et al., *Understanding
//! deep learning requires rethinking generalization*, ICLR 2017, give items random labels; here support items change
//! places with each other and so do the queries, which leaves as many items to each class.

use crate::{
    data::{Episode, Items, rows_of},
    rng::{Seed, Stream},
};

/// Name of the random stream: it is of its own, so that the tasks that stay as they are stay the same.
const SCOPE: &str = "corruption";

/// Corrupts each of `episodes` with probability `share`: its support items change places at random, and its queries
/// theirs. Which, and how, follows from `seed` and the episode's number.
pub fn corrupt(episodes: &mut [Episode], share: f64, seed: Seed) {
    if share <= 0.0 {
        return;
    }
    for episode in episodes {
        let mut stream = seed.stream(SCOPE, episode.index, "which");
        if stream.uniform() >= share {
            continue;
        }
        let mut stream = seed.stream(SCOPE, episode.index, "places");
        shuffle(&mut episode.support, &mut stream);
        shuffle(&mut episode.query, &mut stream);
    }
}

/// Lets the items that are there change places; targets stay where they are.
fn shuffle(items: &mut Items, stream: &mut Stream) {
    let count = items.len();
    let there: Vec<usize> = (0..count).filter(|&item| items.is_there(item)).collect();
    let mut moved = there.clone();
    stream.shuffle(&mut moved);
    let mut order: Vec<usize> = (0..count).collect();
    for (place, from) in there.into_iter().zip(moved) {
        order[place] = from;
    }
    items.ids = rows_of(&items.ids, &order, count);
    items.inputs = rows_of(&items.inputs, &order, count);
    let numbers = items.mask.as_mut().and_then(|mask| mask.numbers.as_mut());
    if let Some(numbers) = numbers {
        *numbers = rows_of(numbers, &order, count);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::data::{EpisodeShape, FeaturesSettings, Mask, SinusoidSettings, Source, Split};

    const FEATURES: usize = 3;

    fn tasks(count: u64) -> Vec<Episode> {
        let source = FeaturesSettings::default().build(None).expect("valid");
        let shape = EpisodeShape::new(3, 2, 4);
        let draw = |index| source.episode(Seed(0), Split::Train, shape, index);
        (0..count)
            .map(|index| draw(index).expect("drawn"))
            .collect()
    }

    /// What stands in each place, by the item's identity.
    fn by_id(items: &Items) -> BTreeMap<u64, Vec<f32>> {
        let width = items.inputs.len() / items.len();
        let rows = items.inputs.chunks(width).map(<[f32]>::to_vec);
        items.ids.iter().copied().zip(rows).collect()
    }

    /// Items keep their numbers and stay on their side; targets stay in their places; the order is another one.
    #[test]
    fn items_change_places_and_targets_do_not() {
        let (before, mut after) = (tasks(20), tasks(20));
        corrupt(&mut after, 1.0, Seed(1));
        for (before, after) in before.iter().zip(&after) {
            for (a, b) in [
                (&before.support, &after.support),
                (&before.query, &after.query),
            ] {
                assert_eq!(by_id(a), by_id(b));
                assert_eq!(a.targets, b.targets);
            }
            // One of 12! orders is the old one.
            assert_ne!(before.query.ids, after.query.ids);
        }
    }

    /// A third of the tasks, within four standard deviations of a binomial; the others are the same to the bit, and
    /// the same ones come out again.
    #[test]
    fn a_share_of_the_tasks_is_corrupted() {
        let (before, mut after, mut again) = (tasks(1000), tasks(1000), tasks(1000));
        corrupt(&mut after, 1.0 / 3.0, Seed(1));
        corrupt(&mut again, 1.0 / 3.0, Seed(1));
        assert_eq!(after, again);
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64;
        let deviation = (1000.0_f64 * (1.0 / 3.0) * (2.0 / 3.0)).sqrt();
        assert!(
            (changed - 1000.0 / 3.0).abs() < 4.0 * deviation,
            "{changed}"
        );
        let mut none = tasks(1000);
        corrupt(&mut none, 0.0, Seed(1));
        assert_eq!(none, before);
    }

    /// Items that are not there stay in their places, and what is missing of an item goes with it.
    #[test]
    fn masks_go_with_their_items() {
        let numbers: Vec<bool> = (0..4 * FEATURES).map(|number| number % 5 != 0).collect();
        let items = vec![true, false, true, true];
        let inputs: Vec<f32> = (0..4 * FEATURES).map(|number| number as f32).collect();
        let targets = tasks(1).remove(0).query.targets;
        let mut orders = Vec::new();
        for seed in 0..20 {
            let mut support = Items::new(inputs.clone(), targets.clone(), vec![7, 8, 9, 10]);
            support.mask = Some(Mask {
                items: items.clone(),
                numbers: Some(numbers.clone()),
            });
            shuffle(&mut support, &mut Seed(seed).stream(SCOPE, 0, "places"));
            assert_eq!(support.ids[1], 8);
            let mask = support.mask.as_ref().unwrap();
            assert_eq!(mask.items, items);
            for (place, id) in support.ids.iter().enumerate() {
                let from = *id as usize - 7;
                for column in 0..FEATURES {
                    let (to, from) = (place * FEATURES + column, from * FEATURES + column);
                    assert_eq!(support.inputs[to], from as f32);
                    assert_eq!(mask.numbers.as_ref().unwrap()[to], numbers[from]);
                }
            }
            orders.push(support.ids);
        }
        orders.sort();
        orders.dedup();
        // Twenty draws of six orders show three or fewer with a probability below 2e-5; the seeds are fixed.
        assert!(orders.len() > 3, "{orders:?}");
    }

    /// Regression has targets as well.
    #[test]
    fn functions_are_corrupted_too() {
        let source = SinusoidSettings::default().build().expect("valid");
        let shape = EpisodeShape::new(1, 8, 8);
        let task = source
            .episode(Seed(0), Split::Train, shape, 0)
            .expect("drawn");
        let mut all = [task.clone()];
        corrupt(&mut all, 1.0, Seed(0));
        assert_eq!(all[0].support.targets, task.support.targets);
        assert_ne!(all[0].support.inputs, task.support.inputs);
    }
}
