//! Changing a layer through the features that it puts out.

use burn::tensor::{Shape, Tensor, TensorMetadata, backend::Backend, ops::FloatTensor};

use super::{Entry, Params, primitive};

/// A layer with features: a weight, a shift (`bias` of a linear layer, `beta` of a normalisation), or
/// both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureLayer {
    /// Its path.
    pub path: String,
    /// Number of its features `c`.
    pub features: usize,
    /// Entries of its weight for each feature; none where it has no weight.
    pub inputs: Option<usize>,
    /// Whether it has a shift.
    pub shifts: bool,
}

impl<B: Backend> Params<B> {
    /// The layers with features, in order.
    pub fn feature_layers(&self) -> Vec<FeatureLayer> {
        let mut layers: Vec<FeatureLayer> = Vec::new();
        for (name, shape) in self.shapes() {
            let (path, field) = name.rsplit_once('.').unwrap_or(("", &name));
            let features = *shape.last().expect("no entry is a scalar");
            let inputs = (field == "weight").then(|| shape.iter().product::<usize>() / features);
            let shifts = matches!(field, "bias" | "beta");
            match layers.iter_mut().find(|layer| layer.path == path) {
                Some(layer) => {
                    layer.inputs = layer.inputs.or(inputs);
                    layer.shifts |= shifts;
                }
                None if shifts || inputs.is_some() => layers.push(FeatureLayer {
                    path: path.to_owned(),
                    features,
                    inputs,
                    shifts,
                }),
                None => {}
            }
        }
        layers
    }

    /// The outputs `y` of the layer at `path` become `(1 + s) ⊙ y + δ`, feature by feature, with `s` and
    /// `δ` of each task, `[t, 1, c]`: its weights, scales and shifts are multiplied by `1 + s`, and `δ` is
    /// added to its shift.
    pub fn modulate_features(self, path: &str, scale: &Tensor<B, 3>, shift: &Tensor<B, 3>) -> Self {
        let [t, _, c] = scale.dims();
        let factors = scale.clone().add_scalar(1.0);
        self.map_layer(path, |field, entry| {
            let mut shape = vec![1; entry.rank()];
            shape[0] = t;
            shape[entry.rank() - 1] = c;
            let factors = B::float_reshape(primitive(factors.clone()), Shape::from(shape));
            let scaled = B::float_mul(entry, factors);
            match field {
                "bias" | "beta" => B::float_add(scaled, primitive(shift.clone())),
                _ => scaled,
            }
        })
    }

    /// Adds `change [t, i, c]` to the weight of the layer at `path`, `i` entries for each of its `c`
    /// features, and `δ [t, 1, c]` to its shift, where it has one.
    pub fn shift_layer(self, path: &str, change: &Tensor<B, 3>, shift: &Tensor<B, 3>) -> Self {
        self.map_layer(path, |field, entry| match field {
            "weight" => {
                let mut shape = entry.shape().to_vec();
                shape[0] = change.dims()[0];
                let change = B::float_reshape(primitive(change.clone()), Shape::from(shape));
                B::float_add(entry, change)
            }
            "bias" | "beta" => B::float_add(entry, primitive(shift.clone())),
            _ => entry,
        })
    }

    /// Applies `f` to the trainable entries of the layer at `path`, given with their own names.
    fn map_layer(self, path: &str, f: impl Fn(&str, FloatTensor<B>) -> FloatTensor<B>) -> Self {
        let changed = |entry: Entry<B>| {
            let (layer, field) = entry.name.rsplit_once('.').unwrap_or(("", &entry.name));
            if layer == path && !entry.is_buffer() {
                Entry {
                    tensor: f(field, entry.tensor),
                    name: entry.name.clone(),
                }
            } else {
                entry
            }
        };
        Params {
            entries: self.entries.into_iter().map(changed).collect(),
        }
    }
}
