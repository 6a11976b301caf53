//! Checkpoints: named tensors and a JSON record in one file that is whole or absent.
//!
//! The file is a [safetensors](https://github.com/huggingface/safetensors) file, so any tool that
//! reads the format can open it. Its only metadata entry, `meta-checkpoint`, holds the BLAKE3 hash of
//! the whole file (taken with the hash itself written as zeros), a space, and a JSON object: any
//! flipped bit, in tensors or header, is found when the file is read. The bytes depend on nothing but
//! the content: equal states give equal files.
//!
//! Files are written under a temporary name in the same folder, flushed to the disk and renamed
//! ([`write_atomically`]), so a process killed at any moment leaves the previous file or the new one.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use burn::tensor::{DType, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::View};
use serde_json::{Value, json};

use crate::{Error, Result};

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
    let mut bytes = fs::read(path).map_err(|error| Error::io(path, "read", error))?;
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

/// Writes `bytes` to `path` so that a reader, or a process that is killed, sees the old content or
/// the new one and nothing between: temporary file in the same folder, flush to disk, rename, flush
/// of the folder. When it fails the old content is untouched and the temporary file is removed.
///
/// # Errors
/// [`Error::Io`] naming `path` and the system's reason (no space left, permission denied, …).
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_through(path, |temporary| {
        let mut file = File::create(temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    })
    .map_err(|error| Error::io(path, "write", error))
}

fn write_through(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = temporary_name(path);
    let written = fill(&temporary).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the reason to report is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_folder(path)
}

/// `.name.tmp` in the same folder. Fixed, so that one left behind by a kill is overwritten.
fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Flushes the folder that holds `path`, so that the rename itself survives a power cut.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// Other systems have no handle to a folder that could be flushed.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
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

    /// A file that accepts `space` bytes and then reports that the disk is full.
    struct FullDisk {
        file: File,
        space: usize,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.space == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let taken = self.file.write(&bytes[..bytes.len().min(self.space)])?;
            self.space -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.file.flush()
        }
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        write(&path, &example()).unwrap();
        let old = fs::read(&path).unwrap();
        for space in [0, 1, old.len() - 1] {
            let error = write_through(&path, |temporary| {
                let file = File::create(temporary)?;
                FullDisk { file, space }.write_all(&vec![7; old.len()])
            })
            .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read(&path).unwrap(), old);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("result.json");
        let message = write_atomically(&path, b"{}").unwrap_err().to_string();
        assert!(message.contains("result.json: cannot write"), "{message}");
    }
}
