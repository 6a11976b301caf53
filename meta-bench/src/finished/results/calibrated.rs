//! What calibrations come to on test episodes.

use std::path::Path;

use meta_core::{calibration::Pooled, toolkit::Toolkit};

use super::{
    against::data,
    finished_run::{FinishedRun, markdown},
};
use crate::{
    failure::Result,
    run::{calibration::Calibration, eval::best_file, folder::CALIBRATION},
};

/// Rows of runs that `meta calibrate --test-episodes` was run on.
#[derive(Default)]
pub struct Calibrated {
    rows: String,
}

impl Calibrated {
    /// Adds the run in `folder`, where it has such a calibration.
    ///
    /// # Errors
    /// When its file is damaged.
    pub fn add<T: Toolkit>(&mut self, folder: &Path, run: &FinishedRun<T>) -> Result<()> {
        let path = folder.join(CALIBRATION);
        if !path.exists() {
            return Ok(());
        }
        let (parameters, _) = best_file(folder)?;
        let Some(found) = Calibration::read(&path, &parameters)? else {
            return Ok(());
        };
        let Some(test) = found.on_test else {
            return Ok(());
        };
        let figure = |figure: Option<Pooled>, factor: f64, unit: &str| {
            figure.map_or("–".to_owned(), |figure| {
                format!(
                    "{:.2} ± {:.2}{unit}",
                    factor * figure.mean,
                    factor * figure.ci95
                )
            })
        };
        self.rows.push_str(&format!(
            "| {} | {}, {} | {} of {} | {} | {} | {} | {:.0} % | {} | {} |\n",
            markdown(&run.result.learner),
            markdown(&data(run)),
            markdown(&found.shape),
            test.episodes,
            found.episodes,
            found.classes.map_or("–".to_owned(), |classes| format!(
                "{:.3}",
                classes.temperature
            )),
            figure(test.error_before, 100.0, " %"),
            figure(test.error_after, 100.0, " %"),
            100.0 * (1.0 - found.alpha),
            figure(Some(test.coverage), 100.0, " %"),
            figure(test.set_size, 1.0, ""),
        ));
        Ok(())
    }

    /// The section; nothing without such runs.
    pub fn section(&self) -> String {
        match self.rows.is_empty() {
            true => String::new(),
            false => format!(
                "## Calibration\n\n\
                 Temperature and conformal sets of `meta calibrate`, from validation episodes, on test episodes. The \
                 interval of the coverage is of a bootstrap over the classes, or tasks, of both splits.\n\n\
                 | learner | tasks | test of validation episodes | temperature | calibration error | with it | \
                 asked for | coverage | classes in a set |\n\
                 |---|---|--:|--:|--:|--:|--:|--:|--:|\n{}\n",
                self.rows
            ),
        }
    }
}
