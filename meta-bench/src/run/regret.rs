//! What a policy gives away over the steps of a trial, compared with one that knows the task.
//!
//! After `s` steps in a task whose best policy can expect `b` of an episode of `H` steps,
//!
//! ```text
//! regret(s) = s b / H − the rewards of the first s steps
//! ```
//!
//! Where every step is like the others, as in a bandit, the first term is what the best policy can expect.

use std::path::Path;

use meta_core::{
    Error,
    backend::{WithBackend, dispatch},
    data::Episode,
    learner::Learner,
    primitives::Primitives,
    rl::ActingWorld,
    task::TaskBatch,
    toolkit::Toolkit,
};

use super::{
    elsewhere::{Changes, trained},
    eval::best_learner,
};
use crate::{
    experiment::Experiment,
    failure::{CommandError, Result},
};

/// Tasks that are acted in at a time, where memory sets no bound.
const CHUNK: usize = 20;

/// The regret after every step of a trial in each of the first `most` test tasks of the run at `path`, by its best
/// parameters.
///
/// # Errors
/// Where the run is of no policy, the best return of its tasks is not known, or its trials differ in length;
/// whatever is wrong with the folder.
pub fn regret_of_run<T: Toolkit>(path: &Path, most: usize) -> Result<Vec<Vec<f64>>> {
    let experiment = trained::<T>(path, Changes::default())?.experiment;
    if !experiment.spec.task.is_acting() {
        let message = format!("{}: is no policy, and has no regret", path.display());
        return Err(CommandError::Usage(message));
    }
    let target = experiment.manifest.run.target();
    let of_run = OfRun {
        experiment,
        path,
        most,
    };
    dispatch(&target, of_run)?
}

/// Trials on a backend whose name is known only now.
struct OfRun<'a, T: Toolkit> {
    experiment: Experiment<T>,
    path: &'a Path,
    most: usize,
}

impl<T: Toolkit> WithBackend for OfRun<'_, T> {
    type Output = Result<Vec<Vec<f64>>>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let experiment = &self.experiment;
        let (learner, _) = best_learner::<T, B>(experiment, self.path, &device, false)?;
        let graphs = experiment.test_graphs::<B>(learner.parameters().num_elements());
        let chunk = graphs.tasks_at_a_time().unwrap_or(CHUNK).clamp(1, CHUNK);
        let count = experiment.test_episodes().count.min(self.most);
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let more = chunk.min(count - all.len());
            all.extend(self.of_tasks(learner.as_ref(), all.len(), more, &device)?);
        }
        let steps = all.first().map_or(0, Vec::len);
        if all.iter().any(|task| task.len() != steps) {
            let message = format!(
                "{}: its trials differ in length; expected as many steps in each",
                self.path.display()
            );
            return Err(CommandError::Usage(message));
        }
        Ok(all)
    }
}

impl<T: Toolkit> OfRun<'_, T> {
    /// Those of `count` tasks from `first` on.
    fn of_tasks<B: Primitives>(
        &self,
        learner: &dyn Learner<B>,
        first: usize,
        count: usize,
        device: &B::Device,
    ) -> Result<Vec<Vec<f64>>> {
        let experiment = &self.experiment;
        let tested = experiment.test_episodes();
        let episodes: Vec<Episode> = (first..first + count)
            .map(|index| {
                let (seed, shape) = (tested.seed, tested.shape);
                experiment
                    .source
                    .episode(seed, tested.split, shape, index as u64)
            })
            .collect::<Result<_, Error>>()
            .map_err(|error| experiment.manifest.locate(error))?;
        let tasks = TaskBatch::new(&episodes, &experiment.spec, device);
        let world = ActingWorld::of(tasks.world.as_ref());
        let family = world.family.as_ref();
        let mut trials = learner.explain(&tasks).trials;
        trials.sort_by_key(|trial| (trial.task, trial.stage));
        let of_task = |&task: &u64| {
            let best = family.best_return(world.seed, world.split, task);
            let last = trials.iter().rev().find(|trial| trial.task == task);
            let (Some(best), Some(trial)) = (best, last) else {
                let message = format!(
                    "{}: nothing is known of the best return of task {task}; expected a policy in \
                     environments whose best return is known",
                    self.path.display()
                );
                return Err(CommandError::Usage(message));
            };
            let share = best / family.horizon() as f64;
            let mut sum = 0.0;
            let after = trial.rewards.iter().map(|reward| {
                sum += share - reward;
                sum
            });
            Ok(after.collect())
        };
        tasks.episodes.iter().map(of_task).collect()
    }
}
