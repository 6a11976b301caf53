//! Sounds with labels as a source: folders and archives of wav and flac files give the same tasks, and bad files are
//! named.

use std::io::{Cursor, Write as _};
use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};
use meta_core::data::{AudioSettings, AudioSource, Episode, EpisodeShape, Source, Split};
use meta_core::rng::Seed;

/// Two seconds of a tone that is `class` and `item`.
fn wav(class: usize, item: usize, spec: WavSpec) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).expect("a wav file");
    let frequency = 200.0 * (class + 1) as f64 + 10.0 * item as f64;
    for step in 0..2 * spec.sample_rate {
        let turn = std::f64::consts::TAU * frequency / f64::from(spec.sample_rate);
        let value = 0.5 * (turn * f64::from(step)).sin();
        for _ in 0..spec.channels {
            match spec.sample_format {
                SampleFormat::Float => writer.write_sample(value as f32).expect("written"),
                SampleFormat::Int => {
                    let largest = 2.0f64.powi(i32::from(spec.bits_per_sample) - 1);
                    writer
                        .write_sample((value * largest) as i32)
                        .expect("written");
                }
            }
        }
    }
    writer.finalize().expect("written");
    bytes.into_inner()
}

fn spec(bits: u16, rate: u32, channels: u16) -> WavSpec {
    WavSpec {
        channels,
        sample_rate: rate,
        bits_per_sample: bits,
        sample_format: if bits == 32 {
            SampleFormat::Float
        } else {
            SampleFormat::Int
        },
    }
}

/// Four classes of three files each, all of one tone of a layout.
fn files(spec: WavSpec) -> Vec<(String, Vec<u8>)> {
    let file = |place: usize| {
        let (class, item) = (place / 3, place % 3);
        (format!("class{class}/{item}.wav"), wav(class, item, spec))
    };
    (0..12).map(file).collect()
}

fn write(folder: &Path, files: &[(String, Vec<u8>)]) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
}

fn settings(path: &Path) -> AudioSettings {
    AudioSettings {
        path: path.to_string_lossy().into_owned(),
        frames: 100,
        validation_fraction: 0.0,
        test_fraction: 0.0,
        ..AudioSettings::default()
    }
}

fn episode(source: &AudioSource) -> Episode {
    let shape = EpisodeShape::new(3, 1, 2);
    let episode = source.episode(Seed(1), Split::Train, shape, 3);
    episode.expect("three classes")
}

/// Every width, number of channels and rate is the same tone, and an archive is its folder.
#[test]
fn layouts_of_wav_are_read_alike() {
    let read = |spec: WavSpec| {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &files(spec));
        settings(folder.path()).build(None).expect("sounds")
    };
    let plain = read(spec(16, 8000, 1));
    let expected = episode(&plain);
    for other in [spec(24, 8000, 2), spec(32, 8000, 1), spec(16, 16_000, 1)] {
        let found = episode(&read(other));
        assert_eq!(found.support.ids, expected.support.ids);
        let mut largest = 0.0f32;
        for (found, expected) in found.query.inputs.iter().zip(&expected.query.inputs) {
            largest = largest.max((found - expected).abs());
        }
        // Quiet filters hear how samples are rounded.
        assert!(largest < 0.7, "{other:?}: {largest}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sounds.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).expect("made"));
    for (name, bytes) in files(spec(16, 8000, 1)) {
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file(format!("all/{name}"), options)
            .expect("started");
        zip.write_all(&bytes).expect("written");
    }
    zip.finish().expect("written");
    let zipped = settings(&path).build(None).expect("sounds");
    assert_eq!(zipped.content_hash(), plain.content_hash());
    assert_eq!(episode(&zipped), expected);
}

/// The remainder of bytes by a polynomial of `bits` bits.
fn crc(bytes: &[u8], bits: u32, polynomial: u32) -> u32 {
    let mut remainder = 0;
    for byte in bytes {
        remainder ^= u32::from(*byte) << (bits - 8);
        for _ in 0..8 {
            let carries = (remainder >> (bits - 1)) & 1;
            remainder = ((remainder << 1) & ((1 << bits) - 1)) ^ (carries * polynomial);
        }
    }
    remainder
}

/// A flac file of one channel of 16 bits, without compression (RFC 9639).
fn flac(samples: &[i16], rate: u32) -> Vec<u8> {
    const BLOCK: u16 = 4096;
    let mut bytes = b"fLaC\x80\0\0\x22".to_vec();
    bytes.extend([BLOCK.to_be_bytes(), BLOCK.to_be_bytes()].concat());
    bytes.extend([0; 6]);
    let layout = (u64::from(rate) << 44) | (15 << 36) | samples.len() as u64;
    bytes.extend(layout.to_be_bytes());
    bytes.extend([0; 16]);
    for (number, block) in samples.chunks(usize::from(BLOCK)).enumerate() {
        // A block of so many samples, at the rate of the file, one channel, 16 bits.
        let mut frame = vec![0xff, 0xf8, 0x70, 0x08, number as u8];
        frame.extend((block.len() as u16 - 1).to_be_bytes());
        frame.push(crc(&frame, 8, 0x07) as u8);
        frame.push(0x02);
        frame.extend(block.iter().flat_map(|sample| sample.to_be_bytes()));
        frame.extend((crc(&frame, 16, 0x8005) as u16).to_be_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// The same samples are the same sound; half a file is none.
#[test]
fn flac_is_read_as_wav_is() {
    let sounds = files(spec(16, 8000, 1));
    let packed = |(name, bytes): &(String, Vec<u8>)| {
        let mut reader = hound::WavReader::new(Cursor::new(bytes)).expect("a wav file");
        let samples: Result<Vec<i16>, _> = reader.samples().collect();
        (
            name.replace("wav", "flac"),
            flac(&samples.expect("samples"), 8000),
        )
    };
    let read = |sounds: &[(String, Vec<u8>)]| {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), sounds);
        settings(folder.path()).build(None)
    };
    let plain = read(&sounds).expect("sounds");
    let mut sounds: Vec<(String, Vec<u8>)> = sounds.iter().map(packed).collect();
    let found = read(&sounds).expect("sounds");
    assert_eq!(found.content_hash(), plain.content_hash());
    assert_eq!(episode(&found), episode(&plain));
    // In the middle of a frame, and between two.
    let frame = 4096 * 2 + 11;
    for length in [42 + frame / 2, 42 + frame] {
        sounds[4].1.truncate(length);
        let message = read(&sounds).err().expect("cut").to_string();
        let name = sounds[4].0.rsplit('/').next().expect("a name");
        assert!(message.contains(name), "{message}");
        sounds[4] = packed(&files(spec(16, 8000, 1))[4]);
    }
}

/// A window of 256 every 128 samples: 124 in two seconds, of which 100 are wanted; and the last number of a row
/// says that it is there.
#[test]
fn rows_are_windows() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &files(spec(16, 8000, 1)));
    let of = |frames: usize| {
        let settings = AudioSettings {
            frames,
            ..settings(folder.path())
        };
        episode(&settings.build(None).expect("sounds"))
            .support
            .inputs
    };
    let there = |inputs: Vec<f32>| inputs.chunks_exact(33).filter(|row| row[32] == 1.0).count();
    assert_eq!(there(of(100)), 3 * 100);
    assert_eq!(there(of(150)), 3 * 124);
}

#[test]
fn bad_sounds_are_named() {
    let refusal = |name: &str, bytes: &[u8]| {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), &files(spec(16, 8000, 1)));
        write(folder.path(), &[(name.to_owned(), bytes.to_vec())]);
        let error = settings(folder.path()).build(None).err();
        error.expect("a refusal").to_string()
    };
    let message = refusal("class1/bad.wav", b"no sound at all");
    assert!(
        message.contains("bad.wav") && message.contains("no readable wav"),
        "{message}"
    );
    let whole = wav(0, 0, spec(16, 8000, 1));
    let message = refusal("class1/cut.wav", &whole[..whole.len() / 2]);
    assert!(message.contains("cut.wav"), "{message}");
    let mut short = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut short, spec(16, 8000, 1)).expect("a wav file");
    writer.write_sample(3i16).expect("written");
    writer.finalize().expect("written");
    let message = refusal("class1/short.wav", &short.into_inner());
    assert!(
        message.contains("short.wav") && message.contains("1 samples"),
        "{message}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let both: Vec<(String, Vec<u8>)> = ["train", "test"]
        .map(|side| (format!("{side}/one/0.wav"), whole.clone()))
        .into();
    write(folder.path(), &both);
    let message = settings(folder.path())
        .build(None)
        .err()
        .expect("two sides");
    assert!(
        message
            .to_string()
            .contains("`one` lies in the folders of two splits"),
        "{message}"
    );
}

/// Tones need no files; which class an item is of can be heard: the nearest of five means of one is right far
/// more often than one in five.
#[test]
fn tones_can_be_told_apart() {
    let source = AudioSettings::default().build(None).expect("defaults");
    let shape = EpisodeShape::new(5, 5, 4);
    let (mut hits, mut count) = (0, 0);
    for index in 0..20 {
        let episode = source
            .episode(Seed(2), Split::Test, shape, index)
            .expect("a task");
        let features = source.item_shape().features();
        let items = |inputs: &[f32]| -> Vec<Vec<f32>> {
            inputs.chunks_exact(features).map(<[f32]>::to_vec).collect()
        };
        let (support, query) = (items(&episode.support.inputs), items(&episode.query.inputs));
        for (place, query) in query.iter().enumerate() {
            let distance = |item: &Vec<f32>| -> f32 {
                item.iter().zip(query).map(|(a, b)| (a - b) * (a - b)).sum()
            };
            let nearest =
                (0..25).min_by(|&a, &b| distance(&support[a]).total_cmp(&distance(&support[b])));
            hits += usize::from(nearest.is_some_and(|item| item / 5 == place / 4));
            count += 1;
        }
    }
    // 400 queries, 1 in 5 by chance: a standard error of 0.02.
    let accuracy = f64::from(hits as u32) / f64::from(count);
    assert!((0.3..0.95).contains(&accuracy), "{accuracy}");
}
