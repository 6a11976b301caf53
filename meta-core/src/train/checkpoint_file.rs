//! Checkpoints: named tensors and a JSON record in one file that is whole or absent.
//!
//! The file is a [safetensors](https://github.com/huggingface/safetensors) file, so any tool that
//! reads the format can open it. Its only metadata entry, `meta-checkpoint`, holds the BLAKE3 hash of
//! the whole file (taken with the hash itself written as zeros), a space, and a JSON object: any
//! flipped bit, in tensors or header, is found when the file is read. The bytes depend on nothing but
//! the content: equal states give equal files.
//!
//! Files are written atomically ([`write_atomically`]), so a process killed at any moment leaves the
//! previous file or the new one.

use std::{borrow::Cow, collections::HashMap, fs, path::Path};

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::View};
use serde_json::{Value, json};

use crate::{Error, Result, files::write_atomically};

/// Version of the layout; a reader refuses others.
const FORMAT: u64 = 1;
const METADATA_KEY: &str = "meta-checkpoint";
/// Hexadecimal digits of a BLAKE3 hash.
const HASH_LENGTH: usize = 64;

/// What a checkpoint file holds.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Everything that is not a tensor.
    pub record: Value,
    /// Tensors by name, in the order in which they were given to [`write()`].
    pub tensors: Vec<(String, TensorData)>,
}

impl Checkpoint {
    /// Takes the tensors whose names start with `prefix` and a slash, the prefix removed, in order.
    pub fn take(&mut self, prefix: &str) -> Vec<(String, TensorData)> {
        let (taken, kept) = std::mem::take(&mut self.tensors)
            .into_iter()
            .partition(|(name, _)| strip(name, prefix).is_some());
        self.tensors = kept;
        taken
            .into_iter()
            .map(|(name, data)| (strip(&name, prefix).unwrap_or(&name).to_owned(), data))
            .collect()
    }
}

fn strip<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix)?.strip_prefix('/')
}

/// Adds `prefix` and a slash to every name: the inverse of [`Checkpoint::take`].
pub fn prefixed(
    prefix: &str,
    tensors: Vec<(String, TensorData)>,
) -> impl Iterator<Item = (String, TensorData)> {
    tensors
        .into_iter()
        .map(move |(name, data)| (format!("{prefix}/{name}"), data))
}

struct Bytes<'a>(&'a TensorData, Dtype);

impl View for Bytes<'_> {
    fn dtype(&self) -> Dtype {
        self.1
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.0.bytes)
    }

    fn data_len(&self) -> usize {
        self.0.bytes.len()
    }
}

fn stored_type(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        _ => return None,
    })
}

fn tensor_type(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        _ => return None,
    })
}

/// Writes `checkpoint` to `path`, atomically.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Checkpoint`] when a tensor is not of a
/// floating-point type.
pub fn write(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    write_atomically(path, &encode(path, checkpoint)?)
}

/// The bytes of the file that [`write()`] would write; `path` only serves messages.
///
/// # Errors
/// [`Error::Checkpoint`] when a tensor is not of a floating-point type.
pub fn encode(path: &Path, checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let mut views = Vec::with_capacity(checkpoint.tensors.len());
    for (name, data) in &checkpoint.tensors {
        let dtype = stored_type(data.dtype).ok_or_else(|| {
            Error::checkpoint(
                path,
                format!("tensor `{name}` is {:?}, not floating point", data.dtype),
            )
        })?;
        views.push((name.as_str(), Bytes(data, dtype)));
    }
    let names: Vec<&str> = views.iter().map(|(name, _)| *name).collect();
    let content = json!({ "format": FORMAT, "names": names, "record": checkpoint.record });
    // One metadata entry: the format keeps them in a hash map, whose order would not be stable.
    let metadata = HashMap::from([(
        METADATA_KEY.to_owned(),
        format!("{} {content}", "0".repeat(HASH_LENGTH)),
    )]);
    let mut bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|error| Error::checkpoint(path, format!("cannot be encoded: {error}")))?;
    let place = hash_place(&bytes).expect("the hash was just written");
    let hash = blake3::hash(&bytes).to_hex();
    bytes[place..place + HASH_LENGTH].copy_from_slice(hash.as_bytes());
    Ok(bytes)
}

/// Where the hash starts: just behind the key, which the header names first.
fn hash_place(bytes: &[u8]) -> Option<usize> {
    let marker = format!("\"{METADATA_KEY}\":\"");
    let start = bytes
        .windows(marker.len())
        .take(4096)
        .position(|window| window == marker.as_bytes())?
        + marker.len();
    (bytes.len() >= start + HASH_LENGTH).then_some(start)
}

/// Reads and verifies a checkpoint.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Checkpoint`] when it is not a checkpoint of
/// this toolkit, was written by another version of the layout, or differs in any bit from what was
/// written.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let bytes = fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    verified(path, bytes)
}

/// The checkpoint that the `bytes` of a file are; `path` only serves messages.
///
/// # Errors
/// As [`read`], for the same reasons.
pub fn verified(path: &Path, mut bytes: Vec<u8>) -> Result<Checkpoint> {
    let damaged = |what: &str| {
        Error::checkpoint(
            path,
            format!("{what}; expected a checkpoint as this program writes it, every bit of it"),
        )
    };
    let place = hash_place(&bytes)
        .ok_or_else(|| damaged("is damaged or not a checkpoint (no checksum)"))?;
    let stored = bytes[place..place + HASH_LENGTH].to_vec();
    bytes[place..place + HASH_LENGTH].fill(b'0');
    if blake3::hash(&bytes).to_hex().as_bytes() != stored {
        return Err(damaged("is damaged (its checksum does not match)"));
    }
    decode(&bytes).map_err(|what| damaged(&what))
}

fn decode(bytes: &[u8]) -> Result<Checkpoint, String> {
    let unreadable = |error: safetensors::SafeTensorError| format!("cannot be decoded ({error})");
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    let mut content: Value = metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(METADATA_KEY))
        .and_then(|text| text.get(HASH_LENGTH + 1..))
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or("has no readable record")?;
    if content["format"] != json!(FORMAT) {
        return Err(format!(
            "has layout version {}, this program reads version {FORMAT}",
            content["format"]
        ));
    }
    let names: Vec<String> =
        serde_json::from_value(content["names"].take()).map_err(|error| error.to_string())?;
    let tensors = names
        .into_iter()
        .map(|name| {
            let view = tensors.tensor(&name).map_err(unreadable)?;
            let dtype = tensor_type(view.dtype())
                .ok_or_else(|| format!("holds `{name}` as {:?}", view.dtype()))?;
            let data =
                TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
            Ok((name, data))
        })
        .collect::<Result<_, String>>()?;
    Ok(Checkpoint {
        record: content["record"].take(),
        tensors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Checkpoint {
        Checkpoint {
            record: json!({ "iteration": 7, "best": 0.1 }),
            tensors: vec![
                (
                    "parameters/b".to_owned(),
                    TensorData::new(vec![1.0f32, -2.5, f32::MIN_POSITIVE], [1, 3]),
                ),
                (
                    "parameters/a".to_owned(),
                    TensorData::new(vec![0.5f64, 1e300], [2, 1]),
                ),
                ("best/b".to_owned(), TensorData::new(vec![3.0f32], [1, 1])),
            ],
        }
    }

    #[test]
    fn a_checkpoint_survives_the_disk_in_order_and_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        write(&path, &example()).unwrap();
        let first = fs::read(&path).unwrap();
        write(&path, &example()).unwrap();
        assert_eq!(first, fs::read(&path).unwrap(), "equal states, equal bytes");
        let mut read = read(&path).unwrap();
        assert_eq!(read.record, example().record);
        assert_eq!(read.tensors, example().tensors);
        let parameters = read.take("parameters");
        let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(read.tensors.len(), 1);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn other_readers_of_the_format_can_open_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        write(&path, &example()).unwrap();
        let bytes = fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("best/b").unwrap().shape(), [1, 1]);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        write(&path, &example()).unwrap();
        let good = fs::read(&path).unwrap();
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[place] ^= 1 << bit;
                fs::write(&path, &bad).unwrap();
                match read(&path) {
                    Err(Error::Checkpoint { .. }) => {}
                    other => panic!("bit {bit} of byte {place}: {other:?}"),
                }
            }
        }
        for length in [0, 7, 8, 100, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(
                matches!(read(&path), Err(Error::Checkpoint { .. })),
                "{length}"
            );
        }
        fs::write(&path, &good).unwrap();
        read(&path).unwrap();
    }
}
