//! Settings that every manifest has, whatever it chooses.

use meta_core::{
    backend::{ComputeTarget, Precision},
    data::{EpisodeShape, Split},
    settings,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

/// Which device of a backend computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The one of this number.
    Number(usize),
    /// That of the number of a process among those of its machine.
    Rank,
}

impl Serialize for DeviceChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            DeviceChoice::Number(number) => number.serialize(serializer),
            DeviceChoice::Rank => "rank".serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DeviceChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok());
        match (number, value.as_str()) {
            (Some(number), _) => Ok(DeviceChoice::Number(number)),
            (None, Some("rank")) => Ok(DeviceChoice::Rank),
            _ => Err(D::Error::custom("expected a number from 0 on, or \"rank\"")),
        }
    }
}

settings! {
    /// Settings at the top of a manifest.
    pub struct RunSettings {
        /// Name of the run, the first part of its folder's name: letters, digits, `-`, `_`, `.`.
        /// Default: the name of the manifest's file.
        name: String = "run".to_owned();
        /// Seed of the initial parameters and of the training episodes.
        seed: u64 = 0;
        /// Backend that computes, where compiled in: `flex`, `ndarray`, `wgpu`, `vulkan`, `cuda`,
        /// `rocm` or `tch`.
        backend: String = "flex".to_owned();
        /// Number of the backend's device, from 0; or `"rank"`: processes that share a run (docs/distributed.md)
        /// take the devices of their machine in turn. Not part of the run's identity.
        device: DeviceChoice = DeviceChoice::Number(0);
        /// Format of all tensors: `f32` or `f64`; `f16` and `bf16`, where the device has them,
        /// evaluate but do not train.
        precision: Precision = Precision::F32;
        /// Threads of the CPU backends, 0 for one per core. Changes no result, and so is not part
        /// of the run's identity.
        threads: usize = 0, between(0, 4096);
        /// Run folder (or file of parameters) whose best parameters training starts from; empty: from
        /// parameters drawn from `seed`. Another learner gives its encoder. Not part of the run's
        /// identity: `init_hash` is.
        #[added("0.2")]
        init_from: String = String::new();
        /// Hash of the parameters of `init_from`: filled in, or checked where it is given.
        #[added("0.2")]
        init_hash: String = String::new();
    }
}

impl RunSettings {
    /// Where to compute.
    pub fn target(&self) -> ComputeTarget {
        self.target_of(0)
    }

    /// Where process `on_machine` of those of this machine computes.
    pub fn target_of(&self, on_machine: usize) -> ComputeTarget {
        ComputeTarget {
            backend: self.backend.clone(),
            device: match self.device {
                DeviceChoice::Number(number) => number,
                DeviceChoice::Rank => on_machine,
            },
            precision: self.precision,
        }
    }
}

settings! {
    /// Settings of `[data]` that every source has; the source's own follow.
    pub struct DataSettings {
        /// Name of the data source; `meta list data` shows them.
        source: String = "glyphs".to_owned();
        /// Classes of a task; 1 for regression.
        way: usize = 5, size(0);
        /// Support items of a class.
        shot: usize = 1, size(0);
        /// Query items of a class.
        query: usize = 15, size(0);
        /// Classes of a training task. 0: as `way`.
        train_way: usize = 0, size(0);
        /// Support items of a class in training. 0: as `shot`.
        train_shot: usize = 0, size(0);
        /// Query items of a class in training. 0: as `query`.
        train_query: usize = 0, size(0);
    }
}

impl DataSettings {
    /// Shape of the validation and test episodes.
    pub fn test_shape(&self) -> EpisodeShape {
        EpisodeShape::new(self.way, self.shot, self.query)
    }

    /// Shape of the training episodes.
    pub fn train_shape(&self) -> EpisodeShape {
        let or = |train: usize, test: usize| if train == 0 { test } else { train };
        EpisodeShape::new(
            or(self.train_way, self.way),
            or(self.train_shot, self.shot),
            or(self.train_query, self.query),
        )
    }
}

settings! {
    /// Settings of `[encoder]` that every encoder has; the encoder's own follow.
    pub struct WeightSettings {
        /// File of weights that the encoder starts from, from PyTorch (`.pt`, `.safetensors`) or `meta
        /// export`: of `conv4`, `resnet12` and `mlp`. Empty: drawn from `seed`. Not part of the run's
        /// identity: `weights_hash` is.
        #[added("0.2")]
        weights: String = String::new();
        /// Hash of that file: filled in, or checked where it is given.
        #[added("0.2")]
        weights_hash: String = String::new();
    }
}

settings! {
    /// Settings of the test.
    pub struct TestSettings {
        /// Frozen episodes of the test.
        episodes: usize = 600, at_least(2);
        /// Part of the source that is tested: `test` or `validation`.
        split: Split = Split::Test;
        /// Seed of the frozen validation and test episodes. Apart from the run's `seed`, so that
        /// runs with other seeds are compared on the same episodes.
        seed: u64 = 0;
        /// Tasks that are evaluated at once, on a CPU in up to four graphs side by side. 0: all.
        /// Bounds memory; changes only rounding.
        chunk: usize = 20;
        /// Share of queries of classes that their task does not have, below 1; 0 for none. With some, the
        /// result says how well they are told from the others.
        #[added("0.2")]
        outsiders: f64 = 0.0, below_one();
        /// Whether a run that trained is also tested as it was before, on the same episodes: a method that is no
        /// better than its own untrained start has learned nothing.
        #[added("0.2")]
        untrained: bool = true;
    }
}

settings! {
    /// Settings of `[tracking]`: what a run writes for other tools while it trains. No part of a run's
    /// identity.
    pub struct TrackingSettings {
        /// Write event files of TensorBoard into the folder `tensorboard` of the run while it trains; show
        /// them with `tensorboard --logdir runs`.
        #[added("0.2")]
        tensorboard: bool = false;
    }
}

settings! {
    /// Settings of `[published]`: the figure that a manifest repeats the experiment of, shown beside the result. No part
    /// of a run's identity.
    pub struct PublishedSettings {
        /// The published score: accuracies in per cent. 0: none is known.
        #[added("0.2")]
        score: f64 = 0.0, at_least(0.0);
        /// Where it stands: authors, year, table.
        #[added("0.2")]
        paper: String = String::new();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Process 3 of its machine.
    #[test]
    fn processes_take_devices_in_turn() {
        let device = |value: Value| -> Result<usize, String> {
            let device = serde_json::from_value(value).map_err(|error| error.to_string())?;
            let settings = RunSettings {
                device,
                ..RunSettings::default()
            };
            assert_eq!(serde_json::to_value(device).unwrap(), json!(device));
            Ok(settings.target_of(3).device)
        };
        assert_eq!(device(json!(1)), Ok(1));
        assert_eq!(device(json!("rank")), Ok(3));
        for wrong in [json!("first"), json!(-1), json!(1.5)] {
            assert!(device(wrong).unwrap_err().contains("\"rank\""));
        }
    }
}
