//! Drawn characters.

use std::collections::{BTreeMap, HashSet};

use meta_core::data::{
    EpisodeShape, GlyphWorld, GlyphsSettings, Items, Source, Split, contact_sheet,
};
use meta_core::rng::Seed;

use crate::samples::*;

/// Neither trivial nor impossible: about as hard on pixels as Omniglot, where the same program gets
/// 43.5 % with one shot and 71.5 % with five. The accuracy of an episode spreads by some 15 points, so
/// 300 episodes tell it to ± 0.9; the bounds are the wish, not the noise.
#[test]
fn glyphs_are_about_as_hard_as_omniglot() {
    let glyphs = GlyphsSettings::default().build().expect("valid");
    let (one, five) = (
        nearest_class_mean(&glyphs, 1, 300),
        nearest_class_mean(&glyphs, 5, 300),
    );
    println!("nearest class mean on glyphs: {one:.1} % with one shot, {five:.1} % with five");
    assert!((40.0..55.0).contains(&one), "{one}");
    assert!((65.0..82.0).contains(&five), "{five}");
}

#[test]
fn glyphs_have_ink_and_paper_and_a_world_of_their_own() {
    let config = GlyphWorld::default();
    let glyphs = config.build().expect("valid");
    let shape = EpisodeShape::new(200, 1, 1);
    let episode = glyphs
        .episode(Seed(0), Split::Test, shape, 0)
        .expect("fits");
    let mut seen = HashSet::new();
    for image in episode.support.inputs.chunks_exact(28 * 28) {
        let ink = image.iter().sum::<f32>() / 784.0;
        assert!((0.01..0.30).contains(&ink), "{ink}");
        let bytes: Vec<u8> = image.iter().map(|value| (value * 255.0) as u8).collect();
        assert!(seen.insert(bytes), "two classes look exactly alike");
    }
    // An item kept is the item drawn anew, and a larger split keeps its classes.
    let unlimited = GlyphWorld {
        items_per_class: 0,
        train_classes: 77,
        ..config
    };
    let unlimited = unlimited.build().expect("valid");
    assert_eq!(unlimited.items_per_class(), None);
    let again = unlimited
        .episode(Seed(0), Split::Test, shape, 0)
        .expect("fits");
    let images = |episode: &meta_core::data::Episode| -> BTreeMap<u64, Vec<f32>> {
        let inputs = episode
            .support
            .inputs
            .chunks_exact(784)
            .map(<[f32]>::to_vec);
        episode.support.ids.iter().copied().zip(inputs).collect()
    };
    let (kept, drawn) = (images(&episode), images(&again));
    for (id, image) in &drawn {
        assert!(kept.get(id).is_none_or(|kept| kept == image));
    }
    // Without variation all drawers agree.
    let alike = GlyphWorld {
        variation: 0.0,
        ..GlyphWorld::default()
    };
    let alike = alike.build().expect("valid");
    let episode = alike.episode(Seed(0), Split::Test, shape, 0).expect("fits");
    assert_eq!(episode.support.inputs, episode.query.inputs);
}

#[test]
fn a_contact_sheet_shows_each_class_in_a_row() {
    let glyphs = &all_sources()[0];
    let draw = |source: &dyn Source, classes, items| {
        contact_sheet(source, Seed(0), Split::Test, classes, items)
    };
    let sheet = draw(glyphs.as_ref(), 4, 6).expect("fits").into_luma8();
    assert_eq!(sheet.dimensions(), (6 * 13 + 1, 4 * 13 + 1));
    assert!(sheet.pixels().any(|pixel| pixel.0[0] < 120));
    assert!(draw(all_sources()[2].as_ref(), 4, 6).is_err());
    // One of either is enough; none, and more than there are, are named.
    let one = draw(glyphs.as_ref(), 1, 1).expect("fits");
    assert_eq!((one.width(), one.height()), (14, 14));
    for (classes, items, expected) in [
        (0, 6, "`classes = 0`: must be in 1..=11"),
        (12, 6, "`classes = 12`: must be in 1..=11"),
        (4, 0, "`items = 0`: must be in 1..=6"),
        (4, 7, "`items = 7`: must be in 1..=6"),
    ] {
        let message = draw(glyphs.as_ref(), classes, items).expect_err("not so many");
        assert!(message.to_string().starts_with(expected), "{message}");
    }
    // Classes of any number of items.
    let message = draw(all_sources()[1].as_ref(), 4, usize::MAX).expect_err("too large");
    assert!(message.to_string().contains("pixels"), "{message}");
}

/// Descriptions stand below the images of support items, the same for all items of a class; nothing
/// stands there in queries, and the images are those without descriptions.
#[test]
fn glyphs_can_be_described() {
    let world = GlyphWorld {
        image_size: 12,
        items_per_class: 6,
        ..GlyphWorld::default()
    };
    let plain = world.build().expect("valid");
    let side = GlyphsSettings {
        side: true,
        glyphs: world,
    };
    let described = side.build().expect("valid");
    assert_eq!(described.item_shape().height, 14);
    assert_ne!(described.content_hash(), plain.content_hash());
    let shape = EpisodeShape::new(4, 2, 3);
    let episode = |source: &dyn Source| source.episode(Seed(1), Split::Test, shape, 5).unwrap();
    let (plain, described) = (episode(&plain), episode(&described));
    for (with, without) in [
        (&described.support, &plain.support),
        (&described.query, &plain.query),
    ] {
        assert_eq!((&with.ids, &with.targets), (&without.ids, &without.targets));
        let images = with.inputs.chunks(14 * 12).flat_map(|item| &item[..144]);
        assert!(images.eq(&without.inputs));
    }
    let below = |items: &Items| -> Vec<Vec<f32>> {
        let items = items.inputs.chunks(14 * 12);
        items.map(|item| item[144..].to_vec()).collect()
    };
    assert!(below(&described.query).iter().flatten().all(|x| *x == 0.0));
    let classes = below(&described.support);
    for (label, pair) in classes.chunks(2).enumerate() {
        assert_eq!(pair[0], pair[1]);
        assert!(pair[0].iter().all(|x| (0.0..=2.0).contains(x)), "{pair:?}");
        let shares = |range: std::ops::Range<usize>| pair[0][range].iter().sum::<f32>();
        assert!((shares(4..8) - 1.0).abs() < 1e-4);
        assert!((shares(8..17) - 1.0).abs() < 1e-4);
        let others = classes.chunks(2).take(label);
        assert!(others.into_iter().all(|other| other[0] != pair[0]));
    }
}
