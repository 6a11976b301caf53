//! What every source promises of its episodes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use meta_core::data::{
    EpisodeShape, GlyphWorld, GlyphsSettings, Prefetch, SinusoidSettings, Source, Split, Targets,
    episode_set_hash, find_source, sources,
};
use meta_core::rng::Seed;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::samples::*;

fn any_split() -> impl Strategy<Value = Split> {
    prop::sample::select(Split::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        // The cases are few and fast; no files beside the tests.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_episode_alone_is_the_episode_of_a_sequence(
        seed: u64, split in any_split(), way in 2usize..5, shot in 1usize..4, query in 1usize..4,
        first in 0u64..1_000_000,
    ) {
        for source in all_sources() {
            let shape = fitting(source.as_ref(), way, shot, query);
            let make = |index| source.episode(Seed(seed), split, shape, index).expect("it fits");
            let sequence: Vec<_> = (first..first + 3).map(make).collect();
            // Backwards, to be after other draws than the first time.
            for episode in sequence.iter().rev() {
                prop_assert_eq!(&make(episode.index), episode);
            }
            prop_assert_ne!(&sequence[0].support.inputs, &sequence[1].support.inputs);
        }
    }

    #[test]
    fn support_and_query_are_disjoint_and_labels_are_complete(
        seed: u64, split in any_split(), way in 2usize..5, shot in 1usize..4, query in 1usize..4,
        index: u64,
    ) {
        for source in all_sources() {
            let shape = fitting(source.as_ref(), way, shot, query);
            let episode = source.episode(Seed(seed), split, shape, index).expect("it fits");
            let ids: HashSet<u64> =
                episode.support.ids.iter().chain(&episode.query.ids).copied().collect();
            prop_assert_eq!(ids.len(), shape.support_items() + shape.query_items());
            let features = source.item_shape().features();
            for (items, each) in [(&episode.support, shape.shot.0), (&episode.query, query)] {
                prop_assert_eq!(items.len(), shape.way.0 * each);
                prop_assert_eq!(items.inputs.len(), items.len() * features);
                match &items.targets {
                    Targets::Classes(labels) => {
                        let expected: Vec<u32> =
                            (0..way as u32).flat_map(|label| vec![label; each]).collect();
                        prop_assert_eq!(labels, &expected);
                        for (id, &label) in items.ids.iter().zip(labels) {
                            let class = episode.classes[label as usize].class;
                            prop_assert_eq!(id >> 32, u64::from(class));
                        }
                        // Of images; projections and word vectors have any sign.
                        if source.item_shape().width > 1 {
                            prop_assert!(items.inputs.iter().all(|x| (0.0..=1.0).contains(x)));
                        }
                    }
                    Targets::Values(values) => prop_assert_eq!(values.len(), each),
                    Targets::Sequences(symbols) => {
                        let outputs = source.task().outputs(way);
                        prop_assert_eq!(symbols.len() % each, 0);
                        prop_assert_eq!(outputs % (symbols.len() / each), 0);
                    }
                }
            }
            let classes: HashSet<u32> = episode.classes.iter().map(|class| class.class).collect();
            prop_assert_eq!(classes.len(), episode.classes.len());
        }
    }

    #[test]
    fn prefetched_episodes_are_those_of_direct_calls(
        seed: u64, split in any_split(), batch in 1usize..5, depth in 0usize..4, first in 0u64..100,
    ) {
        for source in all_sources() {
            let shape = fitting(source.as_ref(), 3, 1, 2);
            let mut ahead =
                Prefetch::new(source.clone(), Seed(seed), split, shape, first, batch, depth);
            let mut index = first;
            for _ in 0..3 {
                for episode in ahead.next().expect("it fits") {
                    let direct = source.episode(Seed(seed), split, shape, index).expect("it fits");
                    prop_assert_eq!(episode, direct);
                    index += 1;
                }
            }
            prop_assert_eq!(index, first + 3 * batch as u64);
        }
    }
}

#[test]
fn prefetch_reports_errors_and_ends_when_dropped_early() {
    let source = &all_sources()[0];
    let too_wide = EpisodeShape::new(1000, 1, 1);
    let mut ahead = Prefetch::new(source.clone(), Seed(0), Split::Test, too_wide, 0, 2, 2);
    assert!(ahead.next().is_err());
    assert!(ahead.next().is_err());
    let shape = EpisodeShape::new(3, 1, 1);
    drop(Prefetch::new(
        source.clone(),
        Seed(0),
        Split::Train,
        shape,
        0,
        2,
        1,
    ));
    // Joined: the worker's clone of the source is gone.
    let alone: Arc<dyn Source> = Arc::new(SinusoidSettings::default().build().expect("valid"));
    let shape = EpisodeShape::new(1, 1, 1);
    drop(Prefetch::new(
        alone.clone(),
        Seed(0),
        Split::Train,
        shape,
        0,
        2,
        1,
    ));
    assert_eq!(Arc::strong_count(&alone), 1);
}

#[test]
fn classes_of_different_splits_never_meet() {
    for source in all_sources() {
        let mut split_of_class = HashMap::new();
        for split in Split::ALL {
            let Some(classes) = source.classes(split) else {
                continue;
            };
            // All classes at once, so none escapes.
            let shape = EpisodeShape::new(classes, 1, 1);
            let episode = source.episode(Seed(0), split, shape, 0).expect("it fits");
            for class in &episode.classes {
                assert_eq!(split_of_class.insert(class.class, split), None);
            }
        }
        // Turned copies of one folder's images stay in one split, too.
        if source.name() == "folder" && source.classes(Split::Train) > Some(TREE_CLASSES) {
            let mut folders: HashMap<u32, Split> = HashMap::new();
            for (class, split) in split_of_class {
                assert_eq!(*folders.entry(class / 4).or_insert(split), split);
            }
            assert_eq!(folders.len(), TREE_CLASSES);
        }
    }
}

#[test]
fn splits_and_seeds_draw_different_episodes() {
    for source in all_sources() {
        let shape = fitting(source.as_ref(), 3, 1, 1);
        let make = |seed, split| {
            let episode = source.episode(Seed(seed), split, shape, 0).expect("fits");
            episode.support.inputs
        };
        assert_ne!(make(0, Split::Train), make(0, Split::Test));
        assert_ne!(make(0, Split::Train), make(1, Split::Train));
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let source = &all_sources()[0];
    for (shape, expected) in [
        (EpisodeShape::new(1, 1, 1), "`data.way = 1`"),
        (
            EpisodeShape::new(12, 1, 1),
            "`data.way = 12`: must be at most 11, the number of test",
        ),
        (EpisodeShape::new(5, 0, 1), "`data.shot = 0`"),
        (
            EpisodeShape::new(5, 6, 1),
            "`data.shot = 6`: must be at most 5",
        ),
        (EpisodeShape::new(5, 1, 0), "`data.query = 0`"),
        (
            EpisodeShape::new(5, 4, 3),
            "`data.query = 3`: must be at most 2 with 4 shots",
        ),
        (EpisodeShape::new(5, usize::MAX, 3), "`data.shot = "),
    ] {
        let message = source
            .check(Split::Test, shape)
            .expect_err("misfit")
            .to_string();
        assert!(message.starts_with(expected), "{message}");
        assert!(source.episode(Seed(0), Split::Test, shape, 0).is_err());
    }
}

#[test]
fn the_list_of_sources_builds_from_settings_and_names_bad_ones() {
    for entry in sources() {
        assert_eq!(
            find_source(&sources(), entry.name).expect("listed").name,
            entry.name
        );
        assert!((entry.default_settings)().is_object());
        let message = |settings: Value| match (entry.build)(&settings, None) {
            Ok(source) => format!("built {}", source.name()),
            Err(error) => error.to_string(),
        };
        let unknown = message(json!({ "no_such_setting": 1 }));
        assert!(
            unknown.starts_with("unknown key `data.no_such_setting`"),
            "{unknown}"
        );
        assert!(message(json!(3)).starts_with("`data = 3`"));
    }
    let build = |name: &str, settings: Value| {
        (find_source(&sources(), name).expect("listed").build)(&settings, None)
    };
    assert!(build("glyphs", Value::Null).is_ok());
    assert!(build("glyphs", json!({ "train_classes": 30 })).is_ok());
    for (name, settings, expected) in [
        (
            "glyphs",
            json!({ "train_classes": "many" }),
            "`data.train_classes = \"many\"`",
        ),
        (
            "glyphs",
            json!({ "image_size": 2 }),
            "`data.image_size = 2`",
        ),
        (
            "glyphs",
            json!({ "variation": -1.0 }),
            "`data.variation = -1`",
        ),
        ("sinusoid", json!({ "noise": -1.0 }), "`data.noise = -1`"),
        ("gp", json!({ "noise": -1.0 }), "`data.noise = -1`"),
        (
            "gp",
            json!({ "kernel": "cosine" }),
            "`data.kernel = \"cosine\"`",
        ),
        (
            "omniglot",
            json!({ "split": "other" }),
            "`data.split = \"other\"`",
        ),
        (
            "omniglot",
            json!({ "image_size": 0 }),
            "`data.image_size = 0`",
        ),
        ("folder", json!({}), "`data.path = \"\"`"),
        (
            "folder",
            json!({ "path": "x", "channels": 2 }),
            "`data.channels = 2`",
        ),
        (
            "folder",
            json!({ "path": "x", "test_fraction": 0.9 }),
            "`data.test_fraction = 0.9`",
        ),
    ] {
        let message = build(name, settings)
            .err()
            .expect("bad setting")
            .to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(
        find_source(&sources(), "omniglott")
            .unwrap_err()
            .to_string()
            .contains("did you mean `omniglot`")
    );
}

#[test]
fn hashes_name_the_episodes() {
    let source = GlyphsSettings::default().build().expect("valid");
    let other = GlyphWorld {
        world: 1,
        ..GlyphWorld::default()
    };
    let other = other.build().expect("valid");
    let shape = EpisodeShape::new(5, 1, 15);
    let hashes = [
        episode_set_hash(&source, Seed(0), Split::Test, shape, 600),
        episode_set_hash(&other, Seed(0), Split::Test, shape, 600),
        episode_set_hash(&source, Seed(1), Split::Test, shape, 600),
        episode_set_hash(&source, Seed(0), Split::Train, shape, 600),
        episode_set_hash(
            &source,
            Seed(0),
            Split::Test,
            EpisodeShape::new(5, 5, 15),
            600,
        ),
        episode_set_hash(&source, Seed(0), Split::Test, shape, 601),
    ];
    assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
    assert_eq!(
        hashes[0],
        episode_set_hash(&source, Seed(0), Split::Test, shape, 600)
    );
}
