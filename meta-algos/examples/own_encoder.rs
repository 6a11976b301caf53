//! An encoder of your own under a learner of the toolkit. `docs/extending.md` explains it.
//!
//! `cargo run --release -p meta-algos --example own_encoder`

use burn::{
    module::Module,
    tensor::{Tensor, activation::sigmoid, backend::Backend},
};
use meta_algos::maml::MamlSettings;
use meta_core::{
    Result,
    backend::Cpu,
    data::{EpisodeShape, ItemShape, SinusoidSettings, SourceSettings, Split},
    learner::{LearnerSettings, New, PredictAt},
    nn::{
        Pass,
        encoder::{Encoder, EncoderInfo, EncoderSettings, Operations},
        init::Initializer,
        linear::Linear,
    },
    parallel::TaskChunks,
    primitives::Primitives,
    rng::Seed,
    settings,
    task::TaskSpec,
    train::{
        TrainSettings, TrainState, Trainer,
        eval::{FrozenEpisodes, evaluate},
    },
};

settings! {
    /// Settings of [`Gated`].
    pub struct GatedSettings {
        /// Numbers of an embedding.
        width: usize = 64, at_least(1);
    }
}

/// `φ(x) = (U x + a) ⊙ σ(W x + b)`: gated linear units (Dauphin et al., ICML 2017).
#[derive(Module, Debug)]
pub struct Gated<B: Backend> {
    value: Linear<B>,
    gate: Linear<B>,
}

impl<B: Primitives> Encoder<B> for Gated<B> {
    /// `[t, b, f]` to `[t, b, width]`.
    fn forward(&self, x: Tensor<B, 3>, _pass: &Pass<B>) -> Tensor<B, 3> {
        self.value.forward(x.clone()) * sigmoid(self.gate.forward(x))
    }
}

impl EncoderSettings for GatedSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "gated",
        input: "vector",
        summary: "a layer of gated linear units",
        paper: "Dauphin et al., Language modeling with gated convolutional networks, ICML 2017",
    };

    type Encoder<B: Primitives> = Gated<B>;

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        draw: &mut Initializer,
        device: &B::Device,
    ) -> Gated<B> {
        Gated {
            value: Linear::glorot(item.features(), self.width, draw, device),
            gate: Linear::glorot(item.features(), self.width, draw, device),
        }
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.width
    }

    /// Numbers that a forward pass keeps for each item: both maps, the gate and the product.
    fn activations(&self, item: ItemShape) -> usize {
        item.features() + 4 * self.width
    }

    /// Multiply-adds of an item, times two.
    fn operations(&self, item: ItemShape) -> Operations {
        Operations {
            first: 4.0 * (item.features() * self.width) as f64,
            rest: 0.0,
        }
    }
}

fn main() -> Result<()> {
    let source = SinusoidSettings::default().open(None)?;
    let shape = EpisodeShape::new(1, 10, 10);
    let spec = TaskSpec::of(source.as_ref(), shape);
    let device = Default::default();
    let maml = MamlSettings {
        inner_lr: 0.01,
        ..MamlSettings::default()
    };
    let mut learner = maml.build::<_, Cpu>(New {
        architecture: GatedSettings::default().on(spec.item)?,
        spec: &spec,
        seed: Seed(0),
        device: &device,
    });
    let settings = TrainSettings {
        iterations: 1000,
        validate_every: 0,
        ..TrainSettings::default()
    };
    let trainer = Trainer::<Cpu>::new(source.clone(), spec, settings, Seed(0), device)?;
    trainer.run(learner.as_mut(), TrainState::new(), &mut ())?;
    let episodes = FrozenEpisodes {
        source,
        split: Split::Test,
        seed: Seed(0),
        shape,
        count: 200,
    };
    let (answers, chunks) = (PredictAt::EveryStep, TaskChunks::default());
    let test = evaluate(
        learner.as_ref(),
        &spec,
        &episodes,
        answers,
        chunks,
        &device,
        |_| (),
    )?;
    for (step, score) in test.by_step().into_iter().enumerate() {
        println!("after {step} steps: mean squared error {score}");
    }
    Ok(())
}
