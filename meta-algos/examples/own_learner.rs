//! A learner of your own, from its equation to a test accuracy. `docs/extending.md` explains it.
//!
//! `cargo run --release -p meta-algos --example own_learner`

use burn::tensor::{Tensor, activation::softmax};
use meta_core::{
    Result,
    backend::Cpu,
    data::{EpisodeShape, GlyphsSettings, SourceSettings, Split},
    learner::{
        Family, GradientOf, Learner, LearnerInfo, LearnerSettings, New, PredictAt,
        embed::embed_together,
        single_pass::{SinglePass, SinglePassLearner},
    },
    nn::{
        Pass, distance,
        encoder::{Architecture, EncoderSettings, MlpSettings},
        init::Initializer,
    },
    parallel::TaskChunks,
    primitives::Primitives,
    rng::Seed,
    settings,
    task::{TaskBatch, TaskSpec},
    train::{
        TrainSettings, TrainState, Trainer,
        eval::{FrozenEpisodes, evaluate},
    },
};
use serde_json::json;

settings! {
    /// Settings of soft nearest neighbours.
    pub struct NeighboursSettings {
        /// `τ`: the larger, the more neighbours have a say.
        temperature: f64 = 1.0, above(0.0);
    }
}

impl LearnerSettings for NeighboursSettings {
    const INFO: LearnerInfo = LearnerInfo {
        name: "neighbours",
        family: Family::Metric,
        summary: "a query asks all of the support, the nearest the most",
        paper: "Goldberger et al., Neighbourhood components analysis, NIPS 2004",
        regression: false,
        any_way: true,
    };

    fn check<A: Architecture>(&self, _architecture: &A, spec: &TaskSpec) -> Result<()> {
        spec.require_classification(Self::INFO.name, "neighbours have classes")
    }

    fn gradient_of() -> GradientOf {
        GradientOf::Queries(vec![json!({"temperature": 2.0})])
    }

    fn build<A: Architecture, B: Primitives>(self, new: New<'_, A, B>) -> Box<dyn Learner<B>> {
        let rule = Neighbours {
            temperature: self.temperature,
            architecture: new.architecture,
        };
        SinglePassLearner::boxed(rule, new.seed, new.device)
    }
}

struct Neighbours<A> {
    temperature: f64,
    architecture: A,
}

impl<A: Architecture> SinglePass for Neighbours<A> {
    type Model<L: Primitives> = A::Model<L>;

    // The model is the encoder itself.
    const ENCODER: Option<&str> = None;

    fn init<L: Primitives>(&self, draw: &mut Initializer, device: &L::Device) -> A::Model<L> {
        self.architecture.init(draw, device)
    }

    /// Scores `log p(y = n | x)` with `p(y = n | x) = Σ_{i in class n} softmax_i(−‖φ(x) − φ(x_i)‖² / τ)`,
    /// `[t, q, n]`.
    fn forward<L: Primitives>(
        &self,
        encoder: &A::Model<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
    ) -> Tensor<L, 3> {
        let (support, query) = embed_together(encoder, tasks, pass);
        let targets = tasks.support.targets.encoded(tasks.shape.way.0, &support);
        let distances =
            distance::squared_distances(query, support).mul_scalar(1.0 / self.temperature);
        let weights = softmax(distances.neg(), 2);
        weights.matmul(targets).add_scalar(1e-6).log()
    }
}

fn main() -> Result<()> {
    let source = GlyphsSettings::default().open(None)?;
    let shape = EpisodeShape::new(5, 5, 5);
    let spec = TaskSpec::of(source.as_ref(), shape);
    let device = Default::default();
    let mut learner = NeighboursSettings::default().build::<_, Cpu>(New {
        architecture: MlpSettings::default().on(spec.item)?,
        spec: &spec,
        seed: Seed(0),
        device: &device,
    });
    let settings = TrainSettings {
        iterations: 200,
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
