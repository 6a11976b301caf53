//! Encoders of sequences against PyTorch: `tests/oracles/sequences.py` wrote values and gradients.

use burn::tensor::{Tensor, TensorData};
use burn_autodiff::Autodiff;
use meta_core::{
    data::ItemShape,
    nn::{
        Pass,
        encoder::{Architecture, Encoder, EncoderSpec},
        init::Initializer,
    },
    params::Params,
};
use serde_json::{Value, json};

use crate::support::{B, Oracle, assert_close, device, relative_error, values};

type A = Autodiff<B>;

/// The embeddings, and the gradients of rows and parameters, are those of the oracle. Rows that pad an item are
/// zeros here and not there in PyTorch, so their gradients are left out.
#[track_caller]
fn equals_pytorch(case: &str, encoder: &str, settings: Value) {
    let oracle = Oracle::read("sequences");
    let item = ItemShape {
        height: 6,
        width: 1,
        channels: 3,
    };
    let spec = EncoderSpec::new(encoder, &settings, item).expect("small");
    let model = spec.init::<A>(&mut Initializer::zeros(), &device());
    // PyTorch knows the end of a name.
    let of = |name: &str, kind: &str| -> Vec<f64> {
        let mut rest = name;
        loop {
            if let Some(found) = oracle.find::<1>(&format!("{case}/{rest}{kind}")) {
                return values(found);
            }
            rest = rest.split_once('.').expect("a parameter of PyTorch").1;
        }
    };
    let entries = Params::of(&model)
        .shapes()
        .into_iter()
        .map(|(name, shape)| {
            let own = TensorData::new(of(&name, ""), shape);
            (name, own)
        });
    let parameters = Params::<B>::from_data(entries.collect(), &device()).lift::<A>();
    let model = parameters.clone().write_into(model);
    let get = |name: &str| oracle.get::<3>(&format!("{case}/{name}"));
    let x = Tensor::<A, 3>::from_inner(get("x")).require_grad();
    let found = model.forward(x.clone(), &Pass::evaluation());
    assert_close(found.clone().inner(), get("outputs"), 1e-13);

    let scalar = (found.tanh() * Tensor::from_inner(get("direction"))).sum();
    let gradients = scalar.backward();
    let there = get("x").abs().greater_elem(0.0).float();
    let own = x.grad(&gradients).expect("of the rows") * there;
    assert_close(own, get("x.grad"), 1e-12);
    for (name, found) in parameters.gradients(&gradients).to_data() {
        let found: Vec<f64> = found.iter::<f64>().collect();
        let error = relative_error(&found, &of(&name, ".grad"));
        assert!(error < 1e-12, "{case}, {name}: {error:e}");
    }
}

#[test]
fn additive_pooling_equals_pytorch() {
    let settings =
        |recurrent: usize| json!({"kind": "additive", "recurrent": recurrent, "hidden": 4});
    equals_pytorch("additive", "attention_pooling", settings(0));
    equals_pytorch("recurrent", "attention_pooling", settings(2));
}

#[test]
fn hierarchical_pooling_equals_pytorch() {
    let settings = json!({"kind": "hierarchical", "recurrent": 0, "hidden": 4, "span": 2});
    equals_pytorch("hierarchical", "attention_pooling", settings);
}

#[test]
fn text_cnn_equals_pytorch() {
    let settings = json!({"widths": [1, 2, 3], "filters": 4});
    equals_pytorch("text_cnn", "text_cnn", settings);
}

#[test]
fn convolutions_along_steps_equal_pytorch() {
    equals_pytorch(
        "conv1d",
        "conv1d",
        json!({"filters": [4, 3], "kernels": [3, 2]}),
    );
    equals_pytorch("tcn", "tcn", json!({"width": 4, "kernel": 2, "levels": 2}));
}
