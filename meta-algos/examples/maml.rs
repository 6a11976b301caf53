//! Second-order MAML on sine waves, with the outer loop written out: exact meta-gradients, one step of
//! Adam each.
//!
//! `cargo run --release -p meta-algos --example maml`

use meta_algos::maml::MamlSettings;
use meta_core::{
    Result,
    backend::Cpu,
    data::{Episode, EpisodeShape, SinusoidSettings, SourceSettings, Split},
    learner::{LearnerSettings, New, PredictAt},
    nn::{
        encoder::{EncoderSettings, MlpSettings},
        loss,
    },
    optim::{self, OptimizerSettings, OptimizerState},
    rng::Seed,
    task::{TaskBatch, TaskSpec},
};

fn main() -> Result<()> {
    let source = SinusoidSettings::default().open(None)?;
    let shape = EpisodeShape::new(1, 10, 10);
    let spec = TaskSpec::of(source.as_ref(), shape);
    let device = Default::default();
    let maml = MamlSettings {
        inner_lr: 0.01,
        inner_steps: 1,
        test_steps: 5,
        ..MamlSettings::default()
    };
    let mut learner = maml.build::<_, Cpu>(New {
        architecture: MlpSettings::default().on(spec.item)?,
        spec: &spec,
        seed: Seed(0),
        device: &device,
    });

    let tasks = |split, from: u64, count: u64| -> Result<TaskBatch<Cpu>> {
        let episodes: Vec<Episode> = (from..from + count)
            .map(|index| source.episode(Seed(0), split, shape, index))
            .collect::<Result<_>>()?;
        Ok(TaskBatch::new(&episodes, &spec, &device))
    };
    let mut state = OptimizerState::new();
    for iteration in 0..2000 {
        let batch = tasks(Split::Train, 25 * iteration, 25)?;
        // ∇θ mean over tasks of L_query(θ − α ∇θ L_support(θ)), through the inner step.
        let step = learner.meta_gradient(&batch);
        let adam = OptimizerSettings::default();
        let (theta, next) = optim::step(&adam, 1e-3, learner.parameters(), &step.gradients, state);
        learner.set_parameters(theta);
        state = next;
    }

    let unseen = tasks(Split::Test, 0, 100)?;
    for (step, answer) in learner
        .predict(&unseen, PredictAt::EveryStep)
        .into_iter()
        .enumerate()
    {
        let errors = loss::score(answer, &unseen.query.targets);
        println!(
            "after {step} steps: mean squared error {:.3}",
            errors.mean().into_scalar()
        );
    }
    Ok(())
}
