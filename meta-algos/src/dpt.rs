//! Decision-pretrained transformer: learns to name the best action after any history, and so learns to explore.
//!
//! Lee, Xie, Pacchiano, Chandak, Finn, Nachum and Brunskill, *Supervised pretraining can learn in-context
//! reinforcement learning*, NeurIPS 2023.
//!
//! The support of a task is a history of transitions by some policy, its query a state, and the target the best
//! action there ([`histories`]). A causal transformer reads the history and is trained by
//!
//! ```text
//! L = −mean over j of ln π(a*(o_j) | o_j, transitions before j)          (eq. 1, for every prefix at once)
//! ```
//!
//! Deployed, it acts by `π` and its own transitions become the history: posterior sampling, were the model
//! perfect (section 5). Shapes: trials `[t, b·l, f]`, tokens `[t·b, l, d]`, maps `[t·b, heads, l, l]`.
//!
//! # Differences from the paper
//! * The query of a prefix is the state in which the history goes on, so that one pass answers for all
//!   prefixes; the paper draws another state, and puts it in front.
//! * A token is an observation with the action and reward before it; the paper's is a whole transition.
//! * No embedding of positions: the order of the tokens shows in what each can read.
//!
//! [`histories`]: meta_core::learner::acting::histories

use burn::{
    module::Module,
    tensor::{Bool, Tensor, TensorData, backend::Backend},
};
use meta_core::{
    Error, Result,
    data::{Actions, Task},
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        acting::{self, AtTest, Memory, PolicyLearner, PolicyPlan, Training},
    },
    nn::{
        Pass,
        attention::{Block, BlockSettings, MapAxis, mask::causal, stack},
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
        past::Rows,
    },
    primitives::Primitives,
    settings,
    task::TaskSpec,
};
use serde_json::json;

settings! {
    /// Settings of the decision-pretrained transformer.
    pub struct DptSettings {
        /// Width d of a token.
        width: usize = 32, size(1);
        /// Heads; must divide the width.
        heads: usize = 4, size(1);
        /// Layers.
        layers: usize = 4, size(1);
        /// Units of the hidden layer between attention and attention.
        hidden: usize = 64, size(1);
        /// Actions at validation and test: `sample`, with the policy's probabilities, or the `best` one.
        at_test: AtTest = AtTest::Sample;
        /// Parts of a meta-batch, with an update after each.
        minibatches: usize = 1, size(1);
    }
}

impl LearnerSettings for DptSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "dpt",
        family: Family::InContext,
        summary: "a transformer that names the best action after any history",
        paper: "Lee et al., Supervised pretraining can learn in-context reinforcement learning, NeurIPS 2023",
        regression: false,
        any_way: false,
    };

    const ACTS: bool = true;

    fn check<A: Architecture>(&self, architecture: &A, spec: &TaskSpec) -> Result<()> {
        if !self.width.is_multiple_of(self.heads) {
            let expected = format!("must divide learner.width = {}", self.width);
            return Err(Error::setting("learner.heads", self.heads, expected));
        }
        if let Task::Acting {
            actions: Actions::Continuous(_),
            ..
        } = spec.task
        {
            let expected = "names one of several actions, and those of `data.source` are numbers; take `rl2` or \
                            `maml_rl`";
            return Err(Error::setting("learner.name", Self::INFO.name, expected));
        }
        acting::check(architecture)
    }

    fn gradient_of() -> GradientOf {
        let small = json!({"width": 4, "heads": 2, "layers": 2, "hidden": 3});
        GradientOf::Training("the log-probability of the best actions", vec![small])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"width": 8, "heads": 2, "layers": 2, "hidden": 16, "minibatches": 2}),
            iterations: 600,
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let plan = PolicyPlan {
            at_test: self.at_test,
            deviation: 1.0,
            training: Training::BestActions(self.minibatches),
        };
        PolicyLearner::boxed(Transformer(self), plan, new)
    }
}

/// A causal transformer as a memory.
struct Transformer(DptSettings);

/// An embedding and blocks.
#[derive(Module, Debug)]
pub struct TransformerModel<B: Backend> {
    embed: Linear<B>,
    blocks: Vec<Block<B>>,
}

/// What every block has read, `[t·b, steps, d]`, and at which steps each trial went on.
pub struct Read<B: Primitives> {
    tokens: Vec<Rows<B>>,
    going: Vec<Vec<bool>>,
}

impl<B: Primitives> Read<B> {
    /// Hides the steps at which a trial waited, `[n, 1, 1, steps]`; none where no trial has.
    fn hidden(&self, device: &B::Device) -> Option<Tensor<B, 4, Bool>> {
        if self.going.iter().flatten().all(|&goes| goes) {
            return None;
        }
        let (steps, n) = (self.going.len(), self.going.first().map_or(0, Vec::len));
        // The last step is always read: what it says of a trial that waits counts for nothing.
        let is_hidden = |trial: usize, step: usize| step + 1 < steps && !self.going[step][trial];
        let hidden: Vec<bool> = (0..n)
            .flat_map(|trial| (0..steps).map(move |step| is_hidden(trial, step)))
            .collect();
        Some(Tensor::from_data(
            TensorData::new(hidden, [n, 1, 1, steps]),
            device,
        ))
    }
}

impl Memory for Transformer {
    type Model<L: Primitives> = TransformerModel<L>;
    type State<L: Primitives> = Read<L>;

    fn init<L: Primitives>(
        &self,
        inputs: usize,
        _steps: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> TransformerModel<L> {
        let settings = BlockSettings {
            width: self.0.width,
            heads: self.0.heads,
            hidden: self.0.hidden,
        };
        TransformerModel {
            embed: Linear::glorot(inputs, self.0.width, initializer, device),
            blocks: (0..self.0.layers)
                .map(|_| Block::new(settings, initializer, device))
                .collect(),
        }
    }

    fn width(&self, _inputs: usize, _steps: usize) -> usize {
        self.0.width
    }

    fn read<L: Primitives>(
        &self,
        model: &TransformerModel<L>,
        steps: Tensor<L, 3>,
        length: usize,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let tokens = model.embed.forward(steps);
        let hidden = causal(length, &tokens.device());
        let (read, maps) = stack(&model.blocks, tokens, length, Some(&hidden), pass);
        for (layer, map) in maps.iter().enumerate() {
            let name = format!("layer {layer}");
            pass.record(&name, MapAxis::Other("step"), MapAxis::Other("step"), map);
        }
        read
    }

    fn begin<L: Primitives>(
        &self,
        _model: &TransformerModel<L>,
        _trials: [usize; 2],
        _device: &L::Device,
    ) -> Read<L> {
        Read {
            tokens: (0..self.0.layers).map(|_| Rows(None)).collect(),
            going: Vec::new(),
        }
    }

    fn step<L: Primitives>(
        &self,
        model: &TransformerModel<L>,
        step: Tensor<L, 3>,
        goes_on: Option<Tensor<L, 3>>,
        read: &mut Read<L>,
    ) -> Tensor<L, 3> {
        let [t, b, _] = step.dims();
        let device = step.device();
        read.going.push(match goes_on {
            None => vec![true; t * b],
            Some(going) => going
                .into_data()
                .iter::<f64>()
                .map(|one| one > 0.5)
                .collect(),
        });
        let hidden = read.hidden(&device);
        let d = self.0.width;
        let mut token = model.embed.forward(step).reshape([t * b, 1, d]);
        for (block, rows) in model.blocks.iter().zip(&mut read.tokens) {
            let all = rows.add(token);
            token = block.last(all, hidden.as_ref(), &Pass::evaluation());
        }
        token.reshape([t, b, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::acting_conformance::steps_say_what_trials_say;

    #[test]
    fn a_step_says_what_a_trial_says() {
        steps_say_what_trials_say(&Transformer(DptSettings {
            width: 4,
            heads: 2,
            layers: 2,
            hidden: 3,
            ..DptSettings::default()
        }));
    }
}
