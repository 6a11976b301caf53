//! Word vectors that are kept in a form that opens at once: the same texts, whatever happens to what is kept.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use meta_core::data::{Source, TextSettings};
use meta_core::rng::Seed;

use crate::samples::data_dir;

/// A GloVe file of more than a megabyte, some of whose words are those of the texts.
fn glove(seed: u64) -> Vec<u8> {
    let mut stream = Seed(seed).stream("test", 0, "glove");
    let mut text = String::new();
    for number in 0..4_000 {
        let word = match number {
            7 => "one".to_owned(),
            2_000 => "two".to_owned(),
            // Of a word that comes twice, the first vector counts.
            2_500 => "one".to_owned(),
            3_999 => "three".to_owned(),
            other => format!("word{other}"),
        };
        text.push_str(&word);
        for _ in 0..30 {
            text.push_str(&format!(" {:.6}", stream.normal()));
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn write(path: &Path, bytes: &[u8], time: SystemTime) {
    fs::write(path, bytes).expect("written");
    let file = File::options().write(true).open(path).expect("there");
    file.set_modified(time).expect("a time");
}

fn kept(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn vectors_are_kept_and_never_stale() {
    let folder = tempfile::tempdir().expect("a folder");
    let (vectors, cache) = (folder.path().join("glove.txt"), folder.path().join("cache"));
    let (first, time) = (
        glove(1),
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000),
    );
    assert!(first.len() > 1 << 20);
    let texts = "text,label\none two,a\ntwo missing,a\nthree one,b\none,b\n";
    fs::write(folder.path().join("texts.csv"), texts).expect("written");
    let settings = |cache: &Path| TextSettings {
        files: vec!["texts.csv".to_owned()],
        vectors: "glove.txt".to_owned(),
        cache_dir: cache.to_string_lossy().into_owned(),
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..TextSettings::default()
    };
    let build = |cache: &Path| settings(cache).build(Some(folder.path()));
    let hash = || build(&cache).expect("texts").content_hash();

    write(&vectors, &first, time);
    let described = build(&cache).expect("texts").describe();
    assert_eq!(described["words_with_vectors"], 4_000);
    assert_eq!(described["known_words"], 3);
    let expected = hash();
    let file = kept(&cache);
    let sound = fs::read(&file).expect("kept");

    // With nothing but what is kept.
    let nothing = vec![b'x'; first.len()];
    write(&vectors, &nothing, time);
    assert_eq!(hash(), expected);
    assert_eq!(build(&cache).expect("texts").describe(), described);

    // What is damaged is no use, in a row, in the index or by its length.
    let (row, index) = (40 + 7 * (4 * 30 + 8) + 3, sound.len() - 200);
    for place in [row, index, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[place] ^= 1;
        fs::write(&file, &damaged).expect("written");
        let message = build(&cache).expect_err("no vectors").to_string();
        assert!(message.contains("glove.txt"), "{message}");
    }
    fs::write(&file, &sound[..sound.len() - 1]).expect("written");
    assert!(build(&cache).is_err());

    // It is made again, and so is that of a file that has changed.
    write(&vectors, &first, time);
    assert_eq!(hash(), expected);
    assert_eq!(fs::read(&file).expect("kept"), sound);
    write(&vectors, &glove(2), time + Duration::from_secs(1));
    let other = hash();
    assert_ne!(other, expected);
    assert_eq!(hash(), other);
    assert_eq!(kept(&cache), file);

    // What is no cache stays, and where none can be written none is needed.
    write(&vectors, &first, time);
    fs::write(&file, b"a letter").expect("written");
    assert_eq!(hash(), expected);
    assert_eq!(fs::read(&file).expect("there"), b"a letter");
    let nowhere = build(&vectors.join("below a file")).expect("texts");
    assert_eq!(nowhere.content_hash(), expected);

    // A file with a fault leaves nothing behind.
    fs::remove_file(&file).expect("removed");
    let mut short = first.clone();
    short.extend(b"short 1 2\n");
    write(&vectors, &short, time);
    let message = build(&cache).expect_err("a short line").to_string();
    assert!(message.contains("line 4001 has 2 numbers"), "{message}");
    assert_eq!(fs::read_dir(&cache).expect("a folder").count(), 0);
}

/// How long the same texts take to open without what is kept, while it is written, and with it: by a file of the size
/// of GloVe's, and by GloVe's words of the data folder.
#[test]
#[ignore = "a measurement: writes a file of 300 MB"]
fn speed_of_large_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut file = BufWriter::new(File::create(folder.path().join("large.txt")).expect("made"));
    let mut stream = Seed(1).stream("test", 0, "glove");
    for number in 0..400_000 {
        write!(file, "word{number}").expect("written");
        for _ in 0..100 {
            write!(file, " {:.4}", stream.normal()).expect("written");
        }
        writeln!(file).expect("written");
    }
    file.flush().expect("written");
    let texts: String = (0..40_000)
        .map(|number| format!("word{number} word{},{}\n", 9 * number, number % 20))
        .collect();
    fs::write(folder.path().join("texts.csv"), texts).expect("written");
    let own = ("texts.csv", "large.txt", Some(folder.path().to_owned()));
    let real = (
        "text/clinc150/data_full.json.gz",
        "vectors/glove_100d_40k.txt.gz",
        data_dir(),
    );
    for (texts, vectors, data) in [own, real] {
        let Some(data) = data else { continue };
        let kept = folder.path().join(format!("kept of {}", vectors.len()));
        let nowhere = folder.path().join("texts.csv").join("no folder");
        for (what, cache) in [("without", &nowhere), ("first", &kept), ("next", &kept)] {
            let settings = TextSettings {
                files: vec![texts.to_owned()],
                text: if texts.ends_with("csv") { "0" } else { "" }.to_owned(),
                label: if texts.ends_with("csv") { "1" } else { "" }.to_owned(),
                vectors: vectors.to_owned(),
                cache_dir: cache.to_string_lossy().into_owned(),
                ..TextSettings::default()
            };
            let start = Instant::now();
            let source = settings.build(Some(&data)).expect("texts");
            let (seconds, hash) = (start.elapsed().as_secs_f64(), source.content_hash());
            println!("{vectors}, {what}: {seconds:.3} s, {}", &hash[..8]);
        }
    }
}
