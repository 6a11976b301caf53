//! Reference policies of bandits: they hold a belief about each arm, and choose by a rule.
//!
//! | Name | Rule | Source |
//! |---|---|---|
//! | `greedy` | largest mean of the belief | |
//! | `epsilon_greedy` | the same, but a random arm with probability ε | Sutton & Barto 2018, section 2.2 |
//! | `ucb1` | largest x̄ + c √(2 ln t / n), after each arm once | Auer, Cesa-Bianchi & Fischer 2002 |
//! | `thompson` | largest draw from the beliefs; `optimistic`: a draw counts at least its mean | Thompson 1933; May et al. 2012 |
//! | `gittins` | largest index (Bernoulli arms) | Gittins 1979, see [`GittinsTable`](super::gittins::GittinsTable) |
//!
//! Ties are broken at random.

use std::sync::Arc;

use serde_json::Value;

use super::distributions::beta;
use super::gittins::GittinsTable;
use super::policy::{
    MakePolicy, NoSettings, Policy, RandomPolicy, Transition, best_of, unknown_policy,
};
use super::space::{Space, index};
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

/// Their names.
pub const BANDIT_POLICIES: &[&str] = &[
    "random",
    "greedy",
    "epsilon_greedy",
    "ucb1",
    "thompson",
    "gittins",
];

/// Pulls of the longest finite horizon whose indices are computed: they are a cube of this.
const LONGEST_HORIZON: usize = 300;
/// The same for discounted indices, which are a square.
const LONGEST_DISCOUNTED: usize = 2000;

settings! {
    /// Settings of `epsilon_greedy`.
    pub struct EpsilonGreedySettings {
        /// Probability ε of a random action.
        epsilon: f64 = 0.1, between(0.0, 1.0);
    }
}

settings! {
    /// Settings of `ucb1`.
    pub struct Ucb1Settings {
        /// Factor c of the bonus; 1 is that of the paper.
        scale: f64 = 1.0, at_least(0.0);
    }
}

settings! {
    /// Settings of `thompson`.
    pub struct ThompsonSettings {
        /// Whether a draw counts at least the mean of its belief.
        optimistic: bool = false;
    }
}

settings! {
    /// Settings of `gittins`.
    pub struct GittinsSettings {
        /// Discount γ of an infinite horizon; 1 for the index of the pulls that are left.
        discount: f64 = 1.0, fraction();
    }
}

/// What is believed about an arm before its first pull.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prior {
    /// Rewards are 0 or 1, and their mean is Beta(1, 1).
    Beta,
    /// Rewards are normal with a known deviation, and so is their mean.
    Normal {
        /// Mean of the mean.
        mean: f64,
        /// Standard deviation of the mean.
        deviation: f64,
        /// Standard deviation of a reward around its mean.
        noise: f64,
    },
}

/// The belief about one arm.
#[derive(Clone, Copy, Debug, Default)]
struct Arm {
    /// Rewards in all.
    sum: f64,
    /// Pulls.
    pulls: usize,
}

impl Arm {
    /// Mean and standard deviation of the arm's mean under a normal prior.
    fn normal(&self, mean: f64, deviation: f64, noise: f64) -> (f64, f64) {
        let (before, each) = (deviation.powi(-2), noise.powi(-2));
        let precision = before + each * self.pulls as f64;
        let centre = (before * mean + each * self.sum) / precision;
        (centre, precision.sqrt().recip())
    }

    fn mean(&self, prior: Prior) -> f64 {
        match prior {
            Prior::Beta => (1.0 + self.sum) / (2.0 + self.pulls as f64),
            Prior::Normal {
                mean,
                deviation,
                noise,
            } => self.normal(mean, deviation, noise).0,
        }
    }

    fn sample(&self, prior: Prior, stream: &mut Stream) -> f64 {
        match prior {
            Prior::Beta => {
                let failures = self.pulls as f64 - self.sum;
                beta(stream, 1.0 + self.sum, 1.0 + failures)
            }
            Prior::Normal {
                mean,
                deviation,
                noise,
            } => {
                let (centre, spread) = self.normal(mean, deviation, noise);
                centre + spread * stream.normal()
            }
        }
    }
}

/// How an arm is chosen.
#[derive(Clone)]
enum Rule {
    EpsilonGreedy(f64),
    Ucb1(f64),
    Thompson { optimistic: bool },
    Gittins(Arc<GittinsTable>),
}

/// A policy of a bandit.
struct BanditPolicy {
    rule: Rule,
    prior: Prior,
    /// Pulls of an episode.
    horizon: usize,
    arms: Vec<Arm>,
    pulls: usize,
    stream: Option<Stream>,
}

impl Policy for BanditPolicy {
    fn begin(&mut self, stream: Stream) {
        self.arms.fill(Arm::default());
        self.pulls = 0;
        self.stream = Some(stream);
    }

    fn act(&mut self, _observation: &[f32], action: &mut [f32]) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        let (prior, arms) = (self.prior, &self.arms);
        let chosen = match &self.rule {
            Rule::EpsilonGreedy(epsilon) => {
                let explore = *epsilon > 0.0 && stream.uniform() < *epsilon;
                if explore {
                    stream.below(arms.len())
                } else {
                    best_of(arms.iter().map(|arm| arm.mean(prior)), Some(stream))
                }
            }
            Rule::Ucb1(scale) => {
                let log = 2.0 * (self.pulls.max(1) as f64).ln();
                let bound = |arm: &Arm| match arm.pulls {
                    0 => f64::MAX,
                    pulls => {
                        let pulls = pulls as f64;
                        arm.sum / pulls + scale * (log / pulls).sqrt()
                    }
                };
                best_of(arms.iter().map(bound), Some(stream))
            }
            Rule::Thompson { optimistic } => {
                let draws = arms.iter().map(|arm| {
                    let draw = arm.sample(prior, stream);
                    if *optimistic {
                        draw.max(arm.mean(prior))
                    } else {
                        draw
                    }
                });
                best_of(draws, None)
            }
            Rule::Gittins(table) => {
                let left = self.horizon - self.pulls % self.horizon;
                let indices = arms.iter().map(|arm| {
                    let successes = arm.sum as usize;
                    table.index(successes, arm.pulls - successes, left)
                });
                best_of(indices, Some(stream))
            }
        };
        action[0] = chosen as f32;
    }

    fn observe(&mut self, transition: &Transition<'_>) {
        let arm = index(transition.action[0], self.arms.len());
        self.arms[arm].sum += f64::from(transition.reward);
        self.arms[arm].pulls += 1;
        self.pulls += 1;
    }
}

/// Makes a reference policy of a bandit with that many arms, whose episodes have `horizon` pulls.
///
/// # Errors
/// [`Error::Unknown`] for another name or key, [`Error::Setting`] for a value that cannot be used, or a
/// policy that the arms do not have.
pub fn bandit_policy(
    name: &str,
    settings: &Value,
    prior: Prior,
    arms: usize,
    horizon: usize,
) -> Result<MakePolicy> {
    const SECTION: &str = "policy";
    let rule = match name {
        "random" => {
            NoSettings::from_value(SECTION, settings)?;
            let space = Space::Discrete(arms);
            return Ok(Box::new(move || Box::new(RandomPolicy::new(&space))));
        }
        "greedy" => {
            NoSettings::from_value(SECTION, settings)?;
            Rule::EpsilonGreedy(0.0)
        }
        "epsilon_greedy" => {
            Rule::EpsilonGreedy(EpsilonGreedySettings::from_value(SECTION, settings)?.epsilon)
        }
        "ucb1" => Rule::Ucb1(Ucb1Settings::from_value(SECTION, settings)?.scale),
        "thompson" => Rule::Thompson {
            optimistic: ThompsonSettings::from_value(SECTION, settings)?.optimistic,
        },
        "gittins" => {
            let discount = GittinsSettings::from_value(SECTION, settings)?.discount;
            let longest = if discount < 1.0 {
                LONGEST_DISCOUNTED
            } else {
                LONGEST_HORIZON
            };
            if prior != Prior::Beta {
                let expected = "needs arms with rewards of 0 and 1 (`bernoulli_bandit`)";
                return Err(Error::setting("policy.name", name, expected));
            }
            if horizon > longest {
                let expected =
                    format!("indices are computed for at most {longest} pulls, not {horizon}");
                return Err(Error::setting("policy.discount", discount, expected));
            }
            Rule::Gittins(Arc::new(GittinsTable::new(horizon, discount)))
        }
        _ => return Err(unknown_policy(name, BANDIT_POLICIES)),
    };
    Ok(Box::new(move || {
        Box::new(BanditPolicy {
            rule: rule.clone(),
            prior,
            horizon,
            arms: vec![Arm::default(); arms],
            pulls: 0,
            stream: None,
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The belief after two rewards, by Bayes' rule on a grid of 200 001 means: the sum over the grid is
    /// exact to 1e-8.
    #[test]
    fn a_normal_belief_is_that_of_bayes_rule() {
        let (mean, deviation, noise) = (0.5, 0.3, 0.7);
        let rewards = [1.2, 0.1];
        let arm = Arm {
            sum: rewards.iter().sum(),
            pulls: 2,
        };
        let (mut weight, mut first, mut second) = (0.0, 0.0, 0.0);
        for step in -100_000..=100_000 {
            let at = mean + 5.0 * f64::from(step) / 100_000.0;
            let mut log = -0.5 * ((at - mean) / deviation).powi(2);
            for reward in rewards {
                log -= 0.5 * ((reward - at) / noise).powi(2);
            }
            weight += log.exp();
            first += log.exp() * at;
            second += log.exp() * at * at;
        }
        let centre = first / weight;
        let spread = (second / weight - centre * centre).sqrt();
        let own = arm.normal(mean, deviation, noise);
        assert!((own.0 - centre).abs() < 1e-8 && (own.1 - spread).abs() < 1e-8);
    }

    #[test]
    fn mistakes_name_the_key() {
        let message = |name: &str, settings: Value, prior| {
            let made = bandit_policy(name, &settings, prior, 3, 400);
            made.err().map_or(String::new(), |error| error.to_string())
        };
        let normal = Prior::Normal {
            mean: 0.0,
            deviation: 1.0,
            noise: 1.0,
        };
        let epsilon = serde_json::json!({"epsilon": 2.0});
        for (told, expected) in [
            (
                message("epsilon_greedy", epsilon, Prior::Beta),
                "`policy.epsilon = 2`: must be in [0, 1]",
            ),
            (
                message("gittins", Value::Null, normal),
                "`policy.name = gittins`: needs arms with rewards of 0 and 1 (`bernoulli_bandit`)",
            ),
            (
                message("gittins", Value::Null, Prior::Beta),
                "`policy.discount = 1`: indices are computed for at most 300 pulls, not 400",
            ),
        ] {
            assert_eq!(told, expected);
        }
        assert!(message("tompson", Value::Null, Prior::Beta).contains("did you mean `thompson`"));
    }
}
