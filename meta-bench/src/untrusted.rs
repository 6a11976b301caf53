//! Everything that reads what others wrote, each reader as a function of bytes: what fuzzing calls, and the
//! tests that feed it the same inputs.
//!
//! A reader may refuse its bytes; it must come to an end without a panic, and within the memory that it has.

use std::path::{Path, PathBuf};

use meta_core::{
    Error,
    data::{
        Duplicates, FolderSettings,
        formats::{Keys, read_table},
    },
    toolkit::Catalogue,
    train::checkpoint_file,
};

use crate::{
    BuiltIn,
    failure::Result,
    finished::compare::CompareArgs,
    manifest::{Manifest, base::Base, layer::Layer},
    run::{
        folder::{
            CHECKPOINT, CHECKSUMS, FAILURE, MANIFEST, METRICS, RECORD, RESULT, SCORES, TAGS,
            TIMING, inspect,
        },
        result::read_result,
        state::{State, iteration},
    },
    sweep::{slurm::SlurmSettings, spec::Spec, trials::read_csv},
};

/// A reader.
pub struct Reader {
    /// Its name, that of the fuzz target and of the folder with its inputs.
    pub name: &'static str,
    /// Reads the bytes; the folder is empty, and for its use.
    pub read: fn(&[u8], &Path) -> Result<()>,
}

/// All of them.
pub const READERS: [Reader; 8] = [
    Reader {
        name: "manifest",
        read: manifest,
    },
    Reader {
        name: "overrides",
        read: overrides,
    },
    Reader {
        name: "archive",
        read: archive,
    },
    Reader {
        name: "image",
        read: image,
    },
    Reader {
        name: "checkpoint",
        read: checkpoint,
    },
    Reader {
        name: "run_folder",
        read: run_folder,
    },
    Reader {
        name: "trials",
        read: trials,
    },
    Reader {
        name: "table",
        read: table,
    },
];

/// Writes a file below `folder`, and the folders above it.
fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&path, bytes))
        .expect("the folder can be written to");
    path
}

/// The text of a manifest with its `[sweep]` and `[slurm]`. What is accepted reads back as itself.
fn manifest(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = write(folder, "m.toml", bytes);
    let base = Base::read(&path)?;
    Spec::read(&base.documents, &[], None).and_then(|spec| spec.check_cap())?;
    SlurmSettings::read(&base.documents)?;
    let catalogue = Catalogue::of::<BuiltIn>();
    let manifest = Manifest::from_base(&base, &[], &catalogue)?;
    let again = Base::of(&path, &manifest.to_toml())
        .and_then(|base| Manifest::from_base(&base, &[], &catalogue));
    let again = again.map(|manifest| manifest.values());
    assert_eq!(again.expect("a manifest reads itself"), manifest.values());
    Ok(())
}

/// Overrides, one a line, of `meta run` and of `meta sweep`.
fn overrides(bytes: &[u8], folder: &Path) -> Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let swept = Spec::read(&[], &lines, None).and_then(|spec| spec.check_cap());
    let layers: Vec<Layer> = lines
        .iter()
        .map(|line| Layer::parse(line))
        .collect::<Result<_>>()?;
    let base = Base::of(&folder.join("m.toml"), "")?;
    Manifest::from_base(&base, &layers, &Catalogue::of::<BuiltIn>())?;
    swept
}

/// A zip archive of images.
fn archive(bytes: &[u8], folder: &Path) -> Result<()> {
    images(write(folder, "data.zip", bytes), folder)
}

/// An image, as PNG and as JPEG, in a class of its own.
fn image(bytes: &[u8], folder: &Path) -> Result<()> {
    write(folder, "png/class/image.png", bytes);
    write(folder, "jpg/class/image.jpg", bytes);
    let png = images(folder.join("png"), folder);
    images(folder.join("jpg"), folder).and(png)
}

fn images(path: PathBuf, folder: &Path) -> Result<()> {
    let settings = FolderSettings {
        path: path.display().to_string(),
        image_size: 8,
        // The images of a corpus are alike.
        duplicates: Duplicates::Allow,
        cache_dir: folder.join("cache").display().to_string(),
        ..FolderSettings::default()
    };
    settings.build(None)?;
    Ok(())
}

/// A checkpoint.
fn checkpoint(bytes: &[u8], folder: &Path) -> Result<()> {
    checkpoint_file::read(&write(folder, "checkpoint.safetensors", bytes))?;
    Ok(())
}

/// Before each file of a run folder, a line with its name behind this.
const FILE: &str = "=== ";

/// Files of a run folder.
const FILES: [&str; 9] = [
    MANIFEST, RECORD, CHECKPOINT, METRICS, TIMING, RESULT, SCORES, FAILURE, CHECKSUMS,
];

/// The files of a run folder, the first of which is its record.
fn run_folder(bytes: &[u8], folder: &Path) -> Result<()> {
    let run = folder.join("runs/run-000000000000");
    let (mut name, mut content) = (RECORD, Vec::new());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(next) = line.strip_prefix(FILE.as_bytes()) else {
            content.extend(line);
            continue;
        };
        write(&run, name, &content);
        content.clear();
        let named = |file: &&&str| file.as_bytes() == next.trim_ascii();
        name = FILES.iter().find(named).unwrap_or(&TAGS);
    }
    write(&run, name, &content);
    let found = inspect(&run).map(|_| ());
    State::of(&run);
    iteration(&run);
    let result = read_result(&run).map(|result| {
        result.summary();
    });
    let compared = CompareArgs::of(vec![folder.join("runs")]).tables();
    found.and(result).and(compared.map(|_| ()))
}

/// A CSV file of trials.
fn trials(bytes: &[u8], folder: &Path) -> Result<()> {
    read_csv(&write(folder, "trials.csv", bytes))?;
    Ok(())
}

/// A file of vectors, whole. The first line is the ending of its name and the keys of vectors, labels and splits.
fn table(bytes: &[u8], folder: &Path) -> Result<()> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (head, rest) = bytes.split_at(end);
    let head = String::from_utf8_lossy(head);
    let mut words = head.split(' ');
    let ending: String = words
        .next()
        .unwrap_or_default()
        .chars()
        .filter(char::is_ascii)
        .collect();
    // The name of a file, and of no other one.
    let name = format!("table{}", ending.replace(['/', '\\', '\0'], ""));
    let path = write(
        folder,
        name.get(..32).unwrap_or(&name),
        rest.get(1..).unwrap_or_default(),
    );
    let mut key = || words.next().unwrap_or_default();
    let (features, labels, split) = (key(), key(), key());
    let table = read_table(
        &path,
        &Keys {
            features,
            labels,
            split,
        },
    )?;
    let mut row = vec![0.0; table.vectors.width()];
    for number in 0..table.vectors.rows() {
        table
            .vectors
            .read(number, &mut row)
            .map_err(|error| Error::io(&path, "read", error))?;
    }
    Ok(())
}
