//! Meta-LSTM: the optimiser is a recurrent network.
//!
//! Ravi and Larochelle, *Optimization as a model for few-shot learning*, ICLR 2017.
//!
//! The update of a memory cell is gradient descent where nothing is forgotten. So the weights of the
//! learner are the cell state of an LSTM, whose gates are learned (section 3.1; `g` the gradient of
//! the support loss, `L` its value):
//!
//! ```text
//! θᵗ = fᵗ ∘ θᵗ⁻¹ − iᵗ ∘ gᵗ                               (eq. 2)
//! iᵗ = σ(W_I [hᵗ, θᵗ⁻¹, iᵗ⁻¹] + b_I)
//! fᵗ = σ(W_F [hᵗ, θᵗ⁻¹, fᵗ⁻¹] + b_F)
//! hᵗ = LSTM([p(gᵗ), p(Lᵗ)], hᵗ⁻¹)                         (section 4.1, first layer)
//! meta-gradient = ∇_(θ⁰, W, b) mean over tasks of L_q(θᴷ)    (section 3.2, algorithm 1)
//! ```
//!
//! One optimiser serves all coordinates, each with a state of its own. `θ⁰` is learned with it.
//! Gradients and losses are preprocessed (section 3.2, after Andrychowicz et al., 2016, appendix A):
//! `p(x) = (log|x| / 10, sgn x)` where `|x| ≥ e⁻¹⁰`, else `(−1, e¹⁰ x)`.
//!
//! With `order = "first"`, the paper's assumption, gradients and losses of the learner do not depend on
//! the optimiser: they are constants in the meta-gradient. With `order = "second"` it is exact.
//!
//! # Differences from the paper
//! * The biases of the gates start where the gates have the values of the settings; a PyTorch version
//!   of the authors' code draws `b_F` from [4, 6] and `b_I` from [−5, −4], around the defaults here.
//!   The first layer starts with Glorot-uniform weights, there within ±0.01.
//! * The gates see the gates before them, as in the equations; that code shows them before `σ`.
//! * The paper takes 12 steps for one shot and 5 for five shots (from memory), the default here.
//! * `encoder.norm` says what normalisations average over; the paper's use running statistics in
//!   training and those of the items in a test episode.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use meta_core::{
    Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Steps, Toy,
        adapt::Adaptable,
        inner_loop::{InnerLoop, InnerStep, Order, Unrolled, UnrolledLearner},
    },
    nn::{
        Pass,
        activation::sigmoid,
        encoder::Architecture,
        init::{Initializer, constant},
        linear::Linear,
        recurrent::{LstmCell, LstmState},
    },
    params::Params,
    primitives::{Primitives, join},
    settings,
    task::{TaskBatch, TaskSpec},
};
use serde_json::json;

/// Prefix of the paths of the optimiser's parameters.
const OPTIMIZER: &str = "optimizer";

/// Prefix of the paths of the optimiser's state, beside the weights that adapt.
const MEMORY: &str = "memory";

/// `p` of the preprocessing.
const LOG_RANGE: f64 = 10.0;

/// Numbers that a step keeps of each unit for a parameter: four gates before and after their curves, and the
/// memory.
const KEPT_OF_UNIT: usize = 9;

/// Largest weight of a gate at the start.
const GATE_BOUND: f64 = 0.01;

settings! {
    /// Settings of Meta-LSTM.
    pub struct MetaLstmSettings {
        /// First value of the input gate `i`, the learning rate, in (0, 1).
        inner_lr: f64 = 0.01, inside_unit();
        /// First value of the forget gate `f`, in (0, 1): near 1, so that little is forgotten.
        keep: f64 = 0.993, inside_unit();
        /// Steps `K` of the optimiser, in training and at test.
        inner_steps: usize = 5, size(1);
        /// Width of the optimiser's first layer.
        hidden: usize = 20, size(1);
        /// Order of the meta-gradient: `first` (gradients and losses of the learner are constants,
        /// the paper's assumption) or `second` (exact).
        order: Order = Order::First;
        /// Whether the graph of only one step is held at a time: less memory, more time, the same
        /// gradient.
        checkpoint_inner_steps: bool = false;
    }
}

impl LearnerSettings for MetaLstmSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "meta_lstm",
        family: Family::Gradient,
        summary: "learns the optimiser too: an LSTM whose cell state is the learner's weights",
        paper: "Ravi and Larochelle, Optimization as a model for few-shot learning, ICLR 2017",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)
    }

    fn steps(&self) -> Steps {
        Steps {
            of_parameter: KEPT_OF_UNIT.saturating_mul(self.hidden),
            ..self.inner_loop().cost()
        }
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![json!({
            "inner_lr": 0.1, "keep": 0.9, "inner_steps": 2, "hidden": 3, "order": "second"
        })])
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "inner_steps": 2, "hidden": 5}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let network = new.network();
        let initializer = &mut Initializer::seeded(new.seed);
        let optimizer = GateOptimizer::<B>::new(&self, initializer, new.device);
        let theta = network.draw(new.seed);
        let parameters = theta.join(Params::of(&optimizer).with_prefix(OPTIMIZER));
        UnrolledLearner::boxed(self, network, parameters)
    }
}

/// What moves every coordinate: two layers, the second with the coordinate as its cell state.
#[derive(Module, Debug)]
struct GateOptimizer<B: Backend> {
    /// First layer.
    memory: LstmCell<B>,
    /// `W_F`, `b_F`.
    forget: Linear<B>,
    /// `W_I`, `b_I`.
    input: Linear<B>,
}

/// What the optimiser knows of `n` coordinates of each task.
struct Coordinates<B: Backend> {
    /// `θ`, `[t, n]`.
    theta: Tensor<B, 2>,
    memory: LstmState<B>,
    /// `f`, `[t, n, 1]`.
    forget: Tensor<B, 3>,
    /// `i`, `[t, n, 1]`.
    input: Tensor<B, 3>,
}

impl<B: Backend> GateOptimizer<B> {
    fn new(settings: &MetaLstmSettings, initializer: &mut Initializer, device: &B::Device) -> Self {
        let width = settings.hidden;
        let memory = LstmCell::new(4, width, initializer, device);
        let mut gate = |open: f64| Linear {
            weight: initializer.uniform([1, width + 2, 1], GATE_BOUND, device),
            bias: constant((open / (1.0 - open)).ln(), [1, 1, 1], device),
        };
        GateOptimizer {
            memory,
            forget: gate(settings.keep),
            input: gate(settings.inner_lr),
        }
    }
}

impl<B: Primitives> GateOptimizer<B> {
    /// One step along `gradient [t, n]` of `losses [t]`.
    fn step(
        &self,
        before: Coordinates<B>,
        gradient: Tensor<B, 2>,
        losses: Tensor<B, 1>,
    ) -> Coordinates<B> {
        let [t, n] = gradient.dims();
        let column = |x: Tensor<B, 2>| x.reshape([t, n, 1]);
        let of_loss = preprocess(losses.reshape([t, 1, 1])).expand([t, n, 2]);
        let seen = join(preprocess(column(gradient.clone())), of_loss);
        let memory = self.memory.forward(seen, before.memory);
        let (hidden, theta) = (memory.hidden(), column(before.theta.clone()));
        let gate = |layer: &Linear<B>, last: Tensor<B, 3>| {
            let known = join(hidden.clone(), join(theta.clone(), last));
            sigmoid(layer.forward(known))
        };
        let forget = gate(&self.forget, before.forget);
        let input = gate(&self.input, before.input);
        let flat = |gate: &Tensor<B, 3>| gate.clone().reshape([t, n]);
        Coordinates {
            theta: flat(&forget) * before.theta - flat(&input) * gradient,
            memory,
            forget,
            input,
        }
    }
}

/// `p(x)`: `x [t, n, 1]` to `[t, n, 2]`, scale and sign of numbers of any size.
fn preprocess<B: Primitives>(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let scale = x.clone().abs().clamp_min((-LOG_RANGE).exp()).log();
    let sign = x.mul_scalar(LOG_RANGE.exp()).clamp(-1.0, 1.0);
    join(scale.mul_scalar(1.0 / LOG_RANGE), sign)
}

/// The weights of a state, and what the optimiser remembers of them; from a state of zeros before the
/// first step.
fn remembered<L: Primitives>(
    state: &Params<L>,
    width: usize,
    device: &L::Device,
) -> (Params<L>, Coordinates<L>) {
    let weights = state.outside(MEMORY);
    let theta = weights.flatten();
    let [t, n] = theta.dims();
    let memory = state.under(MEMORY);
    let entry = |name: &str, width: usize| {
        let zeros = || Tensor::zeros([t, n, width], device);
        memory.get::<3>(name).unwrap_or_else(zeros)
    };
    let coordinates = Coordinates {
        theta,
        memory: LstmState {
            both: entry("state", 2 * width),
        },
        forget: entry("forget", 1),
        input: entry("input", 1),
    };
    (weights, coordinates)
}

impl Unrolled for MetaLstmSettings {
    fn inner_loop(&self) -> InnerLoop {
        InnerLoop {
            steps: self.inner_steps,
            test_steps: self.inner_steps,
            checkpoint: self.checkpoint_inner_steps,
        }
    }

    fn order(&self, _progress: f64) -> Order {
        self.order
    }

    /// `θ⁰` of every task.
    fn start<A: Architecture, L: Primitives>(
        &self,
        _network: &Adaptable<A, L::Device>,
        shared: &Params<L>,
        tasks: &TaskBatch<L>,
        _pass: &Pass<L>,
    ) -> Params<L> {
        shared.outside(OPTIMIZER).fan_out(tasks.tasks())
    }

    /// `θ ← f ∘ θ − i ∘ ∇ Σ_tasks L_s(θ)`.
    fn step<L: Primitives>(
        &self,
        at: &InnerStep<L>,
        state: Params<L>,
        gradients: &Params<L>,
        shared: &Params<L>,
    ) -> Params<L> {
        let device = &at.losses.device();
        let (weights, before) = remembered(&state, self.hidden, device);
        let skeleton = GateOptimizer::new(self, &mut Initializer::zeros(), device);
        let optimizer = shared.under(OPTIMIZER).write_into(skeleton);
        let after = optimizer.step(before, gradients.flatten(), at.losses.clone());
        let mut memory = Params::default();
        memory.push("state", after.memory.both);
        memory.push("forget", after.forget);
        memory.push("input", after.input);
        weights
            .unflatten(after.theta)
            .join(memory.with_prefix(MEMORY))
    }

    fn weights<L: Primitives>(
        &self,
        state: &Params<L>,
        _shared: &Params<L>,
        _steps: usize,
    ) -> Params<L> {
        state.outside(MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};
    use meta_core::backend::Cpu;

    /// Scale and sign, and what is too small for a logarithm in proportion.
    #[test]
    fn numbers_of_any_size_are_seen() {
        let smallest = (-LOG_RANGE).exp() as f32;
        let x = [1.0, -1.0, std::f32::consts::E, -0.5 * smallest, 0.0];
        let seen = preprocess(Tensor::<Cpu, 1>::from(x).reshape([1, 5, 1]));
        let expected = [0.0, 1.0, 0.0, -1.0, 0.1, 1.0, -1.0, -0.5, -1.0, 0.0];
        assert_close(&values(seen), &expected, 1e-6);
    }

    /// With gates that see nothing it is gradient descent with weight decay: the first step is MAML's
    /// from the start where all is kept.
    #[test]
    fn blind_gates_descend() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let settings = json!({"inner_lr": 0.3, "keep": 0.9999999, "inner_steps": 3});
        let mut meta_lstm = learner("meta_lstm", settings, &spec);
        let parameters = meta_lstm.parameters();
        let gates = parameters.filter(|path| {
            path.starts_with(OPTIMIZER) && !path.contains(MEMORY) && path.ends_with("weight")
        });
        assert_eq!(gates.len(), 2);
        meta_lstm.set_parameters(parameters.overwrite(gates.scale(0.0)));
        let maml = learner("maml", json!({"inner_lr": 0.3, "test_steps": 3}), &spec);
        let answers = |learner: &dyn Learner<Cpu>| learner.predict(&tasks, PredictAt::EveryStep);
        let pairs = answers(meta_lstm.as_ref()).into_iter();
        for (found, expected) in pairs.zip(answers(maml.as_ref())) {
            assert_close(&values(found), &values(expected), 1e-4);
        }
    }

    /// The optimiser is learned, and so is where it starts; a coordinate has a memory of its own.
    #[test]
    fn start_and_optimizer_get_gradients() {
        let spec = spec(3, 2);
        let gradients = learner("meta_lstm", json!({}), &spec)
            .meta_gradient(&tasks(&spec))
            .gradients;
        for part in [
            "encoder",
            "head",
            "optimizer.memory",
            "optimizer.forget",
            "optimizer.input",
        ] {
            let squares = values(gradients.under(part).squared_norm())[0];
            assert!(squares > 0.0, "{part}");
        }
    }

    #[test]
    fn gates_are_between_0_and_1() {
        for key in ["inner_lr", "keep"] {
            let message = refusal("meta_lstm", json!({key: 1.0}), &spec(3, 2));
            assert!(message.contains(&format!("learner.{key}")), "{message}");
        }
    }
}
