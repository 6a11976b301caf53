//! Attention between modalities.

use burn::{
    module::Module,
    tensor::{Bool, Tensor, backend::Backend},
};

use super::{
    AttentionInfo,
    multi_head::{MultiHeadAttention, MultiHeadSettings},
};
use crate::{
    Result,
    nn::{Pass, activation::sigmoid, init::Initializer, linear::Linear},
    primitives::{Primitives, tanh},
};

pub(super) const CROSS_MODAL: AttentionInfo = AttentionInfo {
    name: "multimodal",
    family: "layer",
    summary: "queries of one modality read another; a gate mixes what was read with what asked",
    paper: "Tsai et al., Multimodal transformer for unaligned multimodal language sequences, ACL 2019, section 3.1; \
            Arevalo et al., Gated multimodal units for information fusion, ICLR workshop 2017, section 3.1",
};

/// Mixes two modalities by a gate (Arevalo et al., 2017, section 3.1), with weights shared or per
/// task:
///
/// ```text
/// h_a = tanh(a W_a + b_a),   h_b = tanh(b W_b + b_b),   z = σ([a b] W_z + b_z)
/// h = z ⊙ h_a + (1 − z) ⊙ h_b
/// ```
#[derive(Module, Debug)]
pub struct GatedFusion<B: Backend> {
    first: Linear<B>,
    second: Linear<B>,
    gate: Linear<B>,
}

impl<B: Backend> GatedFusion<B> {
    /// Glorot-uniform weights; `widths` are those of the two modalities, `width` that of the result.
    pub fn new(
        widths: [usize; 2],
        width: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let mut layer = |inputs| Linear::glorot(inputs, width, initializer, device);
        GatedFusion {
            first: layer(widths[0]),
            second: layer(widths[1]),
            gate: layer(widths[0] + widths[1]),
        }
    }
}

impl<B: Primitives> GatedFusion<B> {
    /// `a [t, r, d]` and `b [t, r, e]` to `h [t, r, width]`, and the gate `z` of the same shape.
    pub fn forward(&self, a: Tensor<B, 3>, b: Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let both = Tensor::cat(vec![a.clone(), b.clone()], 2);
        let z = sigmoid(self.gate.forward(both));
        let first = tanh(self.first.forward(a));
        let second = tanh(self.second.forward(b));
        (second.clone() + z.clone() * (first - second), z)
    }
}

/// Tokens of one modality read those of another (Tsai et al., ACL 2019, section 3.1), and a
/// [`GatedFusion`] mixes the two.
///
/// # Differences from the papers
/// Tsai et al. add what was read to the query and stack several such blocks; here a gate mixes them.
/// The gate of Arevalo et al. mixes whole items, here tokens.
#[derive(Module, Debug)]
pub struct CrossModal<B: Backend> {
    /// Reads the other modality.
    pub attention: MultiHeadAttention<B>,
    /// Mixes the query with what it read.
    pub fusion: GatedFusion<B>,
}

impl<B: Backend> CrossModal<B> {
    /// Parameters from `initializer`; `settings.queries` is the width of the modality that asks,
    /// `settings.memory` that of the one that is read.
    ///
    /// # Errors
    /// Those of [`MultiHeadSettings::check`].
    pub fn new(
        settings: MultiHeadSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Result<Self> {
        let width = settings.queries;
        Ok(CrossModal {
            attention: MultiHeadAttention::with(settings, initializer, device)?,
            fusion: GatedFusion::new([width, width], width, initializer, device),
        })
    }
}

impl<B: Primitives> CrossModal<B> {
    /// `asking [t, b·l, d]` reads `read [t, b·m, e]` of the same of `items` items: the mixture
    /// `[t, b·l, d]`, and the map `[t·b, heads, l, m]`. `hidden` says what is not read.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn forward(
        &self,
        asking: Tensor<B, 3>,
        read: Tensor<B, 3>,
        items: usize,
        hidden: Option<&Tensor<B, 4, Bool>>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let attend = |queries| self.attention.attend(queries, read, items, hidden, pass);
        let (found, map) = attend(asking.clone());
        (self.fusion.forward(asking, found).0, map)
    }
}
