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
        settings::{
            DataSettings, PublishedSettings, RunSettings, TestSettings, TrackingSettings,
            WeightSettings,
        },
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
    for group in groups(catalogue) {
        out.push_str(&format!("\n{}\n\n", group.title));
        if !group.note.is_empty() {
            out.push_str(&format!("{}\n\n", group.note));
        }
        if group.fields.is_empty() {
            continue;
        }
        out.push_str("| key | default | meaning |\n|---|---|---|\n");
        for field in &group.fields {
            let default = group.default_of(field);
            let meaning = field.doc.replace('|', "\\|");
            out.push_str(&format!("| `{}` | `{default}` | {meaning} |\n", field.name));
        }
    }
    out
}

/// Settings that are documented together.
pub struct Group {
    /// The table of a manifest that they stand in; empty for the top of the file.
    pub table: &'static str,
    /// The learner, encoder, source or optimiser that has them; empty where every manifest does.
    pub choice: &'static str,
    /// Its heading, as Markdown.
    pub title: String,
    /// What there is to know besides.
    pub note: String,
    /// The settings.
    pub fields: Vec<Field>,
    defaults: Value,
}

impl Group {
    /// The default of one of its settings, as a manifest has it.
    pub fn default_of(&self, field: &Field) -> String {
        toml(&self.defaults[field.name]).unwrap_or_else(|| "not set".to_owned())
    }

    fn of_every<S: Settings>(table: &'static str, title: &str, note: &str) -> Self {
        Group {
            table,
            choice: "",
            title: title.to_owned(),
            note: note.to_owned(),
            fields: S::fields(),
            defaults: S::defaults(),
        }
    }
}

/// All settings, in the order of the reference.
pub fn groups(catalogue: &Catalogue) -> Vec<Group> {
    let mut all = vec![
        Group::of_every::<RunSettings>("", "## Top of the file", ""),
        Group::of_every::<DataSettings>(
            "data",
            "## `[data]`",
            "These keys, and in the same table those of the chosen source.",
        ),
    ];
    all.extend(catalogue.sources.iter().map(|entry| Group {
        table: "data",
        choice: entry.name,
        title: format!("### `source = \"{}\"`", entry.name),
        note: entry.summary.to_owned(),
        fields: (entry.fields)(),
        defaults: (entry.default_settings)(),
    }));
    all.push(Group::of_every::<WeightSettings>(
        "encoder",
        "## `[encoder]`",
        "These keys, and in the same table those of the chosen encoder.",
    ));
    all.extend(catalogue.encoders.iter().map(|entry| Group {
        table: "encoder",
        choice: entry.info.name,
        title: format!("## `[encoder]`, `name = \"{}\"`", entry.info.name),
        note: format!("{}. {}.", capitalised(entry.info.summary), entry.info.paper),
        fields: (entry.fields)(),
        defaults: (entry.default_settings)(),
    }));
    all.extend(catalogue.learners.iter().map(|entry| Group {
        table: "learner",
        choice: entry.info.name,
        title: format!("## `[learner]`, `name = \"{}\"`", entry.info.name),
        note: format!("{}. {}.", capitalised(entry.info.summary), entry.info.paper),
        fields: entry.fields.clone(),
        defaults: entry.default_settings.clone(),
    }));
    all.push(Group::of_every::<TrainSettings>(
        "train",
        "## `[train]`",
        "",
    ));
    let of_optimizers = catalogue.optimizers.iter().map(|entry| Group {
        table: "train",
        choice: entry.name,
        title: format!("### `optimizer = \"{}\"`", entry.name),
        note: entry.summary.to_owned(),
        fields: (entry.fields)(),
        defaults: (entry.default_settings)(),
    });
    all.extend(of_optimizers.filter(|group| !group.fields.is_empty()));
    all.push(Group::of_every::<TestSettings>("test", "## `[test]`", ""));
    all.push(Group::of_every::<TrackingSettings>(
        "tracking",
        "## `[tracking]`",
        "What a run writes for other tools while it trains; no part of its identity.",
    ));
    all.push(Group::of_every::<PublishedSettings>(
        "published",
        "## `[published]`",
        "The figure that a manifest repeats the experiment of, shown beside the result; no part of a run's identity.",
    ));
    all.push(Group::of_every::<SlurmSettings>(
        "slurm",
        "## `[slurm]`",
        "For `meta sweep --launcher slurm`; no part of a run.",
    ));
    all
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
