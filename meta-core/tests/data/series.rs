//! Time series as a source: every layout gives the same tasks, and bad input is named by file and line.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use meta_core::data::{
    EpisodeShape, LabelPlace, MissingValues, SeriesFit, SeriesSettings, SeriesSource, Source, Split,
};
use meta_core::rng::Seed;
use tempfile::TempDir;

use crate::samples::data_dir;

/// A row of the tar archive: 512 bytes of header and the content, filled up.
fn member(name: &str, content: &str) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[156] = b'0';
    header[257..262].copy_from_slice(b"ustar");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend(content.bytes());
    bytes.resize(bytes.len().div_ceil(512) * 512, 0);
    bytes
}

fn archive(members: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members
        .iter()
        .flat_map(|(name, content)| member(name, content))
        .collect();
    bytes.extend([0; 1024]);
    bytes
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let bytes = if name.ends_with("gz") {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).expect("in memory");
        packed.finish().expect("in memory")
    } else {
        bytes.to_vec()
    };
    std::fs::write(folder.join(name), bytes).expect("written");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Two classes of two series each.
const TRAIN: &str = "1\t1\t2\t4\n2\t5\t3\t3\n";
const TEST: &str = "2\t1\t1\t0\n1\t0.5\t-2\t3e1\n";

fn settings(file: &str) -> SeriesSettings {
    SeriesSettings {
        files: vec![file.to_owned()],
        normalise: false,
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..SeriesSettings::default()
    }
}

fn build(settings: &SeriesSettings, folder: &TempDir) -> SeriesSource {
    let built = settings.build(Some(folder.path()));
    built.unwrap_or_else(|error| panic!("{error}"))
}

fn fault(settings: &SeriesSettings, folder: &TempDir) -> String {
    settings
        .build(Some(folder.path()))
        .expect_err("refused")
        .to_string()
}

/// All support items of many episodes, as text.
fn items(source: &SeriesSource) -> BTreeSet<String> {
    let features = source.item_shape().features();
    let mut found = BTreeSet::new();
    for index in 0..30 {
        let episode = source.episode(Seed(1), Split::Train, EpisodeShape::new(2, 1, 1), index);
        let episode = episode.expect("a task");
        for (class, item) in episode
            .classes
            .iter()
            .zip(episode.support.inputs.chunks_exact(features))
        {
            let name = source.class_name(*class).expect("a name");
            found.insert(format!("{name} {item:?}"));
        }
    }
    found
}

fn one_channel(rows: &[(&str, &[f32])]) -> BTreeSet<String> {
    let item = |(name, values): &(&str, &[f32])| {
        let item: Vec<f32> = values.iter().flat_map(|&value| [value, 1.0]).collect();
        format!("{name} {item:?}")
    };
    rows.iter().map(item).collect()
}

/// Every layout, packed and not.
#[test]
fn layouts_read_alike() {
    let folder = folder();
    let commas = |text: &str| text.replace('\t', ",");
    let spaces = |text: &str| format!("  {}", text.replace('\t', "  ").replace('\n', "\n  "));
    let last = |text: &str, between: char| -> String {
        let rows = text.lines().map(|line| {
            let (label, values) = line.split_once('\t').expect("a label");
            format!("{}{between}{label}\n", values.replace('\t', ","))
        });
        rows.collect()
    };
    let both = format!("{TRAIN}{TEST}");
    let ts = format!(
        "# about\n@problemName Set\n@timeStamps false\n@data\n{}",
        last(&both, ':')
    );
    let expected = one_channel(&[
        ("Set/1", &[1.0, 2.0, 4.0]),
        ("Set/1", &[0.5, -2.0, 30.0]),
        ("Set/2", &[5.0, 3.0, 3.0]),
        ("Set/2", &[1.0, 1.0, 0.0]),
    ]);
    let packed = archive(&[
        ("around/Set/README.md", "no series"),
        ("around/Set/Set_TRAIN.tsv", TRAIN),
        ("around/Set/Set_TEST.tsv", TEST),
        ("around/Other/Other.tsv", "1\t1\t2\n"),
    ]);
    let header = format!("label,a,b,c\n{}", commas(&both));
    for (name, content) in [
        ("Set.tsv", both.clone().into_bytes()),
        ("Set.csv.gz", commas(&both).into_bytes()),
        ("Set.csv", header.into_bytes()),
        ("Set_TRAIN.txt", spaces(&both).into_bytes()),
        ("Set_TEST.ts", ts.clone().into_bytes()),
        ("Set.ts.gz", ts.into_bytes()),
        ("all.tar.gz", packed.clone()),
        ("all.tar", packed),
    ] {
        write(folder.path(), name, &content);
        let settings = SeriesSettings {
            sets: vec!["Set".to_owned()],
            ..settings(name)
        };
        assert_eq!(items(&build(&settings, &folder)), expected, "{name}");
    }
    write(folder.path(), "Set.csv", last(&both, ',').as_bytes());
    let settings = SeriesSettings {
        label: LabelPlace::Last,
        ..settings("Set.csv")
    };
    assert_eq!(items(&build(&settings, &folder)), expected);
    write(folder.path(), "Set_TRAIN.tsv", TRAIN.as_bytes());
    write(folder.path(), "Set_TEST.tsv", TEST.as_bytes());
    let two = SeriesSettings {
        files: vec!["Set_TRAIN.tsv".to_owned(), "Set_TEST.tsv".to_owned()],
        label: LabelPlace::First,
        ..settings
    };
    assert_eq!(items(&build(&two, &folder)), expected);
}

/// Unequal lengths, missing values and several channels, by hand.
#[test]
fn steps_that_are_not_there_are_rows_of_zeros() {
    let folder = folder();
    let check = |settings: &SeriesSettings, content: &str, expected: &[&[f32]]| {
        write(folder.path(), &settings.files[0], content.as_bytes());
        let source = build(settings, &folder);
        let found: BTreeSet<String> = items(&source)
            .into_iter()
            .map(|item| item[4..].to_owned())
            .collect();
        let expected: BTreeSet<String> = expected.iter().map(|item| format!("{item:?}")).collect();
        assert_eq!(found, expected);
    };
    let tsv = settings("a.tsv");
    let content = "1\t1\tNaN\t4\tNaN\n1\t1\tNaN\t4\n2\t6\t8\tNaN\tNaN\n2\t6\t8\n";
    let filled = [1.0, 1.0, 2.5, 1.0, 4.0, 1.0];
    check(&tsv, content, &[&filled, &[6.0, 1.0, 8.0, 1.0, 0.0, 0.0]]);
    let masked = SeriesSettings {
        missing: MissingValues::Mask,
        ..tsv.clone()
    };
    let holes = [1.0, 1.0, 0.0, 0.0, 4.0, 1.0];
    check(&masked, content, &[&holes, &[6.0, 1.0, 8.0, 1.0, 0.0, 0.0]]);
    let cut = SeriesSettings {
        length: 2,
        ..tsv.clone()
    };
    check(
        &cut,
        content,
        &[&[1.0, 1.0, 2.5, 1.0], &[6.0, 1.0, 8.0, 1.0]],
    );
    let drawn = SeriesSettings {
        length: 5,
        fit: SeriesFit::Resample,
        ..tsv.clone()
    };
    let first = [1.0, 1.0, 1.75, 1.0, 2.5, 1.0, 3.25, 1.0, 4.0, 1.0];
    let second = [6.0, 1.0, 6.5, 1.0, 7.0, 1.0, 7.5, 1.0, 8.0, 1.0];
    check(&drawn, content, &[&first, &second]);
    // Mean 0 and deviation 1; a constant series is 0, and there.
    let normal = SeriesSettings {
        normalise: true,
        ..tsv
    };
    let content = "1\t1\t3\n1\t2\t4\n2\t5\t5\n2\t7\t7\n";
    check(
        &normal,
        content,
        &[&[-1.0, 1.0, 1.0, 1.0], &[0.0, 1.0, 0.0, 1.0]],
    );
    // Channels of a `.ts`; a step without a value in any of them is not there.
    let ts = SeriesSettings {
        missing: MissingValues::Mask,
        ..settings("a.ts")
    };
    let content = "@data\n1,?,3:4,?,?:x\n1,?,3:4,?,?:x\n7,8:9,6:y\n7,8:9,6:y\n";
    check(
        &ts,
        content,
        &[
            &[1.0, 4.0, 1.0, 0.0, 0.0, 0.0, 3.0, 0.0, 1.0],
            &[7.0, 9.0, 1.0, 8.0, 6.0, 1.0, 0.0, 0.0, 0.0],
        ],
    );
}

/// Three sets of three classes: tasks are of one set, or of all, and sets are split.
#[test]
fn tasks_are_of_one_set_or_of_many() {
    let folder = folder();
    let members = ["A", "B", "C"].map(|set| {
        let row = |number: usize| format!("{}\t{number}\t2\t1\n", number % 3);
        (
            format!("{set}/{set}.tsv"),
            (0..9).map(row).collect::<String>(),
        )
    });
    let members: Vec<(&str, &str)> = members
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    write(folder.path(), "all.tar.gz", &archive(&members));
    let one = SeriesSettings {
        validation_sets: vec!["C".to_owned()],
        ..settings("all.tar.gz")
    };
    let of = |settings: &SeriesSettings, split: Split, way: usize| -> BTreeSet<String> {
        let source = build(settings, &folder);
        let sets = (0..20).map(|index| {
            let episode = source.episode(Seed(1), split, EpisodeShape::new(way, 1, 2), index);
            let classes = episode.expect("a task").classes;
            let set = |class| source.class_name(class).expect("a name")[..1].to_owned();
            classes
                .into_iter()
                .map(set)
                .collect::<BTreeSet<String>>()
                .into_iter()
                .collect::<String>()
        });
        sets.collect()
    };
    let names = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    };
    assert_eq!(of(&one, Split::Train, 3), names(&["A", "B"]));
    assert_eq!(of(&one, Split::Validation, 2), names(&["C"]));
    let across = SeriesSettings {
        across: true,
        ..one.clone()
    };
    assert!(of(&across, Split::Train, 2).contains("AB"));
    let source = build(&one, &folder);
    let message = source
        .check(Split::Train, EpisodeShape::new(4, 1, 1))
        .expect_err("refused")
        .to_string();
    assert!(
        message.contains("must be at most 3, the train classes of `B`"),
        "{message}"
    );
    assert_eq!(
        source
            .check(Split::Train, EpisodeShape::new(3, 1, 2))
            .map_err(|e| e.to_string()),
        Ok(())
    );
    for (settings, expected) in [
        (
            SeriesSettings {
                test_sets: vec!["C".to_owned()],
                ..one.clone()
            },
            "among `data.test_sets`",
        ),
        (
            SeriesSettings {
                test_sets: vec!["D".to_owned()],
                ..one.clone()
            },
            "unknown set `D`",
        ),
        (
            SeriesSettings {
                sets: vec!["D".to_owned()],
                ..settings("all.tar.gz")
            },
            "holds no series of the sets",
        ),
        (
            SeriesSettings {
                length: 1,
                ..one.clone()
            },
            "data.length",
        ),
        (
            SeriesSettings {
                files: Vec::new(),
                ..one
            },
            "data.files",
        ),
    ] {
        let message = fault(&settings, &folder);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn bad_series_are_named_by_line() {
    let folder = folder();
    let fault_of = |name: &str, content: &[u8]| {
        write(folder.path(), name, content);
        fault(&settings(name), &folder)
    };
    for (name, content, expected) in [
        (
            "a.tsv",
            "1\t1\t2\n1\t3\n",
            "a.tsv: line 2 has a series of 1 points",
        ),
        (
            "a.tsv",
            "1\t1\t2\n1\t3\tNaN\n",
            "a.tsv: line 2 has a series of 1 points",
        ),
        (
            "a.tsv",
            "1\t1\t2\n1\tNaN\tNaN\n",
            "a.tsv: line 2 has a series of 0 points",
        ),
        (
            "a.tsv",
            "1\t1\t2\n1\t3\tx\n",
            "a.tsv: line 2 has `x` for a number",
        ),
        (
            "a.tsv",
            "1\t1\t2\n1\t3\tinf\n",
            "a.tsv: line 2 has `inf` for a number",
        ),
        (
            "a.tsv",
            "1\t1\t2\n\t3\t4\n",
            "a.tsv: line 2 has an empty label",
        ),
        (
            "a.tsv",
            "1\t1\t2\n1\n",
            "a.tsv: line 2 has no label and values",
        ),
        ("a.tsv", "\n", "a.tsv: holds no series"),
        (
            "a.csv",
            "1,1,2\nx,y,z\n",
            "a.csv: line 2 has `y` for a number",
        ),
        (
            "a.ts",
            "@timestamps true\n",
            "a.ts: line 1 says that values have time stamps",
        ),
        ("a.ts", "@data\n1,2\n", "a.ts: line 2 has no label"),
        (
            "a.ts",
            "@data\n1,2:3:x\n",
            "a.ts: line 2 has channels of 2 and of 1 points",
        ),
        (
            "a.ts",
            "@data\n1,2:3,4:x\n1,2:x\n",
            "a.ts: line 3 has 1 channels, and those before have 2",
        ),
        ("a.xyz", "1", "a.xyz: has an ending that is not known"),
        ("a.tar", "1", "a.tar: is cut short"),
    ] {
        let message = fault_of(name, content.as_bytes());
        assert!(message.contains(expected), "{message}");
    }
    let message = fault_of("a.tar", &archive(&[("A/A.tsv", "1\t1\t2\n2\t1\n")]));
    assert!(
        message.contains("a.tar: `A/A.tsv`, line 2 has a series of 1 points"),
        "{message}"
    );
    let mut damaged = archive(&[("A/A.tsv", "1\t1\t2\n")]);
    damaged[3] = b'x';
    assert!(fault_of("a.tar", &damaged).contains("a header has another checksum"));
    let cut = &archive(&[("A/A.tsv", "1\t1\t2\n")])[..600];
    let message = fault_of("a.tar", cut);
    assert!(
        message.contains("a.tar: is cut short in `A/A.tsv`"),
        "{message}"
    );
}

/// 21 sets of the UCR archive as they are packed.
#[test]
fn real_series_are_read() {
    let Some(data) = data_dir().filter(|data| data.join("timeseries").exists()) else {
        eprintln!("skipped: no series");
        return;
    };
    let settings = SeriesSettings {
        files: vec!["timeseries/ucr_tsv.tar.gz".to_owned()],
        validation_sets: vec!["Plane".to_owned()],
        test_sets: vec!["ECG200".to_owned(), "CricketX".to_owned()],
        ..SeriesSettings::default()
    };
    let source = settings
        .build(Some(&data))
        .unwrap_or_else(|error| panic!("{error}"));
    let described = source.describe();
    assert_eq!(
        described["train"]["classes_of_sets"]
            .as_object()
            .map(|sets| sets.len()),
        Some(18)
    );
    assert_eq!(described["test"]["classes_of_sets"]["ECG200"], 2);
    assert_eq!(described["validation"]["classes_of_sets"]["Plane"], 7);
    assert_eq!(described["series"], 12_931);
    let shape = source.item_shape();
    assert_eq!((shape.height, shape.channels), (350, 2));
    let episode = source
        .episode(Seed(1), Split::Test, EpisodeShape::new(2, 5, 15), 3)
        .expect("a task");
    // Mean 0 and variance 1 over the steps that are there, to rounding in single precision.
    for item in episode.support.inputs.chunks_exact(shape.features()) {
        let there: Vec<f32> = item
            .chunks_exact(2)
            .filter(|row| row[1] == 1.0)
            .map(|row| row[0])
            .collect();
        let count = there.len() as f32;
        let mean = there.iter().sum::<f32>() / count;
        let variance = there.iter().map(|x| x * x).sum::<f32>() / count;
        assert!(
            mean.abs() < 1e-4 && (variance - 1.0).abs() < 1e-3,
            "{mean} {variance}"
        );
    }
}
