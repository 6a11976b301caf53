//! Reptile: towards where fine-tuning leads.
//!
//! Nichol, Achiam and Schulman, *On first-order meta-learning algorithms*, arXiv:1803.02999, 2018.
//!
//! From the shared parameters `θ`, `K` steps of an inner optimiser on the support lead to `θᴷ`; the
//! shared parameters move towards it (algorithms 1 and 2):
//!
//! ```text
//! θ ← θ + ε mean over tasks of (θᴷ − θ)
//! meta-gradient = (θ − mean over tasks of θᴷ) / α
//! ```
//!
//! Divided by the inner rate `α`, the meta-gradient has the size of a gradient: with one step of
//! gradient descent it is that of the joint loss `mean over tasks of L_s` (section 3.4 of the paper
//! discusses outer optimisers fed with it). `optimizer = "sgd"` with `lr = ε α` under `[train]` is
//! the paper's update. The queries of a training task are not learned from; their loss and score are
//! only reported.
//!
//! As in the authors' code, each inner step of training can see a mini-batch of the support (`inner_batch`), and
//! the inner Adam can keep its second moments from task to task (`carry`), at test too. Give training tasks more
//! items than test tasks (`data.train_shot`), as the paper does.
//!
//! # Differences from the paper
//! * Without `inner_batch`, each inner step sees the whole support.
//! * Without `carry`, the inner Adam (`β₁ = 0`, `β₂ = 0.999`) starts anew at every task. The tasks of a meta-batch
//!   all start from the same moments and leave the mean of theirs; in the authors' code one task follows the
//!   other.

use burn::tensor::Tensor;
use meta_core::{
    Error, Result,
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, MetaGradient, New, PredictAt,
        Steps, Toy, adapt::Adaptable,
    },
    nn::{Mode, Pass, encoder::Architecture, init::constant, loss},
    optim::{self, OptimizerKind, OptimizerSettings, OptimizerState, UpdateSettings},
    params::Params,
    primitives::Primitives,
    settings,
    task::{ItemBatch, TaskBatch, TaskSpec},
};
use serde_json::json;

settings! {
    /// Settings of [`Reptile`]; the defaults are those of the paper's comparison on 5-way Omniglot
    /// (appendix A, from memory). The authors' repository tunes them anew for every experiment.
    pub struct ReptileSettings {
        /// `α`, the learning rate of the inner optimiser.
        inner_lr: f64 = 1e-3, above(0.0);
        /// Inner steps `K` in training; with one, Reptile is joint training.
        inner_steps: usize = 5, size(1);
        /// Inner steps at validation and test.
        test_steps: usize = 50, size(1);
        /// Items of the support that an inner step of training sees: the support is shuffled, and taken in such
        /// pieces, again and again. 0: all of it in every step.
        inner_batch: usize = 0;
        /// Whether the inner Adam keeps its second moments from task to task.
        carry: bool = false;
        /// Inner optimiser: `adam` (with `β₁ = 0`), `adamw` (the same, no decay) or `sgd`.
        inner_optimizer: OptimizerKind = OptimizerKind::Adam;
    }
}

impl LearnerSettings for ReptileSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "reptile",
        family: Family::Gradient,
        summary: "moves the initialisation towards the parameters that fine-tuning leads to",
        paper: "Nichol et al., On first-order meta-learning algorithms, arXiv:1803.02999, 2018",
        regression: true,
        any_way: false,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_one_way(Self::INFO.name)?;
        if self.carry && self.inner_optimizer == OptimizerKind::Sgd {
            let expected = "keeps second moments, which `sgd` does not have";
            return Err(Error::setting("learner.carry", true, expected));
        }
        let items = spec.train.support_items();
        if self.inner_batch > items {
            let expected = format!("is more than the support of a training task has, {items}");
            return Err(Error::setting(
                "learner.inner_batch",
                self.inner_batch,
                expected,
            ));
        }
        Ok(())
    }

    /// No graph goes across steps: that of one is held at a time.
    fn steps(&self) -> Steps {
        Steps {
            train: self.inner_steps,
            held: 1,
            test: self.test_steps,
            ..Steps::default()
        }
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Neither(
            "points to where fine-tuning leads \
             (identities::reptile_with_one_step_is_joint_descent)",
            vec![json!({"inner_lr": 0.1, "inner_steps": 2, "inner_optimizer": "sgd"})],
        )
    }

    fn toy() -> Toy {
        Toy {
            settings: json!({"inner_lr": 0.1, "test_steps": 20, "inner_optimizer": "sgd"}),
            ..Toy::default()
        }
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let network = new.network();
        let mut parameters: Params<B> = network.draw(new.seed);
        if self.carry {
            let zeros = parameters.clone().trainable().scale(0.0);
            let moments = carried(zeros, 0, new.device);
            parameters = parameters.join(moments);
        }
        Box::new(Reptile {
            parameters,
            settings: self,
            network,
        })
    }
}

/// Reptile on the backend `B`.
pub struct Reptile<A: Architecture, B: Primitives> {
    settings: ReptileSettings,
    network: Adaptable<A, B::Device>,
    /// `θ`, each `[1, …]`, and what the inner Adam keeps.
    parameters: Params<B>,
}

/// Where the inner Adam's second moments stand among the parameters, as buffers.
const CARRIED: &str = "carried";

/// What follows the path of a parameter in that of its second moments: they are buffers.
const SECOND: &str = ".running_second";

/// How many inner steps they are of.
const COUNT: &str = "running_steps";

/// Second moments after so many steps, as buffers.
fn carried<B: Primitives>(moments: Params<B>, steps: u64, device: &B::Device) -> Params<B> {
    let mut buffers = moments.rename(|path| format!("{path}{SECOND}"));
    buffers.push(COUNT, constant::<B, 1>(steps as f64, [1], device).val());
    buffers.with_prefix(CARRIED)
}

impl<A: Architecture, B: Primitives> Reptile<A, B> {
    /// `θ`.
    fn theta(&self) -> Params<B> {
        self.parameters.outside(CARRIED)
    }

    /// What the inner optimiser of each task starts from.
    fn first_state(&self, tasks: usize) -> OptimizerState<B> {
        if !self.settings.carry {
            return OptimizerState::new();
        }
        let kept = self.parameters.under(CARRIED);
        let count = kept.get::<1>(COUNT).expect("kept with the moments");
        let second = kept.filter(|path| path != COUNT);
        let second = second.rename(|path| path.strip_suffix(SECOND).unwrap_or(path).to_owned());
        let second = second.fan_out(tasks);
        OptimizerState {
            // A mean over the graphs of a meta-batch: whole but for rounding.
            step: count
                .into_data()
                .iter::<f64>()
                .next()
                .unwrap_or(0.0)
                .round() as u64,
            moments: vec![second.clone().scale(0.0), second],
        }
    }

    /// The items of each step of training.
    fn batches(&self, tasks: &TaskBatch<B>) -> Vec<ItemBatch<B>> {
        let ReptileSettings {
            inner_batch: size,
            inner_steps: steps,
            ..
        } = self.settings;
        let [t, s] = tasks.support.dims();
        if size == 0 {
            return vec![tasks.support.clone(); steps];
        }
        // Each task's support, shuffled anew whenever it is used up.
        let mut items: Vec<Vec<usize>> = vec![Vec::new(); t];
        for round in 0..(steps * size).div_ceil(s) {
            let noise = Mode::learning(tasks, "batches", round).noise;
            let keys = match noise {
                Some(noise) => noise.uniform::<B>(0, s, &tasks.support.inputs.device()),
                None => Tensor::zeros([t, s], &tasks.support.inputs.device()),
            };
            let keys: Vec<f64> = keys.into_data().iter::<f64>().collect();
            for (items, keys) in items.iter_mut().zip(keys.chunks(s)) {
                let mut order: Vec<usize> = (0..s).collect();
                order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
                items.extend(order);
            }
        }
        let of_step = |step: usize| -> Vec<Vec<usize>> {
            let own = items.iter();
            own.map(|own| own[step * size..(step + 1) * size].to_vec())
                .collect()
        };
        (0..steps)
            .map(|step| tasks.support.select(&of_step(step)))
            .collect()
    }

    /// One step of the inner optimiser on the support.
    fn inner_step(
        &self,
        fast: Params<B>,
        state: OptimizerState<B>,
        support: &ItemBatch<B>,
        mode: &Mode,
    ) -> (Params<B>, OptimizerState<B>) {
        let optimizer = OptimizerSettings {
            optimizer: self.settings.inner_optimizer,
            update: UpdateSettings {
                beta1: 0.0,
                ..UpdateSettings::default()
            },
        };
        let gradients = self.network.support_gradient(&fast, support, mode);
        optim::step(&optimizer, self.settings.inner_lr, fast, &gradients, state)
    }
}

impl<A: Architecture, B: Primitives> Learner<B> for Reptile<A, B> {
    fn parameters(&self) -> Params<B> {
        self.parameters.clone()
    }

    fn set_parameters(&mut self, parameters: Params<B>) {
        self.parameters
            .check_like(&parameters.shapes())
            .unwrap_or_else(|difference| panic!("{difference}"));
        self.parameters = parameters;
    }

    fn meta_gradient(&self, tasks: &TaskBatch<B>) -> MetaGradient<B> {
        let start = self.theta().fan_out(tasks.tasks());
        let mut fast = start.clone();
        let mut state = self.first_state(tasks.tasks());
        for (step, support) in self.batches(tasks).iter().enumerate() {
            let mode = Mode::learning(tasks, "support", step);
            (fast, state) = self.inner_step(fast, state, support, &mode);
        }
        let mut kept = Params::default();
        if self.settings.carry {
            let second = state.moments.pop().expect("Adam has two moments");
            let mean = second.sum_tasks().scale(1.0 / tasks.tasks() as f64);
            kept = carried(mean, state.step, &tasks.support.inputs.device());
        }
        let moved = start
            .trainable()
            .zip(&fast, |theta, fast| B::float_sub(theta, fast))
            .sum_tasks();
        let mode = Mode::learning(tasks, "query", 0);
        let (predictions, pass) = self.network.predict_queries(fast, tasks, Pass::new(mode));
        let targets = &tasks.query.targets;
        MetaGradient {
            gradients: moved.scale(1.0 / (tasks.tasks() as f64 * self.settings.inner_lr)),
            buffers: pass.statistics.take().with_prefix("encoder").join(kept),
            losses: loss::loss(predictions.clone(), targets),
            scores: loss::score(predictions, targets),
        }
    }

    fn predict(&self, tasks: &TaskBatch<B>, at: PredictAt) -> Vec<Tensor<B, 3>> {
        let start = self.theta().fan_out(tasks.tasks());
        let mut state = self.first_state(tasks.tasks());
        let step = |_, fast| {
            let before = std::mem::take(&mut state);
            let (fast, after) = self.inner_step(fast, before, &tasks.support, &Mode::default());
            state = after;
            fast
        };
        self.network
            .predict_by_step(tasks, at, start, self.settings.test_steps, step)
    }
}

#[cfg(test)]
mod tests {

    use crate::toy::{assert_close, learner, refusal, spec, support_as_queries, tasks, values};
    use meta_core::{
        params::Params,
        primitives::Primitives,
        task::{TargetBatch, TaskBatch},
    };
    use serde_json::json;

    /// The queries of training tasks are reported and not learned from.
    #[test]
    fn the_queries_do_not_move_the_meta_gradient() {
        let spec = spec(3, 2);
        let reptile = learner("reptile", json!({}), &spec);
        let plain = reptile.meta_gradient(&tasks(&spec));
        let other = reptile.meta_gradient(&support_as_queries(tasks(&spec)));
        assert_eq!(plain.gradients.to_data(), other.gradients.to_data());
        assert_ne!(values(plain.losses), values(other.losses));
    }

    /// The first of two tasks.
    fn first_task<B: Primitives>(mut tasks: TaskBatch<B>) -> TaskBatch<B> {
        for items in [&mut tasks.support, &mut tasks.query] {
            items.inputs = items.inputs.clone().narrow(0, 0, 1);
            items.targets = TargetBatch::Classes(items.targets.labels().narrow(0, 0, 1));
        }
        tasks
    }

    /// The first step of Adam with `β₁ = 0` has the size of the rate, whatever the gradient, so the
    /// meta-gradient of one step is a sign.
    #[test]
    fn one_step_of_adam_is_a_sign() {
        let spec = spec(3, 2);
        let tasks = first_task(tasks(&spec));
        let reptile = learner("reptile", json!({"inner_steps": 1, "inner_lr": 0.5}), &spec);
        let gradients = reptile.meta_gradient(&tasks).gradients;
        for value in values(gradients.get::<3>("head.bias").unwrap()) {
            assert!((value.abs() - 1.0).abs() < 1e-3, "{value}");
        }
    }

    /// A mini-batch of the whole support is the support, and of one item, another meta-gradient; the pieces of a
    /// round are all of its items.
    #[test]
    fn mini_batches_are_pieces_of_the_support() {
        let spec = spec(3, 2);
        let tasks = tasks(&spec);
        let found = |settings| {
            let gradients = learner("reptile", settings, &spec)
                .meta_gradient(&tasks)
                .gradients;
            values(gradients.get::<3>("head.bias").unwrap())
        };
        let with = |batch: usize, steps: usize| {
            found(
                json!({"inner_batch": batch, "inner_steps": steps, "inner_optimizer": "sgd", "inner_lr": 1e-4}),
            )
        };
        assert_close(&with(6, 2), &with(0, 2), 1e-4);
        // The mean gradient at next to no rate: six steps of one item, or one of all six.
        let pieces: Vec<f32> = with(1, 6).iter().map(|sum| sum / 6.0).collect();
        assert_close(&pieces, &with(0, 1), 1e-3);
        assert_ne!(with(1, 1), with(0, 1));
    }

    /// With the same gradients `g` again, the kept moments are `(1 − β₂)(1 + β₂) g²` after two steps, which the
    /// correction for two steps makes `g²`: the direction stays a sign.
    #[test]
    fn the_second_moments_are_kept() {
        let spec = spec(3, 2);
        let tasks = first_task(tasks(&spec));
        let settings = json!({"inner_steps": 1, "inner_lr": 1e-6, "carry": true});
        let mut reptile = learner("reptile", settings, &spec);
        let first = reptile.meta_gradient(&tasks);
        let parameters = reptile.parameters().overwrite(first.buffers);
        reptile.set_parameters(parameters);
        let second = reptile.meta_gradient(&tasks).gradients;
        let bias = |gradients: &Params<_>| values(gradients.get::<3>("head.bias").unwrap());
        // At so small a step, `θ − θᴷ` has few digits.
        assert_close(&bias(&first.gradients), &bias(&second), 0.05);
        let kept = reptile.parameters();
        let steps = kept.get::<1>("carried.running_steps").expect("a count");
        assert_eq!(values(steps), [1.0]);
        let message = refusal(
            "reptile",
            json!({"carry": true, "inner_optimizer": "sgd"}),
            &spec,
        );
        assert!(message.contains("`learner.carry = true`"), "{message}");
        let message = refusal("reptile", json!({"inner_batch": 7}), &spec);
        assert!(message.contains("`learner.inner_batch = 7`"), "{message}");
    }
}
