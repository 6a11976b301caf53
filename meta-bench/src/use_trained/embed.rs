//! `meta embed`: what the encoder of a run makes of items.

use std::{io::Write, path::PathBuf};

use burn::tensor::{Tensor, TensorData};
use clap::Args;
use meta_core::{
    backend::{WithBackend, dispatch},
    data::OwnItems,
    nn::{
        Pass,
        encoder::{Architecture, Encoder},
        init::Initializer,
    },
    params::Params,
    primitives::Primitives,
    toolkit::Toolkit,
    train::answer::Queries,
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{args::KeyArgs, trained::TrainedLearner};
use crate::{
    command::Execute,
    experiment::start_threads,
    failure::{CommandError, Result},
    output::target::{check_target, write_over},
    run::eval::stored_parameters,
};

/// Items that are read at a time.
const BLOCK: usize = 4096;
/// The most numbers that are written.
const MOST_NUMBERS: usize = 1 << 30;
/// In every file of embeddings: the name of an entry of the archive.
const MARK: &str = "made_by_meta_embed";

/// Write the encoder's vectors of items.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The run folder, or a file that `meta fit` wrote.
    trained: PathBuf,
    /// Changes to `backend`, `device`, `precision` or `threads`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The items: a folder or zip archive of pictures, a picture, a table of paths, or rows of numbers.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Arrays or columns.
    #[command(flatten)]
    keys: KeyArgs,
    /// The file to write, `.npz`: `features` [items, width], `items`, and `labels` where there are some.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Execute for EmbedArgs {
    /// Writes the file.
    ///
    /// # Errors
    /// Whatever is wrong with the run or the items, and when the file cannot be written.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let is_npz = self.out.extension().is_some_and(|ending| ending == "npz");
        if !is_npz {
            return Err(CommandError::Usage(format!(
                "{}: expected a name that ends in `.npz`",
                self.out.display()
            )));
        }
        check_target(&self.out, MARK)?;
        let trained = TrainedLearner::<T>::open_with(&self.trained, &self.overrides)?;
        start_threads(trained.manifest.run.threads)?;
        let items = self.keys.items(&trained, None, &self.data)?;
        let width = trained.architecture.width();
        if items
            .len()
            .checked_mul(width)
            .is_none_or(|count| count > MOST_NUMBERS)
        {
            return Err(CommandError::Usage(format!(
                "{}: its {} items have more than {MOST_NUMBERS} numbers as vectors of {width}; give them \
                 in parts",
                self.data.display(),
                items.len()
            )));
        }
        let target = trained.manifest.run.target();
        let embedder = Embedder {
            trained: &trained,
            items: &items,
        };
        let vectors = dispatch(&target, embedder)??;
        let names: Vec<String> = (0..items.len()).map(|item| items.name(item)).collect();
        let labels = items.labels().map(|labels| {
            let labels = labels.iter().map(str::to_owned);
            labels.collect::<Vec<String>>()
        });
        let bytes = npz(&vectors, width, &names, labels.as_deref());
        let bytes = bytes.map_err(|error| meta_core::Error::io(&self.out, "write", error))?;
        write_over(&self.out, &bytes, MARK)?;
        eprintln!(
            "{} vectors of {width} in {}",
            items.len(),
            self.out.display()
        );
        Ok(())
    }
}

struct Embedder<'a, T: Toolkit> {
    trained: &'a TrainedLearner<T>,
    items: &'a OwnItems,
}

impl<T: Toolkit> WithBackend for Embedder<'_, T> {
    type Output = Result<Vec<f32>>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let Embedder { trained, items } = self;
        let model = encoder::<T, B>(trained, &device)?;
        let architecture = &trained.architecture;
        let features = trained.preparation.features();
        let shape = meta_core::data::EpisodeShape::new(1, 0, 1);
        let transductive = architecture.statistics().transductive();
        let queries = Queries::one_by_one(transductive, shape, architecture.activations());
        // A task of many items, or many tasks of one.
        let dims = match queries {
            Queries::Alone(tasks) => [tasks, 1, features],
            Queries::Block(size) => [1, size, features],
            Queries::Together => [1, items.len(), features],
        };
        let (block, width) = (dims[0] * dims[1], architecture.width());
        let mut vectors = Vec::new();
        for first in (0..items.len()).step_by(BLOCK) {
            let rows = items.read(first, BLOCK)?.into_iter();
            let rows: Vec<Vec<f32>> = rows.collect::<Result<_, meta_core::Error>>()?;
            for chunk in rows.chunks(block) {
                let mut numbers = chunk.concat();
                numbers.resize(block * features, 0.0);
                let input = TensorData::new(numbers, dims);
                let found = model.forward(
                    Tensor::<B, 3>::from_data(input, &device),
                    &Pass::evaluation(),
                );
                meta_core::device::check();
                let found = found.into_data();
                vectors.extend(found.iter::<f32>().take(chunk.len() * width));
            }
        }
        Ok(vectors)
    }
}

/// The trained encoder: what of the parameters stands below `encoder.`, or all of them where a learner is
/// nothing else.
pub fn encoder<T: Toolkit, B: Primitives>(
    trained: &TrainedLearner<T>,
    device: &B::Device,
) -> Result<<T::Encoders as Architecture>::Model<B>> {
    let model = trained
        .architecture
        .init::<B>(&mut Initializer::zeros(), device);
    let like = Params::of(&model);
    let below = |name: &str| name.strip_prefix("encoder.").map(str::to_owned);
    let mut own: Vec<(String, TensorData)> = Vec::new();
    for wanted in like.names() {
        let found = trained
            .parameters
            .iter()
            .find(|(name, _)| name == wanted || below(name).is_some_and(|below| below == wanted));
        own.extend(found.map(|(_, data)| (wanted.to_owned(), data.clone())));
    }
    let parameters = stored_parameters(&trained.path, own, &like, device)?;
    Ok(parameters.write_into(model))
}

/// An archive of NumPy's, with what is not compressed left readable in place.
fn npz(
    vectors: &[f32],
    width: usize,
    names: &[String],
    labels: Option<&[String]>,
) -> std::io::Result<Vec<u8>> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    let numbers = vectors.iter().flat_map(|number| number.to_le_bytes());
    let rows = vectors.len() / width.max(1);
    let mut entries = vec![
        (
            "features",
            npy("<f4", &format!("({rows}, {width})"), numbers.collect()),
        ),
        ("items", text(names)),
    ];
    entries.extend(labels.map(|labels| ("labels", text(labels))));
    entries.push((MARK, npy("<f4", "()", 0f32.to_le_bytes().to_vec())));
    for (name, bytes) in entries {
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(&bytes)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// An array of letters of four bytes.
fn text(rows: &[String]) -> Vec<u8> {
    let longest = rows
        .iter()
        .map(|row| row.chars().count())
        .max()
        .unwrap_or(0)
        .max(1);
    let mut bytes = Vec::new();
    for row in rows {
        let letters = row.chars().map(u32::from).chain(std::iter::repeat(0));
        for letter in letters.take(longest) {
            bytes.extend(letter.to_le_bytes());
        }
    }
    npy(
        &format!("<U{longest}"),
        &format!("({},)", rows.len()),
        bytes,
    )
}

/// An array in NumPy's format, version 1.0: the header is padded to 64 bytes.
fn npy(element: &str, shape: &str, numbers: Vec<u8>) -> Vec<u8> {
    let header = format!("{{'descr': '{element}', 'fortran_order': False, 'shape': {shape}, }}");
    let padded = (10 + header.len() + 1).next_multiple_of(64) - 11;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((padded as u16 + 1).to_le_bytes());
    bytes.extend(format!("{header:<padded$}\n").into_bytes());
    bytes.extend(numbers);
    bytes
}
