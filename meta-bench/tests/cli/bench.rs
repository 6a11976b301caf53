//! `meta bench`, as scripts and people use it.

use meta_core::train::checkpoint_file;
use serde_json::Value;

use crate::workbench::Workbench;

#[test]
fn an_unknown_workload_peer_or_backend() {
    let bench = Workbench::new("");
    insta::assert_snapshot!(bench.run("bench sinusoid-2").mistake(), @"error: unknown workload `sinusoid-2` (did you mean `sinusoid-5`?); known: sinusoid-1, sinusoid-5, conv4-maml-1, conv4-maml-5, conv4-fomaml-5, protonet-20w1s, protonet-60w5s, attention-maml, lstm-protonet, bilstm-protonet, gru-protonet, text-cnn-protonet, attention-pooling-protonet, lstm-maml, mann, meta-lstm, adapt, logistic-5w5s, mlc-joint, mlc-separate, transformer-protonet, set-transformer-protonet, resnet12-protonet, resnet12-maml, feat, snail, in-context, cnp, anp, tnp, pfn, pfn-predict, pfn-predict-10, rl2, mdp-steps, maml-rl");
    insta::assert_snapshot!(bench.run("bench --peers --only torch-lop").mistake(), @"error: unknown peer `torch-lop` (did you mean `torch-loop`?); known: torch-loop, torch-func, torch-compile, jax, sklearn");
    insta::assert_snapshot!(bench.run("bench --backends flax").mistake(), @"error: unknown backend `flax` (did you mean `flex`?); known: flex, ndarray, wgpu, vulkan, cuda, rocm, tch");
    insta::assert_snapshot!(bench.run("bench --tasks 0").mistake(), @"error: `--tasks 0`: must be at least 1");
    insta::assert_snapshot!(bench.run("bench --steps 0").mistake(), @"error: `--steps 0`: must be at least 1");
    insta::assert_snapshot!(bench.run("bench --seconds 0").mistake(), @"error: `--seconds 0`: must be above 0");
}

#[test]
fn a_python_without_the_peers_says_how_to_get_them() {
    let bench = Workbench::new("");
    let ran = bench.run("bench sinusoid-1 --peers --python absent-python");
    assert!(
        ran.stderr.contains("jax: not installed for absent-python"),
        "{}",
        ran.stderr
    );
    insta::assert_snapshot!(ran.mistake(), @"error: no peer is installed for absent-python: pip install -r meta-bench/peers/requirements.txt, or name another Python with --python");
}

#[test]
fn a_measurement_is_complete() {
    let bench = Workbench::new("");
    let ran = bench
        .run("bench sinusoid-1 sinusoid-5 --backends flex --tasks 2 --samples 4 --rounds 2 --json out.json")
        .ok();
    for part in [
        "| workload | backend |",
        "| `sinusoid-1` | flex | 2 |",
        "GEMM peak",
    ] {
        assert!(ran.stdout.contains(part), "{}", ran.stdout);
    }
    let report: Value = serde_json::from_slice(&bench.bytes("out.json")).unwrap();
    let environment = &report["environment"];
    for key in [
        "command", "profile", "versions", "system", "threads", "seed", "cores",
    ] {
        assert!(!environment[key].is_null(), "{key}");
    }
    assert_eq!(environment["command"][0], "meta");
    assert_eq!(environment["versions"]["burn"], "0.21.0");
    let rows = report["measurements"].as_array().unwrap();
    let flex: Vec<&Value> = rows.iter().filter(|row| row["backend"] == "flex").collect();
    assert_eq!(flex.len(), 2);
    for row in rows {
        assert_eq!(row["dtype"], "f32");
        assert_eq!(row["tasks"], 2);
        assert_eq!(row["parameters"], 1761);
        assert_eq!(row["samples_ms"].as_array().unwrap().len(), 8, "two rounds");
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}"));
        assert!(number("lower_quartile_ms") <= number("median_ms"));
        assert!(number("median_ms") <= number("upper_quartile_ms"));
        assert!(number("share_of_gemm_peak") > 0.0);
        let tasks_per_second = 2.0 / (1e-3 * number("median_ms"));
        assert!((number("tasks_per_second") / tasks_per_second - 1.0).abs() < 1e-12);
        if cfg!(target_os = "linux") {
            assert!(number("peak_bytes") >= number("start_bytes"));
        }
    }
    // 10 support items: 5 of the first layer's 80 operations, 9 of the others' 3280; 10 query items:
    // 2 and 3.
    let one_step = 2.0 * (10.0 * (400.0 + 29_520.0) + 10.0 * (160.0 + 9840.0));
    assert_eq!(flex[0]["flop"], one_step);
}

#[test]
fn an_export_holds_what_its_description_says() {
    let bench = Workbench::new("");
    bench
        .run("bench sinusoid-5 attention-maml adapt --tasks 1 --export out")
        .ok();
    assert_eq!(
        bench.names("out"),
        ["adapt", "attention-maml", "sinusoid-5"]
    );
    for (name, settings) in [
        ("sinusoid-5", ["inner_lr", "inner_steps"]),
        ("attention-maml", ["inner_lr", "order"]),
        ("adapt", ["inner_lr", "test_steps"]),
    ] {
        let folder = format!("out/{name}");
        let description: Value =
            serde_json::from_slice(&bench.bytes(&format!("{folder}/workload.json"))).unwrap();
        assert_eq!(description["name"], name);
        assert_eq!(description["tasks"], 1);
        for key in settings {
            assert!(!description["learner"]["settings"][key].is_null(), "{key}");
        }
        for (file, listed) in description["files"].as_object().unwrap() {
            let read = checkpoint_file::read(&bench.path(&format!("{folder}/{file}"))).unwrap();
            let found: Vec<Value> = read
                .tensors
                .iter()
                .map(|(name, data)| serde_json::json!({ "name": name, "shape": data.shape.to_vec() }))
                .collect();
            assert_eq!(&Value::from(found), listed, "{folder}/{file}");
        }
        let files = &description["files"];
        let shapes = |file: &str, prefix: &str| -> Vec<(String, Value)> {
            let listed = files[file].as_array().unwrap().iter();
            listed
                .filter_map(|entry| {
                    let name = entry["name"].as_str()?.strip_prefix(prefix)?.to_owned();
                    Some((name, entry["shape"].clone()))
                })
                .collect()
        };
        let predictions = shapes("first_step.safetensors", "predictions");
        let gradients = shapes("first_step.safetensors", "gradient/");
        if description["kind"] == "train" {
            // A gradient of every parameter.
            assert_eq!(gradients, shapes("parameters.safetensors", ""));
        } else {
            assert_eq!(predictions.len(), 1, "after the last step");
        }
    }
}

#[test]
fn scaling_draws_a_panel_for_each_axis() {
    let bench = Workbench::new("");
    let ran = bench
        .run("bench sinusoid-1 --scaling out.svg --samples 3 --seconds 0.1 --rounds 1 --backends flex --json out.json")
        .ok();
    for axis in ["tasks", "inner steps", "query items per class"] {
        assert!(
            ran.stdout.contains(&format!("| {axis} |")),
            "{}",
            ran.stdout
        );
    }
    let svg = String::from_utf8(bench.bytes("out.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("inner steps"));
    let report: Value = serde_json::from_slice(&bench.bytes("out.json")).unwrap();
    let curves = report["curves"].as_array().unwrap();
    assert_eq!(curves.len(), 3);
    for curve in curves {
        // What a machine under load measures is no test: only that something was.
        assert!(curve["line"][1].as_f64().unwrap().is_finite(), "{curve}");
    }
}
