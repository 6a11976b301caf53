//! `meta fit`: keeps what a trained learner learns from.

use std::path::PathBuf;

use clap::Args;
use meta_core::{data::Task, toolkit::Toolkit};

use super::{args::SupportArgs, calibrate::say, session::with_answerer, trained::TrainedLearner};
use crate::{
    command::Execute,
    experiment::start_threads,
    failure::Result,
    output::{target::check_target, text::visible},
};

/// Fit a trained learner to labelled items, and keep both in one file.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// The run folder, or a file that this command wrote.
    trained: PathBuf,
    /// Changes to `learner.*`, `backend`, `device`, `precision` or `threads`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Items of one more class: a folder of pictures, or rows. May be given several times.
    #[arg(long, value_name = "NAME=PATH")]
    add: Vec<String>,
    /// What is learnt from.
    #[command(flatten)]
    support: SupportArgs,
    /// The file to write; one that this command wrote is replaced.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Nothing on stderr but errors.
    #[arg(long)]
    quiet: bool,
}

impl Execute for FitArgs {
    /// Writes the file.
    ///
    /// # Errors
    /// Whatever is wrong with the run or the items, and when the file cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        check_target(&self.out, super::fitted::MARK)?;
        let mut trained = TrainedLearner::<T>::open_with(&self.trained, &self.overrides)?;
        start_threads(trained.manifest.run.threads)?;
        let fitted = self
            .support
            .fitted(&mut trained, &self.trained, &self.add)?;
        // What cannot answer is not written.
        with_answerer(&trained, &fitted, false, |_| Ok(()))?;
        trained.write(&fitted, &self.out)?;
        if !self.quiet {
            self.report(&trained, &fitted);
        }
        Ok(())
    }
}

impl FitArgs {
    fn report<T: Toolkit>(&self, trained: &TrainedLearner<T>, fitted: &super::Fitted) {
        let learner = &trained.manifest.learner.name;
        let counts = fitted.support.counts();
        let what = match trained.task() {
            Task::Regression { .. } | Task::Sequences { .. } | Task::Acting { .. } => {
                format!("{} items", fitted.support.len(trained.task()))
            }
            Task::Classification => {
                let classes = fitted.classes.iter().zip(&counts);
                let classes = classes.map(|(class, count)| format!("{} ({count})", visible(class)));
                let classes: Vec<String> = classes.take(20).collect();
                let more = counts.len() - classes.len();
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("{} classes: {}{more}", counts.len(), classes.join(", "))
            }
        };
        eprintln!("{learner} knows {what}; kept in {}", self.out.display());
        let uneven = fitted.support.is_uneven();
        if uneven
            && trained
                .spec(fitted)
                .is_ok_and(|(_, reads_masks)| !reads_masks)
        {
            eprintln!(
                "`{learner}` needs as many items of each class: items of the smaller ones are taken again"
            );
        }
        if !trained.is_transductive() {
            return;
        }
        match trained.calibration.as_ref().and_then(|known| known.modes) {
            Some(modes) => say(learner, modes),
            None => eprintln!(
                "`{learner}` was tested with the queries of a task together; here each is answered by itself, \
                 which may be less accurate: `meta calibrate` measures both, and `meta predict \
                 --transductive` answers together"
            ),
        }
    }
}
