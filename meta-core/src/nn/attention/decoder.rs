//! A block of a decoder: it reads what came before, then a memory.

use burn::{
    module::Module,
    tensor::{Bool, Tensor, backend::Backend},
};

use super::{
    mask,
    multi_head::{MultiHeadAttention, MultiHeadSettings, ProjectedMemory},
};
use crate::{
    Result,
    nn::{
        Pass,
        dropout::dropout,
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::Primitives,
};

/// Decoder blocks of Vaswani et al. (NIPS 2017, section 3.1) with the normalisation before each part (Xiong
/// et al., ICML 2020):
///
/// ```text
/// x ← x + attention(norm(x), norm(x) up to the same place)
/// x ← x + attention(norm(x), memory)
/// x ← x + W₂ relu(W₁ norm(x))
/// ```
///
/// The memory is read as it is: whoever makes it normalises it. A sequence is decoded as a whole
/// ([`DecoderBlock::forward`]) or a token at a time ([`DecoderBlock::step`]), with the same result.
#[derive(Module, Debug)]
pub struct DecoderBlock<B: Backend> {
    own_norm: Norm<B>,
    own: MultiHeadAttention<B>,
    memory_norm: Norm<B>,
    memory: MultiHeadAttention<B>,
    feed_forward_norm: Norm<B>,
    expand: Linear<B>,
    contract: Linear<B>,
    #[module(skip)]
    dropout: f64,
}

/// What a decoder block reads of a task: the memory `[t, m, e]`, projected once for all of its sequences, and
/// what of it is hidden, in a shape that broadcasts to `[t, heads, b·l, m]`.
#[derive(Clone, Debug)]
pub struct DecoderMemory<B: Backend> {
    projected: ProjectedMemory<B>,
    hidden: Option<Tensor<B, 4, Bool>>,
}

impl<B: Backend> DecoderMemory<B> {
    /// The same memory, of which this is hidden.
    pub fn hiding(self, hidden: Tensor<B, 4, Bool>) -> Self {
        DecoderMemory {
            hidden: Some(hidden),
            ..self
        }
    }
}

impl<B: Backend> DecoderBlock<B> {
    /// A block whose first attention is `own` and whose second is `memory`, with `hidden` hidden units.
    ///
    /// # Errors
    /// Those of [`MultiHeadSettings::check`].
    pub fn new(
        own: MultiHeadSettings,
        memory: MultiHeadSettings,
        hidden: usize,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Result<Self> {
        let width = own.queries;
        let norm = || Norm::new(width, Statistics::Layer, "", device);
        Ok(DecoderBlock {
            own_norm: norm(),
            own: MultiHeadAttention::with(own, initializer, device)?,
            memory_norm: norm(),
            memory: MultiHeadAttention::with(memory, initializer, device)?,
            feed_forward_norm: norm(),
            expand: Linear::he(width, hidden, initializer, device),
            contract: Linear::glorot(hidden, width, initializer, device),
            dropout: own.dropout,
        })
    }
}

impl<B: Primitives> DecoderBlock<B> {
    /// The memory `[t, m, e]` as this block reads it.
    pub fn remember(
        &self,
        memory: Tensor<B, 3>,
        hidden: Option<Tensor<B, 4, Bool>>,
    ) -> DecoderMemory<B> {
        DecoderMemory {
            projected: self.memory.project(memory.clone(), memory, 1),
            hidden,
        }
    }

    /// `x [t, b·l, d]`, sequences of `length` tokens, to the same shape, and the map of what the memory was
    /// read by, `[t, heads, b·l, m]`.
    pub fn forward(
        &self,
        x: Tensor<B, 3>,
        length: usize,
        memory: &DecoderMemory<B>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [_, tokens, _] = x.dims();
        let hidden = mask::causal(length, &x.device());
        let normalised = self.own_norm.forward(x.clone(), tokens, pass);
        let (read, _) = self.own.attend(
            normalised.clone(),
            normalised,
            tokens / length,
            Some(&hidden),
            pass,
        );
        self.add(x, read, memory, pass)
    }

    /// The next token of `b` sequences of each task, `x [t, b, d]`, after those in `before`, where it is put:
    /// to the same shape, and the map `[t, heads, b, m]`.
    pub fn step(
        &self,
        x: Tensor<B, 3>,
        before: &mut Option<ProjectedMemory<B>>,
        memory: &DecoderMemory<B>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [_, sequences, _] = x.dims();
        let normalised = self.own_norm.forward(x.clone(), sequences, pass);
        let new = self
            .own
            .project(normalised.clone(), normalised.clone(), sequences);
        let all = match before.take() {
            Some(before) => before.then(new),
            None => new,
        };
        let (read, _) = self
            .own
            .read_projected(normalised, &all, sequences, None, pass);
        *before = Some(all);
        self.add(x, read, memory, pass)
    }

    /// What follows the first attention's `read`.
    fn add(
        &self,
        x: Tensor<B, 3>,
        read: Tensor<B, 3>,
        memory: &DecoderMemory<B>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Tensor<B, 4>) {
        let [_, tokens, _] = x.dims();
        let dropped = |part| dropout(part, self.dropout, pass);
        let x = x + dropped(read);
        let normalised = self.memory_norm.forward(x.clone(), tokens, pass);
        let (read, map) = self.memory.read_projected(
            normalised,
            &memory.projected,
            1,
            memory.hidden.as_ref(),
            pass,
        );
        let x = x + dropped(read);
        let normalised = self.feed_forward_norm.forward(x.clone(), tokens, pass);
        let hidden = self.expand.forward_relu(normalised);
        (x + dropped(self.contract.forward(hidden)), map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, rng::Seed};

    /// A token at a time is the whole sequence, and a later token changes no earlier one.
    #[test]
    fn a_token_at_a_time_is_the_whole_sequence() {
        let (t, b, l, d, m) = (2, 3, 4, 8, 5);
        let device = Default::default();
        let mut initializer = Initializer::seeded(Seed(1));
        let settings = MultiHeadSettings::of_width(d, 2);
        let block = DecoderBlock::<Cpu>::new(settings, settings, 9, &mut initializer, &device)
            .expect("fits");
        let mut draw = |shape: [usize; 3]| initializer.normal::<Cpu, 3>(shape, 1.0, &device).val();
        let (x, memory) = (draw([t, b * l, d]), draw([t, m, d]));
        // Of each task's memory, the last entry is hidden.
        let hidden: Vec<bool> = (0..t * m).map(|entry| entry % m == m - 1).collect();
        let hidden = burn::tensor::TensorData::new(hidden, [t, 1, 1, m]);
        let memory = block.remember(memory, Some(Tensor::from_data(hidden, &device)));
        let pass = Pass::evaluation();
        let (whole, map) = block.forward(x.clone(), l, &memory, &pass);
        let of_tokens = |x: Tensor<Cpu, 3>| x.reshape([t, b, l, d]);
        let (mut before, mut parts) = (None, Vec::new());
        for place in 0..l {
            let token = of_tokens(x.clone()).narrow(2, place, 1).reshape([t, b, d]);
            let (next, map) = block.step(token, &mut before, &memory, &pass);
            assert_eq!(map.dims(), [t, 2, b, m]);
            parts.push(next.reshape([t, b, 1, d]));
        }
        let difference = (Tensor::cat(parts, 2) - of_tokens(whole)).abs().max();
        // Sums of some ten numbers near 1 in another order.
        assert!(difference.into_scalar() < 1e-5);
        assert_eq!(
            map.clone().narrow(3, m - 1, 1).abs().max().into_scalar(),
            0.0
        );
        let sums = map.sum_dim(3).sub_scalar(1.0).abs().max();
        assert!(sums.into_scalar() < 1e-6);
    }
}
