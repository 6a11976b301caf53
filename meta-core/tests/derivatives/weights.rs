//! Weights by the names and layouts of other libraries, by `tests/oracles/weights.py`.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor};
use meta_core::{
    data::ItemShape,
    nn::{
        Pass,
        encoder::{
            Architecture, Conv4Settings, Encoder, EncoderFor, EncoderSettings, Resnet12Settings,
            weights::{exported_name, read},
        },
        init::Initializer,
        norm::Statistics,
    },
    params::Params,
};

use crate::support::{B, Oracle, assert_close, device};

const ITEM: ItemShape = ItemShape {
    height: 8,
    width: 8,
    channels: 2,
};

fn conv4(channels: usize, norm: Statistics) -> EncoderFor<Conv4Settings> {
    let settings = Conv4Settings {
        channels,
        blocks: 2,
        norm,
    };
    settings.on(ITEM).expect("fits")
}

fn resnet12(widths: &[usize]) -> EncoderFor<Resnet12Settings> {
    let settings = Resnet12Settings {
        widths: widths.to_vec(),
        norm: Statistics::Running,
        average: true,
        ..Resnet12Settings::default()
    };
    settings.on(ITEM).expect("fits")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/oracles/weights")
        .join(name)
}

/// Images `[b, c, h, w]` as items `[1, b, h·w·c]`.
fn items(x: Tensor<B, 4>) -> Tensor<B, 3> {
    let [b, c, h, w] = x.dims();
    x.permute([0, 2, 3, 1]).reshape([1, b, h * w * c])
}

/// What an encoder of these weights makes of the items of the oracle, `[b, d]`.
fn embedded<S: EncoderSettings>(
    architecture: &EncoderFor<S>,
    name: &str,
    oracle: &Oracle,
) -> Tensor<B, 2> {
    let device = device();
    let model = architecture.init::<B>(&mut Initializer::zeros(), &device);
    let like = Params::of(&model);
    let found = read(&file(name), S::INFO.name, &like.shapes()).expect("known names");
    assert_eq!(found.len(), like.len());
    let found = found.into_iter();
    let found = found.map(|(name, data)| (name, data.convert_dtype(DType::F64)));
    let model = Params::from_data(found.collect(), &device).write_into(model);
    let out = model.forward(items(oracle.get("x")), &Pass::evaluation());
    out.squeeze_dim(0)
}

/// Embeddings equal PyTorch's, which computed in single precision. Maps are flattened with their channels
/// last here, and first there.
#[test]
fn weights_of_other_libraries_embed_as_there() {
    device();
    let oracle = Oracle::read("weights");
    for (name, norm) in [
        ("protonet.pt", Statistics::Running),
        ("torchmeta.pt", Statistics::Episode),
        ("learn2learn.pt", Statistics::Episode),
        ("libfewshot.pth", Statistics::Running),
    ] {
        println!("{name}");
        let found = embedded(&conv4(3, norm), name, &oracle);
        let expected = items(oracle.get(name)).squeeze_dim::<2>(0);
        assert_close(found, expected, 1e-5);
    }
    for name in ["feat.pth", "resnet12.safetensors"] {
        println!("{name}");
        let found = embedded(&resnet12(&[3, 4]), name, &oracle);
        assert_close(found, oracle.get(name), 1e-5);
    }
}

fn refusal<S: EncoderSettings>(architecture: &EncoderFor<S>, name: &str) -> String {
    let model = architecture.init::<B>(&mut Initializer::zeros(), &device());
    let found = read(&file(name), S::INFO.name, &Params::of(&model).shapes());
    found.expect_err("refused").to_string()
}

#[test]
fn a_mismatch_is_explained() {
    device();
    let wide = refusal(&conv4(4, Statistics::Running), "protonet.pt");
    assert!(
        wide.contains("`encoder.0.0.weight` has the shape [3, 2, 3, 3]")
            && wide.contains("needs [4, 2, 3, 3]"),
        "{wide}"
    );
    let running = refusal(&conv4(3, Statistics::Running), "learn2learn.pt");
    assert!(
        running.contains("`features.0.normalize.running_mean`")
            && running.contains("the nearest is `features.0.normalize.")
            && running.contains("encoder.norm"),
        "{running}"
    );
    let other = refusal(&resnet12(&[3, 4]), "protonet.pt");
    assert!(
        other.contains("FEAT") && other.contains("`encoder.0.0."),
        "{other}"
    );
    let longer = refusal(&resnet12(&[3, 4, 5]), "feat.pth");
    assert!(
        longer.contains("`params.encoder.layer3.0.conv1.weight`"),
        "{longer}"
    );
}

/// What is written out has names that are read in.
#[test]
fn names_out_are_names_in() {
    device();
    let model = resnet12(&[3, 4]).init::<B>(&mut Initializer::zeros(), &device());
    for name in Params::of(&model).names() {
        assert!(exported_name("resnet12", name).is_some(), "{name}");
    }
}
