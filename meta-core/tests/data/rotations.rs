//! Rotations of classes.

use std::collections::HashSet;

use meta_core::data::{EpisodeShape, ImageSource, Rotations, Source, Split, Targets};
use meta_core::rng::Seed;

use crate::samples::*;

#[test]
fn each_class_of_a_task_has_a_rotation_of_its_own() {
    let upright = folder_source(Rotations::None, false);
    let augmented = folder_source(Rotations::Augment, false);
    let images = upright_images(&upright, Split::Train);
    let size = upright.item_shape().height;
    let shape = EpisodeShape::new(4, 2, 3);
    let mut counts = [0u32; 4];
    let mut mixed = 0;
    for index in 0..200 {
        let episode = augmented
            .episode(Seed(1), Split::Train, shape, index)
            .expect("it fits");
        for items in [&episode.support, &episode.query] {
            let Targets::Classes(labels) = &items.targets else {
                panic!("classification has classes");
            };
            let inputs = items.inputs.chunks_exact(size * size);
            for ((id, label), input) in items.ids.iter().zip(labels).zip(inputs) {
                // One rotation per class, and support and query agree with it.
                let class = episode.classes[*label as usize];
                assert_eq!(input, turned(&images[id], size, class.quarter_turns));
            }
        }
        let turns: HashSet<u8> = episode.classes.iter().map(|c| c.quarter_turns).collect();
        mixed += u32::from(turns.len() > 1);
        for class in &episode.classes {
            counts[class.quarter_turns as usize] += 1;
        }
    }
    // 800 draws of four: mean 200, standard deviation 12.2; beyond five of them once in 10⁶.
    assert!(
        counts.iter().all(|count| (139..=261).contains(count)),
        "{counts:?}"
    );
    // All four alike happens once in 64 tasks: 3 of 200 on average.
    assert!(mixed > 180, "{mixed}");
    // Test classes stay upright unless it is asked for.
    let shape = EpisodeShape::new(4, 1, 1);
    let turns = |source: &ImageSource| -> u32 {
        let episodes = (0..50).map(|index| source.episode(Seed(1), Split::Test, shape, index));
        let classes = episodes.flat_map(|episode| episode.expect("it fits").classes);
        classes.map(|class| u32::from(class.quarter_turns)).sum()
    };
    assert_eq!(turns(&augmented), 0);
    assert!(turns(&folder_source(Rotations::Augment, true)) > 0);
}

#[test]
fn rotations_as_classes_are_turned_copies() {
    let upright = folder_source(Rotations::None, false);
    let classes = folder_source(Rotations::Classes, false);
    let size = upright.item_shape().height;
    for split in Split::ALL {
        let images = upright_images(&upright, split);
        let all = upright_images(&classes, split);
        assert_eq!(all.len(), 4 * images.len());
        for (id, image) in all {
            let (class, item) = ((id >> 32) as u32, id & 0xffff_ffff);
            let original = &images[&(u64::from(class / 4) << 32 | item)];
            assert_eq!(image, turned(original, size, (class % 4) as u8));
        }
    }
}
