//! A trained learner on its backend, answering.

use meta_core::{
    backend::{WithBackend, dispatch},
    learner::{Learner, LearnerList, New},
    primitives::Primitives,
    rng::Seed,
    task::{TaskBatch, TaskSpec},
    toolkit::Toolkit,
    train::answer::{Answerer, Predictions},
};

use super::{
    answer::Answer,
    trained::{Fitted, TrainedLearner},
};
use crate::{
    explain::{ExplainedBatch, OwnItem},
    failure::{CommandError, Result},
    run::eval::stored_parameters,
};

/// Gives predictions for items, `[q, f]` row-major.
pub type Answers<'a> = dyn Fn(&[f32]) -> Predictions + 'a;

/// Runs `session` with what answers from a support: each query by itself, or all that are given at once
/// `together`.
///
/// # Errors
/// For a support that the learner cannot take, parameters of another network, and those of `session`.
pub fn with_answerer<T: Toolkit, R>(
    trained: &TrainedLearner<T>,
    fitted: &Fitted,
    together: bool,
    session: impl FnOnce(&Answers<'_>) -> Result<R>,
) -> Result<R> {
    let target = trained.manifest.run.target();
    dispatch(
        &target,
        Session {
            trained,
            fitted,
            together,
            session,
        },
    )?
}

impl<T: Toolkit> TrainedLearner<T> {
    /// Answers for queries, each by itself, from a support. A row has the numbers of an item, prepared as
    /// the data of the training was ([`TrainedLearner::preparation`]).
    ///
    /// # Errors
    /// For rows of another width, and as [`TrainedLearner::spec`].
    pub fn predict(&self, fitted: &Fitted, queries: &[Vec<f32>]) -> Result<Vec<Answer>> {
        let features = self.item.features();
        if let Some(row) = queries.iter().position(|query| query.len() != features) {
            let found = queries[row].len();
            return Err(CommandError::Usage(format!(
                "row {row} has {found} numbers, and the learner was trained on {features}"
            )));
        }
        let wording = self.wording(fitted, fitted.classes.len());
        let names = (0..queries.len()).map(|row| row.to_string()).collect();
        with_answerer(self, fitted, false, |answer| {
            let found: Predictions = answer(&queries.concat());
            Ok(wording.answers(names, &found))
        })
    }
}

struct Session<'a, T: Toolkit, F> {
    trained: &'a TrainedLearner<T>,
    fitted: &'a Fitted,
    together: bool,
    session: F,
}

impl<T: Toolkit, R, F: FnOnce(&Answers<'_>) -> Result<R>> WithBackend for Session<'_, T, F> {
    type Output = Result<R>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let Session {
            trained,
            fitted,
            together,
            session,
        } = self;
        let ready = Ready::<B>::new(trained, fitted, device)?;
        let answerer = ready.answerer(trained, fitted, together)?;
        session(&|items| answerer.answer(items))
    }
}

/// A learner with its parameters on a backend.
struct Ready<B: Primitives> {
    learner: Box<dyn Learner<B>>,
    spec: TaskSpec,
    reads_masks: bool,
    device: B::Device,
}

impl<B: Primitives> Ready<B> {
    fn new<T: Toolkit>(
        trained: &TrainedLearner<T>,
        fitted: &Fitted,
        device: B::Device,
    ) -> Result<Self> {
        let (spec, reads_masks) = trained.spec(fitted)?;
        let mut learner = trained.learner.clone().build::<_, B>(New {
            architecture: trained.architecture.clone(),
            spec: &spec,
            seed: Seed(trained.manifest.run.seed),
            device: &device,
        });
        let stored = trained.parameters.clone();
        let like = learner.parameters();
        learner.set_parameters(stored_parameters(&trained.path, stored, &like, &device)?);
        Ok(Ready {
            learner,
            spec,
            reads_masks,
            device,
        })
    }

    fn answerer<T: Toolkit>(
        &self,
        trained: &TrainedLearner<T>,
        fitted: &Fitted,
        together: bool,
    ) -> Result<Answerer<'_, B>> {
        let answerer = Answerer::new(
            self.learner.as_ref(),
            &self.spec,
            &fitted.support,
            self.reads_masks,
            trained.queries(&self.spec, together),
            &self.device,
        )?;
        Ok(answerer.with_class_vectors(fitted.class_vectors.clone()))
    }
}

/// What the learner says of the tasks in which it answers for some items, by name.
///
/// # Errors
/// As [`with_answerer`].
pub fn explained<T: Toolkit>(
    trained: &TrainedLearner<T>,
    fitted: &Fitted,
    items: &[(String, Vec<f32>)],
) -> Result<Vec<OwnItem>> {
    let target = trained.manifest.run.target();
    let explaining = Explaining {
        trained,
        fitted,
        items,
    };
    dispatch(&target, explaining)?
}

struct Explaining<'a, T: Toolkit> {
    trained: &'a TrainedLearner<T>,
    fitted: &'a Fitted,
    items: &'a [(String, Vec<f32>)],
}

impl<T: Toolkit> WithBackend for Explaining<'_, T> {
    type Output = Result<Vec<OwnItem>>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let ready = Ready::<B>::new(self.trained, self.fitted, device)?;
        let answerer = ready.answerer(self.trained, self.fitted, false)?;
        let explain = |(name, query): &(String, Vec<f32>)| {
            let episode = answerer.episode_of(query);
            let tasks = TaskBatch::new(std::slice::from_ref(&episode), &ready.spec, &ready.device);
            let dims = [1, episode.support.len(), episode.query.len()];
            let explained = ExplainedBatch::new(ready.learner.explain(&tasks), dims);
            meta_core::device::check();
            OwnItem {
                name: name.clone(),
                episode,
                explained,
            }
        };
        Ok(self.items.iter().map(explain).collect())
    }
}
