//! Pictures as people see them, whatever the file.

use std::io::Cursor;
use std::path::Path;

use image::{
    DynamicImage, GrayImage, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage,
    imageops::rotate90,
};
use meta_core::data::{Background, FolderSettings, ImageSource, Source, Split, contact_sheet};
use meta_core::rng::Seed;

use crate::samples::*;

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, format)
        .expect("encodes into memory");
    bytes.into_inner()
}

/// Two classes of the training split; the file is in each, and a picture of its own to make them differ.
fn settings(root: &Path, files: &[(&str, Vec<u8>)]) -> FolderSettings {
    let classes = ["a", "b"].iter().enumerate();
    let files: Vec<(String, Vec<u8>)> = classes
        .flat_map(|(number, class)| {
            let own = (format!("{class}/0.png"), png(&picture(number, 0)));
            let rest = files.iter();
            let rest = rest.map(move |(name, bytes)| (format!("{class}/{name}"), bytes.clone()));
            [own].into_iter().chain(rest)
        })
        .collect();
    write_folder(&root.join("images"), &files);
    FolderSettings {
        channels: 3,
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..folder_config(root, "images")
    }
}

/// The pixels of the second image of the first class, as bytes.
fn pixels_of(source: &ImageSource) -> Vec<[u8; 3]> {
    let image = &upright_items(source)[&1];
    let bytes = image.iter().map(|value| (value * 255.0).round() as u8);
    bytes.collect::<Vec<u8>>().as_chunks().0.to_vec()
}

fn pixels_in(settings: &FolderSettings) -> Vec<[u8; 3]> {
    pixels_of(&settings.build(None).expect("sound"))
}

/// Puts a chunk before the pixels of a PNG file.
fn with_chunk(png: &[u8], kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let place = png
        .windows(4)
        .position(|bytes| bytes == b"IDAT")
        .expect("pixels")
        - 4;
    let body = [&kind[..], data].concat();
    // The checksum of PNG, bit by bit.
    let sum = body.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    let length = (data.len() as u32).to_be_bytes();
    [
        &png[..place],
        &length,
        &body,
        &(!sum).to_be_bytes(),
        &png[place..],
    ]
    .concat()
}

/// Each kind of transparency, over both backgrounds.
#[test]
fn the_background_shows_where_a_picture_is_transparent() {
    let rgba = RgbaImage::from_fn(8, 8, |x, _| Rgba([200, 100, 0, (x * 36) as u8]));
    let grey = image::GrayAlphaImage::from_fn(8, 8, |x, _| LumaA([40, (x * 36) as u8]));
    // Value 7 of a grey picture is declared transparent.
    let keyed = GrayImage::from_fn(8, 8, |x, _| Luma([if x == 0 { 7 } else { 40 }]));
    let keyed = with_chunk(&png(&keyed), b"tRNS", &[0, 7]);
    let over = |value: u32, alpha: u32, background: u32| {
        ((value * alpha + background * (255 - alpha) + 127) / 255) as u8
    };
    for (background, ground) in [(Background::White, 255), (Background::Black, 0)] {
        type Expected<'a> = &'a dyn Fn(u32) -> [u8; 3];
        let cases: [(Vec<u8>, Expected<'_>); 3] = [
            (encoded(&rgba.clone().into(), ImageFormat::Png), &|x| {
                [200, 100, 0].map(|value| over(value, x * 36, ground))
            }),
            (encoded(&grey.clone().into(), ImageFormat::Png), &|x| {
                [over(40, x * 36, ground); 3]
            }),
            (keyed.clone(), &|x| {
                [if x == 0 { ground as u8 } else { 40 }; 3]
            }),
        ];
        for (file, expected) in cases {
            let root = tempfile::tempdir().expect("temporary folder");
            let settings = FolderSettings {
                background,
                ..settings(root.path(), &[("1.png", file)])
            };
            for (place, pixel) in pixels_in(&settings).into_iter().enumerate() {
                assert_eq!(pixel, expected(place as u32 % 8), "{background:?}, {place}");
            }
        }
    }
}

/// EXIF says that the top of this picture is at its left: it is turned clockwise to be seen.
#[test]
fn photos_stand_upright() {
    const TURN: [u8; 26] = [
        b'I', b'I', 42, 0, 8, 0, 0, 0, // little-endian, its directory at byte 8
        1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, // one entry: orientation, a short, 6
        0, 0, 0, 0,
    ];
    let picture = RgbImage::from_fn(8, 8, |x, y| {
        Rgb([if x < 4 { 250 } else { 5 }, 9 * y as u8, 0])
    });
    let upright = rotate90(&picture);
    let picture = DynamicImage::from(picture);
    let jpeg = encoded(&picture, ImageFormat::Jpeg);
    let block = [&b"Exif\0\0"[..], &TURN].concat();
    let length = (block.len() as u16 + 2).to_be_bytes();
    let jpeg = [&jpeg[..2], &[0xff, 0xe1], &length, &block, &jpeg[2..]].concat();
    let png = with_chunk(&encoded(&picture, ImageFormat::Png), b"eXIf", &TURN);
    // What JPEG loses is less than what turning changes.
    for (name, file, tolerance) in [("1.jpg", jpeg, 40), ("1.png", png, 0)] {
        let root = tempfile::tempdir().expect("temporary folder");
        let pixels = pixels_in(&settings(root.path(), &[(name, file)]));
        for (pixel, expected) in pixels.iter().zip(upright.pixels()) {
            let near = |channel: usize| pixel[channel].abs_diff(expected.0[channel]) <= tolerance;
            assert!((0..2).all(near), "{name}: {pixel:?} is not {expected:?}");
        }
    }
}

/// Of every format: whole it is read, cut anywhere it is refused by name.
#[test]
fn a_file_that_is_cut_short_is_refused() {
    let picture = RgbImage::from_fn(64, 64, |x, y| {
        let mut stream = Seed(1).stream("noise", u64::from(y * 64 + x), "pixels");
        Rgb([stream.below(256) as u8, 3 * x as u8, 3 * y as u8])
    });
    let picture = DynamicImage::from(picture);
    let mut accepted: Vec<String> = Vec::new();
    for (name, format) in [
        ("1.png", ImageFormat::Png),
        ("1.jpg", ImageFormat::Jpeg),
        ("1.jfif", ImageFormat::Jpeg),
        ("1.jpe", ImageFormat::Jpeg),
        ("1.gif", ImageFormat::Gif),
        ("1.webp", ImageFormat::WebP),
        ("1.BMP", ImageFormat::Bmp),
    ] {
        let file = encoded(&picture, format);
        let root = tempfile::tempdir().expect("temporary folder");
        let build = |bytes: Vec<u8>| settings(root.path(), &[(name, bytes)]).build(None);
        let source = build(file.clone()).expect("whole");
        assert_eq!(source.describe()["images"], 4, "{name}");
        for percent in [10, 35, 60, 90, 99] {
            let part = &file[..file.len() * percent / 100];
            // Also what a download leaves that had reserved the room.
            let padded = [part, &vec![0; file.len() - part.len()]].concat();
            for bytes in [part.to_vec(), padded] {
                let length = bytes.len();
                // Their formats have no mark at the end and no checksum.
                let no_end = [ImageFormat::Bmp, ImageFormat::WebP].contains(&format);
                if no_end && length == file.len() {
                    continue;
                }
                let case = format!("{name}, {percent} % of {}, {length} bytes", file.len());
                match build(bytes).map_err(|error| error.to_string()) {
                    Ok(_) => accepted.push(case),
                    Err(message) => assert!(message.contains(name), "{case}: {message}"),
                }
            }
        }
    }
    assert_eq!(accepted, Vec::<String>::new());
}

/// What follows the end of a JPEG file is no part of it.
#[test]
fn what_follows_a_picture_is_ignored() {
    let root = tempfile::tempdir().expect("temporary folder");
    let picture = DynamicImage::from(picture(3, 3));
    let mut file = encoded(&picture, ImageFormat::Jpeg);
    file.extend_from_slice(b"\xff\xd8 a second picture of a camera \xff");
    assert!(
        settings(root.path(), &[("1.jpg", file)])
            .build(None)
            .is_ok()
    );
}

#[test]
fn formats_that_are_not_read_are_counted_by_name() {
    let root = tempfile::tempdir().expect("temporary folder");
    let other = |name| (name, b"II*\0".to_vec());
    let files = [
        other("1.tiff"),
        other("2.TIFF"),
        other("notes.txt"),
        other("README"),
    ];
    let source = settings(root.path(), &files).build(None).expect("sound");
    let expected = serde_json::json!({ ".tiff": 4, ".txt": 2, "without an extension": 2 });
    assert_eq!(source.describe()["not_read"], expected);
    std::fs::remove_file(root.path().join("images/a/0.png")).expect("there");
    std::fs::remove_file(root.path().join("images/b/0.png")).expect("there");
    let message = error_of(folder_config(root.path(), "images").build(None));
    assert!(message.contains("holds no images"), "{message}");
    assert!(message.contains("4 .tiff (`a/1.tiff`, …)"), "{message}");
}

/// The head of a PNG file of 1 × 100 000 000 pixels is enough to refuse it.
#[test]
fn enormous_pictures_are_refused_before_they_are_decoded() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut file = with_chunk(&png(&picture(0, 0)), b"tEXt", b"k\0v");
    let head = [
        &1u32.to_be_bytes()[..],
        &100_000_000u32.to_be_bytes(),
        &[8, 0, 0, 0, 0],
    ]
    .concat();
    let chunk = with_chunk(b"\0\0\0\0IDAT", b"IHDR", &head);
    file.splice(8..8 + 25, chunk[..25].iter().copied());
    let message = error_of(settings(root.path(), &[("1.png", file)]).build(None));
    assert!(
        message.contains("`a/1.png` has 1×100000000 pixels"),
        "{message}"
    );
}

/// As an image, as the data and as a list, and links to them: a message, and no waiting.
#[cfg(unix)]
#[test]
fn special_files_are_refused() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| root.path().join(name);
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe"))
        .status();
    assert!(made.expect("a program of every Unix").success());
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("writable");
    symlink("/dev/zero", path("zero")).expect("writable");
    for (name, kind) in [
        ("pipe", "a pipe"),
        ("socket", "a socket"),
        ("zero", "a device"),
    ] {
        let message = error_of(folder_config(root.path(), name).build(None));
        assert!(message.ends_with(&format!("{name}: is {kind}; a regular file is needed")));
        let good = settings(root.path(), &[]);
        let listed = FolderSettings {
            train_classes: path(name).display().to_string(),
            ..good.clone()
        };
        let message = error_of(listed.build(None));
        assert!(message.contains(&format!("{name}: is {kind}")), "{message}");
        let image = path("images/a/1.png");
        symlink(path(name), &image).expect("writable");
        let message = error_of(good.build(None));
        assert!(message.contains("`data.follow_links = true`"), "{message}");
        let followed = FolderSettings {
            follow_links: true,
            ..good
        };
        let message = error_of(followed.build(None));
        assert!(
            message.contains(&format!("a/1.png: is {kind}")),
            "{message}"
        );
        std::fs::remove_file(image).expect("there");
    }
}

/// A sheet shows colours, and grey pictures as they are; ink stays dark.
#[test]
fn a_contact_sheet_shows_pictures_as_they_are() {
    let root = tempfile::tempdir().expect("temporary folder");
    let red = RgbImage::from_pixel(8, 8, Rgb([255, 0, 0]));
    let config = settings(
        root.path(),
        &[("1.png", encoded(&red.into(), ImageFormat::Png))],
    );
    let has = |config: &FolderSettings, color: [u8; 3]| {
        let source = config.build(None).expect("sound");
        let sheet = contact_sheet(&source, Seed(0), Split::Train, 2, 2).expect("fits");
        sheet.into_rgb8().pixels().any(|pixel| pixel.0 == color)
    };
    assert!(has(&config, [255, 0, 0]));
    let inverted = FolderSettings {
        invert: true,
        ..config.clone()
    };
    assert!(has(&inverted, [255, 0, 0]));
    // The luma of pure red.
    let grey = FolderSettings {
        channels: 1,
        ..config
    };
    assert!(has(&grey, [54; 3]));
}
