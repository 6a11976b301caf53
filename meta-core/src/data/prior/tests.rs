//! What tasks of the prior have: their sizes, classes and masks, against the settings.

use super::*;
use crate::data::episode::Items;

fn source(change: impl FnOnce(&mut PriorSettings)) -> PriorSource {
    let mut settings = PriorSettings {
        features: [2, 7],
        missing: [0.0, 0.2],
        least_way: 2,
        least_shot: 3,
        imbalance: [1.0, 4.0],
        ..PriorSettings::default()
    };
    change(&mut settings);
    settings.build().expect("valid")
}

fn episode(source: &PriorSource, shape: EpisodeShape, index: u64) -> Episode {
    source
        .episode(Seed(3), Split::Train, shape, index)
        .expect("drawn")
}

/// Only the family of that weight.
fn of_family(family: Family) -> PriorSource {
    source(|settings| {
        let weight = |own| f64::from(family == own);
        settings.scm = weight(Family::Scm);
        settings.mlp = weight(Family::Mlp);
        settings.gp = weight(Family::Gp);
        settings.linear = weight(Family::Linear);
        settings.tree = weight(Family::Tree);
    })
}

/// The same address gives the same task, another index, split or seed another.
#[test]
fn a_task_is_a_function_of_its_address() {
    let shape = EpisodeShape::new(4, 6, 3);
    for family in Family::ALL {
        let source = of_family(family);
        let draw = |seed, split, index| {
            let episode = source.episode(Seed(seed), split, shape, index);
            episode.expect("drawn").support.inputs
        };
        let plain = draw(1, Split::Train, 5);
        assert_eq!(plain, draw(1, Split::Train, 5));
        assert_ne!(plain, draw(2, Split::Train, 5));
        assert_ne!(plain, draw(1, Split::Test, 5));
        assert_ne!(plain, draw(1, Split::Train, 6));
    }
}

/// Every number is finite, and zero where it is not there; a row is of the support or of the query; sizes
/// are in their ranges, and reach both ends.
#[test]
fn tasks_are_of_the_sizes_asked_for() {
    let shape = EpisodeShape::new(4, 8, 5);
    for family in Family::ALL {
        let source = of_family(family);
        let (mut ways, mut shots, mut widths) = (vec![], vec![], vec![]);
        for index in 0..120 {
            let episode = episode(&source, shape, index);
            ways.push(episode.classes.len());
            let mut seen: Vec<u64> = Vec::new();
            for (items, count) in [(&episode.support, 8), (&episode.query, 5)] {
                assert_eq!(
                    (items.len(), items.inputs.len()),
                    (4 * count, 4 * count * 7)
                );
                let mask = items.mask.as_ref().expect("a mask");
                let numbers = mask.numbers.as_ref().expect("of numbers");
                for (number, &there) in items.inputs.iter().zip(numbers) {
                    assert!(
                        number.is_finite() && (there || *number == 0.0),
                        "{family:?}"
                    );
                }
                for class in 0..4 {
                    let there = (0..count).filter(|place| items.is_there(class * count + place));
                    assert_eq!(there.count() > 0, class < episode.classes.len());
                }
                let own = items.ids.iter().filter(|&&id| id != u64::MAX);
                seen.extend(own);
            }
            let largest = (0..4).map(|class| {
                let there = (0..8).filter(|place| episode.support.is_there(class * 8 + place));
                there.count()
            });
            shots.push(largest.max().unwrap_or_default());
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count);
            let numbers = episode
                .support
                .mask
                .and_then(|mask| mask.numbers)
                .expect("numbers");
            let used = (0..7).filter(|f| numbers.iter().skip(*f).step_by(7).any(|there| *there));
            widths.push(used.count());
        }
        let ends = |list: &[usize]| (*list.iter().min().unwrap(), *list.iter().max().unwrap());
        assert_eq!((ends(&ways), ends(&shots)), ((2, 4), (3, 8)), "{family:?}");
        assert_eq!(ends(&widths), (2, 7), "{family:?}");
    }
}

/// An even prior has whole tasks: every class its shots, and no mask.
#[test]
fn an_even_prior_has_even_tasks() {
    let source = source(|settings| {
        settings.features = [5, 5];
        settings.missing = [0.0, 0.0];
        settings.least_way = 0;
        settings.least_shot = 0;
        settings.imbalance = [1.0, 1.0];
    });
    assert_eq!(source.extras(), Extras::default());
    let episode = episode(&source, EpisodeShape::new(3, 4, 2), 1);
    assert!(episode.support.mask.is_none() && episode.query.mask.is_none());
    let Targets::Classes(labels) = &episode.support.targets else {
        panic!("classes");
    };
    assert_eq!(labels, &[0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
}

/// Shares of classes fall geometrically from the largest to the smallest, by the imbalance asked for.
#[test]
fn classes_have_the_shares_asked_for() {
    let source = source(|settings| {
        settings.least_way = 0;
        settings.least_shot = 0;
        settings.imbalance = [4.0, 4.0];
    });
    for index in 0..20 {
        let episode = episode(&source, EpisodeShape::new(3, 16, 8), index);
        let count = |items: &Items, per_class: usize| -> Vec<usize> {
            let mut counts: Vec<usize> = (0..3)
                .map(|class| {
                    let own = class * per_class..(class + 1) * per_class;
                    own.filter(|&item| items.is_there(item)).count()
                })
                .collect();
            counts.sort_unstable();
            counts
        };
        assert_eq!(count(&episode.support, 16), [4, 8, 16]);
        assert_eq!(count(&episode.query, 8), [2, 4, 8]);
    }
}

/// The share of missing numbers, of categories and of families over many tasks, within 5 standard errors.
#[test]
fn shares_are_those_asked_for() {
    let source = source(|settings| {
        settings.features = [6, 6];
        settings.missing = [0.3, 0.3];
        settings.categorical = [0.4, 0.4];
        settings.skewed = [0.0, 0.0];
        settings.imbalance = [1.0, 1.0];
        settings.least_way = 0;
        settings.least_shot = 0;
    });
    let (mut missing, mut numbers, mut whole, mut columns) = (0.0, 0.0, 0.0, 0.0);
    for index in 0..400 {
        let episode = episode(&source, EpisodeShape::new(2, 10, 5), index);
        let there = episode
            .support
            .mask
            .and_then(|mask| mask.numbers)
            .expect("numbers");
        numbers += there.len() as f64;
        missing += there.iter().filter(|there| !**there).count() as f64;
        for feature in 0..6 {
            let mut column = episode.support.inputs.iter().skip(feature).step_by(6);
            columns += 1.0;
            whole += f64::from(column.all(|x| x.fract() == 0.0));
        }
    }
    let within = |found: f64, share: f64, count: f64| {
        let bound = 5.0 * (share * (1.0 - share) / count).sqrt();
        assert!((found / count - share).abs() < bound, "{found} of {count}");
    };
    within(missing, 0.3, numbers);
    // A node of a causal graph may be a step, which holds whole numbers too: of a family without, exactly
    // the share asked for is held by the next test.
    assert!(whole / columns > 0.3 && whole / columns < 0.6);
}

#[test]
fn categories_are_as_many_columns_as_asked_for() {
    let source = source(|settings| {
        settings.features = [6, 6];
        settings.categorical = [0.4, 0.4];
        (settings.scm, settings.gp) = (0.0, 0.0);
        settings.missing = [0.0, 0.0];
    });
    let (mut whole, mut columns) = (0.0, 0.0);
    for index in 0..400 {
        let episode = episode(&source, EpisodeShape::new(2, 10, 5), index);
        for feature in 0..6 {
            let mut column = episode.support.inputs.iter().skip(feature).step_by(6);
            columns += 1.0;
            whole += f64::from(column.all(|x| x.fract() == 0.0 && (0.0..6.0).contains(x)));
        }
    }
    let bound = 5.0 * (0.4f64 * 0.6 / columns).sqrt();
    assert!(
        (whole / columns - 0.4).abs() < bound,
        "{whole} of {columns}"
    );
}

/// Families come by their weights: counted by the one trait that only trees have, targets of few values.
#[test]
fn families_come_by_their_weights() {
    let source = source(|settings| {
        (settings.scm, settings.mlp, settings.gp) = (0.0, 1.0, 2.0);
        (settings.linear, settings.tree) = (3.0, 4.0);
    });
    let mut counts = [0.0; 5];
    let total = 4000;
    for index in 0..total {
        let mut stream = Seed(8).stream("families", index, "test");
        let sizes = source.sizes(EpisodeShape::new(2, 3, 3), &mut stream);
        counts[sizes.family as usize] += 1.0;
    }
    for (count, share) in counts.into_iter().zip([0.0f64, 0.1, 0.2, 0.3, 0.4]) {
        let bound = 5.0 * (share * (1.0 - share) * total as f64).sqrt();
        assert!((count - share * total as f64).abs() <= bound, "{counts:?}");
    }
}

/// Targets of regression have mean 0 and variance 1 over all rows of a task, where they are no process.
#[test]
fn targets_are_standardised() {
    let source = source(|settings| {
        settings.task = PriorTask::Regression;
        settings.gp = 0.0;
        settings.least_way = 0;
        settings.imbalance = [1.0, 1.0];
    });
    for index in 0..30 {
        let episode = episode(&source, EpisodeShape::new(1, 12, 9), index);
        let mut all = Vec::new();
        for items in [&episode.support, &episode.query] {
            let Targets::Values(values) = &items.targets else {
                panic!("values");
            };
            let own = (0..items.len()).filter(|&item| items.is_there(item));
            all.extend(own.map(|item| f64::from(values[item])));
        }
        let (mean, deviation) = moments(&all);
        // Rounding to 32 bits of 20 numbers near 1; a function may be constant.
        assert!(mean.abs() < 1e-6);
        assert!((deviation - 1.0).abs() < 1e-5 || deviation == 0.0);
    }
}

/// Over many tasks the squared error of the exact posterior is its variance, and its log-likelihood is
/// above that of the prior alone: a posterior that is too sure or too wide does not hold it.
#[test]
fn the_exact_posterior_is_calibrated() {
    let source = source(|settings| {
        *settings = PriorSettings {
            task: PriorTask::Regression,
            scm: 0.0,
            mlp: 0.0,
            linear: 0.0,
            tree: 0.0,
            categorical: [0.0, 0.0],
            skewed: [0.0, 0.0],
            noise: [0.1, 0.3],
            features: [1, 2],
            ..PriorSettings::default()
        };
    });
    assert!(source.is_process());
    let shape = EpisodeShape::new(1, 10, 4);
    let (mut sum, mut squares, mut alone) = (0.0, 0.0, 0.0);
    let count = 400;
    for index in 0..count {
        let episode = episode(&source, shape, index);
        let found = source
            .log_likelihood(Seed(3), Split::Train, &episode)
            .expect("a process");
        sum += found;
        squares += found * found;
        let Targets::Values(values) = &episode.query.targets else {
            panic!("values");
        };
        let own = values.iter().map(|&y| log_density(f64::from(y), 0.0, 1.04));
        alone += own.sum::<f64>() / values.len() as f64;
    }
    let count = count as f64;
    let error = (squares / count - (sum / count).powi(2)).sqrt() / count.sqrt();
    assert!(sum / count > alone / count + 5.0 * error);
    // With categories it is no process.
    assert!(
        !PriorSettings::default()
            .build()
            .expect("valid")
            .is_process()
    );
}

#[test]
fn bad_settings_are_refused_by_name() {
    let message = |change: fn(&mut PriorSettings)| {
        let mut settings = PriorSettings::default();
        change(&mut settings);
        settings.build().expect_err("refused").to_string()
    };
    assert!(message(|s| s.features = [0, 3]).starts_with("`data.features = [0,3]`: must be"));
    assert!(message(|s| s.features = [4, 3]).starts_with("`data.features"));
    assert!(message(|s| s.noise = [0.0, f64::NAN]).starts_with("`data.noise"));
    assert!(message(|s| s.missing = [0.0, 1.0]).starts_with("`data.missing"));
    assert!(message(|s| s.depth = [1, 60]).starts_with("`data.depth"));
    let nothing = |s: &mut PriorSettings| {
        (s.scm, s.mlp, s.gp, s.linear, s.tree) = (0.0, 0.0, 0.0, 0.0, 0.0);
    };
    assert!(message(nothing).starts_with("`data.scm = 0`"));
    let source = PriorSettings::default().build().expect("valid");
    let refused = |shape| {
        source
            .check(Split::Train, shape)
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(EpisodeShape::new(1, 2, 2)).starts_with("`data.way = 1`"));
    assert!(refused(EpisodeShape::new(2, 2000, 2)).starts_with("`data.query = 2`"));
}

/// With `fill = "mean"` a task has 0 where a number is missing, and no mask of numbers: the same task else.
#[test]
fn missing_numbers_are_the_mean() {
    let masked = source(|_| ());
    let filled = source(|settings| settings.fill = Fill::Mean);
    for index in 0..20 {
        let shape = EpisodeShape::new(4, 8, 5);
        let [masked, filled] = [&masked, &filled].map(|source| episode(source, shape, index));
        for (masked, filled) in [
            (masked.support, filled.support),
            (masked.query, filled.query),
        ] {
            assert_eq!(masked.inputs, filled.inputs);
            let [masked, filled] = [masked.mask, filled.mask].map(|mask| mask.expect("of items"));
            assert_eq!(masked.items, filled.items);
            assert!(filled.numbers.is_none() && masked.numbers.is_some());
        }
    }
}

/// With one kernel, one length and no spread, the covariance is the closed form of that kernel with `0.8 √f`
/// in every feature.
#[test]
fn a_process_can_be_one_kernel() {
    type Closed = fn(f64) -> f64;
    let matern: Closed =
        |r| (1.0 + 5.0f64.sqrt() * r + 5.0 * r * r / 3.0) * (-(5.0f64.sqrt()) * r).exp();
    for (kernel, closed) in [
        (
            ProcessKernel::Rbf,
            (|r: f64| (-r * r / 2.0).exp()) as Closed,
        ),
        (ProcessKernel::Matern, matern),
    ] {
        let source = source(|settings| {
            settings.kernel = kernel;
            settings.length_scale = [0.8, 0.8];
            settings.length_spread = 0.0;
        });
        for index in 0..10 {
            let process = source.process(3, &mut Seed(index).stream("test", 0, "function"));
            let (x, other): ([f64; 3], [f64; 3]) = ([0.3, -1.0, 0.2], [0.1, 0.4, -0.5]);
            let squared: f64 = x.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum();
            let distance = squared.sqrt() / (0.8 * 3.0f64.sqrt());
            let found = process.covariance(&x, &other);
            // The same formula in another order of f64 operations.
            assert!((found - closed(distance)).abs() < 1e-12, "{kernel:?}");
        }
    }
}
