//! Texts that a `tokenizer.json` cuts into subwords, with the vectors of a model2vec folder.

use std::fs;
use std::path::Path;

use meta_core::data::TextSettings;

const TOKENIZER: &str = r###"{
  "version": "1.0",
  "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
  "padding": null,
  "added_tokens": [],
  "normalizer": {
    "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true
  },
  "pre_tokenizer": {"type": "BertPreTokenizer"},
  "post_processor": null,
  "decoder": null,
  "model": {
    "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
    "vocab": {"[UNK]": 0, "un": 1, "##aff": 2, "##able": 3, "play": 4, "##ing": 5}
  }
}"###;

/// Two classes of two equal texts each; the vectors of the words are `[1, number]`.
fn write(folder: &Path) {
    let texts = "text,label\n\
        Unaffable PLAYING,un_play\nunaffable playing,un_play\nzzz play,play\nplay zzz,play\n";
    fs::write(folder.join("texts.csv"), texts).expect("written");
    fs::write(folder.join("tokenizer.json"), TOKENIZER).expect("written");
    let header = r#"{"embeddings":{"dtype":"F32","shape":[6,2],"data_offsets":[0,48]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    let numbers = (0..6).flat_map(|number| [1.0f32, number as f32]);
    bytes.extend(numbers.flat_map(f32::to_le_bytes));
    fs::write(folder.join("model.safetensors"), bytes).expect("written");
}

fn settings(folder: &Path) -> TextSettings {
    TextSettings {
        files: vec!["texts.csv".to_owned()],
        tokenizer: folder.to_string_lossy().into_owned(),
        vectors: folder.to_string_lossy().into_owned(),
        length: 8,
        name_vectors: true,
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..TextSettings::default()
    }
}

#[test]
#[cfg(not(feature = "tokenizers"))]
fn the_missing_feature_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path());
    let built = settings(folder.path()).build(Some(folder.path()));
    let message = built.expect_err("not compiled in").to_string();
    for part in ["data.tokenizer", "tokenizer.json", "--features tokenizers"] {
        assert!(message.contains(part), "{message}");
    }
}

#[cfg(feature = "tokenizers")]
mod built_in {
    use meta_core::data::{EpisodeShape, Source, Split};
    use meta_core::rng::Seed;

    use super::*;

    /// Cut whole, without unknown words and without the truncation of the file; names of classes are cut too.
    #[test]
    fn texts_are_cut_into_subwords() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path());
        let settings = settings(folder.path());
        let source = settings.build(Some(folder.path())).expect("texts");
        let episode = source
            .episode(Seed(1), Split::Train, EpisodeShape::new(2, 1, 1), 0)
            .expect("two classes");
        let vectors = episode.class_vectors.as_ref().expect("wanted");
        for (label, class) in episode.classes.iter().enumerate() {
            let name = source.class_name(*class).expect("a name");
            let item = &episode.support.inputs[label * 16..(label + 1) * 16];
            let (words, numbers, of_name): (&[&str], &[f32], f32) = match name.as_str() {
                "un_play" => (
                    &["un", "##aff", "##able", "play", "##ing"],
                    &[1.0, 2.0, 3.0, 4.0, 5.0],
                    2.5,
                ),
                _ => (&["play"], &[4.0], 4.0),
            };
            let mut expected: Vec<f32> = numbers.iter().flat_map(|&number| [1.0, number]).collect();
            expected.resize(16, 0.0);
            assert_eq!(item, expected, "{name}");
            assert_eq!(source.item_words(item).expect("texts"), words);
            assert_eq!(vectors[label * 2..(label + 1) * 2], [1.0, of_name]);
        }
        assert_eq!(source.describe()["unknown_tokens"], 2);
    }

    /// Without a file of vectors, the vocabulary is that of training classes.
    #[test]
    fn subwords_may_have_vectors_of_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path());
        let settings = TextSettings {
            vectors: String::new(),
            ..settings(folder.path())
        };
        let source = settings.build(Some(folder.path())).expect("texts");
        assert_eq!(source.describe()["known_words"], 5);
    }

    #[test]
    fn bad_tokenizers_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path());
        for text in ["", "[]", "{\"model\": {\"vocab\": {}}}"] {
            fs::write(folder.path().join("tokenizer.json"), text).expect("written");
            let built = settings(folder.path()).build(Some(folder.path()));
            let message = built.expect_err("no tokenizer").to_string();
            assert!(message.contains("tokenizer.json"), "{message}");
        }
        let entities = TextSettings {
            entities: vec!["h".to_owned(), "t".to_owned()],
            ..settings(folder.path())
        };
        let built = entities.build(Some(folder.path()));
        let message = built.expect_err("positions").to_string();
        assert!(message.contains("data.tokenizer"), "{message}");
    }
}
