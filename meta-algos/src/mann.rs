//! MANN: a network with an external memory, read by content and written where it is used least.
//!
//! Santoro, Bartunov, Botvinick, Wierstra and Lillicrap, *Meta-learning with memory-augmented neural
//! networks*, ICML 2016.
//!
//! The support is presented as a sequence, and the label of an item comes one step after it. A
//! controller, an LSTM, sees the item, the label before, and what was read before; from what it shows,
//! `h_t`, follow a key `k_t` and a gate `α_t` for each of `r` heads:
//!
//! ```text
//! h_t, c_t = LSTM([φ(x_t) ; y_{t−1} ; r_{t−1}], h_{t−1}, c_{t−1})
//! k_t = tanh(W_k h_t + b_k),   α_t = w_α · h_t + b_α
//! w^w_t = σ(α_t) w^r_{t−1} + (1 − σ(α_t)) w^lu_{t−1}              (eq. 7)
//! M_t(i) = M_{t−1}(i) [i not among the least used] + w^w_t(i) k_t   (eq. 8)
//! w^r_t = softmax_i(β cos(k_t, M_t(i)))                            (eq. 2 and 3)
//! r_t = Σᵢ w^r_t(i) M_t(i)                                         (eq. 4)
//! w^u_t = γ w^u_{t−1} + w^r_t + w^w_t                              (eq. 5)
//! answer = W_o [h_t ; r_t] + b_o
//! ```
//!
//! `w^lu` is 1 at the slots of least usage `w^u`, one for each head (eq. 6). Reads and writes of all
//! heads add up in `M` and `w^u`.
//!
//! After the support one more step brings the last label, without an item. Then every query is a step
//! of its own, from the same state: it reads the memory and writes nothing, so queries do not see each
//! other. The loss in training covers the whole sequence, all items of the support and the queries. A test also says
//! how well an item of the support is recognised when its class is presented for the first time, the second, …
//! ([`meta_core::train::instances`]): the paper's score, in episodes of ten shots; the queries come after the last.
//!
//! The order of the support is that of [`SupportOrder`]: it mixes the classes, and is a function of the
//! set. Which slots are least used is a choice: a constant mask, without a derivative, as is the usage
//! that leads to it. Everything else is differentiated, to any order. Where a small change of the
//! parameters changes the choice, the loss jumps; such points have probability 0.
//!
//! Classes are units of input and output; that their names mean nothing is learned from tasks that name
//! them at random.
//!
//! # Differences from the paper
//! * The paper presents a stream in which every item is a query and is then learned from; here support
//!   and query are apart, as above.
//! * `β` ([`MannSettings::sharpness`]) is 1 in the paper. The softmax of 128 cosines is then almost
//!   uniform; a higher value reads single slots.
//! * Several heads write to slots of their own, the `j`-th to the one of `j`-th least use. The paper
//!   says how many slots are least used, not how its heads share them.
//! * A key is a `tanh`, as in the public implementations; the paper leaves its form open. Gates follow
//!   from the controller.
//! * Classes are one-hot (the paper has also strings of letters, for many classes), items are embedded
//!   by an encoder instead of given as pixels.

use burn::{
    module::Module,
    tensor::{Tensor, activation::softmax, backend::Backend},
};
use meta_core::{
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, Toy,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
        support_order::SupportOrder,
    },
    nn::{
        Pass, activation,
        attention::MapAxis,
        distance,
        encoder::Architecture,
        init::Initializer,
        linear::Linear,
        loss,
        recurrent::{self, LstmCell, LstmState},
    },
    primitives::{MatrixProduct, Primitives, scaled_softmax, tanh},
    settings,
    task::{TargetBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of MANN; the defaults are the paper's.
    pub struct MannSettings {
        /// Width of the controller.
        hidden: usize = 200, size(1);
        /// Slots of the memory, at least `heads`.
        slots: usize = 128, size(0);
        /// Width of a slot.
        slot_width: usize = 40, size(1);
        /// Heads `r`, which read and write.
        heads: usize = 4, size(1);
        /// `γ`, what remains of the usage of a slot after a step, in (0, 1).
        decay: f64 = 0.99, inside_unit();
        /// `β`, which multiplies the cosines before the softmax.
        sharpness: f64 = 1.0, above(0.0);
    }
}

impl LearnerSettings for MannSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "mann",
        family: Family::Memory,
        summary: "an LSTM writes the support into a memory and reads it by content for the queries",
        paper: "Santoro et al., Memory-augmented neural networks, ICML 2016",
        regression: true,
        any_way: false,
    };

    // `burn-tch` seems to write into the views that `swap_dims` and `permute` make.
    const WRONG_ON: &'static [&'static str] = &["tch"];

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)?;
        if self.slots < self.heads {
            let expected = format!(
                "must be at least learner.heads = {}: each writes to a slot of its own",
                self.heads
            );
            return Err(Error::setting("learner.slots", self.slots, expected));
        }
        Ok(())
    }

    fn gradient_of() -> GradientOf {
        let small = json!({"hidden": 4, "slots": 5, "slot_width": 3, "heads": 2, "sharpness": 3.0});
        GradientOf::Training(
            "loss of all items of the sequence, support and queries",
            vec![small],
        )
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({
                "hidden": 48, "slots": 16, "slot_width": 16, "heads": 2, "sharpness": 5.0
            }),
            iterations: 1600,
            // It reads a mixture of its slots and learns to do it sharply last.
            accuracy: 0.8,
            maps: 3,
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Mann {
            outputs: new.spec.outputs(),
            architecture: new.architecture,
            settings: self,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

/// An encoder, a controller and its heads.
#[derive(Module, Debug)]
pub struct MannModel<B: Backend, E> {
    encoder: E,
    controller: LstmCell<B>,
    /// `W_k`, `b_k` of all heads.
    key: Linear<B>,
    /// `w_α`, `b_α` of all heads.
    gate: Linear<B>,
    /// `W_o`, `b_o`.
    head: Linear<B>,
}

/// What a MANN has kept after a step.
struct State<B: Backend> {
    controller: LstmState<B>,
    /// `r_t` of all heads, `[t, 1, heads·m]`.
    read: Tensor<B, 3>,
    /// `M_t`, `[t, slots, m]`.
    memory: Tensor<B, 3>,
    /// `w^r_t`, `[t, heads, slots]`.
    weights: Tensor<B, 3>,
    /// `w^u_t`, `[t, slots]`, a constant.
    usage: Tensor<B, 2>,
}

/// The map of the answers during the presentation.
const ANSWERS: &str = "answers";

/// How a MANN answers.
pub struct Mann<A> {
    settings: MannSettings,
    architecture: A,
    /// Classes, or values of an answer.
    outputs: usize,
}

impl<A: Architecture> Mann<A> {
    fn blank<L: Primitives>(&self, tasks: usize, device: &L::Device) -> State<L> {
        let MannSettings {
            hidden,
            slots,
            slot_width,
            heads,
            ..
        } = self.settings;
        State {
            controller: LstmState::zeros(tasks, 1, hidden, device),
            read: Tensor::zeros([tasks, 1, heads * slot_width], device),
            memory: Tensor::zeros([tasks, slots, slot_width], device),
            weights: Tensor::zeros([tasks, heads, slots], device),
            usage: Tensor::zeros([tasks, slots], device),
        }
    }

    /// Keys of every row of `hidden [t, b, h]`, head by head: `[t, b·heads, m]`.
    fn keys<L: Primitives, E>(&self, model: &MannModel<L, E>, hidden: &Tensor<L, 3>) -> Tensor<L, 3>
    where
        MannModel<L, E>: Module<L>,
    {
        let [t, b, _] = hidden.dims();
        let MannSettings {
            heads, slot_width, ..
        } = self.settings;
        let keys = tanh(model.key.forward(hidden.clone()));
        keys.reshape([t, b * heads, slot_width])
    }

    /// `w^r` of keys `[t, b·heads, m]` for a memory `[t, slots, m]`: `[t, b·heads, slots]`.
    fn address<L: Primitives>(&self, keys: Tensor<L, 3>, memory: Tensor<L, 3>) -> Tensor<L, 3> {
        let cosines = distance::cosines(keys, memory);
        scaled_softmax(cosines.unsqueeze_dim::<4>(1), self.settings.sharpness).squeeze_dim(1)
    }

    /// 1 at the slot of `j`-th least usage in row `j`, a constant: `[t, heads, slots]`.
    fn least_used<L: Primitives>(&self, usage: &Tensor<L, 2>) -> Tensor<L, 3> {
        let MannSettings { slots, heads, .. } = self.settings;
        let ranked = usage.clone().argsort(1).narrow(1, 0, heads);
        ranked.one_hot::<3>(slots).float().cast(usage.dtype())
    }

    /// One step of the support: `x [t, 1, i]` is the item with the label before.
    fn step<L: Primitives, E>(
        &self,
        model: &MannModel<L, E>,
        x: Tensor<L, 3>,
        state: State<L>,
    ) -> State<L>
    where
        MannModel<L, E>: Module<L>,
    {
        let [t, ..] = x.dims();
        let heads = self.settings.heads;
        let seen = Tensor::cat(vec![x, state.read], 2);
        let controller = model.controller.forward(seen, state.controller);
        let hidden = controller.hidden();
        let keys = self.keys(model, &hidden);
        let gate = activation::sigmoid(model.gate.forward(hidden));
        let gate = gate.reshape([t, heads, 1]);

        let least = self.least_used(&state.usage);
        let fresh = least.clone() * gate.clone().neg().add_scalar(1.0);
        let write = state.weights * gate + fresh;
        let written = write.clone().swap_dims(1, 2).product(keys.clone());
        // As a matrix, since backends are fastest there with one number for each row.
        let [_, slots, width] = written.dims();
        let kept = least.sum_dim(1).neg().add_scalar(1.0);
        let memory = state.memory.reshape([t * slots, width]) * kept.reshape([t * slots, 1]);
        let memory = memory.reshape([t, slots, width]) + written;

        let weights = self.address(keys, memory.clone());
        let read = weights.clone().product(memory.clone());
        let used = (weights.clone().detach() + write.detach()).sum_dim(1);
        State {
            controller,
            read: read.reshape([t, 1, heads * self.settings.slot_width]),
            memory,
            weights,
            usage: state.usage.mul_scalar(self.settings.decay) + used.squeeze_dim(1),
        }
    }
}

impl<A: Architecture> SinglePass for Mann<A> {
    type Model<L: Primitives> = MannModel<L, A::Model<L>>;

    const ANSWERS_SUPPORT: bool = true;

    fn init<L: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L> {
        let MannSettings {
            hidden,
            slot_width,
            heads,
            ..
        } = self.settings;
        let read = heads * slot_width;
        let encoder = self.architecture.init(initializer, device);
        let seen = self.architecture.width() + self.outputs + read;
        MannModel {
            encoder,
            controller: LstmCell::new(seen, hidden, initializer, device),
            key: Linear::glorot(hidden, read, initializer, device),
            gate: Linear::glorot(hidden, heads, initializer, device),
            head: Linear::glorot(hidden + read, self.outputs, initializer, device),
        }
    }

    /// Class scores or values of the support items at their presentation, in the order of the batch,
    /// then of the queries: `[t, s + q, outputs]`.
    fn forward<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(&model.encoder, tasks, pass);
        let ([t, s, d], [_, q, _]) = (support.dims(), query.dims());
        let n = self.outputs;
        let device = support.device();
        let zeros = |items, width| Tensor::<L, 3>::zeros([t, items, width], &device);

        // The items and then none; no label and then theirs.
        let presentation = SupportOrder::of(&tasks.support);
        let labels = tasks.support.targets.encoded(n, &support);
        let items = Tensor::cat(vec![presentation.present(support), zeros(1, d)], 1);
        let labels = Tensor::cat(vec![zeros(1, n), presentation.present(labels)], 1);
        let sequence = Tensor::cat(vec![items, labels], 2);

        let mut state = self.blank(t, &device);
        let (mut shown, mut reads) = (Vec::with_capacity(s + 1), Vec::with_capacity(s + 1));
        for x in recurrent::split(sequence, s + 1) {
            state = self.step(model, x, state);
            let features = vec![state.controller.hidden(), state.read.clone()];
            shown.push(Tensor::cat(features, 2));
            reads.push(state.weights.clone().detach());
        }
        let map = Tensor::stack::<4>(reads, 2);
        pass.record(
            "reads",
            MapAxis::Other("step"),
            MapAxis::Other("slot"),
            &map,
        );
        // The last step has no item to recognise.
        shown.pop();
        let sequence = presentation.restore(model.head.forward(recurrent::join(shown)));
        if let TargetBatch::Classes(_) = &tasks.support.targets {
            let map = softmax(sequence.clone().detach(), 2).unsqueeze_dim(1);
            pass.record(ANSWERS, MapAxis::Support, MapAxis::Class, &map);
        }

        let MannSettings {
            slots,
            slot_width,
            heads,
            ..
        } = self.settings;
        let for_queries = |x: Tensor<L, 3>| {
            let width = x.dims()[2];
            x.expand([t, q, width])
        };
        let seen = vec![query, zeros(q, n), for_queries(state.read)];
        let controller = LstmState {
            both: for_queries(state.controller.both),
        };
        let seen = Tensor::cat(seen, 2);
        let hidden = model.controller.forward(seen, controller).hidden();
        let weights = self.address(self.keys(model, &hidden), state.memory.clone());
        let map = weights.clone().reshape([t, q, heads, slots]);
        let map = map.swap_dims(1, 2);
        pass.record("query reads", MapAxis::Query, MapAxis::Other("slot"), &map);
        let read = weights.product(state.memory);
        let read = read.reshape([t, q, heads * slot_width]);
        let answers = model.head.forward(Tensor::cat(vec![hidden, read], 2));
        Tensor::cat(vec![sequence, answers], 1)
    }

    fn predictions<L: Primitives>(
        &self,
        output: Tensor<L, 3>,
        tasks: &TaskBatch<L>,
    ) -> Tensor<L, 3> {
        let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        output.narrow(1, s, q)
    }

    /// Mean loss of all items, support and queries, `[t]`.
    fn losses<L: Primitives>(&self, output: Tensor<L, 3>, tasks: &TaskBatch<L>) -> Tensor<L, 1> {
        let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
        let share = s as f64 / (s + q) as f64;
        let of_support = loss::loss(output.clone().narrow(1, 0, s), &tasks.support.targets);
        let of_query = loss::loss(self.predictions(output, tasks), &tasks.query.targets);
        of_support.mul_scalar(share) + of_query.mul_scalar(1.0 - share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{PredictAt, assert_close, learner, refusal, spec, tasks, values};
    use meta_core::backend::Cpu;
    use meta_core::settings::Settings;

    fn small() -> serde_json::Value {
        json!({"hidden": 6, "slots": 9, "slot_width": 4, "heads": 2, "sharpness": 5.0})
    }

    #[test]
    fn every_head_needs_a_slot() {
        let message = refusal("mann", json!({"slots": 3}), &spec(3, 1));
        assert!(message.contains("`learner.slots = 3`"), "{message}");
        let message = refusal("mann", json!({"decay": 1.0}), &spec(3, 1));
        assert!(message.contains("`learner.decay = 1`"), "{message}");
    }

    /// What it answers for the support has a row for every item, and is what its maps show.
    #[test]
    fn the_support_is_answered() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let mann = learner("mann", small(), &spec);
        let answers = mann.support_answers(&tasks).expect("it reads a sequence");
        assert_eq!(answers.dims(), [2, 6, 3]);
        let maps = mann.explain(&tasks).maps;
        let shown = maps
            .into_iter()
            .find(|map| map.name == ANSWERS)
            .expect(ANSWERS);
        let shown = values(shown.weights.reshape([2, 6, 3]));
        assert_close(&values(softmax(answers, 2)), &shown, 1e-6);
        let other = learner("protonet", json!({}), &spec);
        assert!(other.support_answers(&tasks).is_none());
        let (spec, tasks) = crate::toy::regression();
        assert!(
            learner("mann", small(), &spec)
                .support_answers(&tasks)
                .is_none()
        );
    }

    /// Six items and the step of the last label, each read by two heads.
    #[test]
    fn reads_are_recorded_over_time() {
        let spec = spec(3, 2);
        let maps = learner("mann", small(), &spec).explain(&tasks(&spec)).maps;
        let named = |name: &str| {
            let map = maps.iter().find(|map| map.name == name).expect(name);
            map.weights.dims()
        };
        assert_eq!(named("reads"), [2, 2, 7, 9]);
        assert_eq!(named("query reads"), [2, 2, 6, 9]);
        assert_eq!(named(ANSWERS), [2, 1, 6, 3]);
    }

    fn rule() -> Mann<meta_core::nn::encoder::EncoderSpec> {
        Mann {
            settings: MannSettings::from_value("learner", &small()).unwrap(),
            architecture: crate::toy::encoder(),
            outputs: 3,
        }
    }

    /// The heads write to different slots, the first to the one that was used least.
    #[test]
    fn the_least_used_slots_are_written() {
        let usage = [0.5, 0.2, 0.9, 0.1, 0.8, 0.7, 0.6, 0.4, 0.3f32];
        let usage = Tensor::<Cpu, 2>::from_data([usage], &Default::default());
        let least = values(rule().least_used(&usage));
        let slots = least
            .chunks(9)
            .map(|row| row.iter().position(|&x| x == 1.0));
        assert_eq!(slots.collect::<Vec<_>>(), [Some(3), Some(1)]);
        assert_eq!(least.iter().sum::<f32>(), 2.0);
    }

    /// A slot of the key's direction is read, whatever its length; blank slots are alike.
    #[test]
    fn reads_are_by_direction() {
        let device = Default::default();
        let mut memory = [[0.0; 4]; 9];
        memory[2] = [0.02, 0.0, 0.0, 0.0];
        memory[5] = [0.0, 3.0, 0.0, 0.0];
        let memory = Tensor::<Cpu, 2>::from_data(memory, &device).unsqueeze_dim::<3>(0);
        let key = Tensor::<Cpu, 3>::from_data([[[2.0, 0.0, 0.0, 0.0]]], &device);
        let weights = values(rule().address(key, memory));
        let whole = 5.0f32.exp() + 8.0;
        let mut expected = [1.0 / whole; 9];
        expected[2] = 5.0f32.exp() / whole;
        assert_close(&weights, &expected, 1e-6);
    }

    /// In regression the labels are values.
    #[test]
    fn regression_answers_have_the_width_of_the_values() {
        let spec = TaskSpec {
            task: meta_core::data::Task::Regression { outputs: 2 },
            ..spec(1, 5)
        };
        let mut batch = tasks(&super::tests::spec(1, 5));
        for items in [&mut batch.support, &mut batch.query] {
            let [t, b] = items.dims();
            let inputs = items.inputs.clone();
            items.targets = meta_core::task::TargetBatch::Values(inputs.slice([0..t, 0..b, 0..2]));
        }
        let answer = learner("mann", small(), &spec).predict(&batch, PredictAt::LastStep);
        assert_eq!(answer[0].dims(), [2, 2, 2]);
    }
}
