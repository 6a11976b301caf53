//! `meta report`: one file about one run or many, to send and to print.
//!
//! The file is complete: it loads nothing, and its policy keeps a browser from it. What is in a name is text
//! wherever it stands. The same runs give the same bytes.

mod charts;
mod importance;
mod many;
mod page;
mod references;
mod single;
mod words;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use maud::{Markup, html};
use meta_core::{
    files::read_text,
    toolkit::{Catalogue, Toolkit},
};
use serde_json::Value;

use super::{compare::CompareArgs, metrics::Curves, store::Stored};
use crate::{
    command::Execute,
    failure::Result,
    manifest::text::toml,
    output::{
        print,
        table::{Cell, Table},
        target::{check_target, write_over},
        units::bytes_text,
    },
    run::{
        folder::{MANIFEST, RECORD, read_json},
        predictions::{self, Predictions},
    },
};
use many::Many;
use page::{MARK, page};
use single::Single;

/// The largest manifest that is read.
const MOST_BYTES: u64 = 1 << 20;

/// Write a report of one run or of many: one HTML file that needs nothing else.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders, or folders of run folders [default: runs].
    runs: Vec<PathBuf>,
    /// The file to write; what this command wrote is replaced.
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Only runs that meet this condition, as for `meta compare`; several must all be met.
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<String>,
    /// Keys by which runs are grouped, as for `meta compare`.
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    group_by: Vec<String>,
    /// Test episodes of a single run that are predicted again, for the confusions of classes; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 200)]
    episodes: usize,
    /// Folder with the data sets [default: that of the run].
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Execute for ReportArgs {
    /// Writes the report.
    ///
    /// # Errors
    /// When there is no finished run, one of them cannot be read, or the file cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        check_target(&self.output, MARK)?;
        let mut notes = Vec::new();
        let compare = CompareArgs::of(self.runs.clone())
            .with_conditions(self.conditions.clone())
            .grouped_by(self.group_by.clone());
        let runs = compare.finished(&mut notes)?;
        // A run and what it was tested on besides is one run.
        let text = match runs.as_slice() {
            [run, evaluations @ ..] if evaluations.iter().all(|one| one.folder == run.folder) => {
                self.single::<T>(run, evaluations, &notes)?
            }
            _ => self.many::<T>(&compare, runs, &notes)?,
        };
        write_over(&self.output, text.as_bytes(), MARK)?;
        let size = bytes_text(text.len() as u64);
        print(&format!("{}: {size}\n", self.output.display()))
    }
}

impl ReportArgs {
    /// The report of one run.
    fn single<T: Toolkit>(
        &self,
        run: &Stored,
        evaluations: &[Stored],
        notes: &[String],
    ) -> Result<String> {
        let result = run.result.as_ref().expect("a finished run has its result");
        let record = read_json(&run.folder.join(RECORD))?;
        let curves = Curves::read(&run.folder)?;
        let predictions = self.predictions::<T>(run);
        let single = Single {
            run,
            result,
            evaluations,
            record: &record,
            curves: &curves,
            predictions: &predictions,
        };
        let body = html! {
            (single.headline())
            (noted(notes))
            (single.curves())
            (single.predictions())
            (single.pictures()?)
            (single.evaluations())
            (single.words())
            (single.environment())
            (reproduce(&run.folder, &record)?)
            (settings(run, &record["origins"]))
            (references::<T>(std::slice::from_ref(run), record["commit"].as_str()))
        };
        Ok(page(&format!("{} – report", result.name), &body))
    }

    /// The predictions of a run for its own test, or why there are none.
    fn predictions<T: Toolkit>(&self, run: &Stored) -> Result<Predictions, String> {
        if run.evaluation.is_some() {
            return Err("this is an evaluation besides the run's own test".to_owned());
        }
        match self.episodes {
            0 => Err("not asked for (--episodes 0)".to_owned()),
            most => predictions::of_run::<T>(&run.folder, self.data.as_deref(), most)
                .map_err(|error| error.to_string()),
        }
    }

    /// The report of many runs.
    fn many<T: Toolkit>(
        &self,
        compare: &CompareArgs,
        runs: Vec<Stored>,
        notes: &[String],
    ) -> Result<String> {
        let mut curves = BTreeMap::new();
        for run in &runs {
            if run.evaluation.is_none() {
                curves.insert(run.hash.clone(), Curves::read(&run.folder)?);
            }
        }
        let compared = compare.compared(runs.clone(), notes.to_vec())?;
        let many = Many {
            compared: &compared,
            runs: &runs,
        };
        let record = read_json(&runs[0].folder.join(RECORD))?;
        let body = html! {
            (many.headline())
            (many.comparison())
            (many.curves(&curves))
            (many.sweep())
            (many.runs())
            (common(&runs))
            (references::<T>(&runs, record["commit"].as_str()))
        };
        Ok(page(&format!("{} runs – report", runs.len()), &body))
    }
}

fn noted(notes: &[String]) -> Markup {
    html! { @for note in notes { p class="note" { (note) } } }
}

/// The command that trains the run again, and the manifest that it reads.
fn reproduce(folder: &Path, record: &Value) -> Result<Markup> {
    let manifest = read_text(&folder.join(MANIFEST), MOST_BYTES)?;
    let data = record["data"]["folder"].as_str();
    let data = data.map_or_else(String::new, |_| " --data FOLDER".to_owned());
    Ok(html! {
        h2 { "The same again" }
        p {
            "Save the manifest below as " code { "manifest.toml" }
            ". The same program computes the same bytes on a CPU."
        }
        pre { code { "meta run manifest.toml" (data) } }
        details {
            summary { "manifest.toml, with the origin of every value" }
            pre { code { (manifest) } }
        }
    })
}

/// Every setting with its value and where that was given.
fn settings(run: &Stored, origins: &Value) -> Markup {
    let mut rows = Table::new(["setting", "value", "given by"]);
    for (key, value) in &run.settings {
        let origin = origins[key].as_str().unwrap_or("not recorded");
        let shown = toml(value).unwrap_or_else(|| "not set".to_owned());
        rows.rows.push(vec![
            key.clone().into(),
            Cell::from(shown),
            origin.to_owned().into(),
        ]);
    }
    let is_default = |row: &Vec<Cell>| row[2].text == "default";
    let (defaults, given): (Vec<_>, Vec<_>) = rows.rows.drain(..).partition(is_default);
    let of = |rows: Vec<Vec<Cell>>| Table {
        columns: ["setting", "value", "given by"].map(str::to_owned).to_vec(),
        rows,
    };
    let many = defaults.len();
    html! {
        h2 { "Settings" }
        (page::table(&of(given)))
        details {
            summary { (many) " settings are the defaults" }
            (page::table(&of(defaults)))
        }
    }
}

/// The settings that all runs have in common.
fn common(runs: &[Stored]) -> Markup {
    let mut rows = Table::new(["setting", "value"]);
    for (key, value) in &runs[0].settings {
        if runs.iter().all(|run| run.settings.get(key) == Some(value)) {
            let shown = toml(value).unwrap_or_else(|| "not set".to_owned());
            rows.rows.push(vec![key.clone().into(), shown.into()]);
        }
    }
    html! {
        details {
            summary { (rows.rows.len()) " settings that all runs have in common" }
            (page::table(&rows))
        }
    }
}

fn references<T: Toolkit>(runs: &[Stored], commit: Option<&str>) -> Markup {
    let results = || runs.iter().filter_map(|run| run.result.as_ref());
    let mut learners: Vec<&str> = results().map(|result| result.learner.as_str()).collect();
    let mut encoders: Vec<&str> = results().map(|result| result.encoder.as_str()).collect();
    for names in [&mut learners, &mut encoders] {
        names.sort_unstable();
        names.dedup();
    }
    let text = references::bibtex(&Catalogue::of::<T>(), &learners, &encoders, commit);
    html! {
        h2 { "References" }
        p class="note" { "Short forms of the papers of the methods, to be completed." }
        pre { code { (text) } }
    }
}
