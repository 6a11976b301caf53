//! `meta contact-sheet`: draws items of a data source.

use std::path::PathBuf;

use clap::Args;
use meta_core::{
    Error,
    data::{Episode, EpisodeShape, Lexicon, Targets, contact_sheet},
    rng::Seed,
    toolkit::{Catalogue, Toolkit},
};

use crate::{
    command::Execute,
    experiment::{source, split_named, start_threads},
    failure::{CommandError, Result},
    manifest::Manifest,
    output::{
        print,
        target::{check_target, write_over},
    },
};

/// Draw items of a manifest's data source into a PNG file, or print a task of sentences as a table.
#[derive(Debug, Args)]
pub struct ContactSheetArgs {
    /// The manifest, a TOML file.
    manifest: PathBuf,
    /// The picture to write, or the table in Markdown; what this command wrote is replaced.
    out: PathBuf,
    /// Changes: `key.path=value`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder with the data sets.
    #[arg(long, env = "META_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Classes, one a row.
    #[arg(long, default_value_t = 12)]
    classes: usize,
    /// Items of each class, one a column.
    #[arg(long, default_value_t = 16)]
    items: usize,
    /// Split of the data source: train, validation or test.
    #[arg(long, default_value = "train")]
    split: String,
}

/// The keyword and the text of a chunk in every sheet.
const SOFTWARE: (&str, &str) = ("Software", "meta contact-sheet");
/// The same as it stands in the file.
const MARK: &str = "Software\0meta contact-sheet";
/// The first line of a table.
const TABLE_MARK: &str = "<!-- meta contact-sheet -->";

impl Execute for ContactSheetArgs {
    /// Writes the picture.
    ///
    /// # Errors
    /// Whatever is wrong with the manifest or its data, and when the picture cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let split = split_named(&self.split)?;
        let manifest = Manifest::resolve(&self.manifest, &self.overrides, &Catalogue::of::<T>())?;
        start_threads(manifest.run.threads)?;
        let source = source::<T>(&manifest, self.data.as_deref())?;
        let seed = Seed(manifest.run.seed);
        if let Some(lexicon) = source.lexicon() {
            check_target(&self.out, TABLE_MARK)?;
            let shape = EpisodeShape::new(1, manifest.data.shot, manifest.data.query);
            let episode = source.episode(seed, split, shape, 0)?;
            let table = table(&lexicon, &episode);
            print(&table)?;
            return write_over(&self.out, table.as_bytes(), TABLE_MARK);
        }
        check_target(&self.out, MARK)?;
        let sheet = contact_sheet(source.as_ref(), seed, split, self.classes, self.items)
            .map_err(named_as_option)?;
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, sheet.width(), sheet.height());
        encoder.set_color(match sheet.color().channel_count() {
            3 => png::ColorType::Rgb,
            _ => png::ColorType::Grayscale,
        });
        encoder
            .add_text_chunk(SOFTWARE.0.to_owned(), SOFTWARE.1.to_owned())
            .and_then(|()| encoder.write_header()?.write_image_data(sheet.as_bytes()))
            .map_err(|error| Error::io(&self.out, "write", std::io::Error::other(error)))?;
        write_over(&self.out, &bytes, MARK)
    }
}

/// The examples and queries of an episode and what they stand for.
fn table(lexicon: &Lexicon, episode: &Episode) -> String {
    let mut text = format!("{TABLE_MARK}\n\n| | sentence | stands for |\n|---|---|---|\n");
    for (name, items) in [("example", &episode.support), ("query", &episode.query)] {
        let Targets::Sequences(symbols) = &items.targets else {
            continue;
        };
        let (count, all) = (items.len().max(1), items.inputs.len());
        let rows = items.inputs.chunks((all / count).max(1));
        let rows = rows.zip(symbols.chunks((symbols.len() / count).max(1)));
        for (number, (words, said)) in rows.enumerate() {
            let (sentence, said) = (lexicon.sentence(words), lexicon.said(said));
            text.push_str(&format!(
                "| {name} {} | {sentence} | {said} |\n",
                number + 1
            ));
        }
    }
    text
}

/// The same of an option of the command line.
fn named_as_option(error: Error) -> CommandError {
    match error {
        Error::Setting {
            key,
            value,
            expected,
        } if ["classes", "items"].contains(&key.as_str()) => {
            CommandError::Usage(format!("`--{key} {value}`: {expected}"))
        }
        error => error.into(),
    }
}
