//! Items as sequences: what their steps are.

use burn::tensor::{Tensor, backend::Backend};

use crate::{Error, Result, data::ItemShape, nn::attention::MapAxis};

/// How an item is read step by step: an item with rows has one row for each step, with all its
/// columns and channels; a vector has one feature for each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    /// Number of steps `l`.
    pub length: usize,
    /// Numbers in one step.
    pub features: usize,
    /// Whether the steps are the features of a vector.
    of_vector: bool,
}

impl Steps {
    /// The steps of an item of this shape.
    pub fn of(item: ItemShape) -> Self {
        match (item.height, item.width) {
            (1, 1) => Steps {
                length: item.channels,
                features: 1,
                of_vector: true,
            },
            (height, width) => Steps {
                length: height,
                features: width * item.channels,
                of_vector: false,
            },
        }
    }

    /// The steps as parts of an item: one below the other, or side by side for a vector.
    pub(super) fn axis(self) -> MapAxis {
        if self.of_vector {
            MapAxis::Part(1, self.length)
        } else {
            MapAxis::Part(self.length, 1)
        }
    }

    /// Refuses items of a single step for the encoder of this name.
    pub(super) fn check(encoder: &str, item: ItemShape) -> Result<()> {
        match Steps::of(item).length {
            0 | 1 => Err(Error::setting(
                "encoder.name",
                encoder,
                format!(
                    "needs items of at least two steps (rows, or features of a vector), and items of \
                     {}×{}×{} have one",
                    item.height, item.width, item.channels
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Items `[t, b, f]` as steps, one row each: `[t, b·l, f / l]`.
    pub(super) fn rows<B: Backend>(self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [t, b, _] = x.dims();
        x.reshape([t, b * self.length, self.features])
    }
}
