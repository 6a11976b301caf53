//! The table of reference policies beside published figures.

use serde::Serialize;
use serde_json::{Value, json};

use super::bandit::BernoulliBanditSettings;
use super::environment::{Family, FamilySettings, Lanes, task_set_hash};
use super::rollout::run_trials;
use super::tabular::TabularSettings;
use crate::data::Split;
use crate::error::Result;
use crate::rng::Seed;
use crate::settings;
use crate::stats::Interval;

settings! {
    /// Settings of [`reference_table`].
    pub struct ReferenceSettings {
        /// Frozen test tasks of each row.
        tasks: usize = 1000, between(2, 100000);
        /// Seed of the test tasks.
        seed: u64 = 0;
        /// Whether 10 and 50 arms, and 25 episodes, are run too.
        long: bool = false;
    }
}

/// A reference policy on frozen test tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReferenceRow {
    /// Name of the family.
    pub family: &'static str,
    /// Its sizes in the paper's letters: `n = 10, k = 5`.
    pub setup: String,
    /// Name of the policy.
    pub policy: &'static str,
    /// Its settings where they are not the defaults; null otherwise.
    pub settings: Value,
    /// Total reward of a trial: mean and 95 % interval over tasks.
    pub reward: Interval,
    /// The figure of Duan et al. (2016), tables 1 and 2; averages over 1000 tasks, with one digit.
    pub published: Option<f64>,
    /// What differs from the paper's protocol.
    pub differs: &'static str,
    /// Identity of the tasks.
    pub task_set: String,
}

impl ReferenceRow {
    /// Whether the published figure lies within the two intervals together: that of the row, and one as
    /// wide around the published figure, which is over as many tasks; half of its last digit is added.
    pub fn agrees(&self) -> Option<bool> {
        let bound = self.reward.half_width * std::f64::consts::SQRT_2 + 0.05;
        self.published
            .map(|published| (self.reward.mean - published).abs() <= bound)
    }
}

impl std::fmt::Display for ReferenceRow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = match &self.settings {
            Value::Null => String::new(),
            settings => settings.to_string(),
        };
        let published = self.published.map_or("–".to_owned(), |p| format!("{p:.1}"));
        write!(
            formatter,
            "| {} | {} | {} {settings} | {:.2} | {published} | {} |",
            self.family, self.setup, self.policy, self.reward, self.differs
        )
    }
}

/// A policy, its settings, and its published figures for each setup.
struct Entry<const N: usize> {
    policy: &'static str,
    settings: Value,
    published: [Option<f64>; N],
    differs: &'static str,
}

const TEXTBOOK: &str = "no constant to tune";
const UNTUNED: &str = "the textbook's constant; the paper tuned it";
const OTHER: &str = "another constant, beside the published figure of a tuned one";

/// Pulls and arms of Duan et al.'s table 1.
const BANDITS: [(usize, usize); 6] = [(10, 5), (10, 10), (10, 50), (100, 5), (100, 10), (100, 50)];

fn bandit_entries() -> Vec<Entry<6>> {
    let entry = |policy, settings, published: [f64; 6], differs| Entry {
        policy,
        settings,
        published: published.map(Some),
        differs,
    };
    let none = Value::Null;
    let gittins = [6.6, 6.6, 6.5, 78.3, 82.8, 85.2];
    let epsilon = [6.6, 6.6, 6.5, 75.4, 77.4, 78.3];
    let ucb = [6.7, 6.7, 6.6, 78.0, 82.4, 84.3];
    let index = "index of the pulls left; the paper approximates a discounted one";
    let cut = "discounted index; the paper approximates it and tunes it";
    vec![
        entry(
            "random",
            none.clone(),
            [5.0, 5.0, 5.1, 49.9, 49.9, 49.8],
            TEXTBOOK,
        ),
        entry(
            "greedy",
            none.clone(),
            [6.6, 6.6, 6.5, 74.8, 77.1, 78.0],
            TEXTBOOK,
        ),
        entry("epsilon_greedy", none.clone(), epsilon, UNTUNED),
        entry("epsilon_greedy", json!({"epsilon": 0.02}), epsilon, OTHER),
        entry("ucb1", none.clone(), ucb, UNTUNED),
        entry("ucb1", json!({"scale": 0.2}), ucb, OTHER),
        entry(
            "thompson",
            none.clone(),
            [5.7, 5.5, 5.2, 74.7, 76.7, 64.5],
            TEXTBOOK,
        ),
        entry(
            "thompson",
            json!({"optimistic": true}),
            [6.5, 6.2, 5.5, 77.9, 81.4, 67.7],
            TEXTBOOK,
        ),
        entry("gittins", none, gittins, index),
        entry("gittins", json!({"discount": 0.99}), gittins, cut),
    ]
}

/// Episodes of Duan et al.'s table 2.
const EPISODES: [usize; 2] = [10, 25];

fn tabular_entries() -> Vec<Entry<2>> {
    // Those of 25 episodes were not at hand.
    let entry = |policy, settings, of_ten: f64, differs| Entry {
        policy,
        settings,
        published: [Some(of_ten), None],
        differs,
    };
    let none = Value::Null;
    let belief = "plans with the mean of the belief";
    vec![
        entry("random", none.clone(), 100.1, TEXTBOOK),
        entry("greedy", none.clone(), 134.8, belief),
        entry("epsilon_greedy", none.clone(), 132.8, UNTUNED),
        entry("psrl", none.clone(), 138.1, "beliefs of the true prior"),
        entry("opsrl", none.clone(), 144.1, UNTUNED),
        entry("ucrl2", none.clone(), 146.6, UNTUNED),
        entry("ucrl2", json!({"scale": 0.1}), 146.6, OTHER),
        entry("beb", none, 150.2, UNTUNED),
        entry("beb", json!({"scale": 0.05}), 150.2, OTHER),
    ]
}

/// Total rewards of trials of a policy on the first `tasks` test tasks; the policy `best` is the family's
/// oracle.
///
/// # Errors
/// Those of the family and of the policy's settings.
pub fn total_rewards(
    family: &dyn Family,
    policy: &str,
    settings: &Value,
    seed: Seed,
    tasks: usize,
    episodes: usize,
) -> Result<Vec<f64>> {
    let tasks: Vec<u64> = (0..tasks as u64).collect();
    let lanes = Lanes::trials(seed, Split::Test, &tasks);
    let make = if policy == "best" {
        None
    } else {
        Some(family.policy(policy, settings)?)
    };
    let returns = run_trials(family, lanes, episodes, |lane| match &make {
        Some(make) => make(),
        None => match family.oracle(seed, Split::Test, tasks[lane]) {
            Some(oracle) => oracle,
            None => Box::new(super::policy::RandomPolicy::new(&family.actions())),
        },
    })?;
    Ok(returns
        .chunks_exact(episodes.max(1))
        .map(|trial| trial.iter().sum())
        .collect())
}

/// Runs every reference policy of bandits and Markov decision problems on frozen test tasks, beside the
/// figures of Duan et al. (2016). Every row of a setup is over the same tasks and the same chance.
///
/// # Errors
/// [`Error::Setting`](crate::Error::Setting) for settings out of their range.
pub fn reference_table(settings: &ReferenceSettings) -> Result<Vec<ReferenceRow>> {
    use crate::settings::Settings;
    settings.check_ranges("reference")?;
    let mut rows = Vec::new();
    for (place, (pulls, arms)) in BANDITS.into_iter().enumerate() {
        if arms > 5 && !settings.long {
            continue;
        }
        let family = BernoulliBanditSettings { arms, pulls }.open()?;
        for entry in bandit_entries() {
            let setup = format!("n = {pulls}, k = {arms}");
            rows.push(row(family.as_ref(), settings, setup, 1, entry, place)?);
        }
        rows.push(best(
            family.as_ref(),
            settings,
            format!("n = {pulls}, k = {arms}"),
            1,
        )?);
    }
    let family = TabularSettings::default().open()?;
    let counts = if settings.long { EPISODES.len() } else { 1 };
    for (place, episodes) in EPISODES.into_iter().take(counts).enumerate() {
        let setup = format!("n = {episodes}");
        for entry in tabular_entries() {
            rows.push(row(
                family.as_ref(),
                settings,
                setup.clone(),
                episodes,
                entry,
                place,
            )?);
        }
        rows.push(best(family.as_ref(), settings, setup, episodes)?);
    }
    Ok(rows)
}

fn row<const N: usize>(
    family: &dyn Family,
    settings: &ReferenceSettings,
    setup: String,
    episodes: usize,
    entry: Entry<N>,
    place: usize,
) -> Result<ReferenceRow> {
    let (seed, tasks) = (Seed(settings.seed), settings.tasks);
    let rewards = total_rewards(family, entry.policy, &entry.settings, seed, tasks, episodes)?;
    Ok(ReferenceRow {
        family: family.name(),
        setup,
        policy: entry.policy,
        settings: entry.settings,
        reward: Interval::t95(&rewards),
        published: entry.published[place],
        differs: entry.differs,
        task_set: task_set_hash(family, seed, Split::Test, tasks as u64),
    })
}

/// The policy that knows each task.
fn best(
    family: &dyn Family,
    settings: &ReferenceSettings,
    setup: String,
    episodes: usize,
) -> Result<ReferenceRow> {
    let entry = Entry {
        policy: "best",
        settings: Value::Null,
        published: [None],
        differs: "knows the task",
    };
    row(family, settings, setup, episodes, entry, 0)
}
