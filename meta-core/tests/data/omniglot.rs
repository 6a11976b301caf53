//! Omniglot.

use std::collections::HashSet;
use std::path::Path;

use image::{GrayImage, Luma};
use meta_core::data::{EpisodeShape, OmniglotSettings, OmniglotSplit, Rotations, Source, Split};
use meta_core::rng::Seed;

use crate::samples::*;

/// The alphabets of Omniglot's evaluation set; all others are of the background set.
const EVALUATION_ALPHABETS: [&str; 20] = [
    "Angelic",
    "Atemayar_Qelisayer",
    "Atlantean",
    "Aurek-Besh",
    "Avesta",
    "Ge_ez",
    "Glagolitic",
    "Gurmukhi",
    "Kannada",
    "Keble",
    "Malayalam",
    "Manipuri",
    "Mongolian",
    "Old_Church_Slavonic_(Cyrillic)",
    "Oriya",
    "Syriac_(Serto)",
    "Sylheti",
    "Tengwar",
    "Tibetan",
    "ULOG",
];

/// Archives with Omniglot's names and one picture in place of every drawing.
fn write_false_omniglot(root: &Path) -> [Vec<(String, Vec<u8>)>; 2] {
    let drawing = png(&GrayImage::from_fn(4, 4, |x, _| {
        Luma([if x == 0 { 0 } else { 255 }])
    }));
    let mut sets = [Vec::new(), Vec::new()];
    for line in include_str!("../../src/data/omniglot_vinyals.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["train" | "validation" | "test", alphabet, range] = words[..] else {
            continue;
        };
        let (first, last) = range.split_once('-').expect("first-last");
        let number = |text: &str| text.parse::<usize>().expect("a number");
        let set = usize::from(EVALUATION_ALPHABETS.contains(&alphabet));
        let folder = ["images_background", "images_evaluation"][set];
        for character in number(first)..=number(last) {
            for drawer in 1..=20 {
                let name =
                    format!("{folder}/{alphabet}/character{character:02}/0000_{drawer:02}.png");
                sets[set].push((name, drawing.clone()));
            }
        }
    }
    write_zip(&root.join("images_background.zip"), &sets[0]);
    write_zip(&root.join("images_evaluation.zip"), &sets[1]);
    sets
}

#[test]
fn omniglot_is_checked_and_split() {
    let root = tempfile::tempdir().expect("temporary folder");
    let folder = root.path().join("omniglot");
    let config = OmniglotSettings {
        image_size: 4,
        cache_dir: root.path().join("cache").display().to_string(),
        ..OmniglotSettings::default()
    };
    let build = || config.build(Some(root.path()));
    let origin = "github.com/brendenlake/omniglot";
    let message = error_of(build());
    assert!(
        message.contains("no such folder") && message.contains(origin),
        "{message}"
    );
    std::fs::create_dir(&folder).expect("writable");
    let message = error_of(build());
    assert!(
        message.contains("neither `images_background.zip`") && message.contains(origin),
        "{message}"
    );

    let sets = write_false_omniglot(&folder);
    let counts = |split, rotations| {
        let config = OmniglotSettings {
            split,
            rotations,
            ..config.clone()
        };
        let source = config.build(Some(root.path())).expect("all there");
        Split::ALL.map(|part| source.classes(part).expect("classes"))
    };
    let vinyals = OmniglotSplit::Vinyals;
    assert_eq!(counts(vinyals, Rotations::Classes), [4112, 688, 1692]);
    assert_eq!(counts(vinyals, Rotations::Augment), [1028, 172, 423]);
    let background = OmniglotSplit::BackgroundEvaluation;
    assert_eq!(counts(background, Rotations::None), [813, 151, 659]);
    assert_eq!(
        counts(OmniglotSplit::First1200, Rotations::None),
        [1100, 100, 423]
    );
    let source = build().expect("all there");
    let shape = EpisodeShape::new(5, 1, 1);
    let episode = source
        .episode(Seed(0), Split::Test, shape, 0)
        .expect("fits");
    // Paper is 0, and the column of ink is 1 in one place or another.
    for (image, class) in episode
        .support
        .inputs
        .chunks_exact(16)
        .zip(&episode.classes)
    {
        let upright: Vec<f32> = (0..16)
            .map(|pixel| f32::from(u8::from(pixel % 4 == 0)))
            .collect();
        assert_eq!(image, turned(&upright, 4, class.quarter_turns));
    }

    let evaluation = folder.join("images_evaluation.zip");
    let mut broken = sets[1].clone();
    broken[4321].1 = b"no image".to_vec();
    write_zip(&evaluation, &broken);
    let message = error_of(build());
    assert!(message.contains(&broken[4321].0), "{message}");
    write_zip(&evaluation, &sets[1][..40]);
    let message = error_of(build());
    assert!(
        message.contains("found 2 characters; looked for 659"),
        "{message}"
    );
    write_zip(&evaluation, &sets[1][1..]);
    let message = error_of(build());
    assert!(
        message.contains("and 19 of `Angelic/character01`"),
        "{message}"
    );
    let whole = std::fs::read(folder.join("images_background.zip")).expect("readable");
    std::fs::write(&evaluation, &whole[..100_000]).expect("writable");
    let message = error_of(build());
    assert!(
        message.contains("images_evaluation.zip") && message.contains("truncated"),
        "{message}"
    );
}

#[test]
fn real_omniglot_has_its_classes_and_its_difficulty() {
    let Some(data) = data_dir() else { return };
    let cache = tempfile::tempdir().expect("temporary folder");
    let config = OmniglotSettings {
        cache_dir: cache.path().display().to_string(),
        ..OmniglotSettings::default()
    };
    let source = config.build(Some(&data)).expect("complete");
    let again = config.build(Some(&data)).expect("from the cache");
    assert_eq!(source.content_hash(), again.content_hash());
    let shape = EpisodeShape::new(20, 5, 15);
    assert_eq!(
        source
            .episode(Seed(0), Split::Train, shape, 3)
            .expect("fits"),
        again
            .episode(Seed(0), Split::Train, shape, 3)
            .expect("fits")
    );
    assert_eq!(source.items_per_class(), Some(20));
    // The built-in split is the published one.
    for (split, file) in [
        (Split::Train, "vinyals_train.txt"),
        (Split::Validation, "vinyals_val.txt"),
        (Split::Test, "vinyals_test.txt"),
    ] {
        let list = std::fs::read_to_string(data.join("omniglot/splits").join(file));
        let Ok(list) = list else { continue };
        let published: HashSet<&str> = list
            .lines()
            .filter_map(|line| line.rsplit_once('/').map(|(name, _)| name))
            .collect();
        let ours: HashSet<&str> = source.class_names(split).collect();
        assert_eq!(ours, published);
    }
    // An independent program got 41.0 and 68.6 % on the Vinyals test classes; the tolerance covers
    // its other resize filter and whether rotations are classes.
    let (one, five) = (
        nearest_class_mean(&source, 1, 400),
        nearest_class_mean(&source, 5, 400),
    );
    println!("nearest class mean on Omniglot: {one:.1} % with one shot, {five:.1} % with five");
    assert!((37.0..47.0).contains(&one), "{one}");
    assert!((64.0..75.0).contains(&five), "{five}");
}
