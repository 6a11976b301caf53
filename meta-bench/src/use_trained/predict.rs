//! `meta predict`: names items, from labelled ones.

use std::path::PathBuf;

use clap::Args;
use meta_core::{
    data::{OwnItems, Task},
    nn::encoder::Architecture,
    toolkit::Toolkit,
};
use serde_json::{Value, json};

use super::{
    answer::Answer,
    args::KeyArgs,
    render::{FormArgs, Printer},
    session::{Answers, with_answerer},
    trained::{Fitted, TrainedLearner},
};
use crate::{
    command::Execute,
    experiment::start_threads,
    failure::{CommandError, Result},
};

/// Items that are read at a time.
const BLOCK: usize = 4096;
/// The most items that are answered together.
const MOST_TOGETHER: usize = 1 << 16;

/// Answer for items, by what a trained learner learns from a few labelled ones.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A file that `meta fit` wrote, or a run folder (with --support).
    trained: PathBuf,
    /// Changes to `learner.*`, `backend`, `device`, `precision` or `threads`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Labelled items to learn from, as of `meta fit`.
    #[arg(long, value_name = "PATH")]
    support: Option<PathBuf>,
    /// The items: a folder or zip archive of pictures, a picture, a table of paths, or rows of numbers
    /// (`.csv`, `.npz`, …).
    #[arg(long, value_name = "PATH")]
    query: PathBuf,
    /// Arrays or columns.
    #[command(flatten)]
    keys: KeyArgs,
    /// Classes that each answer names, the most probable first.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// The form.
    #[command(flatten)]
    form: FormArgs,
    /// Go on after an item that cannot be read, and say so in its place.
    #[arg(long)]
    keep_going: bool,
    /// Answer all items together: of learners whose queries see each other, an answer then depends on the
    /// other items.
    #[arg(long)]
    transductive: bool,
    /// No header.
    #[arg(long)]
    quiet: bool,
}

impl Execute for PredictArgs {
    /// Prints an answer for each item.
    ///
    /// # Errors
    /// Whatever is wrong with the learner or the items.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let trained = TrainedLearner::<T>::open_with(&self.trained, &self.overrides)?;
        start_threads(trained.manifest.run.threads)?;
        let fitted = match (&self.support, &trained.fitted) {
            (Some(support), _) => self.keys.support(&trained, support)?,
            (None, Some(fitted)) => fitted.clone(),
            (None, None) => {
                return Err(CommandError::Usage(format!(
                    "{}: is a run, which knows none of your classes; give labelled items by --support, or \
                     a file that `meta fit` wrote",
                    self.trained.display()
                )));
            }
        };
        let items = self.keys.items(&trained, &self.query)?;
        if self.transductive && items.len() > MOST_TOGETHER {
            return Err(CommandError::Usage(format!(
                "{}: has {} items; at most {MOST_TOGETHER} are answered together",
                self.query.display(),
                items.len()
            )));
        }
        with_answerer(&trained, &fitted, self.transductive, |answer| {
            self.answer(&trained, &fitted, &items, answer)
        })
    }
}

impl PredictArgs {
    fn answer<T: Toolkit>(
        &self,
        trained: &TrainedLearner<T>,
        fitted: &Fitted,
        items: &OwnItems,
        answer: &Answers<'_>,
    ) -> Result<()> {
        let top = match fitted.classes.len() {
            0 => 1,
            classes => classes.min(self.top as usize),
        };
        let wording = trained.wording(fitted, top);
        let header = self.header(trained, fitted, wording.temperature());
        let outputs = match trained.task() {
            Task::Classification => 0,
            Task::Regression { outputs } => outputs,
        };
        let block = match self.transductive {
            true => items.len(),
            false => BLOCK,
        };
        let mut printer: Option<Printer> = None;
        for first in (0..items.len()).step_by(block) {
            let mut rows = Vec::new();
            let mut names = Vec::new();
            let mut faults: Vec<(usize, Answer)> = Vec::new();
            for (place, read) in items.read(first, block)?.into_iter().enumerate() {
                let name = items.name(first + place);
                match read {
                    Ok(row) => {
                        rows.extend(row);
                        names.push(name);
                    }
                    Err(error) if self.keep_going => {
                        eprintln!("not read: {error}");
                        let fault = Answer {
                            item: name,
                            error: Some(error.to_string()),
                            ..Answer::default()
                        };
                        faults.push((place, fault));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let mut answers = match names.is_empty() {
                true => Vec::new(),
                false => wording.answers(names, &answer(&rows)),
            };
            for (place, fault) in faults {
                answers.insert(place, fault);
            }
            let printer = match &mut printer {
                Some(printer) => printer,
                none => none.insert(Printer::start(
                    self.form, top, outputs, &header, self.quiet,
                )?),
            };
            printer.answers(&answers)?;
        }
        match printer {
            Some(printer) => printer.finish(),
            None => Ok(()),
        }
    }

    /// What answers depend on beside the items.
    fn header<T: Toolkit>(
        &self,
        trained: &TrainedLearner<T>,
        fitted: &Fitted,
        temperature: f64,
    ) -> Value {
        let mut header = json!({
            "run": trained.record["hash"].as_str().map(|hash| &hash[..hash.len().min(12)]),
            "learner": trained.manifest.learner.name,
            "statistics": trained.architecture.statistics(),
            "transductive": self.transductive && trained.is_transductive(),
            "parameters": trained.parameters_hash(),
        });
        if trained.task() == Task::Classification {
            header["classes"] = json!(fitted.classes.len());
            header["temperature"] = json!(temperature);
            header["calibrated"] = json!(trained.calibration.is_some());
        }
        header
    }
}
