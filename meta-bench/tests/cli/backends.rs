//! Where a run computes: devices and precisions that are there and those that are not, and all backends
//! against one reference.
//!
//! Only the backends of this build are tested: the tests of others say that they are skipped.

use serde_json::Value;

use crate::workbench::{GLYPHS, SINUSOID, Workbench, compiled};

#[test]
fn a_device_or_precision_that_is_not_there() {
    let bench = Workbench::new(GLYPHS);
    let refused = |arguments: &str| {
        let message = bench.run(&format!("run m.toml {arguments}")).mistake();
        assert_eq!(bench.names("."), ["m.toml"], "nothing is written");
        message
    };
    insta::assert_snapshot!(refused("device=3"), @"error: backend `flex` has no `device = 3`; the devices here are 0 to 0");
    insta::assert_snapshot!(refused("precision=f17"), @r#"error: command line: `precision = "f17"`: unknown variant `f17`, expected one of `f32`, `f64`, `f16`, `bf16`"#);
    insta::assert_snapshot!(refused("precision=bf16"), @"error: command line: `precision = bf16`: is for evaluation (`meta eval`); train in f32 or f64");
    bench.run("run m.toml --dir run --quiet").ok();
    insta::assert_snapshot!(bench.run("eval run precision=f16").mistake(), @"error: backend `flex` does not compute in `precision = f16` on Cpu; known: f32, f64");
}

/// A run in f64 is one: its record says so, and its numbers are near those in f32 but not the same.
#[test]
fn a_run_in_f64() {
    let bench = Workbench::new(SINUSOID);
    let loss = |precision: &str| {
        let arguments =
            format!("precision={precision} train.iterations=5 --dir {precision} --quiet");
        bench.run(&format!("run m.toml {arguments}")).ok();
        let record: Value =
            serde_json::from_slice(&bench.bytes(&format!("{precision}/record.json")))
                .expect("a record");
        assert_eq!(record["dtype"], precision);
        let result: Value =
            serde_json::from_slice(&bench.bytes(&format!("{precision}/result.json")))
                .expect("a result");
        result["mean"].as_f64().expect("a score")
    };
    let (single, double) = (loss("f32"), loss("f64"));
    let difference = (single - double).abs() / double;
    assert!(difference > 0.0 && difference < 1e-4, "{single} {double}");
    // What was trained in one format is evaluated in the other.
    bench.run("eval f64 precision=f32").ok();
    if compiled("ndarray") {
        bench.run("eval f32 precision=f64 backend=ndarray").ok();
    }
}

#[test]
fn the_cpu_backends_agree_with_the_reference() {
    if !compiled("ndarray") {
        return;
    }
    let bench = Workbench::new("");
    let json = bench
        .run("equivalence --backends flex,ndarray --json")
        .ok()
        .stdout;
    let columns: Vec<Value> = serde_json::from_str(&json).expect("columns");
    let titles: Vec<String> = columns
        .iter()
        .map(|column| format!("{} {}", column["backend"], column["precision"]).replace('"', ""))
        .collect();
    assert_eq!(titles, ["flex f32", "flex f64", "ndarray f32"]);
    for column in &columns {
        let largest = column["largest"].as_array().expect("differences");
        assert!(largest.len() > 50, "{}", largest.len());
    }
    let message = bench.run("equivalence --backends flax").mistake();
    assert!(message.contains("did you mean `flex`"), "{message}");
}

/// wgpu, on whatever device there is.
mod wgpu {
    use serde_json::Value;

    use crate::workbench::{Ran, SINUSOID, Workbench, compiled};

    /// The binary in the folder of a bench, with or without the drivers of this machine.
    fn on_wgpu(bench: &Workbench, arguments: &str, driver: bool) -> Ran {
        let mut command = bench.command(arguments);
        command.env("XDG_RUNTIME_DIR", bench.path(""));
        if !driver {
            for name in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"] {
                command.env(name, "/nowhere.json");
            }
        }
        command.output().expect("the binary starts").into()
    }

    #[test]
    fn without_a_driver_wgpu_says_what_to_install() {
        if !compiled("wgpu") {
            return;
        }
        let bench = Workbench::new(SINUSOID);
        let message = on_wgpu(&bench, "run m.toml backend=wgpu", false).mistake();
        assert!(
            message.contains("backend `wgpu` finds no device"),
            "{message}"
        );
        assert!(message.contains("mesa-vulkan-drivers"), "{message}");
        assert_eq!(bench.names("."), ["m.toml"], "nothing is written");
    }

    #[test]
    fn a_device_that_wgpu_does_not_have() {
        if !compiled("wgpu") {
            return;
        }
        let bench = Workbench::new(SINUSOID);
        let message = on_wgpu(&bench, "run m.toml backend=wgpu device=99", true).mistake();
        assert!(message.contains("has no `device = 99`"), "{message}");
    }

    /// A precision is computed in or refused, and never taken for another.
    #[test]
    fn a_precision_of_wgpu() {
        if !compiled("wgpu") {
            return;
        }
        let bench = Workbench::new(SINUSOID);
        let mean = |precision: &str| {
            let arguments = format!(
                "run m.toml backend=wgpu precision={precision} train.iterations=5 --dir {precision} --quiet"
            );
            let ran = on_wgpu(&bench, &arguments, true);
            if ran.code != Some(0) {
                let message = ran.mistake();
                let refused = format!("does not compute in `precision = {precision}`");
                assert!(message.contains(&refused), "{message}");
                return None;
            }
            let read = |name: &str| -> Value {
                serde_json::from_slice(&bench.bytes(&format!("{precision}/{name}"))).expect("JSON")
            };
            assert_eq!(read("record.json")["dtype"], precision);
            read("result.json")["mean"].as_f64()
        };
        let single = mean("f32").expect("every device computes in f32");
        if let Some(double) = mean("f64") {
            let difference = (single - double).abs() / double;
            assert!(difference > 0.0 && difference < 1e-4, "{single} {double}");
        }
        // What was trained there is evaluated elsewhere.
        on_wgpu(&bench, "eval f32 backend=flex", true).ok();
    }

    /// Four copies of a layer of 36 MB: more than a software driver takes at once.
    const LARGE: &str = "run m.toml backend=wgpu --dir run --quiet encoder.hidden=[3000,3000] \
                         train.iterations=2 train.validate_every=0 test.episodes=2";

    /// A device that does not get its memory ends the run, with a message, before a number of it is believed;
    /// with fewer tasks at once the run resumes from its checkpoint.
    #[test]
    fn a_device_that_fails_leaves_the_checkpoint() {
        if !compiled("wgpu") {
            return;
        }
        let bench = Workbench::new(SINUSOID);
        let ran = on_wgpu(&bench, &format!("{LARGE} train.task_chunk=4"), true);
        if ran.code == Some(0) {
            eprintln!("skipped: the device has the memory");
            return;
        }
        let message = ran.mistake();
        assert!(
            message.contains("the device failed: can't allocate"),
            "{message}"
        );
        assert!(message.contains("saved up to iteration 0"), "{message}");
        assert!(message.contains("smaller train.task_chunk"), "{message}");
        assert!(
            bench.bytes("run/metrics.jsonl").is_empty(),
            "no number of it is logged"
        );
        on_wgpu(
            &bench,
            &format!("{LARGE} train.task_chunk=1 --resume"),
            true,
        )
        .ok();
    }

    #[test]
    fn wgpu_agrees_with_the_reference() {
        if !compiled("wgpu") {
            return;
        }
        let bench = Workbench::new("");
        let ran = on_wgpu(&bench, "equivalence --backends wgpu --json", true).ok();
        let columns: Vec<Value> = serde_json::from_str(&ran.stdout).expect("columns");
        assert_eq!(columns.len(), 1);
        assert_eq!(columns[0]["backend"], "wgpu");
    }

    /// Tasks are an axis of the tensors: more of them are larger kernels, not more.
    #[test]
    fn kernel_launches_do_not_grow_with_the_tasks() {
        if !compiled("wgpu") {
            return;
        }
        let bench = Workbench::new("");
        let workloads = "sinusoid-5 attention-maml conv4-maml-1";
        let launches = |tasks: usize| -> Vec<u64> {
            let options = "--launches --backends wgpu --width 8 --query 3";
            let arguments =
                format!("bench {workloads} {options} --tasks {tasks} --task-chunk {tasks}");
            let table = on_wgpu(&bench, &arguments, true).ok().stdout;
            let rows = table.lines().filter(|line| line.starts_with("| `"));
            rows.map(|row| {
                let count = row
                    .trim_end_matches('|')
                    .rsplit('|')
                    .next()
                    .expect("a cell");
                count.trim().parse().expect("a count")
            })
            .collect()
        };
        let few = launches(2);
        assert_eq!(few.len(), 3);
        assert!(few.iter().all(|&count| count > 20), "{few:?}");
        // A busy machine may end a process before the last lines of its log are written: a launch or two are lost
        // of thousands. What grew with the tasks would be three times as many.
        let many = launches(6);
        let same = |(few, many): (&u64, &u64)| few.abs_diff(*many) <= 2;
        assert!(few.iter().zip(&many).all(same), "{few:?} {many:?}");
    }
}
