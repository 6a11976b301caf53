//! From the bytes of a wav file to samples.

use std::io::Cursor;

use hound::{SampleFormat, WavReader};

/// Sound of one channel.
pub(super) struct Sound {
    /// Samples in a second.
    pub rate: usize,
    /// The mean of all channels, from −1 to 1.
    pub samples: Vec<f32>,
}

/// Decodes a file, at most its first `most` seconds; an error is what is wrong with it.
pub(super) fn decode(bytes: &[u8], most: f64) -> Result<Sound, String> {
    let unreadable = |error: hound::Error| format!("is no readable wav file: {error}");
    let mut reader = WavReader::new(Cursor::new(bytes)).map_err(unreadable)?;
    let spec = reader.spec();
    let (rate, channels) = (spec.sample_rate as usize, usize::from(spec.channels));
    if channels == 0 || !(1..=1_000_000).contains(&rate) {
        return Err(format!(
            "says that it has {channels} channels of {rate} samples a second"
        ));
    }
    let wanted = (most * rate as f64).ceil() as usize;
    let wanted = wanted.saturating_mul(channels).min(bytes.len());
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
    let numbers = numbers.map_err(unreadable)?;
    if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
        return Err(format!("has the sample {number}"));
    }
    let samples = numbers
        .chunks_exact(channels)
        .map(|sample| sample.iter().sum::<f32>() / channels as f32);
    Ok(Sound {
        rate,
        samples: samples.collect(),
    })
}
