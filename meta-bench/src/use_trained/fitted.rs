//! The file of a fitted learner: the parameters of a run, what training did to its data, and a support.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::TensorData;
use meta_core::{
    Error,
    data::{Preparation, TableColumn, Targets},
    files::read_regular,
    train::{
        answer::Support,
        checkpoint_file::{self, Checkpoint, encode, prefixed},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::run::calibration::Calibration;
use crate::{failure::Result, output::target::write_over};

/// In every file of a fitted learner, and first in its record.
pub const MARK: &str = "meta-fitted-learner";
/// The largest file.
const MOST_BYTES: u64 = 1 << 36;
/// The tensor with the vectors of classes.
const CLASS_VECTORS: &str = "support/class_vectors";

/// Everything but the tensors.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Content {
    /// [`MARK`].
    pub about: String,
    /// What is known of the probabilities.
    pub calibration: Option<Calibration>,
    /// Names of the classes, in the order of their labels.
    pub classes: Vec<String>,
    /// Labels of the support; none of a regression.
    pub labels: Option<Vec<u32>>,
    /// The manifest of the run.
    pub manifest: String,
    /// Hash of the file of the parameters.
    pub parameters: String,
    /// What training did to its data.
    pub preparation: Preparation,
    /// The columns of a support that is a table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<TableColumn>>,
    /// The record of the run.
    pub record: Value,
}

/// A file as it is read.
pub struct FittedFile {
    /// Everything but the tensors.
    pub content: Content,
    /// Parameters of the learner by name.
    pub parameters: Vec<(String, TensorData)>,
    /// The support.
    pub support: Support,
    /// A vector of each class, where it has such.
    pub class_vectors: Option<Vec<f32>>,
}

impl FittedFile {
    /// Writes the file, over nothing but one of its kind.
    ///
    /// # Errors
    /// When something else is there, or it cannot be written.
    pub fn write(self, path: &Path) -> Result<()> {
        let Support { inputs, targets } = self.support;
        let tensor = |numbers: Vec<f32>| {
            let count = numbers.len();
            TensorData::new(numbers, [count])
        };
        let mut tensors: Vec<(String, TensorData)> =
            prefixed("parameters", self.parameters).collect();
        tensors.push(("support/inputs".to_owned(), tensor(inputs)));
        match targets {
            Targets::Classes(_) => {}
            Targets::Values(values) => {
                tensors.push(("support/values".to_owned(), tensor(values)));
            }
            Targets::Sequences(symbols) => {
                let symbols = symbols.into_iter().map(|symbol| symbol as f32).collect();
                tensors.push(("support/symbols".to_owned(), tensor(symbols)));
            }
        }
        if let Some(vectors) = self.class_vectors {
            tensors.push((CLASS_VECTORS.to_owned(), tensor(vectors)));
        }
        let record = json!(self.content);
        let bytes = encode(path, &Checkpoint { record, tensors })?;
        write_over(path, &bytes, MARK)
    }

    /// Reads and verifies the file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is something else.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_regular(path, MOST_BYTES)?;
        let mut file = checkpoint_file::verified(path, bytes)?;
        let other = |what: String| Error::checkpoint(path, what);
        let content: Content = serde_json::from_value(file.record.take()).map_err(|error| {
            other(format!(
                "is not a fitted learner, as `meta fit` writes it: {error}"
            ))
        })?;
        if content.about != MARK {
            return Err(
                other("is not a fitted learner, as `meta fit` writes it".to_owned()).into(),
            );
        }
        let mut support: BTreeMap<String, TensorData> = file.take("support").into_iter().collect();
        let mut read = |name: &str| -> Result<Option<Vec<f32>>, Error> {
            let found = support.remove(name).map(|data| data.to_vec());
            found
                .transpose()
                .map_err(|error| other(format!("`support/{name}` is damaged: {error:?}")))
        };
        let class_vectors = read("class_vectors")?;
        let symbols = read("symbols")?;
        let mut numbers = |name: &str| -> Result<Vec<f32>, Error> {
            read(name)?.ok_or_else(|| other(format!("has no `support/{name}`")))
        };
        let inputs = numbers("inputs")?;
        let targets = match &content.labels {
            Some(labels) => Targets::Classes(labels.clone()),
            None => match symbols {
                Some(symbols) => {
                    Targets::Sequences(symbols.iter().map(|&symbol| symbol as u32).collect())
                }
                None => Targets::Values(numbers("values")?),
            },
        };
        Ok(FittedFile {
            parameters: file.take("parameters"),
            content,
            support: Support { inputs, targets },
            class_vectors,
        })
    }
}
