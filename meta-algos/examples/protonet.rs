//! Trains a prototypical network on drawn characters and tests it on classes it has not seen.
//!
//! `cargo run --release -p meta-algos --example protonet`

use meta_algos::protonet::ProtoNetSettings;
use meta_core::{
    Result,
    backend::Cpu,
    data::{EpisodeShape, GlyphsSettings, SourceSettings, Split},
    learner::{LearnerSettings, New, PredictAt},
    nn::encoder::{Conv4Settings, EncoderSettings},
    parallel::TaskChunks,
    rng::Seed,
    task::TaskSpec,
    train::{
        TrainSettings, TrainState, Trainer,
        eval::{FrozenEpisodes, evaluate},
    },
};

fn main() -> Result<()> {
    // Tasks: 5 classes, 1 support item and 5 queries of each. Another source, another line.
    let source = GlyphsSettings::default().open(None)?;
    let shape = EpisodeShape::new(5, 1, 5);
    let spec = TaskSpec::of(source.as_ref(), shape);

    // A learner is its settings, built for an encoder, on a backend.
    let device = Default::default();
    let encoder = Conv4Settings {
        channels: 16,
        ..Conv4Settings::default()
    }
    .on(spec.item)?;
    let mut learner = ProtoNetSettings::default().build::<_, Cpu>(New {
        architecture: encoder,
        spec: &spec,
        seed: Seed(0),
        device: &device,
    });

    let settings = TrainSettings {
        iterations: 100,
        meta_batch: 1,
        lr: 1e-2,
        validate_every: 0,
        ..TrainSettings::default()
    };
    let trainer = Trainer::<Cpu>::new(source.clone(), spec, settings, Seed(0), device)?;
    trainer.run(learner.as_mut(), TrainState::new(), &mut ())?;

    // Frozen episodes: the same for every learner that is to be compared.
    let episodes = FrozenEpisodes {
        source,
        split: Split::Test,
        seed: Seed(0),
        shape,
        count: 200,
    };
    let (answers, chunks) = (PredictAt::LastStep, TaskChunks::default());
    let test = evaluate(
        learner.as_ref(),
        &spec,
        &episodes,
        answers,
        chunks,
        &device,
        |_| (),
    )?;
    println!(
        "test accuracy {} (95 % interval over episodes)",
        test.score()
    );
    Ok(())
}
