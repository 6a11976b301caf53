//! Every number of the manifest reference at the ends of its type, in 2 GB of memory: refused by name, or
//! computed. What comes of it is never a panic, an abort, or a machine that swaps.
#![cfg(target_os = "linux")]

use std::{
    fs,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::workbench::{GLYPHS, Ran, Workbench, root};

/// A run as small as can be.
const TINY: &str = r#"[data]
source = "glyphs"
image_size = 8
way = 2
query = 1
[encoder]
name = "mlp"
hidden = [16, 16]
[train]
iterations = 2
meta_batch = 2
validate_every = 1
validation_episodes = 2
[test]
episodes = 2
"#;

/// A number of the reference.
#[derive(Debug)]
struct Number {
    /// `section.key`.
    key: String,
    /// What chooses the part of the reference that has it: `encoder.name=mlp`.
    choice: Option<String>,
    default: String,
}

impl Number {
    fn is_real(&self) -> bool {
        self.default.contains(['.', 'e'])
    }

    /// The key with `value`, as often as its default is a list.
    fn set(&self, value: &str) -> String {
        let items = self.default.matches(',').count() + 1;
        match self.default.starts_with('[') {
            true => format!("{}=[{}]", self.key, vec![value; items].join(",")),
            false => format!("{}={value}", self.key),
        }
    }
}

/// The numbers in the tables of the reference.
fn numbers() -> Vec<Number> {
    let text = fs::read_to_string(root().join("docs/manifest.md")).unwrap();
    let (mut section, mut choice) = (String::new(), None);
    let mut numbers = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
            let table = quoted.iter().find(|text| text.starts_with('['));
            if let Some(table) = table {
                section = table.trim_matches(['[', ']']).to_owned();
            } else if quoted.is_empty() {
                section = String::new();
            }
            let chosen = quoted.iter().find_map(|text| text.split_once(" = "));
            choice = chosen.map(|(key, name)| format!("{section}.{key}={}", name.replace('"', "")));
            continue;
        }
        let cells: Vec<&str> = line
            .split(" | ")
            .map(|cell| cell.trim_matches(['|', ' ', '`']))
            .collect();
        let [key, default, ..] = cells.as_slice() else {
            continue;
        };
        let number = |text: &str| text.trim().parse::<f64>().is_ok();
        let list = default.trim_matches(['[', ']']);
        // Slurm's settings are no part of a run.
        if list.split(',').all(number) && section != "slurm" {
            let dotted = [section.as_str(), key].join(".");
            numbers.push(Number {
                key: dotted.trim_start_matches('.').to_owned(),
                choice: choice.clone(),
                default: (*default).to_owned(),
            });
        }
    }
    numbers
}

/// What makes a choice small, and fit to items of 8×8.
fn small(choice: &str) -> &'static str {
    match choice {
        "encoder.name=conv4" => "encoder.channels=4 encoder.blocks=2",
        "encoder.name=relation_conv" => "encoder.channels=4 encoder.blocks=2 encoder.pooled=1",
        "encoder.name=conv4_attention" => {
            "encoder.channels=8 encoder.blocks=2 encoder.after=1 encoder.reduction=2"
        }
        "encoder.name=resnet12" => "encoder.widths=[4,8]",
        "encoder.name=attention" => {
            "encoder.patch=4 encoder.width=8 encoder.heads=2 encoder.layers=1 encoder.hidden=8"
        }
        "encoder.name=transformer" | "encoder.name=set_transformer" => {
            "encoder.width=8 encoder.heads=2 encoder.layers=1 encoder.hidden=8"
        }
        "encoder.name=lstm" | "encoder.name=bilstm" | "encoder.name=gru" => "encoder.hidden=8",
        "encoder.name=conv1d" => "encoder.filters=[4,4] encoder.kernels=[3,3]",
        "encoder.name=tcn" => "encoder.width=4",
        "encoder.name=text_cnn" => "encoder.filters=4",
        "encoder.name=attention_pooling" => "encoder.recurrent=4 encoder.hidden=8 encoder.span=2",
        "learner.name=snail" => "learner.keys=[4,4,4] learner.values=[4,4,4] learner.filters=4",
        "learner.name=in_context" => {
            "learner.layers=1 learner.width=16 learner.heads=2 learner.hidden=16"
        }
        "learner.name=mann" => "learner.hidden=8 learner.slots=8 learner.slot_width=4",
        "learner.name=ataml" => "learner.token_width=1",
        "learner.name=cnp" => "learner.hidden=8",
        "learner.name=anp" | "learner.name=tnp" => "learner.hidden=8 learner.layers=1",
        "learner.name=reptile" => "learner.test_steps=2",
        "learner.name=multimodal_protonet" => "data.side=true learner.side=1",
        "learner.name=mlc" => {
            "data.source=grammar data.way=1 data.shot=14 learner.width=8 learner.heads=2 learner.hidden=8 \
             learner.layers=1 learner.decoder_layers=1"
        }
        "learner.name=rl2" => "data.source=bernoulli_bandit data.way=1 learner.hidden=4",
        "learner.name=snail_policy" | "learner.name=dpt" | "learner.name=reference_policy" => {
            "data.source=bernoulli_bandit data.way=1"
        }
        "learner.name=maml_rl" => "data.source=navigation data.way=1",
        "data.source=grammar" => {
            "data.way=1 data.shot=14 learner.name=mlc learner.width=8 learner.heads=2 learner.hidden=8 \
             learner.layers=1 learner.decoder_layers=1"
        }
        "data.source=bernoulli_bandit"
        | "data.source=gaussian_bandit"
        | "data.source=tabular_mdp"
        | "data.source=dark_room"
        | "data.source=navigation"
        | "data.source=cart_pole" => "data.way=1 learner.name=rl2 learner.hidden=4",
        "data.source=sinusoid" | "data.source=gp" | "data.source=forecast" => {
            "data.way=1 learner.name=maml"
        }
        _ => "",
    }
}

/// The binary in 2 GB of address space and 5 seconds of processor time.
fn limited(bench: &Workbench, arguments: &str) -> Ran {
    let limits = "ulimit -v 2000000; ulimit -t 5; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", limits, env!("CARGO_BIN_EXE_meta")])
        .args(arguments.split_whitespace())
        .current_dir(bench.path("."))
        .env("XDG_CACHE_HOME", bench.path("cache"))
        .env_remove("META_DATA")
        .stdin(Stdio::null());
    command.output().expect("a shell").into()
}

/// What is wrong with the answer to `value` of `number`, if anything is.
fn fault(number: &Number, value: &str) -> Option<String> {
    let bench = Workbench::new(TINY);
    let choice = number.choice.as_deref().unwrap_or_default();
    let arguments = format!("m.toml {choice} {} {}", small(choice), number.set(value));
    let squeezed = only_last(&arguments);
    let checked = limited(&bench, &format!("check --no-trial {squeezed}"));
    let needs_files = ["omniglot", "folder", "text", "series", "tables", "scan"]
        .iter()
        .any(|source| choice.ends_with(&format!("data.source={source}")));
    let named = |ran: &Ran| {
        let name = format!("`{}", number.key);
        let split = number
            .key
            .strip_prefix("data.")
            .and_then(|key| key.strip_suffix("_classes"));
        let split = split.map(|split| split.strip_prefix("tone_").unwrap_or(split));
        let classes = split.map(|split| format!("the number of {split} classes"));
        let none = split.map(|split| format!("has no {split} classes"));
        ran.stderr.contains(&name)
            || none.is_some_and(|none| ran.stderr.contains(&none))
            || classes.is_some_and(|classes| ran.stderr.contains(&classes))
            || needs_files && ran.stderr.contains("error: ")
    };
    let shown = |what: &str, ran: &Ran| {
        let end = ran.stderr.trim().lines().last().unwrap_or_default();
        Some(format!("{what} {squeezed}: {:?} {end}", ran.code))
    };
    match checked.code {
        Some(2) if named(&checked) && !checked.stderr.contains("panicked") => return None,
        Some(0) if value == "nan" => return shown("accepted", &checked),
        Some(0) => {}
        _ => return shown("check", &checked),
    }
    if number.key == "train.iterations" {
        return None;
    }
    let ran = limited(&bench, &format!("run --quiet {squeezed}"));
    // A number may be too large to compute with: training then says that it diverges.
    let diverged =
        number.is_real() && ran.code == Some(2) && ran.stderr.contains("the last good checkpoint");
    (ran.code != Some(0) && !diverged)
        .then(|| shown("run", &ran))
        .flatten()
}

/// The arguments without those that a later one of the same key replaces.
fn only_last(arguments: &str) -> String {
    let all: Vec<&str> = arguments.split_whitespace().collect();
    let key = |text: &str| text.split_once('=').map(|(key, _)| key.to_owned());
    let kept = all.iter().enumerate().filter(|(index, text)| {
        let later = &all[index + 1..];
        key(text).is_none() || !later.iter().any(|other| key(other) == key(text))
    });
    kept.map(|(_, text)| *text).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_number_at_the_ends_of_its_type() {
    let numbers = numbers();
    assert!(numbers.len() > 150, "{} numbers", numbers.len());
    let only = std::env::var("META_EXTREMES").unwrap_or_default();
    let cases: Vec<(&Number, &str)> = numbers
        .iter()
        .filter(|number| number.key.contains(&only))
        .flat_map(|number| {
            let most = match number.is_real() {
                true => ["1.7976931348623157e308", "-1.7976931348623157e308"],
                false => ["18446744073709551615", "9223372036854775807"],
            };
            let values = [most[0], most[1], "0", "-1", "nan"];
            values.map(|value| (number, value))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((number, value)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    faults.lock().unwrap().extend(fault(number, value));
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// What could be meant but does not fit is refused before it is allocated, with the key to change.
#[test]
fn what_does_not_fit_into_memory_is_refused_by_its_largest_part() {
    for (changes, key) in [
        ("train.meta_batch=1048576 data.way=100", "train.meta_batch"),
        (
            "train.meta_batch=65536 train.chunk_memory=0 data.query=15",
            "train.meta_batch",
        ),
        (
            "encoder.name=mlp encoder.hidden=[1048576,1048576]",
            "encoder.hidden",
        ),
        ("encoder.channels=262144", "encoder.channels"),
        (
            "learner.name=maml learner.inner_steps=1000000",
            "learner.inner_steps",
        ),
        ("test.episodes=1000000000000", "test.episodes"),
        (
            "train.validation_episodes=18446744073709551615",
            "train.validation_episodes",
        ),
        (
            "test.chunk=1048576 test.episodes=1048576 data.query=15",
            "test.chunk",
        ),
    ] {
        let bench = Workbench::new(GLYPHS);
        for command in [
            "check --no-trial m.toml",
            "run m.toml",
            "sweep --quiet m.toml",
        ] {
            let ran = limited(&bench, &format!("{command} {changes}"));
            let message = ran.mistake();
            for part in [key, "the largest part", "ulimit -v", "--force"] {
                assert!(message.contains(part), "{command} {changes}: {message}");
            }
        }
        assert_eq!(bench.names("."), ["m.toml"], "nothing is written");
    }
    // A trained run is tested with other settings.
    let bench = Workbench::new(TINY);
    limited(&bench, "run m.toml --quiet --dir run").ok();
    let message = limited(&bench, "eval run test.episodes=1000000000000").mistake();
    assert!(
        message.contains("`test.episodes = 1000000000000`"),
        "{message}"
    );
    // Asked to, it goes on; here the run is small and the bound is another one.
    let bench = Workbench::new(TINY);
    let forced = "check m.toml --no-trial --force test.episodes=1000000000000";
    limited(&bench, forced).ok();
}
