//! `meta predict`: names items, from labelled ones.

use std::path::{Path, PathBuf};

use clap::Args;
use meta_core::{
    data::{OwnItems, Task},
    toolkit::Toolkit,
};

use super::{
    answer::Answer,
    args::SupportArgs,
    render::{FormArgs, Printer},
    session::{Answers, explained, with_answerer},
    trained::{Fitted, TrainedLearner},
};
use crate::{
    command::Execute,
    experiment::start_threads,
    explain::{OwnSetting, check_target, own_pictures},
    failure::{CommandError, Result},
};

/// Items that are read at a time.
const BLOCK: usize = 4096;
/// Items that are explained.
const EXPLAINED: usize = 8;
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
    /// The items: a folder or zip archive of pictures, a picture, a table of paths, or rows of numbers
    /// (`.csv`, `.npz`, …).
    #[arg(long, value_name = "PATH")]
    query: PathBuf,
    /// What is learnt from.
    #[command(flatten)]
    support: SupportArgs,
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
    /// Write pictures of what the learner attends to as it answers for the first items, and the numbers behind
    /// them, to this new folder.
    #[arg(long, value_name = "DIR", conflicts_with = "transductive")]
    explain: Option<PathBuf>,
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
        self.form.check()?;
        if let Some(folder) = &self.explain {
            check_target(folder, false)?;
        }
        let mut trained = TrainedLearner::<T>::open_with(&self.trained, &self.overrides)?;
        start_threads(trained.manifest.run.threads)?;
        let fitted = self.support.fitted(&mut trained, &self.trained, &[])?;
        let items = self
            .support
            .keys
            .items(&trained, Some(&fitted), &self.query)?;
        if self.transductive && items.len() > MOST_TOGETHER {
            return Err(CommandError::Usage(format!(
                "{}: has {} items; at most {MOST_TOGETHER} are answered together",
                self.query.display(),
                items.len()
            )));
        }
        with_answerer(&trained, &fitted, self.transductive, |answer| {
            self.answer(&trained, &fitted, &items, answer)
        })?;
        match &self.explain {
            Some(folder) => explain(&trained, &fitted, &items, folder),
            None => Ok(()),
        }
    }
}

/// Writes what the learner attends to as it answers for the first items that can be read.
fn explain<T: Toolkit>(
    trained: &TrainedLearner<T>,
    fitted: &Fitted,
    items: &OwnItems,
    folder: &Path,
) -> Result<()> {
    let read = items.read(0, EXPLAINED)?.into_iter().enumerate();
    let rows: Vec<(String, Vec<f32>)> = read
        .filter_map(|(place, row)| Some((items.name(place), row.ok()?)))
        .collect();
    let learner = &trained.manifest.learner.name;
    let support = fitted.support.len(trained.task());
    let line = match trained.task() {
        Task::Classification => {
            format!(
                "{learner}, {} classes from {support} items",
                fitted.classes.len()
            )
        }
        _ => format!("{learner}, {support} items"),
    };
    let setting = OwnSetting {
        line,
        header: trained.header(fitted, false),
        item: trained.item,
        preparation: &trained.preparation,
        classes: &fitted.classes,
    };
    match own_pictures(&setting, explained(trained, fitted, &rows)?)? {
        Some(pictures) => {
            // Answers are on standard output.
            eprintln!("{}", pictures.put(folder)?.trim_end());
            Ok(())
        }
        None => Err(CommandError::Usage(format!(
            "--explain: `{learner}` attends to nothing, with `{}` as its encoder; `meta list learners` shows \
             which family attends",
            trained.manifest.encoder.name
        ))),
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
        let header = trained.header(fitted, self.transductive);
        let outputs = match trained.task() {
            Task::Classification | Task::Sequences { .. } | Task::Acting { .. } => 0,
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
                    self.form.clone(),
                    top,
                    outputs,
                    &header,
                    self.quiet,
                )?),
            };
            printer.answers(&answers)?;
        }
        match printer {
            Some(printer) => printer.finish(),
            None => Ok(()),
        }
    }
}
