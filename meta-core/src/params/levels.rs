//! Up and down the autodiff levels.

use burn::tensor::{
    TensorMetadata,
    backend::{AutodiffBackend, Backend},
    ops::FloatTensor,
};

use super::{Entry, Params};
use crate::primitives::Primitives;

impl<B: Backend> Params<B> {
    /// The same values as leaves of the level above, ready to be differentiated with respect to.
    ///
    /// Where `B` is itself an autodiff level, the values stay on its graph: an update computed from
    /// gradients of the level above is differentiable on `B`. Every trainable entry requires
    /// gradients: `AutodiffModule::from_inner` would leave a non-leaf value without, and the inner
    /// gradient would vanish from the second step on.
    pub fn lift<A>(self) -> Params<A>
    where
        A: Primitives + AutodiffBackend<InnerBackend = B>,
    {
        self.lift_with(Params::default()).0
    }

    /// [`Params::lift`] of two sets whose leaves meet in one graph: each lifted by itself may lose a part of a
    /// gradient ([`crate::params`], "Graphs").
    pub fn lift_with<A>(self, other: Self) -> (Params<A>, Params<A>)
    where
        A: Primitives + AutodiffBackend<InnerBackend = B>,
    {
        let sets = (self.untied_leaves::<A>(), other.untied_leaves::<A>());
        let entries = sets.0.entries.iter().chain(&sets.1.entries);
        let trainable = entries.filter(|entry| !entry.is_buffer());
        let leaves: Vec<_> = trainable.map(|entry| entry.tensor.clone()).collect();
        A::tie(&leaves);
        sets
    }

    fn untied_leaves<A: AutodiffBackend<InnerBackend = B>>(self) -> Params<A> {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| {
                    let is_buffer = entry.is_buffer();
                    let lifted = A::from_inner(entry.tensor);
                    Entry {
                        tensor: if is_buffer {
                            lifted
                        } else {
                            A::float_set_require_grad(lifted, true)
                        },
                        name: entry.name,
                    }
                })
                .collect(),
        }
    }

    /// The same values on the level above as constants: no gradient will be collected for them.
    pub fn lift_constant<A: AutodiffBackend<InnerBackend = B>>(self) -> Params<A> {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| Entry {
                    tensor: A::from_inner(entry.tensor),
                    name: entry.name,
                })
                .collect(),
        }
    }
}

impl<B: Backend> Params<B> {
    /// The same values, cut off from the graph of their level; on a plain backend nothing changes.
    pub fn detach(self) -> Self {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| Entry {
                    tensor: B::float_detach(entry.tensor),
                    name: entry.name,
                })
                .collect(),
        }
    }
}

impl<A: AutodiffBackend> Params<A> {
    /// The values on the level below, still on that level's graph (`AutodiffModule::valid` would cut
    /// it).
    pub fn lower(self) -> Params<A::InnerBackend> {
        Params {
            entries: self
                .entries
                .into_iter()
                .map(|entry| Entry {
                    tensor: A::inner(entry.tensor),
                    name: entry.name,
                })
                .collect(),
        }
    }

    /// The gradients of one backward pass with respect to these leaves, on the level below.
    ///
    /// A trainable entry that the loss does not depend on gets zeros; buffers are left out.
    pub fn gradients(&self, gradients: &A::Gradients) -> Params<A::InnerBackend> {
        Params {
            entries: self
                .entries
                .iter()
                .filter(|entry| !entry.is_buffer())
                .map(|entry| Entry {
                    tensor: A::grad(&entry.tensor, gradients).unwrap_or_else(|| {
                        zeros_like::<A::InnerBackend>(A::inner(entry.tensor.clone()))
                    }),
                    name: entry.name.clone(),
                })
                .collect(),
        }
    }
}

fn zeros_like<B: Backend>(like: FloatTensor<B>) -> FloatTensor<B> {
    let device = B::float_device(&like);
    let dtype = like.dtype();
    B::float_zeros(like.shape(), &device, dtype.into())
}
