//! Settings of the outer loop.

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use super::task_selection::{Judge, TaskSelection};
use crate::{
    Error, Result,
    data::Task,
    optim::{OptimizerKind, OptimizerSettings, UpdateSettings},
    parallel::TaskChunks,
    params::Params,
    settings,
};

/// How the learning rate changes over the iterations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// The same at every iteration.
    Constant,
    /// Half a cosine from `lr` to `lr_final` (Loshchilov and Hutter, *SGDR*, ICLR 2017, equation 5,
    /// without restarts).
    Cosine,
    /// Multiplied by `step_factor` after every `step_every` iterations.
    Step,
}

/// By which validation metric the best parameters are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepBest {
    /// Highest validation accuracy (regression: lowest mean squared error).
    Accuracy,
    /// Lowest validation loss.
    Loss,
    /// No choice: the parameters after the last iteration.
    Last,
}

settings! {
    /// Settings of the outer loop.
    pub struct TrainSettings {
        /// Outer iterations (steps of the outer optimiser). 0: nothing is trained, and the first
        /// parameters are tested.
        iterations: u64 = 2000;
        /// Tasks in a meta-batch.
        meta_batch: usize = 4, size(1);
        /// Tasks in one computation graph; the gradients of a meta-batch's chunks are averaged with
        /// their sizes as weights. Bounds memory; changes only rounding. 0: as many as `chunk_memory`
        /// allows.
        task_chunk: usize = 0, size(0);
        /// Memory that the graphs computed at a time may take, in MB, by an estimate from the settings
        /// alone, and 16 times as much on a device; at least one task is taken. 0: no bound, the whole
        /// meta-batch in one graph.
        chunk_memory: usize = 256;
        /// Graphs computed side by side on a CPU, at most, each on a thread of its own; they change no
        /// result. 0: as many as there are threads, within `chunk_memory`.
        graphs_at_once: usize = 0, size(0);
        /// Memory that the whole run may take, in MB: one that grows beyond it saves itself and ends.
        /// 0: nine tenths of what is available when it starts. Not part of the run's identity.
        #[added("0.2")]
        memory: u64 = 0;
        /// Learning rate of the outer optimiser.
        lr: f64 = 1e-3, above(0.0);
        /// Schedule of the learning rate: `constant`, `cosine` or `step`.
        schedule: Schedule = Schedule::Constant;
        /// Last learning rate of the cosine schedule.
        lr_final: f64 = 0.0, at_least(0.0);
        /// Iterations between two steps of the step schedule.
        step_every: u64 = 2000, at_least(1);
        /// Factor of the learning rate at each step of the step schedule, in (0, 1].
        step_factor: f64 = 0.5, fraction();
        /// Iterations over which the learning rate first rises linearly from 0.
        warmup: u64 = 0;
        /// Whether the encoder's parameters stay as they start: what stands below `encoder.`, for learners
        /// that learn something beside it.
        #[added("0.2")]
        freeze_encoder: bool = false;
        /// Update rule of the outer loop: `adam`, `adamw`, `sgd`, or one of a crate of your own.
        optimizer: String = "adam".to_owned();
        /// Weights of the tasks of a meta-batch: `none` (all alike), `attention` (by attention over
        /// the tasks' losses and supports) or `uniform` (all alike, and logged).
        task_selection: TaskSelection = TaskSelection::None;
        /// Least entropy of the weights over its maximum, with `task_selection = "attention"`.
        selection_entropy: f64 = 0.9, between(0.0, 1.0);
        /// What the attention over tasks learns from: `next` (what the step does to the loss of the next meta-batch)
        /// or `validation` (to that of as many validation tasks, whose meta-gradients are computed for it).
        #[added("0.2")]
        selection_judge: Judge = Judge::Next;
        /// Learning rate of the attention over tasks (Adam).
        selection_lr: f64 = 1e-2, above(0.0);
        /// Probability that a training task is corrupted: its support items change places at random, and its queries
        /// theirs, so that labels say nothing of items. What task selection is tried on.
        #[added("0.2")]
        corrupted_tasks: f64 = 0.0, between(0.0, 1.0);
        /// Largest Euclidean norm of the meta-gradient, which is scaled down to it. 0: no limit.
        clip_norm: f64 = 0.0, at_least(0.0);
        /// Iterations between two logged iterations. 0: none is logged.
        log_every: u64 = 10;
        /// Iterations between two validations; there is one more after the last iteration. 0: never.
        validate_every: u64 = 500;
        /// Frozen episodes of a validation.
        validation_episodes: usize = 100;
        /// Which parameters are tested: `accuracy` (highest validation accuracy; regression: lowest
        /// mean squared error), `loss` (lowest validation loss) or `last` (after the last iteration).
        keep_best: KeepBest = KeepBest::Accuracy;
        /// Validations in a row without improvement after which training stops. 0: never.
        patience: u64 = 0;
        /// Iterations between two checkpoints; there is always one after the last iteration. 0: only
        /// that one.
        checkpoint_every: u64 = 500;
        ..update: UpdateSettings;
    }
}

impl TrainSettings {
    /// Checks the values against each other; [`Settings::from_value`](crate::settings::Settings::from_value)
    /// has checked each alone.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key under `train.`, its value and what was expected.
    pub fn check(&self) -> Result<()> {
        let refuse = |key: &str, value: String, expected: String| {
            Err(Error::setting(format!("train.{key}"), value, expected))
        };
        if self.warmup > 0 && self.warmup >= self.iterations {
            let expected = format!("must be below train.iterations = {}", self.iterations);
            return refuse("warmup", self.warmup.to_string(), expected);
        }
        if self.validate_every > 0 && self.validation_episodes < 2 {
            let value = self.validation_episodes.to_string();
            let expected = "must be at least 2 (an interval needs two)".to_owned();
            return refuse("validation_episodes", value, expected);
        }
        if self.patience > 0 && self.validate_every == 0 {
            let expected = "needs validations, but train.validate_every = 0".to_owned();
            return refuse("patience", self.patience.to_string(), expected);
        }
        Ok(())
    }

    /// Checks that there is something to train, unless nothing is to be trained, and that tasks have targets that
    /// can be wrong, if they are to be.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `train.iterations`, `train.freeze_encoder` or `train.corrupted_tasks`.
    pub fn check_trainable<B: Backend>(&self, parameters: &Params<B>, task: Task) -> Result<()> {
        if self.corrupted_tasks > 0.0 && task.is_acting() {
            let expected = "is for tasks with targets: those of this source are acted in";
            let value = self.corrupted_tasks;
            return Err(Error::setting("train.corrupted_tasks", value, expected));
        }
        if self.iterations > 0 && parameters.num_elements() == 0 {
            let expected = "must be 0: this learner and this encoder have nothing to train";
            return Err(Error::setting(
                "train.iterations",
                self.iterations,
                expected,
            ));
        }
        let beside = parameters.filter(|name| !Self::is_of_encoder(name));
        let has_encoder = parameters.names().any(Self::is_of_encoder);
        if self.freeze_encoder && (!has_encoder || beside.num_elements() == 0) {
            let expected = "leaves nothing to train: this learner is its encoder; for a test of weights as \
                            they are, `train.iterations = 0`";
            return Err(Error::setting("train.freeze_encoder", true, expected));
        }
        Ok(())
    }

    /// Whether the parameter or buffer of this name is one of the encoder.
    pub fn is_of_encoder(name: &str) -> bool {
        name.starts_with("encoder.")
    }

    /// The outer optimiser, where it is one of [`crate::optim`].
    pub fn built_in_optimizer(&self) -> Option<OptimizerSettings> {
        Some(OptimizerSettings {
            optimizer: OptimizerKind::named(&self.optimizer)?,
            update: self.update.clone(),
        })
    }

    /// How a meta-batch is cut into computation graphs.
    pub fn graphs(&self) -> TaskChunks {
        TaskChunks {
            tasks: self.task_chunk,
            concurrent: self.graphs_at_once,
        }
    }

    /// The learning rate of `iteration`, counted from 1.
    ///
    /// Cosine, with `w` = warmup and `N` = iterations: `lr_final + (lr − lr_final) · ½(1 + cos(π
    /// (i − 1 − w) / (N − w)))`. During warm-up the scheduled rate is multiplied by `i / w`.
    pub fn learning_rate(&self, iteration: u64) -> f64 {
        let done = (iteration - 1) as f64;
        let warmup = self.warmup as f64;
        let scheduled = match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Cosine => {
                let part = (done - warmup).max(0.0) / (self.iterations as f64 - warmup);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * part).cos());
                self.lr_final + (self.lr - self.lr_final) * cosine
            }
            Schedule::Step => {
                let steps = (iteration - 1) / self.step_every;
                self.lr
                    * self
                        .step_factor
                        .powi(i32::try_from(steps).unwrap_or(i32::MAX))
            }
        };
        if iteration < self.warmup {
            scheduled * iteration as f64 / warmup
        } else {
            scheduled
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_schedules_match_their_formulas() {
        let settings = |schedule| TrainSettings {
            iterations: 100,
            lr: 1.0,
            schedule,
            lr_final: 0.1,
            step_every: 30,
            step_factor: 0.5,
            ..TrainSettings::default()
        };
        assert_eq!(settings(Schedule::Constant).learning_rate(77), 1.0);
        let cosine = settings(Schedule::Cosine);
        assert_eq!(cosine.learning_rate(1), 1.0);
        assert!((cosine.learning_rate(51) - 0.55).abs() < 1e-12);
        let step = settings(Schedule::Step);
        let rates = [1, 30, 31, 60, 61].map(|iteration| step.learning_rate(iteration));
        assert_eq!(rates, [1.0, 1.0, 0.5, 0.5, 0.25]);
        let warm = TrainSettings {
            warmup: 10,
            ..settings(Schedule::Constant)
        };
        let rates = [1, 5, 10, 11].map(|iteration| warm.learning_rate(iteration));
        assert_eq!(rates, [0.1, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn settings_read_flat_and_refuse_what_cannot_be() {
        let given = json!({ "optimizer": "sgd", "momentum": 0.9, "iterations": 5, "lr": 1 });
        let settings = TrainSettings::from_value("train", &given).unwrap();
        assert_eq!(settings.update.momentum, 0.9);
        settings.check().unwrap();
        for (key, value) in [
            ("iterations", json!(-1)),
            ("meta_batch", json!(0)),
            ("lr", json!(0.0)),
            ("momentum", json!(1.0)),
            ("clip_norm", json!(-1.0)),
            ("warmup", json!(5)),
            ("step_factor", json!(2.0)),
            ("validation_episodes", json!(1)),
            ("selection_entropy", json!(1.5)),
            ("corrupted_tasks", json!(1.5)),
            ("selection_lr", json!(0.0)),
        ] {
            let mut bad = given.clone();
            bad[key] = value;
            let message = TrainSettings::from_value("train", &bad)
                .and_then(|settings| settings.check())
                .unwrap_err()
                .to_string();
            assert!(message.contains(&format!("train.{key}")), "{message}");
        }
        let unknown = TrainSettings::from_value("train", &json!({ "optimiser": "adam" }));
        let message = unknown.unwrap_err().to_string();
        assert!(message.contains("did you mean `optimizer`"), "{message}");
    }
}
