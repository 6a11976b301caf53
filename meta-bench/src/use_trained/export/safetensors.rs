//! `meta export --to safetensors`: the encoder of a run for other programs.

use std::path::Path;

use meta_core::{
    nn::{encoder::Architecture, norm::Statistics},
    toolkit::Toolkit,
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;

use super::weights::{Named, exported};
use crate::{
    experiment::start_threads,
    failure::{CommandError, Result},
    output::target::{check_target, write_over},
    use_trained::trained::TrainedLearner,
};

/// In every file of weights: the name of the input of the example.
const MARK: &str = "meta_export.input";
const OUTPUT: &str = "meta_export.output";
/// In every program.
const PROGRAM_MARK: &str = "# Made by `meta export`.";

/// Writes `model.safetensors` and `model.py` of the learner at `path` (a run folder, or a file that `meta fit`
/// wrote) into `folder`; what this command wrote there is replaced.
///
/// # Errors
/// For an encoder that has no counterpart in PyTorch, and when a file cannot be written.
pub fn export<T: Toolkit>(path: &Path, folder: &Path) -> Result<()> {
    let (weights, program) = (folder.join("model.safetensors"), folder.join("model.py"));
    check_target(&weights, MARK)?;
    check_target(&program, PROGRAM_MARK)?;
    let trained = TrainedLearner::<T>::open(path)?;
    start_threads(trained.manifest.run.threads)?;
    let text = model(&trained)?;
    let found = exported(&trained, MARK, OUTPUT)?;
    let mut tensors = found.weights;
    tensors.extend([found.input, found.output]);
    std::fs::create_dir_all(folder)
        .map_err(|error| meta_core::Error::io(folder, "create folder", error))?;
    write_over(&weights, &encoded(&weights, tensors)?, MARK)?;
    write_over(&program, text.as_bytes(), PROGRAM_MARK)?;
    eprintln!(
        "{} and {}; `python model.py` checks them against the stored example",
        weights.display(),
        program.display()
    );
    Ok(())
}

fn encoded(path: &Path, tensors: Vec<Named>) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|tensor| {
            let numbers = tensor.numbers.iter();
            numbers.flat_map(|number| number.to_le_bytes()).collect()
        })
        .collect();
    let refuse = |error: safetensors::SafeTensorError| {
        CommandError::Usage(format!("{}: cannot be encoded: {error}", path.display()))
    };
    let mut views = Vec::with_capacity(tensors.len());
    for (tensor, bytes) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map_err(refuse)?;
        views.push((tensor.name.as_str(), view));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).map_err(refuse)
}

/// The program that loads the weights.
fn model<T: Toolkit>(trained: &TrainedLearner<T>) -> Result<String> {
    let encoder = &trained.manifest.encoder;
    let refuse = |why: &str| {
        let (path, name) = (trained.path.display(), &encoder.name);
        Err(CommandError::Usage(format!("{path}: `{name}` {why}")))
    };
    let statistics = trained.architecture.statistics();
    let number = |key: &str| encoder.settings[key].as_u64().unwrap_or(0);
    let list = |key: &str| encoder.settings[key].to_string();
    let norm = |dimensions: &str| match statistics {
        Statistics::Running => Some(format!("nn.BatchNorm{dimensions}(w)")),
        Statistics::Episode => Some(format!(
            "nn.BatchNorm{dimensions}(w, track_running_stats=False)"
        )),
        Statistics::Layer if dimensions == "2d" => Some("nn.GroupNorm(1, w)".to_owned()),
        Statistics::Layer => Some("nn.LayerNorm(w)".to_owned()),
        Statistics::None => Some("nn.Identity()".to_owned()),
        Statistics::Support => None,
    };
    let channels = trained.item.channels;
    let body = match encoder.name.as_str() {
        "conv4" => norm("2d").map(|norm| {
            CONV4
                .replace("NORM", &norm)
                .replace("INPUTS", &channels.to_string())
                .replace("CHANNELS", &number("channels").to_string())
                .replace("BLOCKS", &number("blocks").to_string())
                .replace("BIAS", python(statistics == Statistics::None))
        }),
        "resnet12" if statistics == Statistics::None => {
            return refuse("without a normalisation has shifts that PyTorch's does not have");
        }
        "resnet12" => norm("2d").map(|norm| {
            let average = encoder.settings["average"] == Value::Bool(true);
            RESNET12
                .replace("NORM", &norm)
                .replace("INPUTS", &channels.to_string())
                .replace("WIDTHS", &list("widths"))
                .replace("AVERAGE", python(average))
        }),
        "mlp" => norm("1d").map(|norm| {
            let norm = match statistics {
                Statistics::None => "",
                _ => norm.as_str(),
            };
            MLP.replace(
                "NORM",
                if norm.is_empty() {
                    "nn.Identity()"
                } else {
                    norm
                },
            )
            .replace("INPUTS", &trained.item.features().to_string())
            .replace("WIDTHS", &list("hidden"))
        }),
        _ => {
            return refuse(
                "is not written as a program for PyTorch; `mlp`, `conv4` and `resnet12` are \
                 (`meta embed` writes the vectors of any encoder)",
            );
        }
    };
    let Some(body) = body else {
        return refuse(
            "normalises by the support of a task (`encoder.norm = \"support\"`), which no layer of PyTorch \
             does",
        );
    };
    let hash = trained.record["hash"].as_str().unwrap_or_default();
    Ok(format!(
        "{PROGRAM_MARK}\n\"\"\"The encoder of the run {}: `python model.py` checks it against a stored \
         example.\n\nPixels as in training: {}\n\"\"\"\n{HEAD}{body}{TAIL}",
        hash.get(..12).unwrap_or(hash),
        serde_json::to_string(&trained.preparation).expect("a preparation serialises"),
    ))
}

fn python(is: bool) -> &'static str {
    if is { "True" } else { "False" }
}

const HEAD: &str = r#"
import pathlib

import torch
from safetensors.torch import load_file
from torch import nn

"#;

const CONV4: &str = r#"
def norm(w):
    return NORM


class Model(nn.Sequential):
    """Images [b, c, h, w] to embeddings [b, d], the channels of a position one after the other."""

    def __init__(self):
        c, w = INPUTS, CHANNELS
        block = lambda c: nn.Sequential(nn.Conv2d(c, w, 3, padding=1, bias=BIAS), norm(w), nn.ReLU(), nn.MaxPool2d(2))
        super().__init__(*[block(c if i == 0 else w) for i in range(BLOCKS)])

    def forward(self, x):
        return super().forward(x).permute(0, 2, 3, 1).flatten(1)

"#;

const RESNET12: &str = r#"
def norm(w):
    return NORM


class Block(nn.Module):
    def __init__(self, c, w):
        super().__init__()
        for i in (1, 2, 3):
            setattr(self, f"conv{i}", nn.Conv2d(c if i == 1 else w, w, 3, padding=1, bias=False))
            setattr(self, f"bn{i}", norm(w))
        self.downsample = nn.Sequential(nn.Conv2d(c, w, 1, bias=False), norm(w))

    def forward(self, x):
        act = nn.functional.leaky_relu
        y = act(self.bn1(self.conv1(x)), 0.1)
        y = act(self.bn2(self.conv2(y)), 0.1)
        return nn.functional.max_pool2d(act(self.bn3(self.conv3(y)) + self.downsample(x), 0.1), 2)


class Model(nn.Module):
    """Images [b, c, h, w] to embeddings [b, d]."""

    def __init__(self):
        super().__init__()
        c, self.widths = INPUTS, WIDTHS
        for i, w in enumerate(self.widths, 1):
            setattr(self, f"layer{i}", nn.Sequential(Block(c, w)))
            c = w

    def forward(self, x):
        for i in range(1, len(self.widths) + 1):
            x = getattr(self, f"layer{i}")(x)
        return x.mean([2, 3]) if AVERAGE else x.permute(0, 2, 3, 1).flatten(1)

"#;

const MLP: &str = r#"
def norm(w):
    return NORM


class Model(nn.Module):
    """Rows of numbers [b, f] to embeddings [b, d]."""

    def __init__(self):
        super().__init__()
        f, widths = INPUTS, WIDTHS
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip([f, *widths], widths))
        self.norms = nn.ModuleList(norm(w) for w in widths)

    def forward(self, x):
        for layer, normalise in zip(self.layers, self.norms):
            x = torch.relu(normalise(layer(x)))
        return x

"#;

const TAIL: &str = r#"
def load(path=pathlib.Path(__file__).with_name("model.safetensors")):
    """The model, and the stored example: an input and what it is to become."""
    tensors = load_file(path)
    example = tensors.pop("meta_export.input"), tensors.pop("meta_export.output")
    model = Model()
    missing, unknown = model.load_state_dict(tensors, strict=False)
    assert not unknown and all(name.endswith("num_batches_tracked") for name in missing), (missing, unknown)
    return model.eval(), example


if __name__ == "__main__":
    model, (x, expected) = load()
    with torch.no_grad():
        error = (model(x) - expected).abs().max() / expected.abs().max().clamp(min=1e-6)
    assert error < 1e-5, error
    print(f"{tuple(x.shape)} -> {tuple(expected.shape)}, relative error {error:.1e}")
"#;
