//! `meta docs`: writes the parts of the documentation that come from the code.

mod learners;
pub mod manifest;
mod searches;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use meta_core::{
    Error,
    files::write_atomically,
    toolkit::{Catalogue, Toolkit},
};

use crate::{
    command::Execute,
    failure::{CommandError, Result},
    finished::{ledger::ledger, results::results},
    output::print,
};
use learners::learner_table;
use manifest::manifest_reference;
use searches::compare_searches;

/// Write the parts of the documentation that come from the code.
#[derive(Debug, Args)]
#[command(hide = true, args_conflicts_with_subcommands = true)]
pub struct DocsArgs {
    /// What to print.
    #[command(subcommand)]
    what: Option<DocsKind>,
    /// Write every file that comes from the code alone: docs/manifest.md, and the table of learners in
    /// README.md. Needs to be run at the root of the workspace.
    #[arg(long)]
    write: bool,
}

/// Parts of the documentation.
#[derive(Debug, Subcommand)]
enum DocsKind {
    /// The manifest reference (`docs/manifest.md`), on stdout, from the settings themselves.
    Manifest,
    /// The table of learners of the README, on stdout.
    Learners,
    /// Searches by random and by TPE with equal budgets, on stdout.
    Searches {
        /// Folders of sweeps.
        #[arg(required = true)]
        sweeps: Vec<PathBuf>,
    },
    /// Runs (or tests of their parameters, `RUN/evals/HASH.json`) that repeat published experiments (`docs/ledger.md`), on stdout.
    Ledger {
        /// Run folders that are kept from now on.
        runs: Vec<PathBuf>,
        /// Folder in which the results, records and metrics of such runs are kept.
        #[arg(long, value_name = "DIR", default_value = "docs/ledger")]
        folder: PathBuf,
    },
    /// Finished runs beside published figures (`docs/results.md`), on stdout.
    Results {
        /// Run folders.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Folder with the data sets [default: that of each run].
        #[arg(long, env = "META_DATA", value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

impl Execute for DocsArgs {
    /// Prints a part of the documentation, or writes all that come from the code alone.
    ///
    /// # Errors
    /// When there is nothing to do, a run is not finished, or a file is missing.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let catalogue = Catalogue::of::<T>();
        match self.what {
            None if self.write => write(Path::new(""), &catalogue),
            None => Err(CommandError::Usage(
                "expected --write, or what to print: manifest, learners, searches, ledger or results"
                    .to_owned(),
            )),
            Some(DocsKind::Manifest) => print(&manifest_reference(&catalogue)),
            Some(DocsKind::Learners) => print(&learner_table(&catalogue)),
            Some(DocsKind::Searches { sweeps }) => print(&compare_searches(&sweeps)?),
            Some(DocsKind::Ledger { runs, folder }) => print(&ledger(&folder, &runs)?),
            Some(DocsKind::Results { runs, data }) => print(&results::<T>(&runs, data.as_deref())?),
        }
    }
}

/// Writes the generated files below `root`, and prints which ones have changed.
fn write(root: &Path, catalogue: &Catalogue) -> Result<()> {
    let pages = [
        (
            root.join("docs/manifest.md"),
            Page::Whole(manifest_reference(catalogue)),
        ),
        (
            root.join("README.md"),
            Page::Part("learners", learner_table(catalogue)),
        ),
    ];
    // All are read before the first one is written.
    let mut changed = Vec::new();
    for (path, page) in &pages {
        let old = std::fs::read_to_string(path).map_err(|error| {
            CommandError::Usage(format!(
                "{}: cannot read: {error}; run `meta docs --write` at the root of the workspace",
                path.display()
            ))
        })?;
        let new = page.apply(path, &old)?;
        if new != old {
            changed.push((path, new));
        }
    }
    for (path, new) in &changed {
        write_atomically(path, new.as_bytes())?;
        print(&format!("{}\n", path.display()))?;
    }
    if changed.is_empty() {
        print("every file is up to date\n")?;
    }
    Ok(())
}

/// What of a file is generated.
enum Page {
    /// All of it.
    Whole(String),
    /// What stands between `<!-- … `meta docs NAME` -->` and `<!-- /NAME -->`.
    Part(&'static str, String),
}

impl Page {
    /// The new text of the file at `path`, whose text is `old`.
    fn apply(&self, path: &Path, old: &str) -> Result<String> {
        let (name, text) = match self {
            Page::Whole(text) => return Ok(text.clone()),
            Page::Part(name, text) => (name, text),
        };
        let (open, close) = (
            format!("`meta docs {name}` -->\n"),
            format!("<!-- /{name} -->"),
        );
        let missing = |marker: &str| {
            CommandError::from(Error::data(
                path,
                format!("has no line that ends in `{}`", marker.trim_end()),
            ))
        };
        let start = old.find(&open).ok_or_else(|| missing(&open))? + open.len();
        let end = old[start..].find(&close).ok_or_else(|| missing(&close))? + start;
        Ok(format!("{}{text}{}", &old[..start], &old[end..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_between_its_markers() {
        let page = Page::Part("learners", "new\n".to_owned());
        let path = Path::new("README.md");
        let old = "a\n<!-- written by `meta docs learners` -->\nold\nold\n<!-- /learners -->\nb\n";
        let new = page.apply(path, old).unwrap();
        assert_eq!(
            new,
            "a\n<!-- written by `meta docs learners` -->\nnew\n<!-- /learners -->\nb\n"
        );
        assert_eq!(page.apply(path, &new).unwrap(), new);
        let message = page.apply(path, "a\nb\n").unwrap_err().to_string();
        assert!(message.contains("README.md"), "{message}");
    }
}
