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
//! An iteration acts in `data.query` trials of each of its tasks ([`Learner::act`]), then learns from them in
//! several passes ([`ppo`]). [`PolicyLearner`] is the [`Learner`] of any memory.

pub mod histories;
mod policy;
pub mod ppo;

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};

pub use policy::{
    AtTest, Policy, PolicyLearner, PolicyPlan, PolicySettings, Training, actions, check, choose,
};

use crate::{
    nn::{Pass, init::Initializer},
    primitives::Primitives,
};

/// How a policy remembers what it read.
pub trait Memory: Send + Sync + 'static {
    /// What is learned of it.
    type Model<L: Primitives>: Module<L> + ModuleDisplay;

    /// What it keeps from step to step, of `[t, b]` trials.
    type State<L: Primitives>;

    /// A model that reads steps of `inputs` numbers, in trials of at most `steps` steps.
    fn init<L: Primitives>(
        &self,
        inputs: usize,
        steps: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L>;

    /// Numbers of `m_t`, of steps of `inputs` numbers, in trials of at most `steps` steps.
    fn width(&self, inputs: usize, steps: usize) -> usize;

    /// `m_1 … m_l` of whole trials at once: `[t, b·l, inputs]` to `[t, b·l, width]`.
    fn read<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        steps: Tensor<L, 3>,
        length: usize,
        pass: &Pass<L>,
    ) -> Tensor<L, 3>;

    /// Nothing remembered.
    fn begin<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        trials: [usize; 2],
        device: &L::Device,
    ) -> Self::State<L>;

    /// Reads one step of every trial, `[t, b, inputs]`: `m_t`, `[t, b, width]`. Trials where `goes_on`, `[t,
    /// b, 1]`, is 0 stay as they are; `None`: all go on.
    fn step<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        step: Tensor<L, 3>,
        goes_on: Option<Tensor<L, 3>>,
        state: &mut Self::State<L>,
    ) -> Tensor<L, 3>;
}
