//! `meta list`: lists what a manifest can name.

use clap::{Args, ValueEnum};
use meta_core::{
    Error,
    backend::backends,
    nn::attention::attentions,
    settings::Field,
    toolkit::{Catalogue, Toolkit},
};
use serde_json::{Value, json};

use crate::{
    command::Execute,
    docs::manifest::{Group, groups},
    failure::Result,
    output::{print, table::wrapped},
};

/// Show what a manifest can name, or explain a name or a setting.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which list: learners, encoders, attention, data, optimizers or backends; or what is explained: a name
    /// such as `protonet`, a setting such as `learner.inner_lr` [default: all lists].
    what: Option<String>,
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
    /// Prints the lists, or the explanation.
    ///
    /// # Errors
    /// For a name that does not exist, and when stdout cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let catalogue = Catalogue::of::<T>();
        let kind = match &self.what {
            None => None,
            Some(what) => match ListKind::from_str(what, false) {
                Ok(kind) => Some(kind),
                Err(_) => return explain(what, &catalogue, self.json),
            },
        };
        let lists = lists(kind, &catalogue);
        print(&if self.json {
            format!("{lists}\n")
        } else {
            table(&lists)
        })
    }
}

/// Prints what there is to know about a name, or about the setting `table.key` or `name.key`.
fn explain(what: &str, catalogue: &Catalogue, json: bool) -> Result<()> {
    let (table, key) = what.rsplit_once('.').unwrap_or(("", what));
    let groups = groups(catalogue);
    let of_name = |group: &&Group| group.choice == what && !what.is_empty();
    let named: Vec<(&Group, Vec<&Field>)> = groups
        .iter()
        .filter(of_name)
        .map(|group| (group, group.fields.iter().collect()))
        .collect();
    let found = if named.is_empty() {
        let of_key = groups
            .iter()
            .filter(|group| group.table == table || (!table.is_empty() && group.choice == table));
        of_key
            .map(|group| {
                (
                    group,
                    group
                        .fields
                        .iter()
                        .filter(|field| field.name == key)
                        .collect(),
                )
            })
            .filter(|(_, fields): &(&Group, Vec<&Field>)| !fields.is_empty())
            .collect()
    } else {
        named
    };
    if found.is_empty() {
        let settings = groups.iter().flat_map(|group| {
            let name = |field: &Field| match group.table {
                "" => field.name.to_owned(),
                table => format!("{table}.{}", field.name),
            };
            group.fields.iter().map(name).collect::<Vec<String>>()
        });
        let choices = groups.iter().map(|group| group.choice.to_owned());
        let kinds = ListKind::value_variants()
            .iter()
            .filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned()));
        let mut known: Vec<String> = kinds.chain(choices).chain(settings).collect();
        known.retain(|name| !name.is_empty());
        known.sort();
        known.dedup();
        let known = known.iter().map(String::as_str);
        return Err(Error::unknown("list, name or setting", what, known).into());
    }
    print(&if json {
        format!("{}\n", explained_json(&found))
    } else {
        explained(&found)
    })
}

fn explained_json(found: &[(&Group, Vec<&Field>)]) -> Value {
    let rows = found.iter().flat_map(|(group, fields)| {
        fields.iter().map(|field| {
            json!({
                "table": group.table,
                "of": group.choice,
                "key": field.name,
                "default": group.default_of(field),
                "meaning": field.doc,
            })
        })
    });
    rows.collect()
}

fn explained(found: &[(&Group, Vec<&Field>)]) -> String {
    let mut out = String::new();
    for (group, fields) in found {
        if !out.is_empty() {
            out.push('\n');
        }
        let title = group.title.trim_start_matches('#').trim().replace('`', "");
        out.push_str(&format!("{title}\n"));
        if !group.note.is_empty() && fields.len() == group.fields.len() {
            out.push_str(&format!("{}\n", group.note));
        }
        for field in fields {
            out.push_str(&format!(
                "\n  {} = {}\n",
                field.name,
                group.default_of(field)
            ));
            for line in wrapped(&field.doc, 92) {
                out.push_str(&format!("      {line}\n"));
            }
        }
    }
    out
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
