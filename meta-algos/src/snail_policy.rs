//! SNAIL as a policy: temporal convolutions and causal attention over all that happened in a trial.
//!
//! Mishra, Rohaninejad, Chen and Abbeel, *A simple neural attentive meta-learner*, ICLR 2018, section 3 and 5.2.
//!
//! The network of [`snail`](crate::snail) reads the steps of a trial instead of the items of a support; a step
//! sees itself and what came before it, in this episode and in those before:
//!
//! ```text
//! m_1 … m_l = attention ∘ TC ∘ attention ∘ TC ∘ attention (z_1 … z_l),    z_t = φ(o_t, a_{t−1}, r_{t−1}, b_t)
//! a_t ~ π(· | m_t)
//! ```
//!
//! While it acts, it keeps what its blocks have read: a step costs what it adds. Shapes: trials `[t, b·l, f]`.
//!
//! # Differences from the paper
//! * The paper trains with TRPO and λ = 0.3; this with PPO, as [`rl2`](crate::rl2).
//! * The value is a head of the same network. Dilations start at 1, as in [`snail`](crate::snail).
//! * The paper's network for bandits and tabular problems has two TC blocks and two attention blocks, with
//!   keys and values of width 16; here a third attention block reads the input, as in its figure 3.

use burn::{
    module::Module,
    tensor::{Bool, Int, Tensor, TensorData, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        acting::{self, Memory, PolicyLearner, PolicySettings},
    },
    nn::{
        Pass,
        attention::{MapAxis, Weighting, mask::causal},
        encoder::Architecture,
        init::Initializer,
        past::{AttentionBlock, Past, Rows},
        temporal::{TcBlock, Timeline},
    },
    primitives::Primitives,
    settings,
    task::TaskSpec,
};
use serde_json::json;

settings! {
    /// Settings of SNAIL as a policy.
    pub struct SnailPolicySettings {
        /// Width of the keys of every attention block.
        keys: usize = 16, size(1);
        /// Width of the values of every attention block.
        values: usize = 16, size(1);
        /// Channels that a dense block adds.
        filters: usize = 16, size(1);
        ..policy: PolicySettings;
    }
}

impl LearnerSettings for SnailPolicySettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "snail_policy",
        family: Family::Memory,
        summary: "a policy that attends to all steps of a trial before",
        paper: "Mishra et al., A simple neural attentive meta-learner, ICLR 2018",
        regression: false,
        any_way: false,
    };

    const ACTS: bool = true;

    fn check<A: Architecture>(&self, architecture: &A, _spec: &TaskSpec) -> Result<()> {
        acting::check(architecture)
    }

    fn gradient_of() -> GradientOf {
        let small = json!({"keys": 3, "values": 2, "filters": 2});
        GradientOf::Training("the loss of PPO", vec![small])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"keys": 4, "values": 4, "filters": 4}),
            iterations: 120,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let memory = AttentivePast {
            keys: self.keys,
            values: self.values,
            filters: self.filters,
        };
        PolicyLearner::boxed(memory, self.policy.into(), new)
    }
}

/// Attention, and twice a TC block with attention after it.
struct AttentivePast {
    keys: usize,
    values: usize,
    filters: usize,
}

/// Attention blocks.
const BLOCKS: usize = 3;

/// The blocks.
#[derive(Module, Debug)]
pub struct AttentivePastModel<B: Backend> {
    attention: Vec<AttentionBlock<B>>,
    temporal: Vec<TcBlock<B>>,
}

/// What the blocks have read, of `n` trials.
pub struct Kept<B: Primitives> {
    attention: Vec<Past<B>>,
    /// Inputs of every dense block of every TC block.
    temporal: Vec<Vec<Rows<B>>>,
    /// Rows so far, and for each trial those that are its steps: others are of times in which it waited.
    rows: usize,
    steps: Vec<Vec<usize>>,
}

impl<B: Primitives> Kept<B> {
    /// Whether every row is a step of every trial.
    fn is_even(&self) -> bool {
        self.steps.iter().all(|steps| steps.len() == self.rows)
    }

    /// The rows `distance` steps before the last one, `[n, 1, c]`, among `all [n, rows, c]`.
    fn before(&self, all: &Tensor<B, 3>, distance: usize) -> Tensor<B, 3> {
        let [n, rows, c] = all.dims();
        let (device, dtype) = (all.device(), all.dtype());
        if self.is_even() {
            return match (rows - 1).checked_sub(distance) {
                Some(row) => all.clone().narrow(1, row, 1),
                None => Tensor::zeros([n, 1, c], (&device, dtype)),
            };
        }
        let none = Tensor::zeros([n, 1, c], (&device, dtype));
        let place = |steps: &Vec<usize>| {
            let found = steps.len().checked_sub(distance + 1);
            found.map_or(rows, |place| steps[place]) as i32
        };
        let places: Vec<i32> = self.steps.iter().map(place).collect();
        let places = TensorData::new(places, [n, 1, 1]);
        let places = Tensor::<B, 3, Int>::from_data(places, &device).expand([n, 1, c]);
        Tensor::cat(vec![all.clone(), none], 1).gather(1, places)
    }

    /// Hides the rows that are no steps, `[n, 1, 1, rows]`; none where all are.
    fn hidden(&self, device: &B::Device) -> Option<Tensor<B, 4, Bool>> {
        if self.is_even() {
            return None;
        }
        let (n, rows) = (self.steps.len(), self.rows);
        let mut hidden = vec![true; n * rows];
        for (steps, row) in self.steps.iter().zip(hidden.chunks_exact_mut(rows)) {
            steps.iter().for_each(|&step| row[step] = false);
            // Of a trial that waits, some row must be read; what it says counts for nothing.
            row[rows - 1] = false;
        }
        Some(Tensor::from_data(
            TensorData::new(hidden, [n, 1, 1, rows]),
            device,
        ))
    }
}

impl Memory for AttentivePast {
    type Model<L: Primitives> = AttentivePastModel<L>;
    type State<L: Primitives> = Kept<L>;

    fn init<L: Primitives>(
        &self,
        inputs: usize,
        steps: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> AttentivePastModel<L> {
        let (mut attention, mut temporal) = (Vec::new(), Vec::new());
        let mut width = inputs;
        for block in 0..BLOCKS {
            if block > 0 {
                let filters = self.filters;
                temporal.push(TcBlock::new(width, filters, steps, initializer, device));
                width = TcBlock::<L>::width(width, filters, steps);
            }
            let widths = [self.keys, self.values];
            attention.push(AttentionBlock::new(width, widths, initializer, device));
            width += self.values;
        }
        AttentivePastModel {
            attention,
            temporal,
        }
    }

    fn width(&self, inputs: usize, steps: usize) -> usize {
        let of_block = TcBlock::<meta_core::backend::Cpu>::width(0, self.filters, steps);
        inputs + (BLOCKS - 1) * of_block + BLOCKS * self.values
    }

    fn read<L: Primitives>(
        &self,
        model: &AttentivePastModel<L>,
        steps: Tensor<L, 3>,
        length: usize,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let [t, rows, c] = steps.dims();
        // A trial is a sequence of its own; all share the weights.
        let mut x = steps.reshape([t * rows / length, length, c]);
        let timeline = Timeline { length, ends: 0 };
        let hidden = causal(length, &x.device());
        for (block, attention) in model.attention.iter().enumerate() {
            if block > 0 {
                x = model.temporal[block - 1].forward(x, timeline);
            }
            let (next, map) = attention.forward(x, Weighting::Softmax, &hidden);
            let name = format!("attention {block}");
            pass.record(&name, MapAxis::Other("step"), MapAxis::Other("step"), &map);
            x = next;
        }
        let width = x.dims()[2];
        x.reshape([t, rows, width])
    }

    fn begin<L: Primitives>(
        &self,
        _model: &AttentivePastModel<L>,
        [t, b]: [usize; 2],
        _device: &L::Device,
    ) -> Kept<L> {
        Kept {
            attention: (0..BLOCKS).map(|_| Past::default()).collect(),
            temporal: (1..BLOCKS).map(|_| Vec::new()).collect(),
            rows: 0,
            steps: vec![Vec::new(); t * b],
        }
    }

    fn step<L: Primitives>(
        &self,
        model: &AttentivePastModel<L>,
        step: Tensor<L, 3>,
        goes_on: Option<Tensor<L, 3>>,
        kept: &mut Kept<L>,
    ) -> Tensor<L, 3> {
        let [t, b, c] = step.dims();
        let going: Vec<bool> = match goes_on {
            None => vec![true; t * b],
            Some(going) => going
                .into_data()
                .iter::<f64>()
                .map(|one| one > 0.5)
                .collect(),
        };
        for (steps, _) in kept.steps.iter_mut().zip(going).filter(|(_, goes)| *goes) {
            steps.push(kept.rows);
        }
        kept.rows += 1;
        let hidden = kept.hidden(&step.device());
        let mut x = step.reshape([t * b, 1, c]);
        for (block, attention) in model.attention.iter().enumerate() {
            if block > 0 {
                let mut rows = std::mem::take(&mut kept.temporal[block - 1]);
                x = model.temporal[block - 1].step(x, |place, distance, now| {
                    if rows.len() <= place {
                        rows.push(Rows(None));
                    }
                    let all = rows[place].add(now.clone());
                    kept.before(&all, distance)
                });
                kept.temporal[block - 1] = rows;
            }
            let past = &mut kept.attention[block];
            x = attention.step(x, past, Weighting::Softmax, hidden.clone());
        }
        let width = x.dims()[2];
        x.reshape([t, b, width])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::acting_conformance::steps_say_what_trials_say;

    #[test]
    fn a_step_says_what_a_trial_says() {
        steps_say_what_trials_say(&AttentivePast {
            keys: 3,
            values: 2,
            filters: 2,
        });
    }
}
