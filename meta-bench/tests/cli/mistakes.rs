//! What can go wrong: exit code 2, one message that names file, key or value and what was expected,
//! no panic, nothing half-written.

use std::{
    fs,
    io::{Cursor, Write},
    process::Command,
};

use crate::workbench::{GLYPHS, Ran, SINUSOID, Workbench};

/// The message of `meta run m.toml` with `arguments`, which must leave nothing behind.
#[track_caller]
fn refused(bench: &Workbench, arguments: &str) -> String {
    let before = bench.names(".");
    let message = bench.run(&format!("run m.toml {arguments}")).mistake();
    assert_eq!(bench.names("."), before, "nothing is written");
    message
}

#[test]
fn an_unknown_key() {
    let bench = Workbench::new("seed = 1\n[learner]\nname = \"maml\"\niner_lr = 0.1\n");
    insta::assert_snapshot!(refused(&bench, ""), @"error: m.toml:4: unknown key `learner.iner_lr` (did you mean `inner_lr`?); known: name, checkpoint_inner_steps, inner_lr, inner_momentum, inner_optimizer, inner_steps, order, test_steps");
}

#[test]
fn a_wrong_type() {
    let bench = Workbench::new("[train]\niterations = \"many\"\n");
    insta::assert_snapshot!(refused(&bench, ""), @r#"error: m.toml:2: `train.iterations = "many"`: invalid type: string "many", expected u64"#);
}

#[test]
fn a_manifest_that_is_not_there_or_not_toml() {
    let bench = Workbench::new("seed = = 1");
    insta::assert_snapshot!(refused(&bench, ""), @"error: m.toml:1: not valid TOML: extra `=`, expected nothing");
    insta::assert_snapshot!(bench.run("run absent.toml").mistake(), @"error: absent.toml: cannot read: No such file or directory (os error 2)");
}

#[test]
fn more_ways_than_classes() {
    let bench = Workbench::new(GLYPHS);
    insta::assert_snapshot!(refused(&bench, "data.way=100000"), @"error: command line: `data.way = 100000`: must be at most 2000, the number of train classes of `glyphs`");
    insta::assert_snapshot!(refused(&bench, "data.train_way=100000"), @"error: command line: `data.train_way = 100000`: must be at most 2000, the number of train classes of `glyphs`");
}

#[test]
fn more_items_than_a_class_has() {
    let bench = Workbench::new(GLYPHS);
    insta::assert_snapshot!(refused(&bench, "data.shot=10 data.query=11"), @"error: command line: `data.query = 11`: must be at most 10 with 10 shots: the smallest train class of `glyphs` has 20 items");
    insta::assert_snapshot!(refused(&bench, "data.shot=20"), @"error: command line: `data.shot = 20`: must be at most 19: the smallest train class of `glyphs` has 20 items, and the query needs at least one");
}

#[test]
fn an_unknown_backend_learner_encoder_or_source() {
    let bench = Workbench::new(GLYPHS);
    insta::assert_snapshot!(refused(&bench, "backend=flax"), @"error: command line: unknown backend `flax` (did you mean `flex`?); known: flex, ndarray, wgpu, vulkan, cuda, rocm, tch");
    insta::assert_snapshot!(refused(&bench, "learner.name=mamal"), @"error: command line: unknown learner `mamal` (did you mean `maml`?); known: anil, ataml, cavia, imaml, maml, maml_pp, meta_lstm, meta_sgd, reptile, feat, distributional_signatures, hatt, induction_net, matching_net, protonet, relation_net, ridge, siamese, mann, snail, in_context, mlc, cnp, anp, tnp, pfn, meta_attention, multimodal_protonet, task_attention, task_relations, task_transformer, nearest_centroid, knn, gaussian_process, boosted_trees, logistic, lda, tip_adapter, baseline, baseline_pp, laplacian_shot, bd_cspn, tim, pt_map, dpt, rl2, snail_policy, maml_rl, reference_policy");
    insta::assert_snapshot!(refused(&bench, "encoder.name=conv5"), @"error: command line: unknown encoder `conv5` (did you mean `conv4`?); known: mlp, conv4, conv4_attention, resnet12, attention, transformer, set_transformer, lstm, bilstm, gru, strided_conv, relation_conv, bag, text_cnn, conv1d, tcn, attention_pooling, identity");
    insta::assert_snapshot!(refused(&bench, "data.source=glyfs"), @"error: command line: unknown data source `glyfs` (did you mean `glyphs`?); known: glyphs, projected-glyphs, sinusoid, gp, prior, grammar, tables, omniglot, folder, features, topics, text, series, scan, audio, forecast, bernoulli_bandit, gaussian_bandit, tabular_mdp, dark_room, navigation, cart_pole");
}

#[test]
fn a_backend_that_is_not_compiled_in() {
    if cfg!(feature = "cuda") {
        return;
    }
    let bench = Workbench::new(GLYPHS);
    insta::assert_snapshot!(refused(&bench, "backend=cuda"), @"error: command line: backend `cuda` is not compiled into this binary; build with `--features cuda`");
}

#[test]
fn a_backend_that_is_wrong_for_the_learner() {
    let bench = Workbench::new(GLYPHS);
    insta::assert_snapshot!(refused(&bench, "backend=tch learner.name=mann"), @"error: command line: backend `tch` computes wrong gradients for `mann` in Burn 0.21 (docs/backends.md); choose another backend");
}

#[test]
fn a_data_folder_that_is_missing() {
    let bench = Workbench::new("[data]\nsource = \"omniglot\"\n");
    let message = refused(&bench, "--data nowhere");
    assert!(message.contains("nowhere"), "{message}");
    assert!(message.contains("images_background"), "{message}");
}

#[test]
fn a_zip_that_is_truncated() {
    let bench = Workbench::new("[data]\nsource = \"omniglot\"\n");
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive
        .start_file("images_background/Latin/character01/0001_01.png", options)
        .unwrap();
    archive.write_all(&[7; 1000]).unwrap();
    let bytes = archive.finish().unwrap().into_inner();
    for name in ["images_background.zip", "images_evaluation.zip"] {
        bench.write(&format!("omniglot/{name}"), &bytes[..bytes.len() / 2]);
    }
    let message = refused(&bench, "--data .");
    assert!(message.contains("images_background.zip"), "{message}");
}

#[test]
fn the_wrong_number_of_omniglot_characters() {
    let bench = Workbench::new("[data]\nsource = \"omniglot\"\n");
    for part in ["images_background", "images_evaluation"] {
        let name = format!("omniglot/{part}/Latin/character01/0001_01.png");
        bench.write(&name, [7; 10]);
    }
    let message = refused(&bench, "--data .");
    assert!(message.contains("images_background"), "{message}");
    assert!(message.contains("964"), "{message}");
}

#[test]
fn an_image_that_cannot_be_decoded() {
    let bench = Workbench::new("[data]\nsource = \"folder\"\npath = \"pictures\"\n");
    for class in 0..30 {
        for item in 0..20 {
            bench.write(&format!("pictures/class{class}/{item}.png"), [7; 10]);
        }
    }
    let message = refused(&bench, "");
    assert!(message.contains("pictures"), "{message}");
    assert!(message.contains(".png"), "{message}");
}

#[test]
fn a_run_folder_that_is_not_writable() {
    let bench = Workbench::new(SINUSOID);
    insta::assert_snapshot!(refused(&bench, "--dir m.toml/run"), @"error: m.toml/run: cannot open the run folder: Not a directory (os error 20)");
    insta::assert_snapshot!(refused(&bench, "--dir ."), @"error: .: expected a run folder or nothing, found a folder without record.json; it is left as it is");
}

#[test]
fn a_run_folder_of_another_run() {
    let bench = Workbench::new(SINUSOID);
    bench.run("run m.toml --dir here train.iterations=2").ok();
    let message = bench
        .run("run m.toml --dir here train.iterations=3 --resume")
        .mistake();
    let start = "error: here: holds another run: `train.iterations` is 2 there and 3 here";
    assert!(message.starts_with(start), "{message}");
}

/// A run that was stopped after its first iterations, in `name`.
fn unfinished(bench: &Workbench, name: &str, arguments: &str) {
    bench
        .run(&format!("run m.toml --dir {name} {arguments}"))
        .ok();
    for file in ["result.json", "scores.json"] {
        fs::remove_file(bench.path(&format!("{name}/{file}"))).unwrap();
    }
}

#[test]
fn a_checkpoint_from_another_architecture() {
    let bench = Workbench::new(SINUSOID);
    unfinished(&bench, "one", "train.iterations=2");
    unfinished(&bench, "two", "train.iterations=2 encoder.hidden=[8]");
    unfinished(&bench, "three", "train.iterations=2 seed=1");
    let copy = |from: &str| {
        let (from, to) = (bench.path(from), bench.path("one"));
        // The checkpoint has the hash of the metrics.
        for file in ["checkpoint.safetensors", "metrics.jsonl"] {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
        bench
            .run("run m.toml --dir one train.iterations=2 --resume")
            .mistake()
    };
    let message = copy("two");
    let start = "error: one/checkpoint.safetensors: holds a checkpoint from another architecture: \
                 parameter `";
    assert!(message.starts_with(start), "{message}");
    let message = copy("three");
    assert!(message.contains("belongs to run"), "{message}");
}

#[test]
fn a_checkpoint_with_flipped_bytes() {
    let bench = Workbench::new(SINUSOID);
    unfinished(&bench, "here", "train.iterations=2");
    let file = "here/checkpoint.safetensors";
    let good = bench.bytes(file);
    for place in [9, 200, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        bench.write(file, &bad);
        let message = bench
            .run("run m.toml --dir here train.iterations=2 --resume")
            .mistake();
        assert!(
            message.contains("here/checkpoint.safetensors: is damaged"),
            "{message}"
        );
        assert_eq!(bench.bytes(file), bad, "nothing is written");
    }
    bench.write(file, &good);
    bench
        .run("run m.toml --dir here train.iterations=2 --resume")
        .ok();
}

#[test]
fn a_loss_that_is_not_a_number() {
    let bench = Workbench::new(SINUSOID);
    let arguments = "run m.toml --dir here train.lr=1e30 train.checkpoint_every=1";
    let message = bench.run(arguments).mistake();
    assert!(message.starts_with("error: iteration "), "{message}");
    assert!(message.contains("not a finite number"), "{message}");
    assert!(message.contains("here/checkpoint.safetensors"), "{message}");
    // What is left is a run that can be looked at; its checkpoint is a good one.
    let again = bench.run(&format!("{arguments} --resume")).mistake();
    assert_eq!(message, again);
}

/// A file may not grow beyond 10 or 20 KiB (as the shell counts): the first checkpoint fits, the
/// one with the moments does not. The system then refuses to write, as it does when a disk is full.
#[test]
fn a_disk_that_is_full() {
    if cfg!(not(unix)) {
        return;
    }
    let bench = Workbench::new(SINUSOID);
    let arguments = "run m.toml encoder.hidden=[40,40] --dir here --resume";
    let limited: Ran = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "trap '' XFSZ; ulimit -f 20; exec '{}' {arguments}",
            env!("CARGO_BIN_EXE_meta")
        ))
        .current_dir(bench.path("."))
        .output()
        .unwrap()
        .into();
    let message = limited.mistake();
    assert!(
        message.starts_with("error: here/checkpoint.safetensors: cannot write: "),
        "{message}"
    );
    let names = bench.names("here");
    assert!(
        names.iter().all(|name| !name.ends_with(".tmp")),
        "{names:?}"
    );
    // Once there is space the run resumes, and ends as if nothing had happened.
    bench.run(arguments).ok();
    bench.run(&arguments.replace("here", "whole")).ok();
    for file in ["checkpoint.safetensors", "metrics.jsonl"] {
        let (here, whole) = (format!("here/{file}"), format!("whole/{file}"));
        assert!(bench.bytes(&here) == bench.bytes(&whole), "{file}");
    }
}

#[test]
fn standard_output_that_is_full() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        eprintln!("skipped: this system has no /dev/full");
        return;
    };
    let bench = Workbench::new("");
    let ran: Ran = bench.command("list").stdout(full).output().unwrap().into();
    assert!(ran.mistake().starts_with("error: stdout: cannot write: "));
}

#[test]
fn a_log_level_that_does_not_exist() {
    let bench = Workbench::new(SINUSOID);
    let message = refused(&bench, "--log =x=");
    assert!(message.contains("--log"), "{message}");
}

/// Where tasks are acted in, nothing stands beside their items that could be wrong.
#[test]
fn corrupted_tasks_that_are_acted_in() {
    let bench = Workbench::new(
        "[data]\nsource = \"bernoulli_bandit\"\nway = 1\nshot = 1\nquery = 1\n[learner]\nname = \"rl2\"\n[encoder]\nname = \"identity\"\n",
    );
    insta::assert_snapshot!(refused(&bench, "train.corrupted_tasks=0.5"), @"error: command line: `train.corrupted_tasks = 0.5`: is for tasks with targets: those of this source are acted in");
}
