//! Writes the table of learners in `README.md`.

use meta_core::toolkit::Catalogue;
use serde_json::json;

/// The learners as a Markdown table with links to their files, for the README.
pub fn learner_table(catalogue: &Catalogue) -> String {
    let mut out = String::from("| learner | family | what it does | paper |\n|---|---|---|---|\n");
    for entry in &catalogue.learners {
        let info = entry.info;
        let family = json!(info.family);
        out.push_str(&format!(
            "| [`{name}`](meta-algos/src/{name}.rs) | {} | {}{} | {} |\n",
            family.as_str().unwrap_or_default(),
            info.summary,
            if entry.transductive {
                "; transductive"
            } else {
                ""
            },
            info.paper,
            name = info.name,
        ));
    }
    out
}
