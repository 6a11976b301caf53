//! A data source of your own: episodes of classes that a program makes. `docs/extending.md` explains it.
//!
//! `cargo run --release -p meta-algos --example own_source`

use std::{path::Path, sync::Arc};

use meta_algos::protonet::ProtoNetSettings;
use meta_core::{
    Result,
    backend::Cpu,
    data::{
        Episode, EpisodeShape, ItemShape, Source, SourceSettings, Split, Task,
        classification_episode,
    },
    learner::{LearnerSettings, New, PredictAt},
    nn::encoder::{EncoderSettings, MlpSettings},
    parallel::TaskChunks,
    rng::Seed,
    settings,
    task::TaskSpec,
    train::{
        TrainSettings, TrainState, Trainer,
        eval::{FrozenEpisodes, evaluate},
    },
};

settings! {
    /// Settings of [`Clouds`].
    pub struct CloudsSettings {
        /// Numbers of an item.
        features: usize = 8, at_least(1);
        /// Standard deviation of the items around the centre of their class.
        spread: f64 = 0.7, at_least(0.0);
    }
}

impl SourceSettings for CloudsSettings {
    const NAME: &str = "clouds";
    const SUMMARY: &str = "normal clouds around normal centres; needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Clouds(self.clone())))
    }
}

struct Clouds(CloudsSettings);

impl Source for Clouds {
    fn name(&self) -> &'static str {
        CloudsSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: self.0.features,
        }
    }

    /// Classes of each split; items have no limit.
    fn classes(&self, _split: Split) -> Option<usize> {
        Some(1000)
    }

    /// The same class, item and split give the same numbers, whenever they are asked for.
    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        classification_episode(self, seed, split, shape, index, |class, item, place| {
            let mut centre = Seed(0).stream(split.scope(), class as u64, "centre");
            let id = (class as u64) << 32 | item as u64;
            let mut noise = Seed(0).stream(split.scope(), id, "item");
            for number in place {
                *number = (centre.normal() + self.0.spread * noise.normal()) as f32;
            }
        })
    }

    /// Changes with everything that the numbers depend on.
    fn content_hash(&self) -> String {
        format!("clouds 1 {} {}", self.0.features, self.0.spread)
    }
}

fn main() -> Result<()> {
    let source = CloudsSettings::default().open(None)?;
    let shape = EpisodeShape::new(5, 1, 5);
    let spec = TaskSpec::of(source.as_ref(), shape);
    let device = Default::default();
    let mut learner = ProtoNetSettings::default().build::<_, Cpu>(New {
        architecture: MlpSettings::default().on(spec.item)?,
        spec: &spec,
        seed: Seed(0),
        device: &device,
    });
    let settings = TrainSettings {
        iterations: 500,
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
