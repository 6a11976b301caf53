//! Encoders: what each must do by its definition, and what is refused.

use burn::tensor::{Int, Tensor};
use meta_core::{
    data::ItemShape,
    nn::{
        Pass,
        encoder::{AnyEncoder, Architecture, Encoder, EncoderList, EncoderSpec},
        init::Initializer,
    },
    params::Params,
    rng::Seed,
};
use serde_json::{Value, json};

use crate::support::{B, assert_close, device, random, values};

fn item([height, width, channels]: [usize; 3]) -> ItemShape {
    ItemShape {
        height,
        width,
        channels,
    }
}

fn spec(name: &str, settings: Value, shape: [usize; 3]) -> EncoderSpec {
    EncoderSpec::new(name, &settings, item(shape)).unwrap()
}

fn model(spec: &EncoderSpec) -> AnyEncoder<B> {
    spec.init(&mut Initializer::seeded(Seed(3)), &device())
}

fn embed(name: &str, settings: Value, shape: [usize; 3], x: Tensor<B, 3>) -> Tensor<B, 3> {
    model(&spec(name, settings, shape)).forward(x, &Pass::evaluation())
}

/// The rows of items `[t, b, 5·3]` in another order.
fn shuffled(x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [t, b, f] = x.dims();
    let order = Tensor::<B, 1, Int>::from_data([3, 0, 4, 1, 2], &device());
    let rows = x.reshape([t, b, 5, f / 5]).select(2, order);
    rows.reshape([t, b, f])
}

const SET: [usize; 3] = [5, 3, 1];

/// A set has no order, unless its elements carry their place.
#[test]
fn set_transformers_do_not_see_the_order() {
    let x = random([2, 2, 15], "x");
    let run = |x, inducing: usize, index: bool| {
        let settings = json!({
            "width": 4, "heads": 2, "hidden": 5, "inducing": inducing, "index": index,
        });
        embed("set_transformer", settings, SET, x)
    };
    for inducing in [0, 2] {
        assert_close(
            run(shuffled(x.clone()), inducing, false),
            run(x.clone(), inducing, false),
            1e-12,
        );
        let placed = |x| values(run(x, inducing, true));
        assert_ne!(placed(shuffled(x.clone())), placed(x.clone()));
    }
}

/// A transformer sees the order of the steps through their positions alone.
#[test]
fn transformers_see_the_order_by_positions() {
    let x = random([2, 2, 15], "x");
    for positions in ["none", "sinusoidal", "learned", "rotary"] {
        let run = |x| {
            let settings = json!({"width": 4, "heads": 2, "hidden": 5, "positions": positions});
            embed("transformer", settings, SET, x)
        };
        let (found, other) = (run(x.clone()), run(shuffled(x.clone())));
        match positions {
            "none" => assert_close(found, other, 1e-12),
            _ => {
                let difference = values((found - other).abs().max())[0];
                assert!(difference > 1e-6, "{positions}: {difference}");
            }
        }
    }
}

/// Every encoder with attention returns its maps: rows that sum to 1, and none of the future where
/// the mask is causal.
#[test]
fn maps_are_returned() {
    let x = random([2, 3, 64], "x");
    let shape = [8, 8, 1];
    let pass = Pass::evaluation();
    let maps = |name: &str, settings: Value| match model(&spec(name, settings, shape)) {
        AnyEncoder::Transformer(model) => model.forward_with_maps(x.clone(), &pass).1,
        AnyEncoder::SetTransformer(model) => model.forward_with_maps(x.clone(), &pass).1,
        AnyEncoder::Attention(model) => model.forward_with_maps(x.clone(), &pass).1,
        AnyEncoder::Conv4Attention(model) => vec![model.forward_with_map(x.clone(), &pass).1],
        _ => unreachable!("an encoder with attention"),
    };
    let causal = maps("transformer", json!({"causal": true}));
    let future: Tensor<B, 4> = causal[0].clone().triu(1);
    assert_eq!(values(future.abs().max()), [0.0]);
    for (found, expected) in [
        (causal, vec![[6, 4, 8, 8]; 2]),
        (
            maps("set_transformer", json!({"layers": 1, "inducing": 3})),
            vec![[6, 4, 3, 8], [6, 4, 8, 3], [6, 4, 1, 8]],
        ),
        (
            maps("set_transformer", json!({"layers": 1, "inducing": 0})),
            vec![[6, 4, 8, 8], [6, 4, 1, 8]],
        ),
        (
            maps("attention", json!({"patch": 4, "layers": 1})),
            vec![[6, 4, 4, 4]],
        ),
        (
            maps("conv4_attention", json!({"blocks": 2, "after": 2})),
            vec![[6, 1, 4, 4]],
        ),
    ] {
        let shapes: Vec<_> = found.iter().map(Tensor::dims).collect();
        assert_eq!(shapes, expected);
        for map in found {
            for sum in values(map.sum_dim(3)) {
                assert!((sum - 1.0).abs() < 1e-12, "{sum}");
            }
        }
    }
}

/// `γ` starts at 0: the attention-augmented network starts as Conv-4, and leaves it with `γ`.
#[test]
fn augmented_conv4_starts_as_conv4() {
    let shape = [8, 8, 2];
    let x = random([2, 3, 128], "x");
    let augmented = spec(
        "conv4_attention",
        json!({"channels": 8, "blocks": 2, "after": 1}),
        shape,
    );
    let plain = spec("conv4", json!({"channels": 8, "blocks": 2}), shape);
    let shared = Params::of(&model(&plain)).with_prefix("conv4");
    let all = Params::of(&model(&augmented)).overwrite(shared);
    let run = |parameters: Params<B>| {
        let network = parameters.write_into(model(&augmented));
        network.forward(x.clone(), &Pass::training())
    };
    let expected = model(&plain).forward(x.clone(), &Pass::training());
    assert_close(run(all.clone()), expected.clone(), 1e-14);
    let mut gamma = Params::default();
    gamma.push("gamma", Tensor::<B, 3>::ones([1, 1, 1], &device()));
    let moved = run(all.overwrite(gamma));
    let difference = values((moved - expected).abs().max())[0];
    assert!(difference > 1e-3, "{difference}");
}

/// Moving averages are reported under the paths of the buffers that keep them: under any other name
/// they would be lost.
#[test]
fn running_statistics_have_the_paths_of_their_layers() {
    for (name, settings) in [
        ("mlp", json!({"norm": "running"})),
        (
            "conv4",
            json!({"channels": 2, "blocks": 2, "norm": "running"}),
        ),
        (
            "conv4_attention",
            json!({"channels": 8, "blocks": 2, "after": 1, "norm": "running"}),
        ),
        ("resnet12", json!({"widths": [2, 3]})),
    ] {
        let network = model(&spec(name, settings, [8, 8, 1]));
        let pass = Pass::training();
        network.forward(random([1, 3, 64], "x"), &pass);
        let sorted = |parameters: &Params<B>| {
            let names = parameters.names().filter(|name| name.contains("running_"));
            let mut names: Vec<String> = names.map(str::to_owned).collect();
            names.sort();
            names
        };
        let kept = sorted(&Params::of(&network));
        assert!(!kept.is_empty());
        assert_eq!(sorted(&pass.statistics.take()), kept, "{name}");
    }
}

/// What reads from the first step on embeds as the forward half of what reads from both ends.
#[test]
fn a_bidirectional_lstm_contains_the_plain_one() {
    let x = random([2, 3, 15], "x");
    let both = spec("bilstm", json!({"hidden": 4}), SET);
    let one = spec("lstm", json!({"hidden": 4}), SET);
    let of_both = model(&both);
    let mut own = Params::default();
    for part in ["input.weight", "input.bias", "recurrent"] {
        let name = format!("layers.0.forwards.{part}");
        let value = Params::of(&of_both).get::<3>(&name).expect("the cell");
        own.push(format!("layers.0.cell.{part}"), value);
    }
    let plain = own.write_into(model(&one));
    let pass = Pass::evaluation();
    let expected = plain.forward(x.clone(), &pass);
    let found = of_both.forward(x, &pass);
    assert_eq!(found.dims(), [2, 3, 8]);
    assert_close(found.narrow(2, 0, 4), expected, 1e-15);
}

/// A vector is a sequence of its features: the rows of one column.
#[test]
fn a_vector_is_a_sequence_of_features() {
    let x = random([2, 3, 5], "x");
    let run = |shape| embed("lstm", json!({"hidden": 4}), shape, x.clone());
    assert_close(run([1, 1, 5]), run([5, 1, 1]), 0.0);
}

/// The averaged embedding is the mean over the positions of the flattened one, and the published
/// network has the 12.4 million parameters that are quoted for it.
#[test]
fn resnet12_averages_and_counts() {
    let shape = [12, 8, 2];
    let x = random([1, 3, 192], "x");
    let run = |average: bool| {
        let settings = json!({"widths": [3, 4], "average": average});
        embed("resnet12", settings, shape, x.clone())
    };
    let mean = run(false).reshape([3, 6, 4]).mean_dim(1);
    assert_close(run(true), mean.reshape([1, 3, 4]), 1e-14);

    let published = spec("resnet12", json!({}), [84, 84, 3]);
    assert_eq!(published.width(), 16_000);
    let network = published.init::<B>(&mut Initializer::zeros(), &device());
    let count = Params::of(&network).num_elements();
    assert!((12_350_000..12_450_000).contains(&count), "{count}");
}

/// Settings out of range, and items that an encoder cannot read, each with its reason.
#[test]
fn impossible_settings_are_refused() {
    const IMAGE: [usize; 3] = [28, 28, 1];
    for (name, settings, shape, expected) in [
        (
            "resnet12",
            json!({"widths": []}),
            IMAGE,
            "`encoder.widths = []`: needs at least one stage",
        ),
        (
            "resnet12",
            json!({"widths": [4, 0]}),
            IMAGE,
            "`encoder.widths = 0`: must be at least 1",
        ),
        (
            "resnet12",
            json!({"dropout": 1.0}),
            IMAGE,
            "`encoder.dropout = 1`: must be in [0, 1)",
        ),
        (
            "resnet12",
            json!({"dropblock": 0}),
            IMAGE,
            "`encoder.dropblock = 0`: must be at least 1",
        ),
        (
            "resnet12",
            json!({}),
            [8, 8, 3],
            "`encoder.widths = [64,160,320,640]`: the image is halved 4 times, and 8×8 is too small",
        ),
        (
            "conv4_attention",
            json!({"after": 0}),
            IMAGE,
            "`encoder.after = 0`: must be in 1..=4",
        ),
        (
            "conv4_attention",
            json!({"after": 5}),
            IMAGE,
            "`encoder.after = 5`: must be in 1..=4",
        ),
        (
            "conv4_attention",
            json!({"after": 4}),
            IMAGE,
            "`encoder.after = 4`: leaves one position of 28×28",
        ),
        (
            "conv4_attention",
            json!({"reduction": 0}),
            IMAGE,
            "`encoder.reduction = 0`: must be at least 1",
        ),
        (
            "conv4_attention",
            json!({"reduction": 7}),
            IMAGE,
            "`encoder.reduction = 7`: must divide encoder.channels = 64",
        ),
        (
            "conv4_attention",
            json!({"heads": 3}),
            IMAGE,
            "`encoder.heads = 3`: must divide the width of the keys = 8",
        ),
        (
            "conv4_attention",
            json!({}),
            [1, 1, 9],
            "`encoder.blocks = 4`: the image is halved 4 times, and 1×1 is too small",
        ),
        (
            "transformer",
            json!({"width": 0}),
            IMAGE,
            "`encoder.width = 0`: must be at least 1",
        ),
        (
            "transformer",
            json!({"heads": 5}),
            IMAGE,
            "`encoder.heads = 5`: must divide encoder.width = 64",
        ),
        (
            "transformer",
            json!({"heads": 0}),
            IMAGE,
            "`encoder.heads = 0`: must be at least 1",
        ),
        (
            "transformer",
            json!({"layers": 0}),
            IMAGE,
            "`encoder.layers = 0`: must be at least 1",
        ),
        (
            "transformer",
            json!({"hidden": 0}),
            IMAGE,
            "`encoder.hidden = 0`: must be at least 1",
        ),
        (
            "transformer",
            json!({"dropout": -0.1}),
            IMAGE,
            "`encoder.dropout = -0.1`: must be in [0, 1)",
        ),
        (
            "transformer",
            json!({"heads": 64, "positions": "rotary"}),
            IMAGE,
            "`encoder.heads = 64`: rotary positions turn pairs",
        ),
        (
            "transformer",
            json!({"positions": "round"}),
            IMAGE,
            "`encoder.positions = \"round\"`",
        ),
        (
            "transformer",
            json!({}),
            [1, 1, 1],
            "`encoder.name = transformer`: needs items of at least two steps",
        ),
        (
            "set_transformer",
            json!({"width": 0}),
            IMAGE,
            "`encoder.width = 0`: must be at least 1",
        ),
        (
            "set_transformer",
            json!({"layers": 0}),
            IMAGE,
            "`encoder.layers = 0`: must be at least 1",
        ),
        (
            "set_transformer",
            json!({"hidden": 0}),
            IMAGE,
            "`encoder.hidden = 0`: must be at least 1",
        ),
        (
            "set_transformer",
            json!({"heads": 3}),
            IMAGE,
            "`encoder.heads = 3`: must divide encoder.width = 128",
        ),
        (
            "set_transformer",
            json!({}),
            [1, 1, 9],
            "`encoder.index = false`: the features of a vector",
        ),
        (
            "set_transformer",
            json!({}),
            [1, 9, 1],
            "`encoder.name = set_transformer`: needs items of at least two steps",
        ),
        (
            "lstm",
            json!({"hidden": 0}),
            IMAGE,
            "`encoder.hidden = 0`: must be at least 1",
        ),
        (
            "lstm",
            json!({"layers": 0}),
            IMAGE,
            "`encoder.layers = 0`: must be at least 1",
        ),
        (
            "lstm",
            json!({"dropout": 1.5}),
            IMAGE,
            "`encoder.dropout = 1.5`: must be in [0, 1)",
        ),
        (
            "lstm",
            json!({}),
            [1, 1, 1],
            "`encoder.name = lstm`: needs items of at least two steps",
        ),
        (
            "bilstm",
            json!({}),
            [1, 7, 1],
            "`encoder.name = bilstm`: needs items of at least two steps",
        ),
        (
            "bilstm",
            json!({"layer": 1}),
            IMAGE,
            "unknown key `encoder.layer` (did you mean `layers`?)",
        ),
    ] {
        let refused = EncoderSpec::new(name, &settings, item(shape));
        let message = refused.map(|_| ()).unwrap_err().to_string();
        assert!(
            message.starts_with(expected),
            "{name} {settings}: {message}"
        );
    }
    // What the defaults are made for is accepted.
    for entry in EncoderSpec::entries() {
        let info = entry.info;
        let default = EncoderSpec::new(info.name, &json!({}), item(IMAGE));
        assert!(default.is_ok(), "{}", info.name);
    }
}
