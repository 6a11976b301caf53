//! What the folders of a data set mean, and that no picture is on two sides of a split.

use std::collections::BTreeMap;
use std::path::Path;

use image::GrayImage;
use meta_core::data::{
    Duplicates, EpisodeShape, FolderSettings, ImageSource, OmniglotSettings, Source, Split,
    SplitFolders,
};
use serde_json::json;

use crate::samples::*;

/// Pictures that all differ, at these names.
fn pictures(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    let names = names.iter().enumerate();
    names
        .map(|(number, name)| ((*name).to_owned(), png(&picture(number, 0))))
        .collect()
}

fn write(root: &Path, names: &[&str]) -> FolderSettings {
    write_folder(&root.join("images"), &pictures(names));
    folder_config(root, "images")
}

fn classes(source: &ImageSource) -> [Vec<&str>; 3] {
    Split::ALL.map(|split| source.class_names(split).collect())
}

#[test]
fn folders_named_as_splits_are_the_splits() {
    let root = tempfile::tempdir().expect("temporary folder");
    let names = [
        "train/a/1.png",
        "train/b/1.png",
        "val/c/1.png",
        "test/g/d/1.png",
    ];
    let config = write(root.path(), &names);
    let source = config.build(None).expect("a layout");
    let [train, validation, test] = classes(&source);
    assert_eq!(train, ["train/a", "train/b"]);
    assert_eq!(validation, ["val/c"]);
    assert_eq!(test, ["test/g/d"]);
    assert_eq!(source.describe()["settings"]["split"], "folders");
    // Lists come first.
    std::fs::write(root.path().join("train.txt"), "test/g/d\n").expect("writable");
    let listed = FolderSettings {
        train_classes: root.path().join("train.txt").display().to_string(),
        ..config.clone()
    };
    let source = listed.build(None).expect("a list");
    assert_eq!(classes(&source)[0], ["test/g/d"]);
    // Taken as names they decide nothing.
    let named = FolderSettings {
        split_folders: SplitFolders::Name,
        ..config
    };
    let source = named.build(None).expect("names");
    assert_eq!(
        source.describe()["settings"]["split"],
        "hash of the class name"
    );
}

#[test]
fn a_class_in_two_split_folders_is_refused_or_merged() {
    let root = tempfile::tempdir().expect("temporary folder");
    let names = [
        "train/a/1.png",
        "train/b/1.png",
        "test/a/2.png",
        "test/b/2.png",
    ];
    let config = write(root.path(), &names);
    let message = error_of(config.build(None));
    assert!(message.contains("class `a` lies in the folders of two splits, and so do 1 more"));
    assert!(
        message.contains("`data.split_folders = \"merge\"`"),
        "{message}"
    );
    let merged = FolderSettings {
        split_folders: SplitFolders::Merge,
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..config
    };
    let source = merged.build(None).expect("merged");
    assert_eq!(classes(&source)[0], ["a", "b"]);
    assert_eq!(source.items_per_class(), Some(2));
}

#[test]
fn folders_with_two_readings_are_refused_by_name() {
    for (names, parts) in [
        (
            &["train/a/1.png", "test/b/1.png", "extra/c/1.png"][..],
            ["`test/b`", "`extra/c`"],
        ),
        (&["train/a/1.png", "val/1.png"], ["`train/a`", "`val`"]),
        (
            &["dog/train/1.png", "dog/test/1.png"],
            ["`test`", "`data.split_folders`"],
        ),
        (&["a/1.png", "a/more/1.png", "b/1.png"], ["`a`", "`a/more`"]),
    ] {
        let root = tempfile::tempdir().expect("temporary folder");
        let message = error_of(write(root.path(), names).build(None));
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
}

/// A folder more at the top changes what the other classes are called, and not where they are.
#[test]
fn a_class_never_changes_sides() {
    let root = tempfile::tempdir().expect("temporary folder");
    let names: Vec<String> = (0..40)
        .map(|class| format!("all/class{class:02}/1.png"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sides = || -> BTreeMap<String, Split> {
        let source = folder_config(root.path(), "images")
            .build(None)
            .expect("sound");
        let sides = Split::ALL.map(|split| {
            let names = source.class_names(split);
            let own = names.map(|name| name.rsplit('/').next().unwrap_or(name).to_owned());
            own.map(move |name| (name, split)).collect::<Vec<_>>()
        });
        sides.into_iter().flatten().collect()
    };
    write(root.path(), &names);
    let before = sides();
    write_folder(
        &root.path().join("images"),
        &[("more/other/1.png".to_owned(), png(&picture(77, 0)))],
    );
    let mut after = sides();
    assert!(after.remove("other").is_some());
    assert_eq!(before, after);
}

/// A loose image and a link have no class; both are counted.
#[cfg(unix)]
#[test]
fn links_inside_add_nothing_and_links_out_are_asked_for() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| root.path().join(name);
    write_folder(&path("images"), &tree());
    let config = folder_config(root.path(), "images");
    let plain = config.build(None).expect("sound");
    for (target, link) in [
        ("..", "class03/up"),
        (".", "self"),
        ("..", "class04/up"),
        (".", "class05/here"),
        ("class00", "alias"),
    ] {
        symlink(target, path("images").join(link)).expect("writable");
    }
    let linked = config.build(None).expect("sound");
    assert_eq!(linked.content_hash(), plain.content_hash());
    let note = "links to folders that are read by another name";
    assert_eq!(linked.describe()["not_read"], json!({ note: 5 }));

    // A link out: a folder of a class, and the folder around the data, which has the data in it.
    write_folder(&path("elsewhere"), &pictures(&["1.png"]));
    symlink(path("elsewhere"), path("images/class90")).expect("writable");
    let message = error_of(config.build(None));
    assert!(
        message.contains("images/class90: is a link out of the data"),
        "{message}"
    );
    assert!(message.contains("`data.follow_links = true`"), "{message}");
    symlink(root.path(), path("images/around")).expect("writable");
    let follow = FolderSettings {
        follow_links: true,
        duplicates: Duplicates::Allow,
        ..config
    };
    let source = follow.build(None).expect("followed");
    let names: Vec<&str> = classes(&source).concat();
    assert_eq!(names.len(), TREE_CLASSES + 1);
    assert!(names.contains(&"class90"), "{names:?}");
}

/// Class 0 and class 1 of the tree lie on these two sides by their names.
fn two_sides(source: &ImageSource) -> (String, String) {
    let first = |split| {
        source
            .class_names(split)
            .next()
            .expect("a class")
            .to_owned()
    };
    (first(Split::Train), first(Split::Test))
}

#[test]
fn a_picture_in_two_splits_is_refused_by_name() {
    let root = tempfile::tempdir().expect("temporary folder");
    write_folder(&root.path().join("images"), &tree());
    let config = folder_config(root.path(), "images");
    let source = config.build(None).expect("sound");
    assert_eq!(source.describe()["pictures_in_two_splits"], 0);
    let (train, test) = two_sides(&source);
    // The same pixels in another file, beside the picture of another class.
    let picture: GrayImage = picture(500, 1);
    write_folder(
        &root.path().join("images"),
        &[
            (format!("{train}/x.png"), png(&picture)),
            (format!("{test}/y.bmp"), {
                let mut bytes = std::io::Cursor::new(Vec::new());
                let format = image::ImageFormat::Bmp;
                picture.write_to(&mut bytes, format).expect("in memory");
                bytes.into_inner()
            }),
        ],
    );
    // Twice: decoded, and from the cache. The size does not matter.
    for image_size in [8, 8, 1] {
        let config = FolderSettings {
            image_size,
            ..config.clone()
        };
        let message = error_of(config.build(None));
        let pair =
            format!("1 picture is in two splits: `{train}/x.png` (train) = `{test}/y.bmp` (test)");
        assert!(message.contains(&pair), "{message}");
        assert!(
            message.contains("`data.duplicates = \"allow\"`"),
            "{message}"
        );
    }
    let allowed = FolderSettings {
        duplicates: Duplicates::Allow,
        ..config.clone()
    };
    let source = allowed.build(None).expect("allowed");
    assert_eq!(source.describe()["pictures_in_two_splits"], 1);
    // On one side it leaks nothing.
    std::fs::rename(
        root.path().join(format!("images/{test}/y.bmp")),
        root.path().join(format!("images/{train}/y.bmp")),
    )
    .expect("writable");
    assert!(config.build(None).is_ok());
}

#[test]
fn lists_may_have_a_mark_and_another_encoding() {
    let root = tempfile::tempdir().expect("temporary folder");
    let composed = "caf\u{e9}";
    let decomposed = "cafe\u{301}";
    for (folder, listed) in [(composed, decomposed), (decomposed, composed)] {
        let name = format!("{folder}/1.png");
        let path = root.path().join(format!("of {}", listed.len()));
        let config = write(&path, &[name.as_str(), "b/1.png"]);
        std::fs::write(path.join("train.txt"), format!("\u{feff}{listed}\nb\n")).expect("writable");
        let config = FolderSettings {
            train_classes: path.join("train.txt").display().to_string(),
            ..config
        };
        let source = config.build(None).expect("listed");
        assert_eq!(classes(&source)[0].len(), 2);
    }
}

#[test]
fn archives_of_other_programs_are_read_or_named() {
    let root = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| root.path().join(name);
    let build = |name: &str| folder_config(root.path(), name).build(None);
    write_zip(&path("plain.zip"), &tree());
    let hash = build("plain.zip").expect("sound").content_hash();
    let renamed = |change: &dyn Fn(&str) -> String| -> Vec<(String, Vec<u8>)> {
        let tree = tree().into_iter();
        tree.map(|(name, bytes)| (change(&name), bytes)).collect()
    };
    write_zip(&path("dots.zip"), &renamed(&|name| format!("./x/./{name}")));
    write_zip(
        &path("windows.zip"),
        &renamed(&|name| name.replace('/', "\\")),
    );
    for name in ["dots.zip", "windows.zip"] {
        assert_eq!(build(name).expect("sound").content_hash(), hash, "{name}");
    }
    write_zip(&path("out.zip"), &renamed(&|name| format!("../{name}")));
    assert!(error_of(build("out.zip")).contains("leads elsewhere"));

    // Of each entry, its method in both headers: behind the signature and 4 or 6 bytes.
    let plain = std::fs::read(path("plain.zip")).expect("readable");
    let patched = |offset: usize, value: u8| {
        let mut bytes = plain.clone();
        for (signature, before) in [(b"PK\x03\x04", 6), (b"PK\x01\x02", 8)] {
            let starts: Vec<usize> = bytes
                .windows(4)
                .enumerate()
                .filter(|(_, window)| window == signature)
                .map(|(start, _)| start)
                .collect();
            for start in starts {
                bytes[start + before + offset] = value;
            }
        }
        std::fs::write(path("patched.zip"), bytes).expect("writable");
        error_of(build("patched.zip"))
    };
    for (method, name) in [(12, "bzip2"), (14, "LZMA"), (9, "Deflate64"), (77, "77")] {
        let message = patched(2, method);
        assert!(message.contains("entry `class00/0.png`"), "{message}");
        assert!(
            message.contains("is packed with") && message.contains(name),
            "{message}"
        );
        assert!(!message.contains("damaged"), "{message}");
    }
    let message = patched(0, 1);
    assert!(message.contains("is encrypted"), "{message}");
}

#[test]
fn the_class_that_is_too_small_is_named() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut files = tree();
    files.retain(|(name, _)| !name.starts_with("class07/") || name.ends_with("/0.png"));
    write_folder(&root.path().join("images"), &files);
    let config = FolderSettings {
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..folder_config(root.path(), "images")
    };
    let source = config.build(None).expect("sound");
    let check = |split, shot| {
        let checked = source.check(split, EpisodeShape::new(2, shot, 1));
        checked.expect_err("too small").to_string()
    };
    let message = check(Split::Train, 1);
    assert!(
        message.contains("class of `folder` (`class07`) has 1 item: too few"),
        "{message}"
    );
    let message = check(Split::Test, 1);
    assert!(
        message.contains("`folder` has no test classes"),
        "{message}"
    );
}

/// Omniglot's and FC100's splits share no picture. CIFAR-FS has two in this part of CIFAR-100: a seal that
/// is also an otter, and a girl that is also a baby.
#[test]
fn real_data_sets_share_few_pictures_between_splits() {
    let Some(data) = data_dir() else { return };
    let cache = tempfile::tempdir().expect("temporary folder");
    let cache_dir = cache.path().display().to_string();
    let omniglot = OmniglotSettings {
        cache_dir: cache_dir.clone(),
        ..OmniglotSettings::default()
    };
    let omniglot = omniglot.build(Some(&data)).expect("complete");
    assert_eq!(omniglot.describe()["pictures_in_two_splits"], 0);
    for (split, shared) in [("cifarfs", 2), ("fc100", 0)] {
        let list = |part: &str| format!("cifar_fs/{split}_{part}.txt");
        let cifar = FolderSettings {
            path: "cifar_fs/cifar100_test_png.zip".to_owned(),
            train_classes: list("train"),
            validation_classes: list("val"),
            test_classes: list("test"),
            cache_dir: cache_dir.clone(),
            duplicates: Duplicates::Allow,
            ..FolderSettings::default()
        };
        let source = cifar.build(Some(&data)).expect("complete");
        assert_eq!(
            source.describe()["pictures_in_two_splits"],
            shared,
            "{split}"
        );
        let strict = FolderSettings {
            duplicates: Duplicates::Refuse,
            ..cifar
        };
        assert_eq!(strict.build(Some(&data)).is_err(), shared > 0, "{split}");
    }
}
