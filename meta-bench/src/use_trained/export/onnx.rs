//! `meta export --to onnx`: the encoder of a run as a model for ONNX's runtimes, with an example beside it.

use std::path::Path;

use meta_core::{
    nn::{
        encoder::Architecture,
        norm::{EPSILON, Statistics},
    },
    toolkit::Toolkit,
};
use serde_json::Value;

use super::{
    onnx_model::{Graph, Setting, model, tensor_file},
    weights::{Exported, exported},
};
use crate::{
    experiment::start_threads,
    failure::{CommandError, Result},
    output::target::{check_target, write_over},
    use_trained::trained::TrainedLearner,
};

/// In every file, as the name of what made it.
const MARK: &str = "meta export --to onnx";
/// The largest file: protobuf's bound is 2 GiB.
const MOST_BYTES: usize = (1 << 31) - 1;
/// Slope of ResNet-12's leaky ReLU.
const SLOPE: f32 = 0.1;

/// Writes `model.onnx` of the learner at `path` (a run folder, or a file that `meta fit` wrote) into `folder`,
/// and beside it, where ONNX's own tools look for it, an example: `test_data_set_0/input_0.pb` and
/// `output_0.pb`. What this command wrote there is replaced.
///
/// # Errors
/// For an encoder that is not written, and when a file cannot be written.
pub fn export<T: Toolkit>(path: &Path, folder: &Path) -> Result<()> {
    let target = folder.join("model.onnx");
    let examples = folder.join("test_data_set_0");
    let [input, output] = ["input_0.pb", "output_0.pb"].map(|name| examples.join(name));
    for target in [&target, &input, &output] {
        check_target(target, MARK)?;
    }
    let trained = TrainedLearner::<T>::open(path)?;
    start_threads(trained.manifest.run.threads)?;
    let network = network(&trained)?;
    let found = exported(&trained, "input", "embedding")?;
    let hash = trained.record["hash"].as_str().unwrap_or_default();
    let preparation = serde_json::to_string(&trained.preparation);
    let properties = [
        ("run", hash.to_owned()),
        (
            "preparation",
            preparation.expect("a preparation serialises"),
        ),
    ];
    let bytes = network.encode(&found, &properties);
    if bytes.len() > MOST_BYTES {
        return Err(CommandError::Usage(format!(
            "{}: its encoder is larger than the 2 GiB that ONNX's format holds",
            path.display()
        )));
    }
    std::fs::create_dir_all(&examples)
        .map_err(|error| meta_core::Error::io(&examples, "create folder", error))?;
    write_over(&target, &bytes, MARK)?;
    write_over(&input, &tensor_file(&found.input, MARK), MARK)?;
    write_over(&output, &tensor_file(&found.output, MARK), MARK)?;
    eprintln!(
        "{}, and an example in {}",
        target.display(),
        examples.display()
    );
    Ok(())
}

/// What an encoder is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Network {
    form: Form,
    /// Layers, blocks or stages.
    depth: usize,
    /// Whether it normalises by running statistics.
    normalises: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Mlp,
    Conv4,
    Resnet12 { average: bool },
}

fn network<T: Toolkit>(trained: &TrainedLearner<T>) -> Result<Network> {
    let encoder = &trained.manifest.encoder;
    let refuse = |why: &str| {
        let (path, name) = (trained.path.display(), &encoder.name);
        Err(CommandError::Usage(format!("{path}: `{name}` {why}")))
    };
    let settings = &encoder.settings;
    let count = |key: &str| settings[key].as_array().map_or(0, Vec::len);
    let (form, depth) = match encoder.name.as_str() {
        "mlp" => (Form::Mlp, count("hidden")),
        "conv4" => (
            Form::Conv4,
            settings["blocks"].as_u64().unwrap_or(0) as usize,
        ),
        "resnet12" => {
            let average = settings["average"] == Value::Bool(true);
            (Form::Resnet12 { average }, count("widths"))
        }
        _ => {
            return refuse(
                "is not written as ONNX; `mlp`, `conv4` and `resnet12` are (`meta embed` writes the vectors of \
                 any encoder)",
            );
        }
    };
    let normalises = match trained.architecture.statistics() {
        Statistics::Running => true,
        Statistics::None => false,
        Statistics::Layer => {
            return refuse(
                "normalises each item by itself (`encoder.norm = \"layer\"`), over channels and positions \
                 together, which no operator of the version 17 does; `running` and `none` are written",
            );
        }
        Statistics::Episode | Statistics::Support => {
            return refuse(
                "normalises by the items of a task (`encoder.norm`), and a model in ONNX takes items by \
                 themselves; `running` and `none` are written",
            );
        }
    };
    Ok(Network {
        form,
        depth,
        normalises,
    })
}

/// A graph that grows.
struct Builder {
    graph: Graph,
    normalises: bool,
}

impl Network {
    /// The file of the model.
    fn encode(&self, found: &Exported, properties: &[(&str, String)]) -> Vec<u8> {
        let mut builder = Builder {
            graph: Graph::default(),
            normalises: self.normalises,
        };
        let mut x = found.input.name.clone();
        for place in 0..self.depth {
            x = match self.form {
                Form::Mlp => builder.layer(&x, place),
                Form::Conv4 => builder.block(&x, place),
                Form::Resnet12 { .. } => builder.stage(&x, place + 1),
            };
        }
        let x = match self.form {
            Form::Mlp => x,
            Form::Resnet12 { average: true } => {
                let mean = builder.graph.node("GlobalAveragePool", &[&x], &[]);
                builder.flattened(&mean)
            }
            _ => {
                // The channels of a position one after the other.
                let order = [("perm", Setting::Wholes(&[0, 2, 3, 1]))];
                let last = builder.graph.node("Transpose", &[&x], &order);
                builder.flattened(&last)
            }
        };
        let example = [&found.input, &found.output];
        model(builder.graph, &x, &found.weights, example, MARK, properties)
    }
}

impl Builder {
    fn flattened(&mut self, x: &str) -> String {
        self.graph
            .node("Flatten", &[x], &[("axis", Setting::Whole(1))])
    }

    /// `γ (x − μ) / √(σ² + ε) + β` by the running statistics of the layer `name`.
    fn norm(&mut self, x: &str, name: &str) -> String {
        let parts = ["weight", "bias", "running_mean", "running_var"];
        let parts = parts.map(|part| format!("{name}.{part}"));
        let [gamma, beta, mean, variance] = parts.each_ref().map(String::as_str);
        let settings = [("epsilon", Setting::Real(EPSILON as f32))];
        self.graph.node(
            "BatchNormalization",
            &[x, gamma, beta, mean, variance],
            &settings,
        )
    }

    /// A convolution that keeps height and width, and its normalisation.
    fn conv(&mut self, x: &str, conv: &str, norm: &str, kernel: u64) -> String {
        let (weight, bias) = (format!("{conv}.weight"), format!("{conv}.bias"));
        let settings = [
            ("kernel_shape", Setting::Wholes(&[kernel; 2])),
            ("pads", Setting::Wholes(&[kernel / 2; 4])),
        ];
        if self.normalises {
            let map = self.graph.node("Conv", &[x, &weight], &settings);
            self.norm(&map, norm)
        } else {
            self.graph.node("Conv", &[x, &weight, &bias], &settings)
        }
    }

    fn max_pool(&mut self, x: &str) -> String {
        let settings = [
            ("kernel_shape", Setting::Wholes(&[2; 2])),
            ("strides", Setting::Wholes(&[2; 2])),
        ];
        self.graph.node("MaxPool", &[x], &settings)
    }

    fn leaky(&mut self, x: &str) -> String {
        self.graph
            .node("LeakyRelu", &[x], &[("alpha", Setting::Real(SLOPE))])
    }

    fn layer(&mut self, x: &str, place: usize) -> String {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("layers.{place}.{part}"));
        let transposed = [("transB", Setting::Whole(1))];
        let mut x = self.graph.node("Gemm", &[x, &weight, &bias], &transposed);
        if self.normalises {
            x = self.norm(&x, &format!("norms.{place}"));
        }
        self.graph.node("Relu", &[&x], &[])
    }

    fn block(&mut self, x: &str, place: usize) -> String {
        let x = self.conv(x, &format!("{place}.0"), &format!("{place}.1"), 3);
        let x = self.graph.node("Relu", &[&x], &[]);
        self.max_pool(&x)
    }

    fn stage(&mut self, x: &str, number: usize) -> String {
        let own = format!("layer{number}.0");
        let mut inner = x.to_owned();
        for conv in 1..=3 {
            if conv > 1 {
                inner = self.leaky(&inner);
            }
            inner = self.conv(
                &inner,
                &format!("{own}.conv{conv}"),
                &format!("{own}.bn{conv}"),
                3,
            );
        }
        let side = self.conv(
            x,
            &format!("{own}.downsample.0"),
            &format!("{own}.downsample.1"),
            1,
        );
        let sum = self.graph.node("Add", &[&inner, &side], &[]);
        let sum = self.leaky(&sum);
        self.max_pool(&sum)
    }
}
