//! `meta list`: lists what a manifest can name.

use clap::{Args, ValueEnum};
use meta_core::{
    backend::backends,
    nn::attention::attentions,
    toolkit::{Catalogue, Toolkit},
};
use serde_json::{Value, json};

use crate::{command::Execute, failure::Result, output::print};

/// Show what a manifest can name.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which list [default: all].
    kind: Option<ListKind>,
    /// Print as one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// A list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListKind {
    /// Learners.
    Learners,
    /// Encoders.
    Encoders,
    /// Attention.
    Attention,
    /// Data sources.
    Data,
    /// Optimisers of the outer loop.
    Optimizers,
    /// Backends.
    Backends,
}

impl Execute for ListArgs {
    /// Prints the lists.
    ///
    /// # Errors
    /// When stdout cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let lists = lists(self.kind, &Catalogue::of::<T>());
        print(&if self.json {
            format!("{lists}\n")
        } else {
            table(&lists)
        })
    }
}

/// The lists that `kind` asks for, all for none, as one object of arrays.
fn lists(kind: Option<ListKind>, catalogue: &Catalogue) -> Value {
    let wanted = |list| kind.is_none_or(|kind| kind == list);
    let mut lists = json!({});
    if wanted(ListKind::Learners) {
        lists["learners"] = catalogue
            .learners
            .iter()
            .map(|entry| {
                let mut row = json!(entry.info);
                row["settings"] = entry.default_settings.clone();
                row
            })
            .collect();
    }
    if wanted(ListKind::Encoders) {
        lists["encoders"] = catalogue
            .encoders
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.info.name,
                    "family": entry.info.input,
                    "summary": entry.info.summary,
                    "paper": entry.info.paper,
                    "settings": (entry.default_settings)(),
                })
            })
            .collect();
    }
    if wanted(ListKind::Attention) {
        lists["attention"] = attentions().iter().map(|info| json!(info)).collect();
    }
    if wanted(ListKind::Data) {
        lists["data"] = catalogue
            .sources
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.name,
                    "summary": entry.summary,
                    "settings": (entry.default_settings)(),
                })
            })
            .collect();
    }
    if wanted(ListKind::Optimizers) {
        lists["optimizers"] = catalogue
            .optimizers
            .iter()
            .map(|entry| json!({ "name": entry.name, "summary": entry.summary }))
            .collect();
    }
    if wanted(ListKind::Backends) {
        lists["backends"] = backends()
            .iter()
            .map(|info| {
                json!({
                    "name": info.name,
                    "summary": info.summary,
                    "feature": info.feature,
                    "compiled": info.compiled,
                })
            })
            .collect();
    }
    lists
}

/// The same for people.
fn table(lists: &Value) -> String {
    let mut out = String::new();
    for (kind, rows) in lists.as_object().into_iter().flatten() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("{kind}\n"));
        let rows = || rows.as_array().into_iter().flatten();
        let names = rows().filter_map(|row| row["name"].as_str().map(str::len));
        let width = names.fold(12, usize::max);
        for row in rows() {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let note = match row["compiled"].as_bool() {
                Some(false) => format!(" (not in this build; feature `{}`)", text("feature")),
                _ => String::new(),
            };
            let family = match text("family") {
                family if family.is_empty() => family,
                family => format!("{family}: "),
            };
            out.push_str(&format!(
                "  {:<width$} {family}{}{note}\n",
                text("name"),
                text("summary")
            ));
            if !text("paper").is_empty() {
                out.push_str(&format!("  {:<width$} {}\n", "", text("paper")));
            }
        }
    }
    out
}
