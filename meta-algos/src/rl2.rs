//! RL²: the algorithm by which a policy learns a task is itself learned, and runs in a recurrent network.
//!
//! Duan, Schulman, Chen, Bartlett, Sutskever and Abbeel, *RL²: Fast reinforcement learning via slow
//! reinforcement learning*, 2016; Wang et al., *Learning to reinforcement learn*, 2016.
//!
//! A network with a state reads what happened, step by step, over all episodes of a trial. Its weights are
//! trained for the total reward of trials in many tasks; within a trial they stay, and only the state changes:
//!
//! ```text
//! z_t = φ(o_t, a_{t−1}, r_{t−1}, b_t)     b_t: whether an episode begins
//! h_t = GRU(z_t, h_{t−1})                 h_0 = 0 at the beginning of a trial, not of an episode
//! a_t ~ π(· | h_t)
//! ```
//!
//! (section 2.2 and figure 1.) Shapes: trials `[t, b·l, f]`, states `[t, b, h]`, scores `[t, b·l, n]`.
//!
//! # Differences from the paper
//! * The paper trains with TRPO, λ = 0.3, batches of 250 000 steps and 256 units; this with PPO ([`ppo`]).
//! * With `span`, the biases of the gates are those of chrono initialisation (Tallec and Ollivier, ICLR 2018).
//! * The value is a head of the same network; the paper has a second one for it.
//! * The last action and reward of an episode are read in the first step of the next, with the flag `b`.
//!
//! [`ppo`]: meta_core::learner::acting::ppo

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        acting::{self, Memory, PolicyLearner, PolicySettings},
    },
    nn::{
        Pass,
        encoder::Architecture,
        init::Initializer,
        recurrent::{Cell, GruCell, LstmCell, LstmState, Reading},
    },
    primitives::Primitives,
    settings,
    task::TaskSpec,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A gated recurrent unit.
    Gru,
    /// Long short-term memory.
    Lstm,
}

settings! {
    /// Settings of RL².
    pub struct Rl2Settings {
        /// What remembers: `gru` or `lstm`.
        unit: Unit = Unit::Gru;
        /// Width h of its state.
        hidden: usize = 64, size(1);
        /// Steps after which the slowest units of a fresh network forget; the others forget sooner. 0: biases
        /// as PyTorch has them, with which a fresh `gru` forgets within two steps.
        span: usize = 0, size(0);
        ..policy: PolicySettings;
    }
}

impl LearnerSettings for Rl2Settings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "rl2",
        family: Family::Memory,
        summary: "a recurrent policy learns a task in its state",
        paper: "Duan et al., RL²: Fast reinforcement learning via slow reinforcement learning, 2016",
        regression: false,
        any_way: false,
    };

    const ACTS: bool = true;

    fn check<A: Architecture>(&self, architecture: &A, _spec: &TaskSpec) -> Result<()> {
        acting::check(architecture)
    }

    fn gradient_of() -> GradientOf {
        let small = |unit: &str| json!({"unit": unit, "hidden": 3});
        GradientOf::Training("the loss of PPO", vec![small("gru"), small("lstm")])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"hidden": 16}),
            iterations: 120,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let memory = Recurrent {
            unit: self.unit,
            hidden: self.hidden,
            span: self.span,
        };
        PolicyLearner::boxed(memory, self.policy.into(), new)
    }
}

/// The state of a recurrent network as a memory.
struct Recurrent {
    unit: Unit,
    hidden: usize,
    span: usize,
}

/// One of the two cells.
#[derive(Module, Debug)]
pub struct RecurrentModel<B: Backend> {
    gru: Option<GruCell<B>>,
    lstm: Option<LstmCell<B>>,
}

impl Memory for Recurrent {
    type Model<L: Primitives> = RecurrentModel<L>;
    /// `[t, b, h]`, of an LSTM `[t, b, 2h]`.
    type State<L: Primitives> = Tensor<L, 3>;

    fn init<L: Primitives>(
        &self,
        inputs: usize,
        _steps: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> RecurrentModel<L> {
        let (hidden, span) = (self.hidden, self.span);
        let (mut gru, mut lstm) = (None, None);
        match self.unit {
            Unit::Gru => gru = Some(GruCell::new(inputs, hidden, initializer, device)),
            Unit::Lstm => lstm = Some(LstmCell::new(inputs, hidden, initializer, device)),
        }
        if span > 0 {
            gru = gru.map(|cell| cell.remembering(span, initializer, device));
            lstm = lstm.map(|cell| cell.remembering(span, initializer, device));
        }
        RecurrentModel { gru, lstm }
    }

    fn width(&self, _inputs: usize, _steps: usize) -> usize {
        self.hidden
    }

    fn read<L: Primitives>(
        &self,
        model: &RecurrentModel<L>,
        steps: Tensor<L, 3>,
        length: usize,
        _pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let reading = Reading::of(length);
        match (&model.gru, &model.lstm) {
            (Some(gru), _) => gru.read(steps, &reading),
            (None, Some(lstm)) => lstm.read(steps, &reading),
            (None, None) => steps,
        }
    }

    fn begin<L: Primitives>(
        &self,
        _model: &RecurrentModel<L>,
        [t, b]: [usize; 2],
        device: &L::Device,
    ) -> Tensor<L, 3> {
        let states = match self.unit {
            Unit::Gru => 1,
            Unit::Lstm => 2,
        };
        Tensor::zeros([t, b, states * self.hidden], device)
    }

    fn step<L: Primitives>(
        &self,
        model: &RecurrentModel<L>,
        step: Tensor<L, 3>,
        goes_on: Option<Tensor<L, 3>>,
        state: &mut Tensor<L, 3>,
    ) -> Tensor<L, 3> {
        let before = state.clone();
        let after = match (&model.gru, &model.lstm) {
            (Some(gru), _) => gru.forward(step, before.clone()),
            (None, Some(lstm)) => {
                let both = before.clone();
                lstm.forward(step, LstmState { both }).both
            }
            (None, None) => before.clone(),
        };
        *state = match goes_on {
            None => after,
            Some(goes_on) => {
                let shape = after.dims();
                before.clone() + (after - before) * goes_on.expand(shape)
            }
        };
        state.clone().narrow(2, 0, self.hidden)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::acting_conformance::steps_say_what_trials_say;

    #[test]
    fn a_step_says_what_a_trial_says() {
        for unit in [Unit::Gru, Unit::Lstm] {
            for span in [0, 10] {
                steps_say_what_trials_say(&Recurrent {
                    unit,
                    hidden: 4,
                    span,
                });
            }
        }
    }
}
