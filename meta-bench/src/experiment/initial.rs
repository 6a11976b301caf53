//! Starts a training from the parameters of another run: `init_from`.
//!
//! The other run may have another learner: then what both have is taken, which must be the whole encoder.
//! Learners that are nothing but an encoder name its parameters without the prefix `encoder.` that they have
//! elsewhere.

use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use meta_core::{
    Error,
    files::{open_regular, read_regular},
    nn::encoder::weights,
    params::Params,
    primitives::Primitives,
    train::checkpoint_file,
};

use crate::{
    failure::Result,
    manifest::{Manifest, settings::WeightSettings},
};

/// The file of a run's best parameters.
pub const BEST: &str = "best.safetensors";
/// The largest file of parameters.
const MOST_BYTES: u64 = 1 << 36;
/// What stands before an encoder's parameters where a learner has others.
const ENCODER: &str = "encoder.";

/// The file that `init_from` names: a run folder, or a file of parameters.
fn file(init_from: &str) -> PathBuf {
    let path = Path::new(init_from);
    match path.is_dir() {
        true => path.join(BEST),
        false => path.to_owned(),
    }
}

fn read(manifest: &Manifest) -> Result<(PathBuf, Vec<u8>)> {
    let path = file(&manifest.run.init_from);
    if !path.exists() {
        let expected = "must be a run folder that has its best parameters, or such a file";
        let error = Error::setting("init_from", &manifest.run.init_from, expected);
        return Err(manifest.locate(error));
    }
    let bytes = read_regular(&path, MOST_BYTES)?;
    Ok((path, bytes))
}

/// The manifest with the hash of the parameters that training starts from, which is part of its identity.
///
/// # Errors
/// When there are none, or others than the manifest says.
pub fn with_hash(manifest: Manifest) -> Result<Manifest> {
    let manifest = with_weights_hash(manifest)?;
    if manifest.run.init_from.is_empty() {
        return match manifest.run.init_hash.as_str() {
            "" => Ok(manifest),
            hash => {
                let expected = "is the hash of the parameters of `init_from`, which is not given";
                Err(manifest.locate(Error::setting("init_hash", hash, expected)))
            }
        };
    }
    let (path, bytes) = read(&manifest)?;
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let given = manifest.run.init_hash.as_str();
    if !given.is_empty() && given != hash {
        let expected = format!(
            "the parameters in {} have another hash: {hash}",
            path.display()
        );
        return Err(manifest.locate(Error::setting("init_hash", given, expected)));
    }
    manifest.with_overrides(&[format!("init_hash=\"{hash}\"")])
}

/// The manifest with the hash of the weights that its encoder starts from.
fn with_weights_hash(manifest: Manifest) -> Result<Manifest> {
    let WeightSettings {
        weights,
        weights_hash: given,
    } = &manifest.weights;
    let refuse = |key: &str, value: &str, expected: String| {
        Err(manifest.locate(Error::setting(key, value, expected)))
    };
    if weights.is_empty() {
        return match given.as_str() {
            "" => Ok(manifest),
            hash => {
                let expected = "is the hash of the file `encoder.weights`, which is not given";
                refuse("encoder.weights_hash", hash, expected.to_owned())
            }
        };
    }
    if !manifest.run.init_from.is_empty() {
        let expected = "says what the encoder starts from, and so does `init_from`; leave one out";
        return refuse("encoder.weights", weights, expected.to_owned());
    }
    let path = Path::new(weights);
    let mut file = open_regular(path, MOST_BYTES)?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(&mut file)
        .map_err(|error| Error::io(path, "read", error))?;
    let hash = hasher.finalize().to_hex().to_string();
    if !given.is_empty() && *given != hash {
        let expected = format!("the file {} has another hash: {hash}", path.display());
        return refuse("encoder.weights_hash", given, expected);
    }
    manifest.with_overrides(&[format!("encoder.weights_hash=\"{hash}\"")])
}

/// `parameters`, with the weights of `encoder.weights` in place.
fn weighted<B: Primitives>(
    manifest: &Manifest,
    parameters: Params<B>,
    device: &B::Device,
) -> Result<Params<B>> {
    let path = Path::new(&manifest.weights.weights);
    let dtype = parameters.to_data().first().map(|(_, data)| data.dtype);
    let shapes = parameters.shapes();
    let has_prefix = shapes.iter().any(|(name, _)| name.starts_with(ENCODER));
    let prefix = if has_prefix { ENCODER } else { "" };
    let own = shapes.into_iter().filter_map(|(name, shape)| {
        let bare = name.strip_prefix(prefix)?.to_owned();
        Some((bare, shape))
    });
    let own: Vec<(String, Vec<usize>)> = own.collect();
    let found = weights::read(path, &manifest.encoder.name, &own)?;
    let named = found.into_iter().map(|(name, data)| {
        let data = match dtype {
            Some(dtype) => data.convert_dtype(dtype),
            None => data,
        };
        (format!("{prefix}{name}"), data)
    });
    let taken: Vec<(String, TensorData)> = named.collect();
    tracing::info!(path = %path.display(), tensors = taken.len(), "the encoder starts from these weights");
    Ok(parameters.overwrite(Params::from_data(taken, device)))
}

/// `parameters`, with those of `init_from` or `encoder.weights` in place.
///
/// # Errors
/// When the file is damaged, or has not the whole encoder in the same shapes.
pub fn start<B: Primitives>(
    manifest: &Manifest,
    parameters: Params<B>,
    device: &B::Device,
) -> Result<Params<B>> {
    if !manifest.weights.weights.is_empty() {
        return weighted(manifest, parameters, device);
    }
    if manifest.run.init_from.is_empty() {
        return Ok(parameters);
    }
    let (path, bytes) = read(manifest)?;
    let mut checkpoint = checkpoint_file::verified(&path, bytes)?;
    let stored = checkpoint.take("parameters");
    let taken = matching(&parameters, stored).map_err(|why| Error::checkpoint(&path, why))?;
    tracing::info!(path = %path.display(), tensors = taken.len(), "training starts from these parameters");
    Ok(parameters.overwrite(Params::from_data(taken, device)))
}

/// Of the `stored` entries those that `own` has, by its names.
fn matching<B: Primitives>(
    own: &Params<B>,
    stored: Vec<(String, TensorData)>,
) -> std::result::Result<Vec<(String, TensorData)>, String> {
    fn bare(name: &str) -> &str {
        name.strip_prefix(ENCODER).unwrap_or(name)
    }
    let dtype = own.to_data().first().map(|(_, data)| data.dtype);
    let shapes = own.shapes();
    let has_prefix = shapes.iter().any(|(name, _)| name.starts_with(ENCODER));
    let mut taken = Vec::new();
    for (name, shape) in shapes {
        let found = stored
            .iter()
            .find(|(other, _)| *other == name)
            .or_else(|| stored.iter().find(|(other, _)| bare(other) == bare(&name)));
        let of_encoder = !has_prefix || name.starts_with(ENCODER);
        match found {
            Some((_, data)) if data.shape.to_vec() == shape => {
                let data = match dtype {
                    Some(dtype) if data.dtype != dtype => data.clone().convert_dtype(dtype),
                    _ => data.clone(),
                };
                taken.push((name, data));
            }
            Some((_, data)) if of_encoder => {
                return Err(format!(
                    "parameter `{name}` has shape {:?}, expected {shape:?}",
                    data.shape.to_vec()
                ));
            }
            None if of_encoder => return Err(format!("parameter `{name}` {shape:?} is missing")),
            _ => {}
        }
    }
    match taken.is_empty() {
        true => Err("has no parameter that this learner has".to_owned()),
        false => Ok(taken),
    }
}
