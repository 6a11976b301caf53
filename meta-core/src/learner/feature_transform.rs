//! What is done to features before they are compared: centring and normalisation.
//!
//! Wang, Chao, Weinberger and van der Maaten, *SimpleShot: revisiting nearest-neighbor classification for
//! few-shot learning*, 2019 (section 3.2), for a feature `x` and a mean `x̄`:
//!
//! ```text
//! UN     x
//! L2N    x / ‖x‖
//! CL2N   (x − x̄) / ‖x − x̄‖
//! ```

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::nn::distance;

/// What is subtracted from features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Centre {
    /// Nothing.
    None,
    /// The mean over the task's support.
    Support,
    /// The mean over items of training tasks, measured after training.
    Training,
}

/// How features are changed before a rule sees them: nothing by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureTransform {
    /// What is subtracted first.
    pub centre: Centre,
    /// Whether they are then divided by their Euclidean norms.
    pub normalise: bool,
}

impl Default for FeatureTransform {
    fn default() -> Self {
        FeatureTransform {
            centre: Centre::None,
            normalise: false,
        }
    }
}

impl FeatureTransform {
    /// Support `[t, s, d]` and queries `[t, q, d]`, centred and normalised as this says;
    /// `training_mean` is `[1, 1, d]`.
    pub fn apply<B: Backend>(
        self,
        support: Tensor<B, 3>,
        query: Tensor<B, 3>,
        training_mean: Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let centre = match self.centre {
            Centre::None => None,
            Centre::Support => Some(support.clone().mean_dim(1)),
            Centre::Training => Some(training_mean),
        };
        let transform = |x: Tensor<B, 3>| {
            let x = match &centre {
                Some(centre) => x - centre.clone(),
                None => x,
            };
            match self.normalise {
                true => distance::unit(x),
                false => x,
            }
        };
        (transform(support), transform(query))
    }
}
