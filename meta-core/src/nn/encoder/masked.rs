//! Feature attention: the channels of an embedding that matter to the task.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend},
};
use serde::{Deserialize, Serialize};

use super::{Architecture, Encoder};
use crate::{
    data::ItemShape,
    nn::{
        Pass,
        activation::sigmoid,
        attention::MapAxis,
        init::{Initializer, constant},
        linear::Linear,
        norm::Statistics,
    },
    primitives::Primitives,
};

/// How the channels of an embedding are weighted for a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureAttention {
    /// All alike.
    #[default]
    None,
    /// By gates in (0, 1).
    Soft,
    /// By gates of 0 or 1.
    Hard,
}

/// An architecture whose embeddings pass a [`FeatureMask`], or do not.
#[derive(Clone, Debug)]
pub struct Masked<A> {
    architecture: A,
    attention: FeatureAttention,
}

impl<A: Architecture> Masked<A> {
    /// Embeddings of `architecture`, masked as `attention` says.
    pub fn new(architecture: A, attention: FeatureAttention) -> Self {
        Masked {
            architecture,
            attention,
        }
    }
}

impl<A: Architecture> Architecture for Masked<A> {
    type Model<B: Primitives> = MaybeMasked<B, A::Model<B>>;

    fn init<B: Primitives>(
        &self,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self::Model<B> {
        let encoder = self.architecture.init(initializer, device);
        if self.attention == FeatureAttention::None {
            return MaybeMasked::Plain(encoder);
        }
        let hard = self.attention == FeatureAttention::Hard;
        MaybeMasked::Masked(MaskedEncoder {
            encoder,
            mask: FeatureMask::new(self.width(), hard, initializer, device),
        })
    }

    fn width(&self) -> usize {
        self.architecture.width()
    }

    fn feature_map(&self) -> Option<ItemShape> {
        self.architecture.feature_map()
    }

    fn statistics(&self) -> Statistics {
        self.architecture.statistics()
    }

    fn activations(&self) -> usize {
        match self.attention {
            FeatureAttention::None => self.architecture.activations(),
            _ => self.architecture.activations() + 2 * self.width(),
        }
    }

    /// A mask sees all items.
    fn activations_apart(&self) -> Option<usize> {
        match self.attention {
            FeatureAttention::None => self.architecture.activations_apart(),
            _ => None,
        }
    }
}

/// A model of [`Masked`]; without a mask it has the parameters of the encoder, under their own paths.
#[derive(Module, Debug)]
pub enum MaybeMasked<B: Backend, E> {
    /// The encoder alone.
    Plain(E),
    /// The encoder and its mask.
    Masked(MaskedEncoder<B, E>),
}

impl<B: Primitives, E: Encoder<B>> Encoder<B> for MaybeMasked<B, E> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        match self {
            MaybeMasked::Plain(encoder) => encoder.forward(x, pass),
            MaybeMasked::Masked(masked) => masked.forward(x, pass),
        }
    }
}

/// An encoder and the mask of its channels.
#[derive(Module, Debug)]
pub struct MaskedEncoder<B: Backend, E> {
    encoder: E,
    mask: FeatureMask<B>,
}

impl<B: Primitives, E: Encoder<B>> MaskedEncoder<B, E> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        // New statistics are named from here on: those of the encoder lie below its field.
        let before = pass.statistics.take();
        let embeddings = self.encoder.forward(x, pass);
        let own = pass.statistics.take().with_prefix("encoder");
        pass.statistics.replace(before.join(own));
        let items = embeddings.dims()[1];
        let support = pass.reference_items.unwrap_or(items).min(items);
        let of_support = embeddings.clone().narrow(1, 0, support);
        embeddings * self.mask.forward(of_support, pass)
    }
}

/// A mask over channels that follows from a task's support (soft: the gates of Hu, Shen and Sun,
/// *Squeeze-and-excitation networks*, CVPR 2018, equation 3, over a task instead of an image):
///
/// ```text
/// z = W₂ relu(W₁ [mean of e, variance of e] + b₁) + b₂      over the support's embeddings e
/// m = σ(z), or 1 where z > 0 and else 0
/// ```
///
/// Every item of the task, support or query, becomes `m ⊙ e`. Mean and variance know no order, so
/// neither does the mask. `b₂` starts at 1: most gates are open at first.
///
/// The gates of 0 or 1 have the derivative of `σ(z)` (straight through; Bengio, Léonard and Courville,
/// 2013): exact for everything behind the mask, biased for `W₁`, `W₂` and what the mask follows from.
#[derive(Module, Debug)]
pub struct FeatureMask<B: Backend> {
    hidden: Linear<B>,
    output: Linear<B>,
    #[module(skip)]
    hard: bool,
}

impl<B: Backend> FeatureMask<B> {
    /// A mask of `width` channels.
    pub fn new(
        width: usize,
        hard: bool,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let output = Linear::glorot(width, width, initializer, device);
        FeatureMask {
            hidden: Linear::he(2 * width, width, initializer, device),
            output: Linear {
                bias: constant(1.0, [1, 1, width], device),
                ..output
            },
            hard,
        }
    }
}

impl<B: Primitives> FeatureMask<B> {
    /// Embeddings of the support `[t, s, d]` to the mask `[t, 1, d]`.
    pub fn forward(&self, support: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let mean = support.clone().mean_dim(1);
        let centred = support - mean.clone();
        let variance = (centred.clone() * centred).mean_dim(1);
        let hidden = self
            .hidden
            .forward_relu(Tensor::cat(vec![mean, variance], 2));
        let scores = self.output.forward(hidden);
        let soft = sigmoid(scores.clone());
        let mask = if !self.hard {
            soft
        } else {
            let open = scores.greater_elem(0.0).float().cast(soft.dtype());
            // Exactly 0 or 1, with the derivative of the soft gate.
            open + (soft.clone() - soft.detach())
        };
        let sum = mask.clone().sum_dim(2).add_scalar(1e-12);
        let shares = (mask.clone() / sum).unsqueeze_dim(1);
        pass.record(
            "features",
            MapAxis::Other("task"),
            MapAxis::Other("channel"),
            &shares,
        );
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, params::Params, rng::Seed};
    use burn_autodiff::Autodiff;

    fn mask(hard: bool) -> FeatureMask<Cpu> {
        let initializer = &mut Initializer::seeded(Seed(1));
        FeatureMask::new(6, hard, initializer, &Default::default())
    }

    fn support() -> Tensor<Cpu, 3> {
        let mut stream = Seed(2).stream("mask", 0, "support");
        let values: Vec<f32> = (0..2 * 4 * 6)
            .map(|_| 2.0 * stream.normal() as f32)
            .collect();
        Tensor::<Cpu, 1>::from_floats(values.as_slice(), &Default::default()).reshape([2, 4, 6])
    }

    fn values(tensor: Tensor<Cpu, 3>) -> Vec<f32> {
        tensor.into_data().to_vec().expect("numbers")
    }

    /// Gates lie between 0 and 1 and differ by task; hard ones are where soft ones are above a half.
    #[test]
    fn gates_follow_from_the_support() {
        let pass = Pass::evaluation();
        let soft = values(mask(false).forward(support(), &pass));
        let hard = values(mask(true).forward(support(), &pass));
        assert!(soft.iter().all(|gate| (0.0..=1.0).contains(gate)));
        assert_ne!(soft[..6], soft[6..]);
        for (soft, hard) in soft.iter().zip(&hard) {
            assert_eq!(*hard, f32::from(*soft > 0.5));
        }
        assert!(hard.contains(&0.0) && hard.contains(&1.0), "{hard:?}");
    }

    /// Choices have the derivative of the gates.
    #[test]
    fn hard_gates_are_straight_through() {
        let gradients = |hard: bool| {
            let leaves = Params::of(&mask(hard)).lift::<Autodiff<Cpu>>();
            let initializer = &mut Initializer::zeros();
            let skeleton =
                FeatureMask::<Autodiff<Cpu>>::new(6, hard, initializer, &Default::default());
            let mask = leaves.clone().write_into(skeleton);
            let gates = mask.forward(Tensor::from_inner(support()), &Pass::evaluation());
            let weights = Tensor::from_inner(support().narrow(1, 0, 1));
            leaves.gradients(&(gates * weights).sum().backward())
        };
        let (soft, hard) = (gradients(false), gradients(true));
        for ((name, soft), (_, hard)) in soft.to_data().into_iter().zip(hard.to_data()) {
            let numbers = |data: burn::tensor::TensorData| data.to_vec::<f32>().expect("numbers");
            let (soft, hard) = (numbers(soft), numbers(hard));
            assert!(soft.iter().any(|g| g.abs() > 1e-4), "{name}");
            assert_eq!(soft, hard, "{name}");
        }
    }

    #[test]
    fn the_order_of_the_support_is_no_information() {
        let pass = Pass::evaluation();
        let plain = values(mask(false).forward(support(), &pass));
        let turned = values(mask(false).forward(support().flip([1]), &pass));
        for (plain, turned) in plain.iter().zip(&turned) {
            assert!((plain - turned).abs() < 1e-6);
        }
    }
}
