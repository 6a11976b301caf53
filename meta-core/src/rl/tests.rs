//! What every family keeps: the same bytes for the same seed, in any batch and order; the horizon; bounds that
//! known policies reach. And the table beside published figures.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::data::Split;
use crate::rng::Seed;
use crate::stats::{mean, standard_deviation};

/// Families of small sizes.
fn small() -> Vec<std::sync::Arc<dyn Family>> {
    let settings = [
        json!({"arms": 3, "pulls": 7}),
        json!({"arms": 4, "pulls": 6}),
        json!({"states": 4, "actions": 3, "horizon": 5}),
        json!({"size": 5, "horizon": 9}),
        json!({"horizon": 30}),
        json!({"horizon": 40, "continuous": true}),
    ];
    let entries = families().into_iter().zip(settings);
    entries
        .map(|(entry, settings)| (entry.build)(&settings).expect("a family"))
        .collect()
}

/// What a lane saw in two episodes of the same random actions.
type Record = Vec<(Vec<u32>, u32, bool)>;

/// Two resets and all steps of `lanes`, with actions that depend on task and episode only.
fn play(family: &dyn Family, lanes: Lanes<'_>) -> Vec<Record> {
    let mut environments = family.environments(lanes).expect("environments");
    let mut steps = environments.buffers();
    let (seen, taken) = (family.observations().width(), family.actions().width());
    let count = environments.lanes();
    let mut records = vec![Record::new(); count];
    for round in 0..2u64 {
        let mut players: Vec<_> = (0..count)
            .map(|lane| {
                let place = (lane % lanes.episodes) as u64;
                let task = lanes.tasks[lane / lanes.episodes];
                let episode = lanes.first_episode + round * lanes.episodes as u64 + place;
                let mut player = RandomPolicy::new(&family.actions());
                player.begin(Seed(episode).stream("play", task, "test"));
                player
            })
            .collect();
        environments.reset(&mut steps);
        let mut actions = vec![0.0; count * taken];
        for _ in 0..=family.horizon() {
            for (lane, record) in records.iter_mut().enumerate() {
                let observation = &steps.observations[lane * seen..][..seen];
                let bits = observation.iter().map(|number| number.to_bits()).collect();
                record.push((bits, steps.rewards[lane].to_bits(), steps.done[lane]));
                players[lane].act(observation, &mut actions[lane * taken..][..taken]);
            }
            environments.step(&actions, &mut steps);
        }
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// To the byte: again, one by one, and in another order.
    #[test]
    fn an_episode_depends_on_its_address_alone(
        seed in any::<u64>(),
        mut tasks in proptest::collection::vec(any::<u64>(), 1..5),
        first in 0u64..1000,
        episodes in 1usize..4,
        split in 0usize..3,
    ) {
        tasks.sort_unstable();
        tasks.dedup();
        let (seed, split) = (Seed(seed), Split::ALL[split]);
        for family in small() {
            let family = family.as_ref();
            let lanes = Lanes { seed, split, tasks: &tasks, first_episode: first, episodes };
            let together = play(family, lanes);
            prop_assert_eq!(&together, &play(family, lanes));
            let turned: Vec<u64> = tasks.iter().rev().copied().collect();
            let other = play(family, Lanes { tasks: &turned, ..lanes });
            let other: Vec<_> = other.chunks(episodes).rev().flatten().cloned().collect();
            prop_assert_eq!(&together, &other, "{} in another order", family.name());
            for (lane, record) in together.iter().enumerate() {
                let (task, place) = (lane / episodes, (lane % episodes) as u64);
                // Alone, its two episodes are two batches: the second is `episodes` further.
                let rounds = [0, episodes as u64].map(|further| {
                    let alone = Lanes {
                        tasks: &tasks[task..=task],
                        first_episode: first + place + further,
                        episodes: 1,
                        ..lanes
                    };
                    let half = family.horizon() + 1;
                    play(family, alone)[0][..half].to_vec()
                });
                prop_assert_eq!(record, &rounds.concat(), "{} alone", family.name());
            }
        }
    }
}

#[test]
fn an_episode_ends_at_its_horizon_and_stays() {
    for family in small() {
        let tasks: Vec<u64> = (0..20).collect();
        for record in play(family.as_ref(), Lanes::trials(Seed(1), Split::Test, &tasks)) {
            let (episode, _) = record.split_at(family.horizon() + 1);
            let ends: Vec<bool> = episode.iter().map(|(_, _, done)| *done).collect();
            let end = ends.iter().position(|&done| done).expect("an end");
            assert!(end >= 1 && end <= family.horizon(), "{}", family.name());
            assert!(ends[end..].iter().all(|&done| done));
            // After the end nothing changes, and nothing is paid.
            for (observation, reward, _) in &episode[end + 1..] {
                assert_eq!((observation, *reward), (&episode[end].0, 0.0f32.to_bits()));
            }
        }
    }
}

/// Mean return of the oracle of each of `count` test tasks, and the known best returns.
fn oracle_returns(family: &dyn Family, count: u64, episodes: usize) -> (Vec<f64>, Vec<f64>) {
    let tasks: Vec<u64> = (0..count).collect();
    let (seed, split) = (Seed(2), Split::Test);
    let lanes = Lanes::trials(seed, split, &tasks);
    let oracle = |lane: usize| family.oracle(seed, split, tasks[lane]).expect("an oracle");
    let returns = run_trials(family, lanes, episodes, oracle).expect("returns");
    let best = tasks
        .iter()
        .map(|&task| family.best_return(seed, split, task));
    (
        returns.chunks(episodes).map(mean).collect(),
        best.map(|best| best.expect("a best return")).collect(),
    )
}

/// Where nothing is left to chance, the oracle's return is the best one: exactly for counted rewards, to the
/// f32 of observations and actions for navigation (100 steps of 1e-7).
#[test]
fn oracles_reach_the_best_return() {
    for (entry, settings, tolerance) in [
        ("dark_room", json!({}), 0.0),
        ("navigation", json!({}), 1e-5),
        ("navigation", json!({"reward": "distance"}), 1e-5),
        ("navigation", json!({"horizon": 3}), 1e-5),
        ("cart_pole", json!({}), 0.0),
        ("cart_pole", json!({"continuous": true}), 0.0),
    ] {
        let family = (find_family(&families(), entry).unwrap().build)(&settings).unwrap();
        let (returns, best) = oracle_returns(family.as_ref(), 200, 1);
        for (task, (own, best)) in returns.iter().zip(&best).enumerate() {
            let gap = (own - best).abs();
            assert!(
                gap <= tolerance,
                "{entry} {settings} task {task}: {own} {best}"
            );
        }
    }
}

/// Where rewards are left to chance, the mean gap over tasks is within 4 of its standard errors of 0: a false
/// alarm in 6e-5 of fresh seeds, and the seed is fixed.
#[test]
fn oracles_reach_the_best_expected_return() {
    for (family, episodes) in [
        ("bernoulli_bandit", 10),
        ("gaussian_bandit", 1),
        ("tabular_mdp", 10),
    ] {
        let family = (find_family(&families(), family).unwrap().build)(&Value::Null).unwrap();
        let (returns, best) = oracle_returns(family.as_ref(), 400, episodes);
        let gaps: Vec<f64> = returns
            .iter()
            .zip(best)
            .map(|(own, best)| own - best)
            .collect();
        let error = standard_deviation(&gaps) / (gaps.len() as f64).sqrt();
        assert!(
            mean(&gaps).abs() < 4.0 * error,
            "{}: {}",
            family.name(),
            mean(&gaps)
        );
    }
}

/// No path of 2000 random ones, half of them small changes of the oracle's, does better than the closed form.
#[test]
fn no_path_to_a_goal_is_better_than_the_best() {
    let family = NavigationSettings::default().open().unwrap();
    let (seed, split) = (Seed(3), Split::Test);
    let mut chance = seed.stream("paths", 0, "test");
    for task in 0..10 {
        let lanes: Vec<u64> = vec![task; 200];
        let mut environments = family
            .environments(Lanes::trials(seed, split, &lanes))
            .unwrap();
        let mut steps = environments.buffers();
        environments.reset(&mut steps);
        let mut oracle = family.oracle(seed, split, task).unwrap();
        let mut actions = vec![0.0f32; 400];
        let mut returns = vec![0.0; 200];
        for _ in 0..family.horizon() {
            for lane in 0..200 {
                let action = &mut actions[2 * lane..][..2];
                oracle.act(&steps.observations[2 * lane..][..2], action);
                let width = if lane % 2 == 0 { 0.002 } else { 0.2 };
                for number in action {
                    *number += (width * chance.normal()) as f32;
                }
            }
            environments.step(&actions, &mut steps);
            for (total, reward) in returns.iter_mut().zip(&steps.rewards) {
                *total += f64::from(*reward);
            }
        }
        let best = family.best_return(seed, split, task).unwrap();
        // Rewards are f32: 100 of them, each to 1e-8.
        assert!(returns.iter().all(|&own| own <= best + 1e-6), "task {task}");
    }
}

/// The difference of two policies on the same tasks, in standard errors of its mean.
fn paired(family: &dyn Family, a: (&str, Value), b: (&str, Value), tasks: usize, n: usize) -> f64 {
    let rewards =
        |(name, settings)| total_rewards(family, name, &settings, Seed(4), tasks, n).unwrap();
    let (a, b) = (rewards(a), rewards(b));
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    mean(&differences) / (standard_deviation(&differences) / (tasks as f64).sqrt())
}

/// Every policy beats chance by more than 5 standard errors, and none but for chance beats the oracle.
#[test]
fn policies_lie_between_chance_and_the_best() {
    let bernoulli = BernoulliBanditSettings { arms: 5, pulls: 60 }
        .open()
        .unwrap();
    let gaussian = GaussianBanditSettings {
        pulls: 60,
        ..Default::default()
    };
    let problems = TabularSettings::default().open().unwrap();
    for (family, n) in [
        (bernoulli, 1),
        (gaussian.open().unwrap(), 1),
        (problems, 12),
    ] {
        for &name in &family.policies()[1..] {
            if family.name() == "gaussian_bandit" && name == "gittins" {
                continue;
            }
            // Bonuses of the textbook's size explore for longer than this.
            let settings = match name {
                "ucrl2" | "beb" => json!({"scale": 0.05}),
                _ => Value::Null,
            };
            let own = (name, settings);
            let over = paired(
                family.as_ref(),
                own.clone(),
                ("random", Value::Null),
                100,
                n,
            );
            assert!(over > 5.0, "{} {name}: {over}", family.name());
            let under = paired(family.as_ref(), ("best", Value::Null), own, 100, n);
            assert!(under > 0.0, "{} {name}: {under}", family.name());
        }
    }
}

/// A policy's trials depend neither on the others of its batch nor on their order.
#[test]
fn trials_are_the_same_alone_and_in_any_order() {
    for family in small() {
        for &name in family.policies() {
            if family.name() == "gaussian_bandit" && name == "gittins" {
                continue;
            }
            let make = family.policy(name, &Value::Null).unwrap();
            let run = |tasks: &[u64]| {
                let lanes = Lanes::trials(Seed(5), Split::Validation, tasks);
                run_trials(family.as_ref(), lanes, 3, |_| make()).unwrap()
            };
            let tasks = [3, 1, 4, 15];
            let together = run(&tasks);
            assert_eq!(together, tasks.map(|task| run(&[task])).concat(), "{name}");
            let turned = run(&[15, 4, 1, 3]);
            let turned: Vec<f64> = turned.chunks(3).rev().flatten().copied().collect();
            assert_eq!(together, turned, "{name}");
        }
    }
}

/// The state before stands behind the last action, and the tasks are the same with and without it.
#[test]
fn the_state_before_is_told() {
    let open = |last_state| {
        let settings = TabularSettings {
            last_state,
            ..TabularSettings::default()
        };
        settings.open().unwrap()
    };
    let act = |family: &dyn Family| {
        let lanes = Lanes::trials(Seed(5), Split::Validation, &[3, 4]);
        run_together(family, lanes, 2, |moment| Choices {
            actions: vec![2.0; moment.goes_on.len()],
            log_probabilities: vec![0.0; moment.goes_on.len()],
            values: vec![0.0; moment.goes_on.len()],
        })
        .unwrap()
    };
    let (with, without) = (open(true), open(false));
    assert_eq!(with.content_hash(), without.content_hash());
    let (states, actions) = (10, 5);
    let (wide, narrow) = (input_width(with.as_ref()), input_width(without.as_ref()));
    assert_eq!(wide, narrow + states);
    for (told, plain) in act(with.as_ref()).iter().zip(act(without.as_ref())) {
        assert_eq!(told.rewards, plain.rewards);
        let rows: Vec<&[f32]> = told.inputs.chunks_exact(wide).collect();
        let before = states + actions..2 * states + actions;
        assert_eq!(rows[0][before.clone()], [0.0; 10]);
        for pair in rows.windows(2) {
            assert_eq!(pair[1][before.clone()], pair[0][..states]);
        }
        for (row, plain) in rows.iter().zip(plain.inputs.chunks_exact(narrow)) {
            assert_eq!(row[..states + actions], plain[..states + actions]);
            assert_eq!(row[wide - 2..], plain[narrow - 2..]);
        }
    }
}

#[test]
fn frozen_tasks_have_an_identity() {
    let family = BernoulliBanditSettings::default().open().unwrap();
    let other = BernoulliBanditSettings { arms: 6, pulls: 10 }
        .open()
        .unwrap();
    let hash =
        |family: &dyn Family, seed, split, count| task_set_hash(family, Seed(seed), split, count);
    let own = hash(family.as_ref(), 0, Split::Test, 1000);
    assert_eq!(own, hash(family.as_ref(), 0, Split::Test, 1000));
    assert_eq!(own.len(), 64);
    for different in [
        hash(family.as_ref(), 1, Split::Test, 1000),
        hash(family.as_ref(), 0, Split::Validation, 1000),
        hash(family.as_ref(), 0, Split::Test, 999),
        hash(other.as_ref(), 0, Split::Test, 1000),
    ] {
        assert_ne!(own, different);
    }
}

#[test]
fn mistakes_in_settings_name_the_key() {
    let message = |family: &str, settings: Value| {
        let entry = find_family(&families(), family).unwrap();
        let built = (entry.build)(&settings);
        built.err().map_or(String::new(), |error| error.to_string())
    };
    for (family, settings, expected) in [
        (
            "bernoulli_bandit",
            json!({"pulls": 0}),
            "`environment.pulls = 0`: must be at least 1",
        ),
        (
            "tabular_mdp",
            json!({"states": 5000}),
            "`environment.states = 5000`: states² × actions must be at most 4194304; actions are 5",
        ),
        (
            "gaussian_bandit",
            json!({"mean_low": 2.0}),
            "`environment.mean_low = 2`: must be finite and below `environment.mean_high`, which must \
             be finite and is 1",
        ),
        (
            "cart_pole",
            json!({"length_low": 9.0}),
            "`environment.length_low = 9`: must be at most `environment.length_high`, which is 1.5",
        ),
    ] {
        assert_eq!(message(family, settings), expected);
    }
    assert!(message("navigation", json!({"horizn": 3})).contains("did you mean `horizon`"));
    assert!(find_family(&families(), "bandits").is_err());
    let family = NavigationSettings::default().open().unwrap();
    let none = Lanes::trials(Seed(0), Split::Test, &[]);
    let error = family.environments(none).err().unwrap().to_string();
    assert!(
        error.starts_with("`tasks × episodes = 0 × 1`: must be"),
        "{error}"
    );
    assert!(family.policy("psrl", &Value::Null).is_err());
}

/// What a table of `tasks` tasks says of a policy.
fn find<'a>(rows: &'a [ReferenceRow], setup: &str, policy: &str) -> &'a ReferenceRow {
    let found = rows
        .iter()
        .find(|row| row.setup == setup && row.policy == policy && row.settings.is_null());
    found.expect("a row")
}

/// The small table: policies without a constant to tune agree with the paper within the intervals.
fn agree(rows: &[ReferenceRow]) {
    for (setup, policies) in [
        ("n = 10, k = 5", &["random", "greedy", "gittins"][..]),
        ("n = 100, k = 5", &["random", "greedy", "gittins"]),
        ("n = 10", &["random", "psrl"]),
    ] {
        for policy in policies {
            let row = find(rows, setup, policy);
            assert_eq!(row.agrees(), Some(true), "{row}");
        }
    }
}

#[test]
fn a_small_table_agrees_with_the_published_figures() {
    let settings = ReferenceSettings {
        tasks: 100,
        ..Default::default()
    };
    agree(&reference_table(&settings).unwrap());
}

/// The table of 1000 tasks, as docs/acting.md shows it.
#[test]
#[ignore = "minutes: 1000 tasks"]
fn reference_table_agrees_with_the_published_figures() {
    let settings = ReferenceSettings {
        long: true,
        ..Default::default()
    };
    let rows = reference_table(&settings).unwrap();
    for row in &rows {
        println!("{row}");
    }
    agree(&rows);
}

/// Environments on one core, with actions that are there already. Prints millions of steps a second, and
/// thousands of episodes a second.
#[test]
#[ignore = "a measurement"]
fn environment_speed() {
    for entry in families() {
        let family = (entry.build)(&Value::Null).unwrap();
        let tasks: Vec<u64> = (0..64).collect();
        let lanes = Lanes {
            episodes: 16,
            ..Lanes::trials(Seed(0), Split::Train, &tasks)
        };
        let mut environments = family.environments(lanes).unwrap();
        let mut steps = environments.buffers();
        let count = environments.lanes();
        let mut player = RandomPolicy::new(&family.actions());
        player.begin(Seed(0).stream("speed", 0, "test"));
        let width = family.actions().width();
        let mut actions = vec![0.0; count * width];
        for action in actions.chunks_exact_mut(width) {
            player.act(&[], action);
        }
        let (start, mut taken, mut episodes) = (Instant::now(), 0usize, 0usize);
        while start.elapsed().as_secs_f64() < 1.0 {
            environments.reset(&mut steps);
            episodes += count;
            for _ in 0..family.horizon() {
                taken += steps.done.iter().filter(|&&done| !done).count();
                environments.step(&actions, &mut steps);
                if steps.done.iter().all(|&done| done) {
                    break;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let (steps, episodes) = (taken as f64 / seconds, episodes as f64 / seconds);
        println!(
            "{}: {:.1} million steps, {:.0} thousand episodes a second",
            family.name(),
            steps / 1e6,
            episodes / 1e3
        );
        assert!(episodes > 1e3, "thousands of environments a second");
    }
}
