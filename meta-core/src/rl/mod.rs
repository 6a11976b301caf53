//! Learning to act: families of environments, in plain host memory, and reference policies for them.
//!
//! A [`Family`] draws tasks; each is a pure function of (settings, seed, split, number). Its
//! [`Environments`] go on side by side, tasks × episodes at once; an episode is a pure function of its task,
//! its number and the actions. The families that can be named in a manifest are listed by [`families`].
//!
//! | Module | Subject |
//! |---|---|
//! | `space` | what an observation or an action is |
//! | `environment` | what a family promises, and how a batch goes on |
//! | `bandit`, `tabular`, `dark_room`, `navigation`, `cart_pole` | the families |
//! | `policy`, `rollout` | what acts; the returns of trials |
//! | `bandit_policies`, `tabular_policies` | reference policies |
//! | `gittins`, `planning`, `distributions` | indices, dynamic programming, draws |
//! | `reference` | reference policies beside published figures |
//! | `returns` | discounted returns, advantages, a linear baseline |
//! | `trial` | what happened in trials, for learning |
//! | `source` | families as sources of tasks |
//!
//! Thompson sampling on 100 bandits:
//!
//! ```
//! use meta_core::{
//!     data::Split,
//!     rl::{BernoulliBanditSettings, FamilySettings, Lanes, run_trials},
//!     rng::Seed,
//!     stats::mean,
//! };
//!
//! let family = BernoulliBanditSettings { arms: 5, pulls: 100 }.open()?;
//! let tasks: Vec<u64> = (0..100).collect();
//! let lanes = Lanes::trials(Seed(0), Split::Test, &tasks);
//! let thompson = family.policy("thompson", &serde_json::Value::Null)?;
//! let returns = run_trials(family.as_ref(), lanes, 1, |_| thompson())?;
//! assert!(mean(&returns) > 65.0);
//! # Ok::<(), meta_core::Error>(())
//! ```

mod bandit;
mod bandit_policies;
mod cart_pole;
mod dark_room;
mod distributions;
mod environment;
mod gittins;
mod navigation;
mod planning;
mod policy;
mod reference;
mod returns;
mod rollout;
mod source;
mod space;
mod tabular;
mod tabular_policies;
#[cfg(test)]
mod tests;
mod trial;

use crate::error::{Error, Result};

pub use bandit::{
    BernoulliBandit, BernoulliBanditSettings, GaussianBandit, GaussianBanditSettings,
};
pub use bandit_policies::{
    EpsilonGreedySettings, GittinsSettings, Prior, ThompsonSettings, Ucb1Settings, bandit_policy,
};
pub use cart_pole::{CartPole, CartPoleSettings, Pole};
pub use dark_room::{DarkRoom, DarkRoomSettings};
pub use environment::{
    Environment, Environments, Family, FamilyEntry, FamilySettings, Lanes, Steps, task_set_hash,
};
pub use gittins::GittinsTable;
pub use navigation::{Navigation, NavigationReward, NavigationSettings};
pub use planning::{Plan, Tabular};
pub use policy::{MakePolicy, Policy, RandomPolicy, Transition, random_policy};
pub use reference::{ReferenceRow, ReferenceSettings, reference_table, total_rewards};
pub use returns::{LinearBaseline, advantages, discounted_returns};
pub use rollout::{run_trials, watch_trials};
pub use source::{ActingWorld, input_width};
pub use space::Space;
pub use tabular::{TabularFamily, TabularSettings, TabularTask};
pub use tabular_policies::{
    BebSettings, OpsrlSettings, TabularPrior, Ucrl2Settings, tabular_policy,
};
pub use trial::{Choices, Moment, Trial, run_together};

use crate::data::SourceEntry;

/// The families as sources of tasks to act in, for manifests.
pub fn sources() -> Vec<SourceEntry> {
    vec![
        source::entry::<BernoulliBanditSettings>(),
        source::entry::<GaussianBanditSettings>(),
        source::entry::<TabularSettings>(),
        source::entry::<DarkRoomSettings>(),
        source::entry::<NavigationSettings>(),
        source::entry::<CartPoleSettings>(),
    ]
}

/// All families of this crate that can be named, in the order of help.
pub fn families() -> Vec<FamilyEntry> {
    vec![
        FamilyEntry::of::<BernoulliBanditSettings>(),
        FamilyEntry::of::<GaussianBanditSettings>(),
        FamilyEntry::of::<TabularSettings>(),
        FamilyEntry::of::<DarkRoomSettings>(),
        FamilyEntry::of::<NavigationSettings>(),
        FamilyEntry::of::<CartPoleSettings>(),
    ]
}

/// The family of that name among `entries`.
///
/// # Errors
/// [`Error::Unknown`] with the known names.
pub fn find_family(entries: &[FamilyEntry], name: &str) -> Result<FamilyEntry> {
    let found = entries.iter().find(|entry| entry.name == name);
    found
        .copied()
        .ok_or_else(|| Error::unknown("family", name, entries.iter().map(|entry| entry.name)))
}
