//! Learners that act: policies with a memory, trained by proximal policy optimisation.
//!
//! A task is a family of episodes in one environment, of which the policy is told nothing. In a *trial* it acts
//! in `data.shot` episodes of a task, one after the other, and remembers what happened: from episode to
//! episode it can do better. It reads in every step the observation, its last action, the last reward and
//! whether an episode begins (Duan et al., *RL²: Fast reinforcement learning via slow reinforcement learning*,
//! 2016, section 2.2; Wang et al., *Learning to reinforcement learn*, 2016).
//!
//! The parts: an encoder of what is read, a *memory* ([`Memory`]), and two heads.
//!
//! ```text
//! z_t = φ(o_t, a_{t−1}, r_{t−1}, b_t),   m_t = memory(z_1 … z_t)
//! π(a | m_t) = softmax(W m_t + b)        or N(W m_t + b, diag σ²), σ learned          (actions)
//! V(m_t) = s (w·m_t + c)                 s: the largest sum of discounts                (value)
//! ```
//!
//! An iteration acts in `data.query` trials of each of its tasks ([`Learner::act`](crate::learner::Learner::act)), then learns from them in
//! several passes ([`ppo`]). [`PolicyLearner`] is the [`Learner`](crate::learner::Learner) of any memory.

mod baseline;
pub mod histories;
mod memory;
mod policy;
pub mod ppo;
pub mod trpo;

pub use baseline::weigh_by_task;
pub use memory::Memory;
pub use policy::{
    AtTest, Policy, PolicyLearner, PolicyPlan, PolicySettings, Training, actions, check, choose,
};
