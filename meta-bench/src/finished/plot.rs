//! `meta plot`: draws one run, or many.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use meta_core::toolkit::Toolkit;

use super::{plot_many::Many, plot_run::plot_run, plot_setting::plot_setting};
use crate::{
    command::Execute,
    failure::{CommandError, Result},
    output::{
        chart::write_picture,
        drawing::Drawing,
        figure::{Figure, MARK_CSV, Style},
        table::{Format, Table},
        target::{PICTURE, check_target, write_over},
    },
    run::{folder::RECORD, result::read_result},
};

/// Draw a finished run, or many: learning curves with bands over seeds, scores over adaptation steps or a
/// setting, paired differences, calibration, regret, attention over layers. Writes SVG, PNG or PDF, as the picture's name ends.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Run folders, or folders of run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The picture to write; what this command wrote is replaced.
    #[arg(required = true)]
    out: PathBuf,
    /// What is drawn [default: all of one run; curves of many].
    #[arg(long, value_enum, conflicts_with = "x")]
    kind: Option<Kind>,
    /// Draw the scores of all finished runs over this numeric setting, such as `data.shot`; a line for each
    /// value of the others.
    #[arg(long, value_name = "KEY")]
    x: Option<String>,
    /// Make the axis of that setting logarithmic.
    #[arg(long, requires = "x")]
    log_x: bool,
    /// Only runs that meet this condition, as for `meta compare`; several must all be met.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Runs with the same values of these keys are one line [default: all that differ, but the seed].
    #[arg(long, value_delimiter = ',', value_name = "KEY")]
    group_by: Vec<String>,
    /// What the picture is for.
    #[arg(long, value_enum)]
    style: Option<Style>,
    /// Write the data behind the picture into this file, too.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Folder with the data sets, for `--kind calibration`.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Test episodes that are predicted again, for `--kind calibration`.
    #[arg(long, default_value_t = 200, value_name = "N")]
    episodes: usize,
    /// Test tasks that are acted in, for `--kind regret`.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    tasks: usize,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Validation scores over training; bands over seeds.
    Curves,
    /// Test scores after each adaptation step.
    Steps,
    /// Paired differences of the best row to the others.
    Differences,
    /// The share that is right over the probability of the prediction.
    Calibration,
    /// Regret of policies over the steps of a trial, on their test tasks; acts in them again.
    Regret,
    /// How even the weights of each attention are, in the order of the network, by what `meta explain` wrote.
    Attention,
}

impl Execute for PlotArgs {
    /// Draws the picture.
    ///
    /// # Errors
    /// When there is no such run, or a file cannot be read or written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        check_target(&self.out, PICTURE)?;
        if let Some(csv) = &self.csv {
            check_target(csv, MARK_CSV)?;
        }
        // Without a style, one run and one curve have pictures of their own, with more in them.
        let plain = self.style.is_none() && self.csv.is_none() && self.group_by.is_empty();
        let alone = match self.runs.as_slice() {
            [run] if plain => Some(run),
            _ => None,
        };
        if let (Some(run), None, None) = (alone, &self.x, self.kind)
            && (run.join(RECORD).exists() || !run.is_dir())
        {
            return plot_run(run, &read_result(run)?, &self.out);
        }
        let many = Many::read(&self.runs, &self.conditions, &self.group_by);
        if let (Some(run), Some(key)) = (alone, &self.x) {
            // Runs that differ in the setting and the seed alone; what else is wrong, that picture says.
            let is_one_curve = match &many {
                Ok(many) => many.differs_only_in(key),
                Err(error) => matches!(error, CommandError::Usage(_)),
            };
            if is_one_curve {
                return plot_setting(run, key, self.log_x, &self.conditions, &self.out);
            }
        }
        let many = many?;
        many.say_what_is_left_out();
        let style = self.style.unwrap_or_default();
        let (drawing, table) = match (&self.x, self.kind.unwrap_or(Kind::Curves)) {
            (Some(key), _) => drawn(many.over_setting(key, self.log_x)?, style),
            (None, Kind::Curves) => drawn(many.curves()?, style),
            (None, Kind::Steps) => drawn(many.steps()?, style),
            (None, Kind::Calibration) => {
                let data = self.data.as_deref();
                drawn(many.calibration::<T>(data, self.episodes)?, style)
            }
            (None, Kind::Regret) => drawn(many.regret::<T>(self.tasks)?, style),
            (None, Kind::Attention) => drawn(many.attention()?, style),
            (None, Kind::Differences) => {
                let forest = many.differences()?;
                (forest.draw(style), forest.table())
            }
        };
        write_picture(&self.out, &drawing)?;
        match &self.csv {
            Some(path) => write_over(path, table.render(Format::Csv).as_bytes(), MARK_CSV),
            None => Ok(()),
        }
    }
}

fn drawn(figure: Figure, style: Style) -> (Drawing, Table) {
    (figure.draw(style), figure.table())
}
