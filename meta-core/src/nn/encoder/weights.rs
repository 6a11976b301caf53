//! Weights of other libraries: their names and layouts, in and out.
//!
//! | here | PyTorch | layout |
//! |---|---|---|
//! | convolution `[1, k·k, c, o]` | `[o, c, k, k]` | axes 2, 3, 1, 0 |
//! | linear map `[1, i, o]` | `[o, i]` | transposed |
//! | normalisation `[1, 1, c]` | `[c]` | |
//!
//! Convolutions have no bias here. One in front of a normalisation moves the running mean, `μ − b`, and
//! cancels where statistics are those of the items; without a normalisation it is the shift.
//!
//! Names are known of: prototypical-networks and torchmeta (`encoder.0.0.weight`, `features.0.0.weight`),
//! learn2learn (`features.0.conv.weight`), LibFewShot's Conv-4 (`emb_func.layer1.0.weight`), the ResNet-12 of
//! LibFewShot, FEAT and easyfsl (`layer1.0.conv1.weight`), and what `meta export` writes. Whatever stands
//! before such a name is left out, and so is what else the file has, such as a classifier.

use std::path::Path;

use burn::tensor::TensorData;

use crate::{
    Error, Result,
    data::formats::{Array, Arrays, Numbers},
};

/// The largest tensor.
const MOST_NUMBERS: usize = 1 << 28;
/// Names that are shown of a file that has none of these.
const SHOWN: usize = 8;

/// A layer as a library calls it.
#[derive(Clone, Copy, Debug)]
struct Naming {
    /// Whose names these are.
    of: &'static str,
    /// The layers that have weights, by ours: `{i}` is a number, `{j}` the same plus 1; second ones `{k}`, `{l}`.
    layers: &'static [(&'static str, &'static str)],
}

/// The encoders whose weights are known, each with the names of libraries.
const NAMINGS: [(&str, &[Naming]); 3] = [
    (
        "conv4",
        &[
            Naming {
                of: "prototypical-networks and torchmeta",
                layers: &[("blocks.{i}.conv", "{i}.0"), ("blocks.{i}.norm", "{i}.1")],
            },
            Naming {
                of: "learn2learn",
                layers: &[
                    ("blocks.{i}.conv", "{i}.conv"),
                    ("blocks.{i}.norm", "{i}.normalize"),
                ],
            },
            Naming {
                of: "LibFewShot",
                layers: &[
                    ("blocks.{i}.conv", "layer{j}.0"),
                    ("blocks.{i}.norm", "layer{j}.1"),
                ],
            },
        ],
    ),
    (
        "resnet12",
        &[Naming {
            of: "LibFewShot, FEAT and easyfsl",
            layers: &[
                ("stages.{i}.convs.{k}.conv", "layer{j}.0.conv{l}"),
                ("stages.{i}.convs.{k}.norm", "layer{j}.0.bn{l}"),
                ("stages.{i}.shortcut.conv", "layer{j}.0.downsample.0"),
                ("stages.{i}.shortcut.norm", "layer{j}.0.downsample.1"),
            ],
        }],
    ),
    (
        "mlp",
        &[Naming {
            of: "meta export",
            layers: &[("layers.{i}", "layers.{i}"), ("norms.{i}", "norms.{i}")],
        }],
    ),
];

/// The parts of our layers, and what PyTorch calls them.
const PARTS: [(&str, &str); 6] = [
    ("weight", "weight"),
    ("bias", "bias"),
    ("gamma", "weight"),
    ("beta", "bias"),
    ("running_mean", "running_mean"),
    ("running_variance", "running_var"),
];

impl Naming {
    /// The name of our parameter in this library.
    fn name(&self, own: &str) -> Option<String> {
        let (layer, part) = own.rsplit_once('.')?;
        let (_, part) = PARTS.iter().find(|(ours, _)| *ours == part)?;
        let theirs = self.layer(layer)?;
        Some(format!("{theirs}.{part}"))
    }

    fn layer(&self, own: &str) -> Option<String> {
        self.layers.iter().find_map(|(ours, theirs)| {
            let numbers = numbers(ours, own)?;
            let mut name = (*theirs).to_owned();
            for (number, (same, next)) in numbers.iter().zip([("{i}", "{j}"), ("{k}", "{l}")]) {
                name = name.replace(same, &number.to_string());
                name = name.replace(next, &(number + 1).to_string());
            }
            Some(name)
        })
    }
}

/// The numbers in `name` where a pattern has braces.
fn numbers(pattern: &str, name: &str) -> Option<Vec<usize>> {
    let (patterns, names) = (pattern.split('.'), name.split('.'));
    if patterns.clone().count() != names.clone().count() {
        return None;
    }
    let mut found = Vec::new();
    for (pattern, name) in patterns.zip(names) {
        match pattern.starts_with('{') {
            true => found.push(name.parse().ok()?),
            false if pattern == name => {}
            false => return None,
        }
    }
    Some(found)
}

/// The names by which `meta export` writes the parameters of an encoder, in PyTorch's layout; none where it
/// has no counterpart there.
pub fn exported_name(encoder: &str, own: &str) -> Option<String> {
    let (_, namings) = NAMINGS.iter().find(|(name, _)| *name == encoder)?;
    namings.first()?.name(own)
}

/// Parameters of `encoder`, whose names and shapes are `own`, from the file at `path`.
///
/// # Errors
/// [`Error::Data`] for a file that cannot be read, an encoder whose weights are not known, and naming a key
/// that is missing (with the nearest one) or of another shape (with both).
pub fn read(
    path: &Path,
    encoder: &str,
    own: &[(String, Vec<usize>)],
) -> Result<Vec<(String, TensorData)>> {
    let refuse = |message: String| Error::data(path, message);
    let Some((_, namings)) = NAMINGS.iter().find(|(name, _)| *name == encoder) else {
        let known: Vec<&str> = NAMINGS.iter().map(|(name, _)| *name).collect();
        return Err(refuse(format!(
            "weights of other libraries are read into {}, not into `{encoder}`",
            known.join(", ")
        )));
    };
    let mut file = Arrays::open(path)?;
    let keys = file.names();
    if keys.iter().any(|key| key.contains("base.0.conv.")) {
        let message = "has the network of learn2learn's `OmniglotCNN`: convolutions of stride 2 and a mean over \
                       positions, where `conv4` has pooling; its weights mean something else there";
        return Err(refuse(message.to_owned()));
    }
    let (naming, prefix) = found_naming(namings, own, &keys).ok_or_else(|| {
        let shown = keys.iter().take(SHOWN).map(String::as_str);
        let of: Vec<&str> = namings.iter().map(|naming| naming.of).collect();
        refuse(format!(
            "has no weights of `{encoder}` by the names of {}; it has `{}`{}",
            of.join(", "),
            shown.collect::<Vec<_>>().join("`, `"),
            if keys.len() > SHOWN { ", …" } else { "" }
        ))
    })?;
    let mut parameters = Vec::new();
    for (name, shape) in own {
        let key = naming.name(name).map(|key| format!("{prefix}{key}"));
        let Some(key) = key.filter(|key| keys.contains(key)) else {
            if let Some(bias) = absent(naming, &prefix, name, shape, &keys, &mut file)? {
                parameters.push((name.clone(), bias));
                continue;
            }
            return Err(missing(path, naming, &prefix, name, &keys));
        };
        let (found, numbers) = numbers_of(path, &mut file, &key)?;
        let data = laid_out(&found, numbers, shape).ok_or_else(|| {
            let expected = foreign_shape(shape);
            refuse(format!(
                "`{key}` has the shape {found:?}, and `{name}` of this encoder needs {expected:?} ({shape:?} \
                 here); set the widths of the encoder"
            ))
        })?;
        parameters.push((name.clone(), data));
    }
    fold_biases(path, naming, &prefix, &keys, &mut file, &mut parameters)?;
    Ok(parameters)
}

/// The library whose names the file has, and what stands before them.
fn found_naming<'a>(
    namings: &'a [Naming],
    own: &[(String, Vec<usize>)],
    keys: &[String],
) -> Option<(&'a Naming, String)> {
    let (first, _) = own.iter().find(|(name, _)| name.ends_with("weight"))?;
    namings.iter().find_map(|naming| {
        let name = naming.name(first)?;
        let prefixes = keys.iter().filter_map(|key| {
            let prefix = key.strip_suffix(&name)?;
            (prefix.is_empty() || prefix.ends_with('.')).then_some(prefix)
        });
        // The same network may be there twice; the outermost is it.
        let prefix = prefixes.min_by_key(|prefix| prefix.len())?;
        Some((naming, prefix.to_owned()))
    })
}

/// What stands for a parameter that the file need not have: the shift of a layer that is not normalised is
/// the bias of its convolution, or 0.
fn absent(
    naming: &Naming,
    prefix: &str,
    name: &str,
    shape: &[usize],
    keys: &[String],
    file: &mut Arrays<'_>,
) -> Result<Option<TensorData>> {
    let Some(layer) = name.strip_suffix(".norm.beta") else {
        return Ok(None);
    };
    let gamma = naming.name(&format!("{layer}.norm.gamma"));
    if gamma.is_some_and(|gamma| keys.contains(&format!("{prefix}{gamma}"))) {
        return Ok(None);
    }
    let bias = naming.name(&format!("{layer}.conv.bias"));
    let bias = bias.map(|bias| format!("{prefix}{bias}"));
    let numbers = match bias.filter(|bias| keys.contains(bias)) {
        Some(bias) => numbers_of(Path::new(""), file, &bias)?.1,
        None => vec![0.0; shape.iter().product()],
    };
    Ok(laid_out(&[numbers.len()], numbers, shape))
}

/// Moves running means by the biases of the convolutions before them.
fn fold_biases(
    path: &Path,
    naming: &Naming,
    prefix: &str,
    keys: &[String],
    file: &mut Arrays<'_>,
    parameters: &mut [(String, TensorData)],
) -> Result<()> {
    for (name, data) in parameters {
        let Some(layer) = name.strip_suffix(".norm.running_mean") else {
            continue;
        };
        let bias = naming.name(&format!("{layer}.conv.bias"));
        let bias = bias.map(|bias| format!("{prefix}{bias}"));
        let Some(bias) = bias.filter(|bias| keys.contains(bias)) else {
            continue;
        };
        let (_, biases) = numbers_of(path, file, &bias)?;
        let means: Vec<f32> = data.iter::<f32>().collect();
        if means.len() != biases.len() {
            let message = format!("`{bias}` has {} numbers, not {}", biases.len(), means.len());
            return Err(Error::data(path, message));
        }
        let moved = means.iter().zip(biases).map(|(mean, bias)| mean - bias);
        *data = TensorData::new(moved.collect::<Vec<f32>>(), data.shape.clone());
    }
    Ok(())
}

fn missing(path: &Path, naming: &Naming, prefix: &str, name: &str, keys: &[String]) -> Error {
    let key = naming.name(name).map(|key| format!("{prefix}{key}"));
    let key = key.unwrap_or_else(|| name.to_owned());
    let reason = match name.contains(".running_") {
        true => {
            "; it has no running statistics: take `encoder.norm = \"episode\"`, `\"support\"` or another"
        }
        false => "",
    };
    let known = keys.iter().map(String::as_str);
    let nearest = match Error::unknown("tensor", &key, known) {
        Error::Unknown {
            nearest: Some(nearest),
            ..
        } => format!(" (the nearest is `{nearest}`)"),
        _ => String::new(),
    };
    let message = format!("has no `{key}`{nearest}, which `{name}` is taken from{reason}");
    Error::data(path, message)
}

fn numbers_of(path: &Path, file: &mut Arrays<'_>, key: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let refuse = |reason: String| Error::data(path, format!("`{key}` {reason}"));
    let Array::Numbers(numbers) = file.array(key)? else {
        return Err(refuse("holds text, not numbers".to_owned()));
    };
    let count = Numbers::len(&numbers);
    if count > MOST_NUMBERS {
        return Err(refuse(format!("has more than {MOST_NUMBERS} numbers")));
    }
    let mut place = vec![0.0; count];
    numbers
        .read(0, &mut place)
        .map_err(|error| Error::io(path, "read", error))?;
    if let Some(number) = place.iter().find(|number| !number.is_finite()) {
        return Err(refuse(format!("has a number that is {number}")));
    }
    Ok((numbers.shape().to_vec(), place))
}

/// The shape that PyTorch has for one of ours.
pub fn foreign_shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [_, taps, inputs, outputs] => {
            let kernel = taps.isqrt();
            vec![outputs, inputs, kernel, kernel]
        }
        // Of a linear map; else of a normalisation or a bias.
        [_, inputs, outputs] if inputs > 1 => vec![outputs, inputs],
        [.., width] => vec![width],
        [] => Vec::new(),
    }
}

/// Numbers of PyTorch's layout in ours; none where the shapes do not fit.
fn laid_out(found: &[usize], numbers: Vec<f32>, shape: &[usize]) -> Option<TensorData> {
    // A linear map of one input looks like a bias: by their numbers they are the same.
    let fits =
        foreign_shape(shape) == found || matches!(*shape, [_, 1, outputs] if found == [outputs, 1]);
    if !fits {
        return None;
    }
    let ordered = match *found {
        [outputs, inputs, height, width] => {
            let mut ours = vec![0.0; numbers.len()];
            for (place, number) in numbers.into_iter().enumerate() {
                let (x, rest) = (place % width, place / width);
                let (y, rest) = (rest % height, rest / height);
                let (input, output) = (rest % inputs, rest / inputs);
                ours[((y * width + x) * inputs + input) * outputs + output] = number;
            }
            ours
        }
        [outputs, inputs] => transposed(&numbers, outputs, inputs),
        _ => numbers,
    };
    Some(TensorData::new(ordered, shape.to_vec()))
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(numbers: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let columns = 0..columns;
    columns
        .clone()
        .flat_map(|column| (0..rows).map(move |row| (row, column)))
        .map(|(row, column)| numbers[row * columns.end + column])
        .collect()
}

/// One of our parameters in PyTorch's layout: its shape and its numbers.
pub fn foreign_layout(shape: &[usize], numbers: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let foreign = foreign_shape(shape);
    let ordered = match *foreign.as_slice() {
        [outputs, inputs, height, width] => {
            let mut theirs = Vec::with_capacity(numbers.len());
            for output in 0..outputs {
                for input in 0..inputs {
                    for tap in 0..height * width {
                        theirs.push(numbers[(tap * inputs + input) * outputs + output]);
                    }
                }
            }
            theirs
        }
        [outputs, inputs] => transposed(numbers, inputs, outputs),
        _ => numbers.to_vec(),
    };
    (foreign, ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libraries() {
        let names = |encoder: &str, own: &str| -> Vec<String> {
            let (_, namings) = NAMINGS.iter().find(|(name, _)| *name == encoder).unwrap();
            namings
                .iter()
                .filter_map(|naming| naming.name(own))
                .collect()
        };
        assert_eq!(
            names("conv4", "blocks.2.conv.weight"),
            ["2.0.weight", "2.conv.weight", "layer3.0.weight"]
        );
        assert_eq!(
            names("conv4", "blocks.0.norm.running_variance"),
            [
                "0.1.running_var",
                "0.normalize.running_var",
                "layer1.1.running_var"
            ]
        );
        assert_eq!(
            names("resnet12", "stages.1.convs.2.norm.gamma"),
            ["layer2.0.bn3.weight"]
        );
        assert_eq!(
            names("resnet12", "stages.3.shortcut.conv.weight"),
            ["layer4.0.downsample.0.weight"]
        );
        assert_eq!(
            exported_name("mlp", "norms.1.beta").as_deref(),
            Some("norms.1.bias")
        );
        assert_eq!(exported_name("transformer", "layers.0.weight"), None);
    }

    /// In and out is the same; by hand where an element goes.
    #[test]
    fn layouts_are_each_others_inverses() {
        for shape in [
            vec![1, 9, 2, 3],
            vec![1, 4, 5],
            vec![1, 1, 7],
            vec![1, 1, 2, 3],
        ] {
            let count: usize = shape.iter().product();
            let numbers: Vec<f32> = (0..count).map(|place| place as f32).collect();
            let (foreign, ordered) = foreign_layout(&shape, &numbers);
            let back = laid_out(&foreign, ordered, &shape).expect("fits");
            assert_eq!(back, TensorData::new(numbers, shape));
        }
        let (shape, ordered) =
            foreign_layout(&[1, 4, 1, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(shape, [2, 1, 2, 2]);
        assert_eq!(ordered, [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
        let (shape, ordered) = foreign_layout(&[1, 2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(shape, [3, 2]);
        assert_eq!(ordered, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(laid_out(&[3, 3], vec![0.0; 9], &[1, 2, 3]).is_none());
    }
}
