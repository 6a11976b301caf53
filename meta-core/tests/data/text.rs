//! Texts with labels as a source: every layout and every file of vectors gives the same tasks, and bad input is
//! named by file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;

use meta_core::data::{
    Episode, EpisodeShape, Source, Split, TextSettings, TextSource, Tokens, UnknownWords,
    Vocabulary,
};
use meta_core::rng::Seed;
use tempfile::TempDir;

use crate::samples::data_dir;

/// Texts of four classes, one of them of validation and one of test.
const TEXTS: [(&str, &str); 9] = [
    ("red", "one two"),
    ("red", "two , one one"),
    ("red", "three"),
    ("blue", "four five"),
    ("blue", "five"),
    ("green", "six one"),
    ("green", "two six"),
    ("gray", "seven \" one"),
    ("gray", "seven seven"),
];
const WORDS: [&str; 9] = [
    "one", "two", "three", "four", "five", "six", "seven", ",", "\"",
];

/// The vector of a word names it.
fn vector(number: usize) -> [f32; 3] {
    [number as f32 + 1.0, 0.5, -(number as f32)]
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let lists = [
        ("train", "red\nblue\n"),
        ("val", "green\n"),
        ("test", "gray\n"),
    ];
    for (name, classes) in lists {
        write(folder.path(), name, classes.as_bytes());
    }
    write(folder.path(), "glove.txt", glove().as_bytes());
    folder
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let bytes = if name.ends_with(".gz") {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).expect("in memory");
        packed.finish().expect("in memory")
    } else {
        bytes.to_vec()
    };
    std::fs::write(folder.join(name), bytes).expect("written");
}

fn glove() -> String {
    let line = |(number, word): (usize, &&str)| {
        let [a, b, c] = vector(number);
        format!("{word} {a} {b} {c}\n")
    };
    WORDS.iter().enumerate().map(line).collect()
}

fn settings(file: &str) -> TextSettings {
    TextSettings {
        files: vec![file.to_owned()],
        vectors: "glove.txt".to_owned(),
        length: 4,
        tokens: Tokens::Spaces,
        train_classes: "train".to_owned(),
        validation_classes: "val".to_owned(),
        test_classes: "test".to_owned(),
        ..TextSettings::default()
    }
}

fn build(settings: &TextSettings, folder: &TempDir) -> TextSource {
    let built = settings.build(Some(folder.path()));
    built.unwrap_or_else(|error| panic!("{error}"))
}

fn fault(settings: &TextSettings, folder: &TempDir) -> String {
    settings
        .build(Some(folder.path()))
        .expect_err("refused")
        .to_string()
}

/// The texts of a split as words, by class, from the numbers of many episodes.
fn texts(source: &TextSource, split: Split) -> BTreeMap<String, BTreeSet<String>> {
    let way = source.classes(split).expect("classes");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for index in 0..40 {
        // One class is too few for a task: another split's shape is asked of the numbers alone.
        let shape = EpisodeShape::new(way, 1, 1);
        let episode = source
            .episode(Seed(1), split, shape, index)
            .expect("a task");
        for (label, class) in episode.classes.iter().enumerate() {
            let name = source.class_name(*class).expect("a name");
            let own = found.entry(name).or_default();
            own.insert(words(&episode, label));
        }
    }
    found
}

/// The words of the support item of a class.
fn words(episode: &Episode, label: usize) -> String {
    let item = &episode.support.inputs[label * 12..(label + 1) * 12];
    let words = item
        .chunks_exact(3)
        .take_while(|row| row.iter().any(|&number| number != 0.0));
    let words = words.map(|row| {
        let known = (0..WORDS.len()).find(|&number| row == vector(number));
        known.map_or("?", |number| WORDS[number])
    });
    words.collect::<Vec<_>>().join(" ")
}

fn expected() -> BTreeMap<String, BTreeSet<String>> {
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (class, text) in TEXTS {
        if ["red", "blue"].contains(&class) {
            expected
                .entry(class.to_owned())
                .or_default()
                .insert(text.to_owned());
        }
    }
    expected
}

fn json_tokens(text: &str) -> String {
    let tokens: Vec<&str> = text.split(' ').collect();
    serde_json::to_string(&tokens).expect("text")
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("text")
}

/// Every layout, packed and not: the same training texts, and the same episodes.
#[test]
fn layouts_read_alike() {
    let folder = folder();
    let lines = |line: &dyn Fn(&str, &str) -> String| -> String {
        TEXTS
            .iter()
            .map(|(class, text)| line(class, text))
            .collect()
    };
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let csv = lines(&|class, text| format!("{class},{}\n", quoted(text)));
    let tsv = lines(&|class, text| format!("{class}\t{text}\tmore\n"));
    let jsonl = lines(&|class, text| {
        format!(
            "{{\"label\": {}, \"text\": {}}}\n",
            json(class),
            json_tokens(text)
        )
    });
    let of = |class: &str, entry: &dyn Fn(&str) -> String| -> String {
        let own = TEXTS.iter().filter(|(own, _)| *own == class);
        own.map(|(_, text)| entry(text))
            .collect::<Vec<_>>()
            .join(",")
    };
    let classes = ["red", "blue", "green", "gray"];
    let fewrel = classes.map(|class| {
        let entry = |text: &str| {
            format!(
                "{{\"tokens\": {}, \"h\": [\"x\", \"Q\", [[0]]]}}",
                json_tokens(text)
            )
        };
        format!("{}: [{}]", json(class), of(class, &entry))
    });
    let by_label = classes.map(|class| format!("{}: [{}]", json(class), of(class, &json)));
    let clinc =
        classes.map(|class| of(class, &|text| format!("[{}, {}]", json(text), json(class))));
    let clinc = format!(
        "{{\"train\": [{}], \"val\": [{}], \"oos_test\": [[\"one four\", \"oos\"]]}}",
        clinc[..2].join(","),
        clinc[2..].join(",")
    );
    let list = lines(&|class, text| {
        format!(
            ",{{\"intent\": {}, \"sentence\": {}}}",
            json(class),
            json(text)
        )
    });
    let header = format!("category,text\n{csv}");
    write(
        folder.path(),
        "label",
        lines(&|class, _| format!("{class}\n")).as_bytes(),
    );
    let mut hashes = BTreeSet::new();
    for (name, content) in [
        ("a.csv", header.clone()),
        ("b.csv.gz", format!("\u{feff}{header}")),
        ("c.tsv", format!("category\ttext\tother\n{tsv}")),
        ("numbered.tsv.gz", tsv.clone()),
        ("d.jsonl", jsonl.clone()),
        ("e.jsonl.gz", format!("{jsonl}\n")),
        ("f.json", format!("{{{}}}", fewrel.join(","))),
        ("g.json.gz", format!("{{{}}}", by_label.join(","))),
        ("h.json", clinc),
        ("i.json", format!("[{}]", &list[1..])),
        ("seq.in", lines(&|_, text| format!("{text}\n"))),
    ] {
        write(folder.path(), name, content.as_bytes());
        let mut settings = settings(name);
        if name.starts_with("numbered") {
            settings.label = "0".to_owned();
            settings.text = "1".to_owned();
        }
        let source = build(&settings, &folder);
        assert_eq!(texts(&source, Split::Train), expected(), "{name}");
        let names: Vec<&str> = source.class_names(Split::Test).collect();
        assert_eq!(names, ["gray"], "{name}");
        let episode = source.episode(Seed(2), Split::Train, EpisodeShape::new(2, 1, 1), 7);
        hashes.insert(format!("{:?}", episode.expect("a task").support));
        let outsiders = source
            .outsiders(Seed(1), Split::Test, 0, 1)
            .expect("in memory");
        assert_eq!(outsiders.is_some(), name == "h.json");
    }
    assert_eq!(hashes.len(), 1, "{hashes:?}");
}

/// Vectors in every layout are the same.
#[test]
fn files_of_vectors_read_alike() {
    let folder = folder();
    let table: String = TEXTS
        .iter()
        .map(|(class, text)| format!("{class}\t{text}\n"))
        .collect();
    write(folder.path(), "texts.tsv", table.as_bytes());
    let numbers: Vec<f32> = (0..WORDS.len()).flat_map(vector).collect();
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let fasttext = format!("{} 3\n{}", WORDS.len(), glove());
    let mut word2vec = format!("{} 3\n", WORDS.len()).into_bytes();
    for (word, vector) in WORDS.iter().zip(bytes.chunks_exact(12)) {
        word2vec.extend(format!("{word} ").bytes());
        word2vec.extend(vector);
        word2vec.push(b'\n');
    }
    let shape = format!("'shape': ({}, 3), }}", WORDS.len());
    let header = format!("{{'descr': '<f4', 'fortran_order': False, {shape}");
    let header = format!("{header:<117}\n");
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.bytes());
    npy.extend(&bytes);
    let tensors = format!(
        "{{\"vectors\":{{\"dtype\":\"F32\",\"shape\":[{},3],\"data_offsets\":[0,{}]}}}}",
        WORDS.len(),
        bytes.len()
    );
    let mut safetensors = (tensors.len() as u64).to_le_bytes().to_vec();
    safetensors.extend(tensors.bytes());
    safetensors.extend(&bytes);
    write(folder.path(), "words.txt", WORDS.join("\n").as_bytes());
    // Folders of model2vec, with the words of a WordPiece and of a Unigram tokenizer.
    let numbered = |(number, word): (usize, &&str)| (word.to_string(), number.into());
    let pieces: serde_json::Map<String, serde_json::Value> =
        WORDS.iter().enumerate().map(numbered).collect();
    let scored: Vec<_> = WORDS
        .map(|word| serde_json::json!([format!("\u{2581}{word}"), -1.0]))
        .into();
    for (name, words) in [
        ("pieces", pieces.into()),
        ("scored", serde_json::Value::from(scored)),
    ] {
        std::fs::create_dir(folder.path().join(name)).expect("made");
        let tokenizer = serde_json::json!({"model": {"vocab": words}}).to_string();
        write(
            folder.path(),
            &format!("{name}/tokenizer.json"),
            tokenizer.as_bytes(),
        );
        write(
            folder.path(),
            &format!("{name}/model.safetensors"),
            &safetensors,
        );
    }
    let mut hashes = BTreeSet::new();
    for (name, content) in [
        ("a.txt", glove().into_bytes()),
        ("b.vec.gz", fasttext.into_bytes()),
        ("c.bin", word2vec.clone()),
        ("d.bin.gz", word2vec),
        ("e.npy", npy),
        ("f.safetensors", safetensors),
    ] {
        write(folder.path(), name, &content);
        let settings = TextSettings {
            text: "1".to_owned(),
            label: "0".to_owned(),
            vectors: name.to_owned(),
            vector_words: "words.txt".to_owned(),
            ..settings("texts.tsv")
        };
        let source = build(&settings, &folder);
        assert_eq!(texts(&source, Split::Train), expected(), "{name}");
        hashes.insert(source.content_hash());
    }
    for name in ["pieces", "scored"] {
        let settings = TextSettings {
            text: "1".to_owned(),
            label: "0".to_owned(),
            vectors: name.to_owned(),
            ..settings("texts.tsv")
        };
        hashes.insert(build(&settings, &folder).content_hash());
    }
    assert_eq!(hashes.len(), 1);
}

fn table(folder: &TempDir) -> TextSettings {
    let table: String = TEXTS
        .iter()
        .map(|(class, text)| format!("{class}\t{text}\n"))
        .collect();
    write(folder.path(), "texts.tsv", table.as_bytes());
    TextSettings {
        text: "1".to_owned(),
        label: "0".to_owned(),
        ..settings("texts.tsv")
    }
}

/// `0.001 / (0.001 + p)` of training words beside each vector, and nothing else changes; items have their words.
#[test]
fn words_have_statistics_of_training_texts() {
    let folder = folder();
    let settings = TextSettings {
        word_statistics: true,
        ..table(&folder)
    };
    let (source, plain) = (build(&settings, &folder), build(&table(&folder), &folder));
    assert_eq!(
        source.item_shape().channels,
        plain.item_shape().channels + 1
    );
    let words = TEXTS[..5].iter().flat_map(|(_, text)| text.split(' '));
    let words: Vec<&str> = words.collect();
    let width = source.item_shape().channels;
    for index in 0..5 {
        let shape = EpisodeShape::new(2, 1, 1);
        let episode = source.episode(Seed(2), Split::Train, shape, index);
        let inputs = episode.expect("a task").support.inputs;
        for item in inputs.chunks_exact(source.item_shape().features()) {
            let named = source.item_words(item).expect("a text");
            assert!(!named.is_empty());
            for (row, word) in item.chunks_exact(width).zip(named) {
                let count = words.iter().filter(|own| **own == word).count();
                let share = count as f64 / words.len() as f64;
                let expected = (1e-3 / (1e-3 + share)) as f32;
                assert!((row[width - 1] - expected).abs() < 1e-6, "{word}");
            }
        }
    }
}

/// An unknown word is left out, or has the mean of the known words of training classes; frequencies are theirs.
#[test]
fn unknown_words_and_frequencies_follow_from_training_classes() {
    let folder = folder();
    let settings = TextSettings {
        vocabulary: Vocabulary::Training,
        ..table(&folder)
    };
    // `six` is of no training class.
    let shape = EpisodeShape::new(2, 1, 1);
    let both = TextSettings {
        train_classes: "train".to_owned(),
        validation_classes: "val2".to_owned(),
        test_classes: String::new(),
        ..settings.clone()
    };
    write(folder.path(), "val2", b"green\ngray\n");
    let rows = |settings: &TextSettings| -> BTreeSet<String> {
        let source = build(settings, &folder);
        let episodes =
            (0..60).map(|index| source.episode(Seed(1), Split::Validation, shape, index));
        episodes
            .map(|episode| words(&episode.expect("a task"), 0))
            .collect()
    };
    // `seven seven` has no known word, and the mean vector; a quotation mark is of no training class either.
    let set = |texts: &[&str]| -> BTreeSet<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    };
    assert_eq!(rows(&both), set(&["one", "two", "?"]));
    let mean = TextSettings {
        unknown: UnknownWords::Mean,
        ..both.clone()
    };
    assert_eq!(rows(&mean), set(&["? one", "two ?", "? ? one", "? ?"]));
    // By hand: one, two, three, four, five and the comma, each once.
    let source = build(&mean, &folder);
    let known = [0, 1, 2, 3, 4, 7].map(vector);
    let by_hand: Vec<f32> = (0..3)
        .map(|i| known.iter().map(|own| own[i]).sum::<f32>() / 6.0)
        .collect();
    let episodes = (0..20).map(|index| source.episode(Seed(1), Split::Validation, shape, index));
    let inputs = episodes.flat_map(|episode| episode.expect("a task").support.inputs);
    let inputs: Vec<f32> = inputs.collect();
    let is_mean = |row: &[f32]| row.iter().zip(&by_hand).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(inputs.chunks_exact(3).any(is_mean));
    // `one` is three of the ten words of training texts: a / (a + 0.3).
    let weighted = TextSettings {
        frequency_weight: 0.1,
        ..both
    };
    let source = build(&weighted, &folder);
    let episode = source
        .episode(Seed(1), Split::Train, shape, 0)
        .expect("a task");
    let weight = 0.1f32 / (0.1 + 0.3);
    let [a, b, c] = vector(0);
    let scaled = [a * weight, b * weight, c * weight];
    let near = |row: &[f32]| row.iter().zip(scaled).all(|(a, b)| (a - b).abs() < 1e-6);
    let many = (0..20).map(|index| source.episode(Seed(1), Split::Train, shape, index));
    let inputs: Vec<f32> = many
        .flat_map(|episode| episode.expect("a task").support.inputs)
        .collect();
    assert!(inputs.chunks_exact(3).any(near));
    assert_eq!(episode.class_vectors, None);
}

/// By hand: the distance of each token from two entities in units of the length, and whether it is one's.
#[test]
fn entities_have_positions() {
    let folder = folder();
    let lines = "red\tone two three\tone\t0\tthree\t2\nred\tfive four\tfive\t0 1\tfour\t1\n";
    let others = "blue\tone two\tx\t1\ty\t0\nblue\tone two\tx\t1\ty\t0\n";
    write(
        folder.path(),
        "rel.tsv",
        format!("{lines}{others}").as_bytes(),
    );
    write(folder.path(), "train", b"red\nblue\n");
    write(folder.path(), "none", b"");
    let settings = TextSettings {
        text: "1".to_owned(),
        label: "0".to_owned(),
        entities: vec!["3".to_owned(), "5".to_owned()],
        validation_classes: "none".to_owned(),
        test_classes: "none".to_owned(),
        ..settings("rel.tsv")
    };
    let source = build(&settings, &folder);
    assert_eq!(source.item_shape().channels, 7);
    let mut found = BTreeSet::new();
    for index in 0..20 {
        let episode = source.episode(Seed(1), Split::Train, EpisodeShape::new(2, 1, 1), index);
        let inputs = episode.expect("a task").support.inputs;
        for item in inputs.chunks_exact(4 * 7) {
            let rows: Vec<&[f32]> = item.chunks_exact(7).map(|row| &row[3..]).collect();
            found.insert(format!("{rows:?}"));
        }
    }
    let first = "[[1.0, 0.0, 0.0, -0.5], [0.0, 0.0, 0.25, -0.25], [0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]]";
    let second = "[[1.0, 0.0, 0.0, -0.25], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]";
    assert!(found.contains(first) && found.contains(second), "{found:?}");
    let beyond = TextSettings {
        entities: vec!["3".to_owned(), "0".to_owned()],
        ..settings
    };
    let message = fault(&beyond, &folder);
    assert!(
        message.contains("rel.tsv: line 1 has `red` for the positions"),
        "{message}"
    );
}

/// The vectors of the words of a class's name come with a task.
#[test]
fn names_have_vectors() {
    let folder = folder();
    let settings = table(&folder);
    let renamed = "one_two\tone\none_two\ttwo\nThree\tone\nThree\ttwo\n";
    write(folder.path(), "texts.tsv", renamed.as_bytes());
    write(folder.path(), "train", b"one_two\nThree\n");
    write(folder.path(), "none", b"");
    let settings = TextSettings {
        name_vectors: true,
        validation_classes: "none".to_owned(),
        test_classes: "none".to_owned(),
        ..settings
    };
    let source = build(&settings, &folder);
    assert_eq!(source.extras().class_vector, 3);
    let episode = source
        .episode(Seed(1), Split::Train, EpisodeShape::new(2, 1, 1), 0)
        .expect("a task");
    let vectors = episode.class_vectors.expect("vectors");
    for (class, found) in episode.classes.iter().zip(vectors.chunks_exact(3)) {
        let expected = match source.class_name(*class).expect("a name").as_str() {
            "Three" => vector(2),
            _ => {
                let (a, b) = (vector(0), vector(1));
                [0, 1, 2].map(|i| (a[i] + b[i]) / 2.0)
            }
        };
        assert_eq!(found, expected);
    }
}

#[test]
fn bad_vectors_are_named_by_line() {
    let folder = folder();
    for (content, expected) in [
        (
            "one 1 2 3\ntwo 1 2\n",
            "bad.txt: line 2 has 2 numbers, and vectors have 3",
        ),
        (
            "one 1 2 3\ntwo 1 2 3 4\n",
            "bad.txt: line 2 has 4 numbers, and vectors have 3",
        ),
        (
            "one 1 2 3\ntwo 1 NaN 3\n",
            "bad.txt: line 2 has `NaN` for a number",
        ),
        (
            "one 1 2 3\ntwo 1 inf 3\n",
            "bad.txt: line 2 has `inf` for a number",
        ),
        (
            "one 1 2 3\ntwo 1 x 3\n",
            "bad.txt: line 2 has `x` for a number",
        ),
        (
            "2 4\none 1 2 3\n",
            "bad.txt: line 2 has 3 numbers, and vectors have 4",
        ),
        ("", "bad.txt: holds no word vectors"),
        (
            "absent 1 2 3\n",
            "bad.txt: has no word of the texts of training classes",
        ),
        ("one\n", "bad.txt: line 1 has vectors of 0 numbers"),
    ] {
        write(folder.path(), "bad.txt", content.as_bytes());
        let settings = TextSettings {
            vectors: "bad.txt".to_owned(),
            ..table(&folder)
        };
        let message = fault(&settings, &folder);
        assert!(message.contains(expected), "{message}");
    }
    for (content, expected) in [
        (&b"word"[..], "begins with `word`"),
        (
            b"2 1\none \x00\x00\x80\x3ftwo \x00\x00",
            "word 2 of 2 is cut short",
        ),
        (
            b"1 1\none \x00\x00\xc0\x7f",
            "word 1 (`one`) has NaN for a number",
        ),
        (b"9999999999 4096\none", "word 1 of 9999999999 is cut short"),
        (b"1 9999999999\none ", "has vectors of 9999999999 numbers"),
    ] {
        write(folder.path(), "bad.bin", content);
        let settings = TextSettings {
            vectors: "bad.bin".to_owned(),
            ..table(&folder)
        };
        let message = fault(&settings, &folder);
        assert!(
            message.contains("bad.bin: ") && message.contains(expected),
            "{message}"
        );
    }
}

#[test]
fn bad_texts_are_named_by_line() {
    let folder = folder();
    let name = |content: &str, ending: &str| {
        let file = format!("bad.{ending}");
        write(folder.path(), &file, content.as_bytes());
        let message = fault(&settings(&file), &folder);
        assert!(message.contains(&format!("bad.{ending}: ")), "{message}");
        message
    };
    for (content, ending, expected) in [
        (
            "label,text\nred,one\nred, \n",
            "csv",
            "line 3 has a text of 0 tokens",
        ),
        (
            "label,text\nred,one\n,one\n",
            "csv",
            "line 3 has an empty label",
        ),
        (
            "label,text\nred,one\nred\n",
            "csv",
            "line 3 has 1 cells, and 2 are expected",
        ),
        (
            "name,text\nred,one\n",
            "csv",
            "has the columns `name`, `text`, and none of `label`",
        ),
        ("", "csv", "is empty"),
        ("label,text\n", "csv", "holds no labelled texts"),
        (
            "{\"label\": 1, \"text\": [\"one\"]}\n{\"label\": 1}\n",
            "jsonl",
            "line 2 has no text",
        ),
        (
            "{\"label\": 1, \"text\": []}\n",
            "jsonl",
            "line 1 has a text of 0 tokens",
        ),
        (
            "{\"label\": 1, \"text\": \"one\"}\n{",
            "jsonl",
            "line 2 is no JSON",
        ),
        ("{\"text\": \"one\"}\n", "jsonl", "line 1 has no label"),
        (
            "{\"red\": [\"one\", 3]}",
            "json",
            "`red`, entry 2 is no text",
        ),
        ("{\"red\": 3}", "json", "holds under `red` no list"),
        (
            "{\"red\": [\"one\"], \"val\": [], \"blue\": []}",
            "json",
            "holds no texts under `blue`",
        ),
        (
            "{\"train\": [[\"one\", \"red\"], [\"\", \"red\"]]}",
            "json",
            "`train`, entry 2 has a text of 0 tokens",
        ),
        ("[1", "json", "is no JSON"),
        ("red", "xyz", "has an ending that is not known"),
    ] {
        let message = name(content, ending);
        assert!(message.contains(expected), "{message}");
    }
    write(folder.path(), "seq.in", b"one\ntwo\n");
    write(folder.path(), "label", b"red\n");
    let message = fault(&settings("seq.in"), &folder);
    assert!(message.contains("seq.in: line 2 has no label"), "{message}");
    write(folder.path(), "label", b"red\nred\nred\n");
    let message = fault(&settings("seq.in"), &folder);
    assert!(message.contains("label: line 3 has no text"), "{message}");
}

#[test]
fn bad_classes_are_named_by_line() {
    let folder = folder();
    let settings = table(&folder);
    write(folder.path(), "val", b"green\nred\n");
    let message = fault(&settings, &folder);
    assert!(
        message.contains("val: line 2: class `red` is listed for validation but already for train"),
        "{message}"
    );
    write(folder.path(), "val", b"\npurple\n");
    let message = fault(&settings, &folder);
    assert!(
        message.contains("val: line 2: unknown class `purple`"),
        "{message}"
    );
    write(folder.path(), "other.tsv", b"green\tone\nred\tone\n");
    let by_files = TextSettings {
        train_classes: String::new(),
        validation_classes: String::new(),
        test_classes: String::new(),
        validation_files: vec!["other.tsv".to_owned()],
        ..settings.clone()
    };
    let message = fault(&by_files, &folder);
    assert!(
        message.contains("other.tsv: line 1 has class `green`, which is in the files of train"),
        "{message}"
    );
    let none = TextSettings {
        files: Vec::new(),
        ..settings.clone()
    };
    assert!(fault(&none, &folder).contains("data.files"));
    let few = TextSettings {
        least_texts: 3,
        validation_classes: String::new(),
        ..settings
    };
    let source = build(&few, &folder);
    assert_eq!(source.classes(Split::Train), Some(1));
}

/// CLINC150 and FewRel as their authors lay them out, with GloVe.
#[test]
fn real_texts_are_read() {
    let Some(data) = data_dir().filter(|data| data.join("text").exists()) else {
        eprintln!("skipped: no texts");
        return;
    };
    let of = |file: &str, length: usize| TextSettings {
        files: vec![file.to_owned()],
        vectors: "vectors/glove_100d_40k.txt.gz".to_owned(),
        length,
        ..TextSettings::default()
    };
    let read = |settings: TextSettings| -> TextSource {
        settings
            .build(Some(&data))
            .unwrap_or_else(|error| panic!("{error}"))
    };
    let clinc = read(of("text/clinc150/data_full.json.gz", 20));
    let described = clinc.describe();
    assert_eq!(described["texts"], 23_700);
    assert_eq!(described["texts_of_no_class"], 1_200);
    assert_eq!(described["words_with_vectors"], 40_000);
    let classes = |source: &TextSource| -> usize {
        Split::ALL
            .iter()
            .filter_map(|&split| source.classes(split))
            .sum()
    };
    assert_eq!(classes(&clinc), 150);
    assert_eq!(clinc.items_per_class(), Some(150));
    let outsiders = clinc
        .outsiders(Seed(1), Split::Test, 0, 5)
        .expect("in memory");
    assert!(outsiders.is_some());
    let fewrel = read(TextSettings {
        label: "0".to_owned(),
        text: "1".to_owned(),
        entities: vec!["3".to_owned(), "5".to_owned()],
        tokens: Tokens::Spaces,
        unknown: UnknownWords::Mean,
        ..of("text/fewrel/fewrel80_merged.tsv.gz", 40)
    });
    assert_eq!(fewrel.describe()["texts"], 14_483);
    assert_eq!(fewrel.describe()["shortened_texts"], 0);
    assert_eq!(
        (classes(&fewrel), fewrel.items_per_class()),
        (80, Some(137))
    );
    let banking = read(TextSettings {
        files: ["train", "test"]
            .map(|part| format!("text/banking77/{part}.csv.gz"))
            .to_vec(),
        ..of("", 40)
    });
    assert_eq!(banking.describe()["texts"], 13_083);
    assert_eq!(classes(&banking), 77);
    for (source, lowest) in [(&clinc, 0.5), (&fewrel, 0.4)] {
        let (accuracy, described) = (floor(source), source.describe());
        println!("{accuracy} {described}");
        assert!(accuracy > lowest, "{accuracy}");
    }
}

/// Accuracy of the nearest mean of word vectors, 5-way 1-shot, of 200 test tasks.
fn floor(source: &TextSource) -> f64 {
    let width = source.item_shape().channels;
    let mean = |item: &[f32]| -> Vec<f32> {
        let rows: Vec<&[f32]> = item
            .chunks_exact(width)
            .filter(|row| row.iter().any(|&number| number != 0.0))
            .collect();
        (0..width)
            .map(|i| rows.iter().map(|row| row[i]).sum::<f32>() / rows.len() as f32)
            .collect()
    };
    let (mut hits, mut count) = (0, 0);
    for index in 0..200 {
        let shape = EpisodeShape::new(5, 1, 5);
        let episode = source
            .episode(Seed(1), Split::Test, shape, index)
            .expect("a task");
        let features = source.item_shape().features();
        let support: Vec<Vec<f32>> = episode
            .support
            .inputs
            .chunks_exact(features)
            .map(mean)
            .collect();
        for (query, item) in episode.query.inputs.chunks_exact(features).enumerate() {
            let item = mean(item);
            let cosine = |other: &Vec<f32>| -> f32 {
                let product: f32 = other.iter().zip(&item).map(|(a, b)| a * b).sum();
                product / other.iter().map(|a| a * a).sum::<f32>().sqrt()
            };
            let best = (0..5).max_by(|&a, &b| cosine(&support[a]).total_cmp(&cosine(&support[b])));
            hits += usize::from(best == Some(query / 5));
            count += 1;
        }
    }
    hits as f64 / f64::from(count)
}
