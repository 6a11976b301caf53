//! Scores by scaled dot products.

use burn::tensor::Tensor;

use super::AttentionInfo;
use crate::primitives::{MatrixProduct, Primitives};

pub(super) const SCALED_DOT_PRODUCT: AttentionInfo = AttentionInfo {
    name: "scaled_dot_product",
    family: "score",
    summary: "products of query and key, divided by the root of their width",
    paper: "Vaswani et al., Attention is all you need, NIPS 2017, section 3.2.1",
};

/// `score(q, k) = q·k / √d` (Vaswani et al., NIPS 2017, eq. 1): `q [n, heads, l, d]`,
/// `k [n, heads, m, d]`, result `[n, heads, l, m]`.
///
/// # Panics
/// When queries and keys differ in width.
pub fn dot_product_scores<B: Primitives>(q: Tensor<B, 4>, k: Tensor<B, 4>) -> Tensor<B, 4> {
    let d = q.dims()[3];
    assert_eq!(d, k.dims()[3], "q {:?}, k {:?}", q.dims(), k.dims());
    q.product(k.swap_dims(2, 3))
        .mul_scalar(1.0 / (d as f64).sqrt())
}
