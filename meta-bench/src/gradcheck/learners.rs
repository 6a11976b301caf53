//! Meta-gradients of the learners.

use meta_core::{
    data::{Episode, Task},
    learner::{Family, GradientOf},
    meta_gradcheck::{error, random_episode, small_spec},
    nn::encoder::EncoderSpec,
    primitives::Primitives,
    rng::Seed,
    task::TaskBatch,
};

use super::{Checks, Row, cases::small_encoders};
use crate::{Learners, failure::Result};

/// Every learner with an MLP, a convolutional network and self-attention, on classification and,
/// where it can, on regression.
pub fn learners<L: Learners, B: Primitives>(checks: &mut Checks<B>) -> Result<()> {
    let device = checks.device.clone();
    for entry in L::entries() {
        let info = entry.info;
        if !checks.wants("learner", info.name) {
            continue;
        }
        let mut tasks = vec![("classification", Task::Classification)];
        if info.regression {
            tasks.push(("regression", Task::Regression { outputs: 2 }));
        }
        for (kind, task) in tasks {
            let spec = small_spec(task);
            let episodes: Vec<Episode> = (0..2).map(|index| random_episode(&spec, index)).collect();
            let batch = TaskBatch::<B>::new(&episodes, &spec, &device);
            for (encoder, encoder_settings) in small_encoders() {
                if !["mlp", "conv4", "attention"].contains(&encoder) {
                    continue;
                }
                let architecture = EncoderSpec::new(encoder, &encoder_settings, spec.item)?;
                for settings in entry.gradient_of.settings() {
                    let norm = encoder_settings["norm"].as_str();
                    let norm = norm.map_or(String::new(), |norm| format!(" ({norm})"));
                    let case = format!("{encoder}{norm}, {kind}, {settings}");
                    let (name, built) = (info.name, architecture.clone());
                    let mut learner =
                        L::build::<B>(name, settings, built, &spec, Seed(2), &device)?;
                    let error = error(learner.as_mut(), &entry.gradient_of, &batch);
                    let (first, second) = match info.family {
                        Family::Gradient => (None, error),
                        _ => (error, None),
                    };
                    checks.push(Row {
                        kind: "learner",
                        name: name.to_owned(),
                        case,
                        first,
                        second,
                        exception: match &entry.gradient_of {
                            GradientOf::Neither(reason, _) => Some((*reason).to_owned()),
                            _ => None,
                        },
                    });
                }
            }
        }
    }
    Ok(())
}
