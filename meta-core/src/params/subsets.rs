//! Parts of a set of parameters, and products task by task.

use burn::tensor::{Shape, Tensor, TensorMetadata, backend::Backend};

use super::{Entry, Params, primitive, tensor};

impl<B: Backend> Params<B> {
    /// These entries, then those of `other`.
    pub fn join(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// The entries below `prefix`, without it: `head.weight` is `weight` under `head`.
    pub fn under(&self, prefix: &str) -> Self {
        let entries = self.entries.iter().filter_map(|entry| {
            let name = entry.name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some(Entry {
                name: name.to_owned(),
                tensor: entry.tensor.clone(),
            })
        });
        Params {
            entries: entries.collect(),
        }
    }

    /// The entries that are not below `prefix`.
    pub fn outside(&self, prefix: &str) -> Self {
        let start = format!("{prefix}.");
        let entries = self.entries.iter();
        Params {
            entries: entries
                .filter(|entry| !entry.name.starts_with(&start))
                .cloned()
                .collect(),
        }
    }

    /// The same entries under other paths.
    pub fn rename(self, path: impl Fn(&str) -> String) -> Self {
        let entries = self.entries.into_iter().map(|entry| Entry {
            name: path(&entry.name),
            tensor: entry.tensor,
        });
        Params {
            entries: entries.collect(),
        }
    }

    /// `value` everywhere, under the paths of the trainable entries; `shape` makes the shape of each
    /// from that of the entry.
    pub fn constants(&self, value: f64, shape: impl Fn(&[usize]) -> Vec<usize>) -> Self {
        let entries = self.entries.iter().filter(|entry| !entry.is_buffer());
        Params {
            entries: entries
                .map(|entry| {
                    let shape = shape(&entry.tensor.shape().to_vec());
                    let device = B::float_device(&entry.tensor);
                    let dtype = entry.tensor.dtype().into();
                    Entry {
                        name: entry.name.clone(),
                        tensor: B::float_full(Shape::from(shape), value.into(), &device, dtype),
                    }
                })
                .collect(),
        }
    }

    /// Inner product of each task over all trainable entries of `[t, …]`: `[t]`.
    ///
    /// # Panics
    /// When there is no trainable entry, or `other` lacks one.
    pub fn dot_tasks(&self, other: &Self) -> Tensor<B, 1> {
        let products = self
            .clone()
            .trainable()
            .zip(other, |a, b| B::float_mul(a, b));
        products
            .entries
            .into_iter()
            .map(|entry| {
                let (t, n) = rows(&entry);
                let flat = B::float_reshape(entry.tensor, Shape::from([t, n]));
                tensor::<B, 2>(B::float_sum_dim(flat, 1)).reshape([t])
            })
            .reduce(|total, term| total + term)
            .expect("at least one trainable parameter")
    }

    /// Euclidean distance of each task's trainable entries `[t, …]` from those of `start`, by layer
    /// (the path up to the entry's own name): name and `[t]`.
    ///
    /// # Panics
    /// When `start` lacks one of them.
    pub fn distances(&self, start: &Self) -> Vec<(String, Tensor<B, 1>)> {
        let moved = self
            .clone()
            .trainable()
            .zip(start, |now, start| B::float_sub(now, start));
        let mut layers: Vec<&str> = Vec::new();
        for name in moved.names() {
            let layer = name.rsplit_once('.').map_or(name, |(layer, _)| layer);
            if !layers.contains(&layer) {
                layers.push(layer);
            }
        }
        let distance = |layer: &str| {
            let of_layer = moved.filter(|name| {
                name == layer || name.rsplit_once('.').is_some_and(|(path, _)| path == layer)
            });
            of_layer.dot_tasks(&of_layer).sqrt()
        };
        layers
            .iter()
            .map(|layer| ((*layer).to_owned(), distance(layer)))
            .collect()
    }

    /// All `n` trainable scalars of each task, one entry after the other: `[t, n]`.
    ///
    /// # Panics
    /// When there is no trainable entry.
    pub fn flatten(&self) -> Tensor<B, 2> {
        let rows = self
            .entries
            .iter()
            .filter(|entry| !entry.is_buffer())
            .map(|entry| {
                let (t, n) = rows(entry);
                tensor(B::float_reshape(entry.tensor.clone(), Shape::from([t, n])))
            });
        Tensor::cat(rows.collect(), 1)
    }

    /// The same entries with these trainable scalars, `[t, n]`: the inverse of [`Params::flatten`].
    ///
    /// # Panics
    /// When there are fewer.
    pub fn unflatten(self, flat: Tensor<B, 2>) -> Self {
        let mut start = 0;
        self.map(|old| {
            let shape = old.shape();
            let n = shape.num_elements() / shape.to_vec()[0];
            let part = flat.clone().narrow(1, start, n);
            start += n;
            B::float_reshape(primitive(part), shape)
        })
    }

    /// Multiplies the trainable entries of each task by its factor, `[t]`.
    pub fn scale_tasks(self, factors: &Tensor<B, 1>) -> Self {
        self.map(|entry| {
            let mut shape = vec![1; entry.rank()];
            shape[0] = factors.dims()[0];
            let factors = B::float_reshape(primitive(factors.clone()), Shape::from(shape));
            B::float_mul(entry, factors)
        })
    }
}

/// Tasks of an entry, and scalars of each.
fn rows<B: Backend>(entry: &Entry<B>) -> (usize, usize) {
    let shape = entry.tensor.shape();
    let t = shape.to_vec()[0];
    (t, shape.num_elements() / t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    fn example() -> Params<Cpu> {
        let device = Default::default();
        let mut params = Params::default();
        params.push(
            "encoder.weight",
            Tensor::<Cpu, 2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device),
        );
        params.push(
            "encoder.running_mean",
            Tensor::<Cpu, 2>::from_data([[9.0], [9.0]], &device),
        );
        params.push(
            "head.bias",
            Tensor::<Cpu, 2>::from_data([[5.0], [6.0]], &device),
        );
        params
    }

    #[test]
    fn parts_by_prefix() {
        let names =
            |params: Params<Cpu>| -> Vec<String> { params.names().map(str::to_owned).collect() };
        let all = example();
        assert_eq!(names(all.under("head")), ["bias"]);
        assert!(all.under("hea").is_empty());
        assert_eq!(names(all.outside("encoder")), ["head.bias"]);
        assert_eq!(
            names(all.outside("encoder").join(all.under("encoder"))),
            ["head.bias", "weight", "running_mean"]
        );
    }

    /// A layer moves by the length of its change, task by task; buffers do not count.
    #[test]
    fn distances_by_layer() {
        let start = example();
        let moved = start.clone().scale(4.0);
        let expected = [
            ("encoder", [3.0 * 5f32.sqrt(), 15.0]),
            ("head", [15.0, 18.0]),
        ];
        let distances = moved.distances(&start);
        assert_eq!(distances.len(), expected.len());
        for ((layer, distance), (name, lengths)) in distances.into_iter().zip(expected) {
            assert_eq!(layer, name);
            let found = distance.into_data().to_vec::<f32>().unwrap();
            let off = found.iter().zip(lengths).map(|(f, e)| (f - e).abs());
            assert!(off.fold(0.0, f32::max) < 1e-5, "{found:?}");
        }
    }

    #[test]
    fn flat_and_back() {
        let all = example();
        let flat = all.flatten();
        let values = flat.clone().into_data().to_vec::<f32>().unwrap();
        assert_eq!(values, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
        let back = all.clone().unflatten(flat.mul_scalar(2.0));
        assert_eq!(back.to_data(), all.scale(2.0).to_data());
    }

    #[test]
    fn products_keep_tasks_apart_and_leave_buffers_out() {
        let dots = example().dot_tasks(&example());
        assert_eq!(
            dots.clone().into_data().to_vec::<f32>().unwrap(),
            [30.0, 61.0]
        );
        let scaled = example().scale_tasks(&dots);
        let bias = scaled.get::<2>("head.bias").unwrap().into_data();
        assert_eq!(bias.to_vec::<f32>().unwrap(), [150.0, 366.0]);
        let ones = example().constants(1.0, |shape| vec![1; shape.len()]);
        assert_eq!(
            ones.shapes(),
            [
                ("encoder.weight".to_owned(), vec![1, 1]),
                ("head.bias".to_owned(), vec![1, 1])
            ]
        );
    }
}
