//! Support and queries through an encoder: which items share a pass.
//!
//! A normalisation over the items of a pass ([`Statistics::Episode`], [`Statistics::Support`]) sees what
//! passes together, so this is where a learner is transductive or not:
//!
//! | learners | support | queries |
//! |---|---|---|
//! | that compare or read ([`embed_together`]) | with the queries | with the support |
//! | that adapt a part on embeddings ([`Embedded::of`]) | alone | alone |
//! | that adapt the encoder ([`forward_queries`]) | alone, in every step | alone |
//! | … the last two with [`Statistics::Support`] | – | behind the support, whose statistics they take |

use burn::tensor::Tensor;

use crate::{
    nn::{Mode, Pass, encoder::Encoder, norm::Statistics},
    primitives::Primitives,
    task::{ItemBatch, TaskBatch},
};

/// What `forward` makes of support and queries in one pass: `[t, s, …]` and `[t, q, …]`.
fn together<L: Primitives>(
    forward: impl FnOnce(Tensor<L, 3>) -> Tensor<L, 3>,
    tasks: &TaskBatch<L>,
) -> (Tensor<L, 3>, Tensor<L, 3>) {
    let ([_, s], [_, q]) = (tasks.support.dims(), tasks.query.dims());
    let items = vec![tasks.support.inputs.clone(), tasks.query.inputs.clone()];
    let all = forward(Tensor::cat(items, 1));
    (all.clone().narrow(1, 0, s), all.narrow(1, s, q))
}

/// Embeds support and queries in one pass, so that normalisation sees them together: `[t, s, d]` and
/// `[t, q, d]`; or what they were embedded as before ([`Pass::embedded`]).
pub fn embed_together<L: Primitives>(
    encoder: &impl Encoder<L>,
    tasks: &TaskBatch<L>,
    pass: &Pass<L>,
) -> (Tensor<L, 3>, Tensor<L, 3>) {
    if let Some([support, query]) = pass.embedded() {
        return (support.clone(), query.clone());
    }
    together(|items| encoder.forward(items, pass), tasks)
}

/// What `forward` makes of the queries, `[t, q, …]`, and the pass that made it.
///
/// Where statistics come from the support ([`Statistics::Support`]), the support passes through the
/// network before the queries; otherwise the queries pass alone.
pub fn forward_queries<L: Primitives>(
    forward: impl FnOnce(Tensor<L, 3>, &Pass<L>) -> Tensor<L, 3>,
    statistics: Statistics,
    tasks: &TaskBatch<L>,
    pass: Pass<L>,
) -> (Tensor<L, 3>, Pass<L>) {
    if statistics != Statistics::Support {
        return (forward(tasks.query.inputs.clone(), &pass), pass);
    }
    let pass = pass.with_reference(tasks.support.dims()[1]);
    let (_, query) = together(|items| forward(items, &pass), tasks);
    (query, pass)
}

/// The items of a meta-batch as an encoder that is not adapted sees them.
pub struct Embedded<L: Primitives> {
    /// Embeddings of the support with its targets, `[t, s, d]`.
    pub support: ItemBatch<L>,
    /// Embeddings of the queries, `[t, q, d]`.
    pub query: Tensor<L, 3>,
    /// The pass of the queries.
    pub pass: Pass<L>,
}

impl<L: Primitives> Embedded<L> {
    /// Embeds support and queries once: each alone, or together where statistics come from the
    /// support ([`Statistics::Support`]).
    pub fn of(
        encoder: &impl Encoder<L>,
        statistics: Statistics,
        tasks: &TaskBatch<L>,
        training: bool,
    ) -> Self {
        let pass = |purpose| {
            if training {
                Pass::new(Mode::learning(tasks, purpose, 0))
            } else {
                Pass::evaluation()
            }
        };
        let (support, query, pass) = if statistics == Statistics::Support {
            let pass = pass("task").with_reference(tasks.support.dims()[1]);
            let (support, query) = embed_together(encoder, tasks, &pass);
            (support, query, pass)
        } else {
            let of_queries = pass("query");
            let query = encoder.forward(tasks.query.inputs.clone(), &of_queries);
            let support = encoder.forward(tasks.support.inputs.clone(), &pass("support"));
            (support, query, of_queries)
        };
        Embedded {
            support: ItemBatch {
                inputs: support,
                ..tasks.support.clone()
            },
            query,
            pass,
        }
    }
}
