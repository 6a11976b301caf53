//! Small sources, and the folder of real data.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use image::{GrayImage, ImageFormat, Luma};
use meta_core::data::{
    EpisodeShape, FolderSettings, GlyphWorld, GpSettings, GrammarSettings, ImageSource,
    PriorSettings, PriorSource, PriorTask, ProjectedSettings, Rotations, SinusoidSettings, Source,
    Split, Task, TopicsSettings,
};
use meta_core::rng::Seed;

/// The folder of real data, if there is one.
pub fn data_dir() -> Option<PathBuf> {
    let folder = std::env::var_os("META_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data"),
        PathBuf::from,
    );
    if folder.is_dir() {
        return Some(folder);
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `println!`: what a passing test prints is hidden.
    let line = format!("skipped: {test}: no data at {}\n", folder.display());
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("stderr");
    None
}

pub const TREE_CLASSES: usize = 30;

pub const TREE_ITEMS: usize = 6;

/// An image without symmetry that differs for every class and item.
pub fn picture(class: usize, item: usize) -> GrayImage {
    GrayImage::from_fn(8, 8, |x, y| {
        let mut stream = Seed(1).stream("picture", (class * 100 + item) as u64, "pixels");
        let offset = stream.below(50) as u32;
        Luma([(x * 23 + y * 5 + offset) as u8 ^ (class * 7) as u8])
    })
}

pub fn png(image: &GrayImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("encodes into memory");
    bytes.into_inner()
}

/// Names and bytes of a small tree of classes.
pub fn tree() -> Vec<(String, Vec<u8>)> {
    (0..TREE_CLASSES)
        .flat_map(|class| (0..TREE_ITEMS).map(move |item| (class, item)))
        .map(|(class, item)| {
            let name = format!("class{class:02}/{item}.png");
            (name, png(&picture(class, item)))
        })
        .collect()
}

pub fn write_folder(root: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
        std::fs::write(path, bytes).expect("writable");
    }
}

pub fn write_zip(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        archive.start_file(name.as_str(), options).expect("entry");
        archive.write_all(bytes).expect("in memory");
    }
    let bytes = archive.finish().expect("in memory").into_inner();
    std::fs::write(path, bytes).expect("writable");
}

pub fn folder_config(root: &Path, name: &str) -> FolderSettings {
    FolderSettings {
        path: root.join(name).display().to_string(),
        channels: 1,
        image_size: 8,
        validation_fraction: 0.3,
        test_fraction: 0.3,
        cache_dir: root.join("cache").display().to_string(),
        ..FolderSettings::default()
    }
}

/// A source on the small tree.
pub fn folder_source(rotations: Rotations, augment_evaluation: bool) -> ImageSource {
    let root = tempfile::tempdir().expect("temporary folder");
    write_folder(&root.path().join("images"), &tree());
    let config = FolderSettings {
        rotations,
        augment_evaluation,
        ..folder_config(root.path(), "images")
    };
    config.build(None).expect("a sound tree")
}

/// Even tasks of tables.
fn prior(task: PriorTask) -> PriorSource {
    let settings = PriorSettings {
        task,
        features: [4, 4],
        ..PriorSettings::default()
    };
    settings.build().expect("valid")
}

/// One of each kind of source, small, made once.
pub fn all_sources() -> &'static [Arc<dyn Source>] {
    static ALL: OnceLock<Vec<Arc<dyn Source>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let glyphs = |items_per_class| GlyphWorld {
            image_size: 12,
            train_classes: 40,
            validation_classes: 7,
            test_classes: 11,
            items_per_class,
            ..GlyphWorld::default()
        };
        vec![
            Arc::new(glyphs(6).build().expect("valid")),
            Arc::new(glyphs(0).build().expect("valid")),
            Arc::new(
                ProjectedSettings {
                    width: 6,
                    glyphs: glyphs(6),
                    ..ProjectedSettings::default()
                }
                .build()
                .expect("valid"),
            ),
            Arc::new(SinusoidSettings::default().build().expect("valid")),
            Arc::new(folder_source(Rotations::None, false)),
            Arc::new(folder_source(Rotations::Classes, false)),
            Arc::new(folder_source(Rotations::Augment, true)),
            Arc::new(GpSettings::default().build().expect("valid")),
            Arc::new(
                TopicsSettings {
                    train_classes: 40,
                    validation_classes: 7,
                    test_classes: 11,
                    items_per_class: 8,
                    ..TopicsSettings::default()
                }
                .build()
                .expect("valid"),
            ),
            Arc::new(prior(PriorTask::Classification)),
            Arc::new(prior(PriorTask::Regression)),
            Arc::new(GrammarSettings::default().build().expect("valid")),
        ]
    })
}

/// A shape that a source can serve.
pub fn fitting(source: &dyn Source, way: usize, shot: usize, query: usize) -> EpisodeShape {
    match source.task() {
        Task::Classification => EpisodeShape::new(way, shot, query),
        Task::Regression { .. } | Task::Acting { .. } => EpisodeShape::new(1, shot, query),
        // A language needs an example of every word.
        Task::Sequences { .. } => EpisodeShape::new(1, shot + 6, query),
    }
}

pub fn error_of(result: meta_core::Result<ImageSource>) -> String {
    result.expect_err("bad data").to_string()
}

/// Accuracy of the nearest class mean on pixels, in per cent, on test episodes.
pub fn nearest_class_mean(source: &dyn Source, shot: usize, episodes: u64) -> f64 {
    let shape = EpisodeShape::new(5, shot, 10);
    let features = source.item_shape().features();
    let (mut right, mut all) = (0u32, 0u32);
    for index in 0..episodes {
        let episode = source
            .episode(Seed(11), Split::Test, shape, index)
            .expect("fits");
        let means: Vec<Vec<f32>> = episode
            .support
            .inputs
            .chunks_exact(shot * features)
            .map(|items| {
                let mean = |pixel| items[pixel..].iter().step_by(features).sum::<f32>();
                (0..features)
                    .map(|pixel| mean(pixel) / shot as f32)
                    .collect()
            })
            .collect();
        for (number, item) in episode.query.inputs.chunks_exact(features).enumerate() {
            let distance = |mean: &[f32]| -> f32 {
                let differences = item.iter().zip(mean).map(|(a, b)| a - b);
                differences.map(|difference| difference * difference).sum()
            };
            let nearest =
                (0..5).min_by(|&a, &b| distance(&means[a]).total_cmp(&distance(&means[b])));
            right += u32::from(nearest == Some(number / 10));
            all += 1;
        }
    }
    100.0 * f64::from(right) / f64::from(all)
}

/// Counter-clockwise quarter turns of a square image, one turn at a time.
pub fn turned(image: &[f32], size: usize, quarter_turns: u8) -> Vec<f32> {
    (0..quarter_turns).fold(image.to_vec(), |image, _| {
        (0..size * size)
            .map(|pixel| {
                let (row, column) = (pixel / size, pixel % size);
                image[column * size + (size - 1 - row)]
            })
            .collect()
    })
}

/// The training images of a source without rotations, whose smallest class has two, by their ids.
pub fn upright_items(source: &ImageSource) -> BTreeMap<u64, Vec<f32>> {
    images_by_id(source, Split::Train, 1)
}

/// Every upright image of a split by its id.
pub fn upright_images(source: &ImageSource, split: Split) -> BTreeMap<u64, Vec<f32>> {
    images_by_id(source, split, TREE_ITEMS - 1)
}

fn images_by_id(source: &ImageSource, split: Split, shot: usize) -> BTreeMap<u64, Vec<f32>> {
    let classes = source.classes(split).expect("images have classes");
    let shape = EpisodeShape::new(classes, shot, 1);
    let episode = source.episode(Seed(0), split, shape, 0).expect("it fits");
    let features = source.item_shape().features();
    [episode.support, episode.query]
        .into_iter()
        .flat_map(|items| {
            let images: Vec<Vec<f32>> = items
                .inputs
                .chunks_exact(features)
                .map(<[f32]>::to_vec)
                .collect();
            items.ids.into_iter().zip(images)
        })
        .collect()
}
