//! A trained learner on its backend, answering.

use meta_core::{
    backend::{WithBackend, dispatch},
    learner::{LearnerList, New},
    primitives::Primitives,
    rng::Seed,
    toolkit::Toolkit,
    train::answer::{Answerer, Predictions},
};

use super::{
    answer::Answer,
    trained::{Fitted, TrainedLearner},
};
use crate::{
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
        let (spec, reads_masks) = trained.spec(&fitted.support)?;
        let mut learner = trained.learner.clone().build::<_, B>(New {
            architecture: trained.architecture.clone(),
            spec: &spec,
            seed: Seed(trained.manifest.run.seed),
            device: &device,
        });
        let stored = trained.parameters.clone();
        let like = learner.parameters();
        learner.set_parameters(stored_parameters(&trained.path, stored, &like, &device)?);
        let queries = trained.queries(&spec, together);
        let answerer = Answerer::new(
            learner.as_ref(),
            &spec,
            &fitted.support,
            reads_masks,
            queries,
            &device,
        )?;
        session(&|items| answerer.answer(items))
    }
}
