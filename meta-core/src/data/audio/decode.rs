//! From the bytes of a wav or flac file to samples.

use std::io::Cursor;

use claxon::FlacReader;
use hound::{SampleFormat, WavReader};

/// Sound of one channel.
pub(super) struct Sound {
    /// Samples in a second.
    pub rate: usize,
    /// The mean of all channels, from −1 to 1.
    pub samples: Vec<f32>,
}

/// How samples lie in a file.
struct Layout {
    rate: usize,
    channels: usize,
    /// Numbers that are wanted, of all channels.
    wanted: usize,
}

impl Layout {
    /// A layout of which the first `most` seconds are wanted.
    fn of(rate: u32, channels: usize, most: f64) -> Result<Self, String> {
        if channels == 0 || !(1..=1_000_000).contains(&rate) {
            return Err(format!(
                "says that it has {channels} channels of {rate} samples a second"
            ));
        }
        let wanted = (most * f64::from(rate)).ceil() as usize;
        Ok(Layout {
            rate: rate as usize,
            channels,
            wanted: wanted.saturating_mul(channels),
        })
    }
}

/// Decodes a file, at most its first `most` seconds; an error is what is wrong with it.
pub(super) fn decode(bytes: &[u8], most: f64) -> Result<Sound, String> {
    let (layout, numbers) = match bytes.starts_with(b"fLaC") {
        true => flac(bytes, most)?,
        false => wav(bytes, most)?,
    };
    if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
        return Err(format!("has the sample {number}"));
    }
    let samples = numbers
        .chunks_exact(layout.channels)
        .map(|sample| sample.iter().sum::<f32>() / layout.channels as f32);
    Ok(Sound {
        rate: layout.rate,
        samples: samples.collect(),
    })
}

/// The numbers of all channels in turn, from −1 to 1.
fn flac(bytes: &[u8], most: f64) -> Result<(Layout, Vec<f32>), String> {
    let unreadable = |error: claxon::Error| format!("is no readable flac file: {error}");
    let mut reader = FlacReader::new(Cursor::new(bytes)).map_err(unreadable)?;
    let info = reader.streaminfo();
    let layout = Layout::of(info.sample_rate, info.channels as usize, most)?;
    let scale = 2.0f64.powi(1 - info.bits_per_sample as i32);
    let samples = reader.samples().take(layout.wanted);
    let numbers: Result<Vec<f32>, claxon::Error> = samples
        .map(|sample| sample.map(|sample| (f64::from(sample) * scale) as f32))
        .collect();
    let numbers = numbers.map_err(unreadable)?;
    // The decoder takes a file that ends between two frames for whole.
    let promised = info
        .samples
        .map(|each| each.saturating_mul(u64::from(info.channels)));
    match promised.filter(|&all| (numbers.len() as u64) < all.min(layout.wanted as u64)) {
        None => Ok((layout, numbers)),
        Some(all) => Err(format!(
            "is cut short: {all} samples are promised, and {} are there",
            numbers.len()
        )),
    }
}

/// The numbers of all channels in turn, from −1 to 1.
fn wav(bytes: &[u8], most: f64) -> Result<(Layout, Vec<f32>), String> {
    let unreadable = |error: hound::Error| format!("is no readable wav file: {error}");
    let mut reader = WavReader::new(Cursor::new(bytes)).map_err(unreadable)?;
    let spec = reader.spec();
    let layout = Layout::of(spec.sample_rate, usize::from(spec.channels), most)?;
    let wanted = layout.wanted.min(bytes.len());
    let numbers: Result<Vec<f32>, hound::Error> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().take(wanted).collect(),
        SampleFormat::Int => {
            let scale = 2.0f64.powi(1 - i32::from(spec.bits_per_sample));
            let samples = reader.samples::<i32>().take(wanted);
            samples
                .map(|sample| sample.map(|sample| (f64::from(sample) * scale) as f32))
                .collect()
        }
    };
    Ok((layout, numbers.map_err(unreadable)?))
}
