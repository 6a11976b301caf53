//! `meta list`: what a manifest can name.

use meta_core::{backend::backends, nn::attention::attentions, toolkit::Catalogue};
use serde_json::{Value, json};

use crate::cli::ListKind;

/// The lists that `kind` asks for, all for none, as one object of arrays.
pub fn lists(kind: Option<ListKind>, catalogue: &Catalogue) -> Value {
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

/// The same for humans.
pub fn table(lists: &Value) -> String {
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

/// The learners as a Markdown table with links to their files, for the README.
pub fn learner_table(catalogue: &Catalogue) -> String {
    let mut out = String::from("| learner | family | what it does | paper |\n|---|---|---|---|\n");
    for entry in &catalogue.learners {
        let info = entry.info;
        let family = json!(info.family);
        out.push_str(&format!(
            "| [`{name}`](meta-algos/src/{name}.rs) | {} | {} | {} |\n",
            family.as_str().unwrap_or_default(),
            info.summary,
            info.paper,
            name = info.name,
        ));
    }
    out
}
