//! What the commands that read a person's items have in common.

use std::path::{Path, PathBuf};

use clap::Args;
use meta_core::{
    data::{ItemKeys, LabelledRows, OwnItems, Task, Wanted, class_vectors, formats::is_table},
    toolkit::Toolkit,
};

use super::trained::{Fitted, TrainedLearner};
use crate::failure::{CommandError, Result};

/// Which arrays or columns of a file are read.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// Array or columns of the numbers [default: `features`, or of a table all columns beside the labels;
    /// of a regression `x*`].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "KEY"
    )]
    features: String,
    /// Array or column of the labels [default: `labels` or `label`; of a learner of tables the last column].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "KEY"
    )]
    labels: String,
    /// Array or columns of the values of a regression [default: `targets`, or of a table `y*`; of a learner of
    /// tables the last column].
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "KEY"
    )]
    targets: String,
}

impl KeyArgs {
    fn keys(&self) -> ItemKeys {
        ItemKeys {
            features: self.features.clone(),
            labels: self.labels.clone(),
            targets: self.targets.clone(),
        }
    }

    /// The items at `path`, for a learner to answer.
    ///
    /// # Errors
    /// As [`OwnItems::open`].
    pub fn items<T: Toolkit>(
        &self,
        trained: &TrainedLearner<T>,
        fitted: Option<&Fitted>,
        path: &Path,
    ) -> Result<OwnItems> {
        if let Some(columns) = fitted.and_then(|fitted| fitted.columns.as_ref()) {
            return Ok(OwnItems::of_table(path, &trained.preparation, columns)?);
        }
        let wanted = match trained.task() {
            Task::Classification => Wanted::Items,
            Task::Regression { .. } | Task::Sequences { .. } | Task::Acting { .. } => {
                Wanted::Inputs
            }
        };
        Ok(OwnItems::open(
            path,
            &trained.preparation,
            &self.keys(),
            wanted,
        )?)
    }

    /// Vectors of the classes of `fitted`, from the table at `path`.
    fn describe(&self, fitted: &mut Fitted, path: &Path) -> Result<()> {
        fitted.class_vectors = Some(class_vectors(path, &self.keys(), &fitted.classes)?);
        Ok(())
    }

    /// The support at `path`.
    ///
    /// # Errors
    /// As [`OwnItems::open`], and naming an item that cannot be read.
    fn support<T: Toolkit>(&self, trained: &TrainedLearner<T>, path: &Path) -> Result<Fitted> {
        if trained.takes_tables() && is_table(path) {
            let classes = trained.task() == Task::Classification;
            let target = if classes { &self.labels } else { &self.targets };
            let table = LabelledRows::read(path, target, classes, trained.most_features())?;
            return Ok(trained.fit_table(table));
        }
        let wanted = match trained.task() {
            Task::Classification => Wanted::Labels,
            Task::Regression { outputs } => Wanted::Targets(outputs),
            Task::Sequences { length, .. } => Wanted::Targets(length + 1),
            Task::Acting { .. } => Wanted::Inputs,
        };
        trained.fit(&OwnItems::open(
            path,
            &trained.preparation,
            &self.keys(),
            wanted,
        )?)
    }

    /// Adds the items of `NAME=PATH`, all of that class.
    ///
    /// # Errors
    /// As [`KeyArgs::support`], and for a regression.
    fn add<T: Toolkit>(
        &self,
        trained: &TrainedLearner<T>,
        fitted: &mut Fitted,
        given: &str,
    ) -> Result<()> {
        let Some((class, path)) = given.split_once('=').filter(|(class, _)| !class.is_empty())
        else {
            return Err(CommandError::Usage(format!(
                "`--add {given}`: expected NAME=PATH, a class and its items"
            )));
        };
        if trained.task() != Task::Classification {
            return Err(CommandError::Usage(format!(
                "`--add {given}`: a regression has no classes"
            )));
        }
        let items = self.items(trained, Some(&*fitted), Path::new(path))?;
        let rows = items.read(0, items.len())?.into_iter();
        fitted.add(class, rows.collect::<Result<_, meta_core::Error>>()?);
        Ok(())
    }
}

/// What a learner learns from.
#[derive(Clone, Debug, Args)]
pub struct SupportArgs {
    /// Labelled items to learn from: a folder or zip archive of class folders, a table of pictures' paths and
    /// labels, or numbers with labels or targets (`.csv`, `.npz`, …).
    #[arg(long, value_name = "PATH")]
    support: Option<PathBuf>,
    /// A vector that describes each class, for learners that were trained with such (`data.class_vectors`): a
    /// table with the names of the classes as labels.
    #[arg(long, value_name = "FILE")]
    class_vectors: Option<PathBuf>,
    /// Arrays or columns.
    #[command(flatten)]
    pub keys: KeyArgs,
}

impl SupportArgs {
    /// What answers are learnt from: the given support, or that of a fitted file, with the items of `added`
    /// classes (`NAME=PATH`). `given` is the path of the learner, for the message.
    ///
    /// # Errors
    /// Naming what cannot be read, and where there is neither a support nor a fitted file.
    pub fn fitted<T: Toolkit>(
        &self,
        trained: &mut TrainedLearner<T>,
        given: &Path,
        added: &[String],
    ) -> Result<Fitted> {
        let mut fitted = match (&self.support, &trained.fitted) {
            (Some(support), _) => self.keys.support(trained, support)?,
            (None, Some(fitted)) => fitted.clone(),
            (None, None) => {
                return Err(CommandError::Usage(format!(
                    "{}: is a run, which knows none of your classes; give labelled items by --support, or a \
                     file that `meta fit` wrote",
                    given.display()
                )));
            }
        };
        trained.suit(&fitted)?;
        for class in added {
            self.keys.add(trained, &mut fitted, class)?;
        }
        if let Some(path) = &self.class_vectors {
            self.keys.describe(&mut fitted, path)?;
        }
        Ok(fitted)
    }
}
