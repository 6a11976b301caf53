//! Folders and archives of images.

use std::io::Cursor;
use std::path::PathBuf;

use image::{GrayImage, ImageFormat, Luma};
use meta_core::data::{
    Duplicates, EpisodeShape, FolderSettings, ImageFilter, Source, Split, episode_set_hash,
};
use meta_core::rng::Seed;
use serde_json::json;

use crate::samples::*;

#[test]
fn images_keep_their_pixels_and_inverting_turns_them_around() {
    let root = tempfile::tempdir().expect("temporary folder");
    write_folder(&root.path().join("images"), &tree());
    let config = folder_config(root.path(), "images");
    let plain = config.build(None).expect("sound");
    let inverted = FolderSettings {
        invert: true,
        ..config.clone()
    };
    let inverted = inverted.build(None).expect("sound");
    let colour = FolderSettings {
        channels: 3,
        image_size: 5,
        filter: ImageFilter::Triangle,
        ..config
    };
    let colour = colour.build(None).expect("sound");
    assert_eq!(colour.item_shape().features(), 75);
    let dark = upright_images(&inverted, Split::Train);
    for (id, image) in upright_images(&plain, Split::Train) {
        let (class, item) = ((id >> 32) as usize, (id & 0xffff_ffff) as usize);
        let expected: Vec<f32> = picture(class, item)
            .into_raw()
            .into_iter()
            .map(|byte| f32::from(byte) / 255.0)
            .collect();
        assert_eq!(image, expected);
        for (light, dark) in image.iter().zip(&dark[&id]) {
            assert!((light + dark - 1.0).abs() < 1e-6);
        }
    }
}

#[test]
fn jpeg_files_are_read_and_files_that_are_no_images_are_not() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut bytes = Cursor::new(Vec::new());
    GrayImage::from_pixel(20, 10, Luma([200]))
        .write_to(&mut bytes, ImageFormat::Jpeg)
        .expect("encodes into memory");
    let names = [
        "a/1.jpg",
        "a/2.JPEG",
        "b/1.jpg",
        "b/2.jpeg",
        "b/.hidden.jpg",
    ];
    let mut files: Vec<_> = names
        .map(|name| (name.to_owned(), bytes.get_ref().clone()))
        .to_vec();
    files.push(("b/notes.txt".to_owned(), b"no image".to_vec()));
    write_folder(&root.path().join("photos"), &files);
    let config = FolderSettings {
        validation_fraction: 0.0,
        test_fraction: 0.0,
        channels: 3,
        ..folder_config(root.path(), "photos")
    };
    let source = config.build(None).expect("sound");
    assert_eq!(source.describe()["images"], 4);
    let shape = EpisodeShape::new(2, 1, 1);
    let episode = source
        .episode(Seed(0), Split::Train, shape, 0)
        .expect("fits");
    // JPEG and the filter may each move a value by one.
    let inputs = &episode.support.inputs;
    assert!(
        inputs
            .iter()
            .all(|value| (value * 255.0 - 200.0).abs() < 2.5)
    );
}

#[test]
fn packing_and_place_do_not_change_the_content_hash() {
    let root = tempfile::tempdir().expect("temporary folder");
    let files = tree();
    let wrapped: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (format!("around/{name}"), bytes.clone()))
        .collect();
    write_folder(&root.path().join("images"), &files);
    write_zip(&root.path().join("plain.zip"), &files);
    write_zip(&root.path().join("wrapped.zip"), &wrapped);
    let build = |name: &str| folder_config(root.path(), name).build(None).expect("sound");
    let folder = build("images");
    assert_eq!(folder.content_hash(), build("plain.zip").content_hash());
    assert_eq!(folder.content_hash(), build("wrapped.zip").content_hash());
    assert_eq!(
        folder.describe()["content_hash"],
        json!(folder.content_hash())
    );
    // One pixel of one image does.
    let mut image = picture(3, 2);
    image.put_pixel(0, 0, Luma([image.get_pixel(0, 0).0[0] ^ 1]));
    write_folder(
        &root.path().join("images"),
        &[("class03/2.png".to_owned(), png(&image))],
    );
    assert_ne!(folder.content_hash(), build("images").content_hash());
}

#[test]
fn the_cache_is_rebuilt_when_damaged_and_missed_when_unwritable() {
    let root = tempfile::tempdir().expect("temporary folder");
    write_folder(&root.path().join("images"), &tree());
    let config = folder_config(root.path(), "images");
    let hash = config.build(None).expect("sound").content_hash();
    let cached = || -> Vec<PathBuf> {
        let list = std::fs::read_dir(root.path().join("cache")).expect("cache folder");
        list.map(|entry| entry.expect("readable").path()).collect()
    };
    let [file] = &cached()[..] else {
        panic!("one cache file, no temporary ones: {:?}", cached());
    };
    let sound = std::fs::read(file).expect("readable");
    let mut flipped = sound.clone();
    *flipped.last_mut().expect("not empty") ^= 1;
    let mut wrong_key = sound.clone();
    wrong_key[10] ^= 1;
    for damaged in [
        &flipped[..],
        &wrong_key,
        &sound[..sound.len() / 2],
        &sound[..20],
        b"",
    ] {
        std::fs::write(file, damaged).expect("writable");
        assert_eq!(config.build(None).expect("rebuilt").content_hash(), hash);
        assert_eq!(std::fs::read(file).expect("readable"), sound);
    }
    // The cache is what is read: a sound file of another set under this key would be believed, which
    // is why the key covers the content of the source.
    let blocked = FolderSettings {
        // Below a file, no folder can be made, whoever runs the test.
        cache_dir: file.join("below").display().to_string(),
        ..config.clone()
    };
    assert_eq!(
        blocked.build(None).expect("works without").content_hash(),
        hash
    );
    // Several at once.
    std::fs::remove_file(file).expect("writable");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(config.build(None).expect("sound").content_hash(), hash));
        }
    });
    assert_eq!(cached().len(), 1);
    assert_eq!(std::fs::read(file).expect("readable"), sound);
}

#[test]
fn damaged_folders_are_named() {
    let root = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| root.path().join(name);
    let build = |name: &str| folder_config(root.path(), name).build(None);
    assert!(error_of(build("nowhere")).contains("there is no such folder"));
    std::fs::create_dir(path("empty")).expect("writable");
    assert!(error_of(build("empty")).contains("holds no images"));
    let mut files = tree();
    files[7].1 = b"no image at all".to_vec();
    write_folder(&path("broken"), &files);
    write_zip(&path("broken.zip"), &files);
    for name in ["broken", "broken.zip"] {
        let message = error_of(build(name));
        assert!(
            message.contains(name) && message.contains("`class01/1.png`"),
            "{message}"
        );
    }
    write_zip(&path("whole.zip"), &tree());
    let whole = std::fs::read(path("whole.zip")).expect("readable");
    std::fs::write(path("cut.zip"), &whole[..whole.len() / 2]).expect("writable");
    let message = error_of(build("cut.zip"));
    assert!(
        message.contains("cut.zip") && message.contains("truncated"),
        "{message}"
    );
}

#[test]
fn split_files_are_obeyed_and_checked() {
    let root = tempfile::tempdir().expect("temporary folder");
    write_folder(&root.path().join("images"), &tree());
    let build = |train: &str, test: &str| {
        std::fs::write(root.path().join("train.txt"), train).expect("writable");
        std::fs::write(root.path().join("test.txt"), test).expect("writable");
        let config = FolderSettings {
            path: "images".to_owned(),
            train_classes: "train.txt".to_owned(),
            test_classes: "test.txt".to_owned(),
            ..folder_config(root.path(), "images")
        };
        config.build(Some(root.path()))
    };
    let source = build("class02\nclass00\n\n", "class29\r\nclass05\nclass07\n").expect("sound");
    let names = |split| source.class_names(split).collect::<Vec<_>>();
    assert_eq!(names(Split::Train), ["class00", "class02"]);
    assert_eq!(names(Split::Test), ["class05", "class07", "class29"]);
    assert_eq!(source.classes(Split::Validation), Some(0));
    assert_eq!(source.items_per_class(), Some(TREE_ITEMS));
    let shape = EpisodeShape::new(2, 1, 1);
    assert!(source.check(Split::Validation, shape).is_err());
    let message = error_of(build("class02\n", "class02\n"));
    assert!(
        message.contains("`class02` is listed for test but already for train"),
        "{message}"
    );
    let message = error_of(build("clazz\n", ""));
    assert!(message.contains("unknown class `clazz`"), "{message}");
}

#[test]
fn real_cifar_fs_has_its_split_and_its_difficulty() {
    let Some(data) = data_dir() else { return };
    let cache = tempfile::tempdir().expect("temporary folder");
    let config = FolderSettings {
        path: "cifar_fs/cifar100_test_png.zip".to_owned(),
        train_classes: "cifar_fs/cifarfs_train.txt".to_owned(),
        validation_classes: "cifar_fs/cifarfs_val.txt".to_owned(),
        test_classes: "cifar_fs/cifarfs_test.txt".to_owned(),
        cache_dir: cache.path().display().to_string(),
        // Two, as `trees` tests.
        duplicates: Duplicates::Allow,
        ..FolderSettings::default()
    };
    let source = config.build(Some(&data)).expect("complete");
    let counts = Split::ALL.map(|split| source.classes(split).expect("classes"));
    assert_eq!(counts, [64, 16, 20]);
    assert_eq!(source.items_per_class(), Some(100));
    // An independent program got 30.4 and 40.8 %.
    let (one, five) = (
        nearest_class_mean(&source, 1, 300),
        nearest_class_mean(&source, 5, 300),
    );
    println!("nearest class mean on CIFAR-FS: {one:.1} % with one shot, {five:.1} % with five");
    assert!((27.0..34.0).contains(&one), "{one}");
    assert!((37.0..45.0).contains(&five), "{five}");
}

/// Augmentation makes other data to train on, and the same test episodes.
#[test]
fn augmentation_leaves_frozen_episodes_alone() {
    let root = tempfile::tempdir().expect("temporary folder");
    write_folder(&root.path().join("images"), &tree());
    let plain = folder_config(root.path(), "images");
    let mut augmented = plain.clone();
    augmented.pictures.random_flip = true;
    augmented.pictures.random_crop = 1;
    augmented.pictures.jitter = 0.2;
    let mut normalised = plain.clone();
    normalised.pictures.normalize = true;
    let [plain, augmented, normalised] =
        [plain, augmented, normalised].map(|config| config.build(None).expect("sound"));
    assert_ne!(plain.content_hash(), augmented.content_hash());
    assert_eq!(plain.frozen_hash(), plain.content_hash());
    assert_eq!(plain.frozen_hash(), augmented.frozen_hash());
    assert_ne!(plain.frozen_hash(), normalised.frozen_hash());
    let shape = EpisodeShape::new(2, 1, 1);
    for split in [Split::Validation, Split::Test] {
        let of = |source: &dyn Source| {
            let episode = source
                .episode(Seed(3), split, shape, 5)
                .expect("an episode");
            let hash = episode_set_hash(source, Seed(3), split, shape, 6);
            (episode.support.inputs, episode.query.inputs, hash)
        };
        assert_eq!(of(&plain), of(&augmented));
    }
}
