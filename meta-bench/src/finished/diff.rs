//! `meta diff`: shows the settings in which two runs or manifests differ.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::Args;
use meta_core::toolkit::{Catalogue, Toolkit};
use serde_json::Value;

use crate::{
    command::Execute,
    failure::Result,
    manifest::{Manifest, entries::flat, text::toml},
    output::{
        print,
        table::{Cell, Format, Table},
    },
    run::folder::{RECORD, read_json},
};

/// Show the settings in which two runs or manifests differ.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A run folder or a manifest.
    a: PathBuf,
    /// Another run folder or manifest.
    b: PathBuf,
    /// Form of the table.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Execute for DiffArgs {
    /// Prints the settings that differ.
    ///
    /// # Errors
    /// When one of the two is neither a run folder nor a manifest.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let (a, b) = (settings::<T>(&self.a)?, settings::<T>(&self.b)?);
        let mut table = Table::new([
            "setting".to_owned(),
            self.a.display().to_string(),
            self.b.display().to_string(),
        ]);
        let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
        keys.sort();
        keys.dedup();
        // The content of data is known of runs alone.
        keys.retain(|key| *key != "data (content)" || a.contains_key(*key) && b.contains_key(*key));
        for key in keys {
            let (x, y) = (a.get(key), b.get(key));
            if x != y {
                let cell = |value: Option<&String>| match value {
                    Some(value) => Cell::from(value.clone()),
                    None => Cell::new("–", Value::Null),
                };
                table.rows.push(vec![key.clone().into(), cell(x), cell(y)]);
            }
        }
        if table.rows.is_empty() && self.format == Format::Text {
            return print("no setting differs\n");
        }
        print(&table.render(self.format))
    }
}

/// The settings of a run folder or a manifest, and what lies in its data where that is known.
fn settings<T: Toolkit>(path: &Path) -> Result<BTreeMap<String, String>> {
    let (values, content) = if path.is_dir() {
        let record = read_json(&path.join(RECORD))?;
        let content = record["data"]["content"].as_str().map(str::to_owned);
        (record["manifest"].clone(), content)
    } else {
        (
            Manifest::resolve(path, &[], &Catalogue::of::<T>())?.values(),
            None,
        )
    };
    let shown = |value: &Value| toml(value).unwrap_or_else(|| "not set".to_owned());
    let mut settings: BTreeMap<String, String> = flat(&values)
        .map(|(key, value)| (key, shown(value)))
        .collect();
    if let Some(content) = content {
        settings.insert("data (content)".to_owned(), content);
    }
    Ok(settings)
}
