//! Levels and parameters: lifting, fan-out, replacing, collecting.
//!
//! A [`Params`] is the ordered, named, rank-erased set of a model's float tensors. It is what
//! learners, optimisers and checkpoints pass around; a Burn module is only the form in which a
//! network computes. This module is the only place that touches the calls of Burn with which a
//! gradient can be lost silently (non-leaf parameters, `require_grad`, `inner`, `from_inner`); its
//! tests hold each of them against closed forms.
//!
//! # Levels
//! Level 0 is a plain backend `B`, level 1 is `Autodiff<B>` (where the meta-gradient is taken),
//! level 2 is `Autodiff<Autodiff<B>>` (where the inner gradient is taken). One inner step of
//! second-order MAML, for parameters `θ` on level 1:
//!
//! ```text
//! fast  = θ.lift()                      leaves of level 2, values still on the graph of level 1
//! model = fast.write_into(skeleton)     a network on level 2
//! g     = fast.gradients(loss.backward())    tensors on level 1, on its graph
//! θ'    = θ − α g                       differentiable on level 1
//! ```
//!
//! # Graphs
//! Burn 0.21 keeps a graph for every leaf, and merges graphs where an operation has parents in several. A leaf
//! whose graph is merged into another, which is then merged into a third, is left in the second, which is empty:
//! what is next computed of this leaf alone lands there, and is removed as unused by the next backward pass of
//! any thread, unless a tensor still holds it. Its part of the gradient is then missing, without a word. So the
//! leaves of a graph are tied together when they are lifted ([`Primitives::tie`](crate::primitives::Primitives::tie)): one merge of all of them, and
//! none after it. Leaves that meet in one graph are lifted by one call, [`Params::lift`] or
//! [`Params::lift_with`].

mod collect;
mod conjugate_gradient;
mod features;
mod levels;
mod subsets;

pub use conjugate_gradient::conjugate_gradient;
pub use features::FeatureLayer;

use burn::tensor::{Shape, Tensor, TensorData, TensorMetadata, backend::Backend, ops::FloatTensor};

use crate::primitives::{primitive, tensor};

/// Last path segment of an entry that is a buffer: saved and fanned out like a parameter, but given
/// neither gradient nor update (running statistics).
pub const BUFFER_PREFIX: &str = "running_";

/// A rank-erased float tensor and the path of the field it belongs to.
#[derive(Clone, Debug)]
struct Entry<B: Backend> {
    name: String,
    tensor: FloatTensor<B>,
}

impl<B: Backend> Entry<B> {
    fn is_buffer(&self) -> bool {
        is_buffer(&self.name)
    }
}

fn is_buffer(name: &str) -> bool {
    name.rsplit('.')
        .next()
        .is_some_and(|field| field.starts_with(BUFFER_PREFIX))
}

/// The float tensors of a model, in the order of its fields, each under its path
/// (`encoder.blocks.0.conv.weight`).
#[derive(Clone, Debug)]
pub struct Params<B: Backend> {
    entries: Vec<Entry<B>>,
}

impl<B: Backend> Default for Params<B> {
    fn default() -> Self {
        Params {
            entries: Vec::new(),
        }
    }
}

impl<B: Backend> Params<B> {
    /// The paths, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Number of entries, buffers included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of scalars in trainable entries.
    pub fn num_elements(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| !entry.is_buffer())
            .map(|entry| entry.tensor.shape().num_elements())
            .sum()
    }

    /// Path and shape of every entry, in order.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.entries
            .iter()
            .map(|entry| (entry.name.clone(), entry.tensor.shape().to_vec()))
            .collect()
    }

    /// The entry called `name`.
    ///
    /// # Panics
    /// When its rank is not `D`.
    pub fn get<const D: usize>(&self, name: &str) -> Option<Tensor<B, D>> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        assert_eq!(entry.tensor.rank(), D, "rank of `{name}`");
        Some(tensor(entry.tensor.clone()))
    }

    /// Adds an entry at the end.
    pub fn push<const D: usize>(&mut self, name: impl Into<String>, value: Tensor<B, D>) {
        self.entries.push(Entry {
            name: name.into(),
            tensor: primitive(value),
        });
    }

    /// Says how `found` (paths and shapes, of a file for example) differs from this set.
    ///
    /// # Errors
    /// The first entry that is missing, superfluous or of another shape, in words.
    pub fn check_like(&self, found: &[(String, Vec<usize>)]) -> Result<(), String> {
        for (name, shape) in self.shapes() {
            match found.iter().find(|(found_name, _)| *found_name == name) {
                None => return Err(format!("parameter `{name}` {shape:?} is missing")),
                Some((_, found_shape)) if *found_shape != shape => {
                    return Err(format!(
                        "parameter `{name}` has shape {found_shape:?}, expected {shape:?}"
                    ));
                }
                Some(_) => {}
            }
        }
        match found
            .iter()
            .find(|(found_name, _)| self.names().all(|name| name != found_name))
        {
            Some((name, shape)) => Err(format!(
                "parameter `{name}` {shape:?} does not belong to this architecture"
            )),
            None => Ok(()),
        }
    }

    /// Host copies of all entries, in order.
    pub fn to_data(&self) -> Vec<(String, TensorData)> {
        let data = self
            .entries
            .iter()
            .map(|entry| {
                let data = burn::tensor::read_sync(B::float_into_data(entry.tensor.clone()))
                    .expect("the device returns its tensors");
                (entry.name.clone(), data)
            })
            .collect();
        crate::device::check();
        data
    }

    /// Entries from host copies; the dtype of the data is kept.
    pub fn from_data(data: Vec<(String, TensorData)>, device: &B::Device) -> Self {
        Params {
            entries: data
                .into_iter()
                .map(|(name, data)| Entry {
                    name,
                    tensor: B::float_from_data(data, device),
                })
                .collect(),
        }
    }

    /// Applies `f` to every trainable entry; buffers stay.
    pub fn map(self, mut f: impl FnMut(FloatTensor<B>) -> FloatTensor<B>) -> Self {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| {
                    if entry.is_buffer() {
                        entry
                    } else {
                        Entry {
                            tensor: f(entry.tensor),
                            name: entry.name,
                        }
                    }
                })
                .collect(),
        }
    }

    /// Applies `f` to every trainable entry and the entry of the same name in `other`; buffers stay.
    ///
    /// # Panics
    /// When `other` lacks one of them.
    pub fn zip(
        self,
        other: &Self,
        mut f: impl FnMut(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
    ) -> Self {
        // Both usually come from one model: the position is right at the first look.
        let find = |position: usize, name: &str| {
            other
                .entries
                .get(position)
                .filter(|entry| entry.name == name)
                .or_else(|| other.entries.iter().find(|entry| entry.name == name))
                .unwrap_or_else(|| panic!("no entry `{name}` to zip with"))
                .tensor
                .clone()
        };
        Params {
            entries: self
                .entries
                .into_iter()
                .enumerate()
                .map(|(position, entry)| {
                    if entry.is_buffer() {
                        entry
                    } else {
                        let right = find(position, &entry.name);
                        Entry {
                            tensor: f(entry.tensor, right),
                            name: entry.name,
                        }
                    }
                })
                .collect(),
        }
    }

    /// `self + other`, entry by entry.
    pub fn plus(self, other: &Self) -> Self {
        self.zip(other, |a, b| B::float_add(a, b))
    }

    /// `factor · self`.
    pub fn scale(self, factor: f64) -> Self {
        self.map(|a| B::float_mul_scalar(a, factor.into()))
    }

    /// `share · self + (1 − share) · other` for every entry, buffers too.
    ///
    /// # Panics
    /// When the two sets differ in names or order.
    pub fn mix(self, share: f64, other: &Self) -> Self {
        assert!(self.names().eq(other.names()), "mix: other names");
        let entries = self.entries.into_iter().zip(&other.entries);
        Params {
            entries: entries
                .map(|(entry, other)| Entry {
                    tensor: B::float_add(
                        B::float_mul_scalar(entry.tensor, share.into()),
                        B::float_mul_scalar(other.tensor.clone(), (1.0 - share).into()),
                    ),
                    name: entry.name,
                })
                .collect(),
        }
    }

    /// Only the trainable entries.
    pub fn trainable(self) -> Self {
        Params {
            entries: self
                .entries
                .into_iter()
                .filter(|entry| !entry.is_buffer())
                .collect(),
        }
    }

    /// The entries whose path `keep` accepts.
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let entries = self.entries.iter();
        Params {
            entries: entries.filter(|entry| keep(&entry.name)).cloned().collect(),
        }
    }

    /// Replaces the entries that `other` has, by name; the rest stays.
    pub fn overwrite(mut self, other: Self) -> Self {
        for replacement in other.entries {
            if let Some(entry) = self
                .entries
                .iter_mut()
                .find(|entry| entry.name == replacement.name)
            {
                *entry = replacement;
            }
        }
        self
    }

    /// Sum of the squares of all trainable scalars, `[1]`.
    ///
    /// # Panics
    /// When there is no trainable entry.
    pub fn squared_norm(&self) -> Tensor<B, 1> {
        self.entries
            .iter()
            .filter(|entry| !entry.is_buffer())
            .map(|entry| {
                let square = B::float_mul(entry.tensor.clone(), entry.tensor.clone());
                tensor::<B, 1>(B::float_sum(square))
            })
            .reduce(|total, term| total + term)
            .expect("at least one trainable parameter")
    }

    /// Adds a prefix to every path (`encoder` + `.` + path).
    pub fn with_prefix(self, prefix: &str) -> Self {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| Entry {
                    name: format!("{prefix}.{}", entry.name),
                    tensor: entry.tensor,
                })
                .collect(),
        }
    }

    /// One copy per task of every entry: `[1, …]` becomes `[tasks, …]`.
    ///
    /// On an autodiff level this is an expand, whose adjoint sums over tasks, so the gradient of the
    /// shared parameters is the sum of those of the copies. (Not `repeat_dim`, whose gradient in Burn
    /// 0.21 is wrong for every axis longer than 1.)
    ///
    /// # Panics
    /// When an entry's task axis is neither 1 nor `tasks`.
    pub fn fan_out(self, tasks: usize) -> Self {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| {
                    let mut shape = entry.tensor.shape().to_vec();
                    assert!(
                        shape[0] == 1 || shape[0] == tasks,
                        "`{}` has {} on the task axis, cannot fan out to {tasks}",
                        entry.name,
                        shape[0]
                    );
                    shape[0] = tasks;
                    Entry {
                        tensor: B::float_expand(entry.tensor, Shape::from(shape)),
                        name: entry.name,
                    }
                })
                .collect(),
        }
    }

    /// The sum over tasks of every entry: `[t, …]` becomes `[1, …]`, the adjoint of
    /// [`Params::fan_out`].
    pub fn sum_tasks(self) -> Self {
        self.map(|tensor| B::float_sum_dim(tensor, 0))
    }
}
