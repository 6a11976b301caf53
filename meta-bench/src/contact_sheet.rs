//! `meta contact-sheet`: draws items of a data source.

use std::path::PathBuf;

use clap::Args;
use meta_core::{
    Error,
    data::contact_sheet,
    rng::Seed,
    toolkit::{Catalogue, Toolkit},
};

use crate::{
    command::Execute,
    experiment::{source, split_named, start_threads},
    failure::{CommandError, Result},
    manifest::Manifest,
    output::target::{check_target, write_over},
};

/// Draw items of a manifest's data source into a PNG file.
#[derive(Debug, Args)]
pub struct ContactSheetArgs {
    /// The manifest, a TOML file.
    manifest: PathBuf,
    /// The picture to write; what this command wrote is replaced.
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

impl Execute for ContactSheetArgs {
    /// Writes the picture.
    ///
    /// # Errors
    /// Whatever is wrong with the manifest or its data, and when the picture cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let split = split_named(&self.split)?;
        check_target(&self.out, MARK)?;
        let manifest = Manifest::resolve(&self.manifest, &self.overrides, &Catalogue::of::<T>())?;
        start_threads(manifest.run.threads)?;
        let source = source::<T>(&manifest, self.data.as_deref())?;
        let seed = Seed(manifest.run.seed);
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
