//! Writes the manifest reference, `docs/manifest.md`, from the settings themselves: each group knows its
//! keys, their defaults and what they mean ([`meta_core::settings!`]).

use meta_core::{
    settings::{Field, Settings},
    toolkit::Catalogue,
    train::TrainSettings,
};
use serde_json::Value;

use crate::{
    manifest::{
        settings::{DataSettings, RunSettings, TestSettings, WeightSettings},
        text::toml,
    },
    sweep::slurm::SlurmSettings,
};

/// The whole reference.
pub fn manifest_reference(catalogue: &Catalogue) -> String {
    let mut out = String::from(
        "# Manifest reference\n\n\
         Written by `meta docs --write` from the settings; a test fails when it is stale.\n\n\
         A manifest is a TOML file. Every key has a default, so an empty file is a manifest. Later \
         layers win: defaults, the manifests that `extends = \"base.toml\"` names (or a list of them), \
         the file, `key.path=value` on the command line. `meta check MANIFEST` shows every value with \
         its origin. `[sweep]` is in [sweeps](sweeps.md).\n\n\
         Sizes (of layers, sets, episodes, numbers of steps) are at most 1 048 576. A run that needs \
         more memory than the machine, its control group or `ulimit -v` leaves, by an estimate, is \
         refused before anything is allocated, with its largest part and the key to lower; `--force` \
         starts it all the same. Manifests are regular files of at most 16 MiB; at most 1000 files \
         extend each other, 64 in a row.\n",
    );
    let mut section = |title: &str, note: &str, fields: Vec<Field>, defaults: Value| {
        out.push_str(&format!("\n{title}\n\n"));
        if !note.is_empty() {
            out.push_str(&format!("{note}\n\n"));
        }
        if fields.is_empty() {
            return;
        }
        out.push_str("| key | default | meaning |\n|---|---|---|\n");
        for field in fields {
            let default = toml(&defaults[field.name]).unwrap_or_else(|| "not set".to_owned());
            let meaning = field.doc.replace('|', "\\|");
            out.push_str(&format!("| `{}` | `{default}` | {meaning} |\n", field.name));
        }
    };
    let (run, data) = (RunSettings::fields(), DataSettings::fields());
    section("## Top of the file", "", run, RunSettings::defaults());
    section(
        "## `[data]`",
        "These keys, and in the same table those of the chosen source.",
        data,
        DataSettings::defaults(),
    );
    for entry in &catalogue.sources {
        let title = format!("### `source = \"{}\"`", entry.name);
        let defaults = (entry.default_settings)();
        section(&title, entry.summary, (entry.fields)(), defaults);
    }
    section(
        "## `[encoder]`",
        "These keys, and in the same table those of the chosen encoder.",
        WeightSettings::fields(),
        WeightSettings::defaults(),
    );
    for entry in &catalogue.encoders {
        let info = entry.info;
        let title = format!("## `[encoder]`, `name = \"{}\"`", info.name);
        let note = format!("{}. {}.", capitalised(info.summary), info.paper);
        let defaults = (entry.default_settings)();
        section(&title, &note, (entry.fields)(), defaults);
    }
    for entry in &catalogue.learners {
        let info = entry.info;
        let title = format!("## `[learner]`, `name = \"{}\"`", info.name);
        let note = format!("{}. {}.", capitalised(info.summary), info.paper);
        let defaults = entry.default_settings.clone();
        section(&title, &note, entry.fields.clone(), defaults);
    }
    let train = TrainSettings::fields();
    section("## `[train]`", "", train, TrainSettings::defaults());
    for entry in &catalogue.optimizers {
        let fields = (entry.fields)();
        if !fields.is_empty() {
            let title = format!("### `optimizer = \"{}\"`", entry.name);
            let defaults = (entry.default_settings)();
            section(&title, entry.summary, fields, defaults);
        }
    }
    let test = TestSettings::fields();
    section("## `[test]`", "", test, TestSettings::defaults());
    section(
        "## `[slurm]`",
        "For `meta sweep --launcher slurm`; no part of a run.",
        SlurmSettings::fields(),
        SlurmSettings::defaults(),
    );
    out
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
