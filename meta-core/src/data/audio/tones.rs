//! Tones: sounds that are drawn, so that learning from sound works without files.
//!
//! A class is a motif of three notes, by the intervals between them, in a timbre: how strong the first six harmonics
//! are. An item plays it from a pitch and a moment of its own, in noise.

use std::f64::consts::TAU;

use crate::data::episode::Split;
use crate::rng::Seed;

/// Harmonics of a timbre.
const HARMONICS: usize = 6;
/// Notes of a motif.
const NOTES: usize = 3;

/// The samples of an item of the class at `position` of a split.
pub(super) fn tone(
    world: Seed,
    split: Split,
    [position, item]: [usize; 2],
    rate: usize,
    length: usize,
) -> Vec<f32> {
    let class = (3 * position + split.position()) as u64;
    let mut of_class = world.stream("tones", class, "class");
    let strengths = [(); HARMONICS].map(|()| of_class.uniform_in(0.05, 1.0));
    let intervals = [(); NOTES].map(|()| of_class.below(13) as f64 - 6.0);
    let mut of_item = world.stream("tones-item", class << 32 | item as u64, "item");
    let pitch = 220.0 * 2.0f64.powf(of_item.uniform_in(0.0, 1.0));
    let first = of_item.uniform_in(0.0, 0.25) * length as f64;
    let note = 0.25 * length as f64;
    let loudness = of_item.uniform_in(0.3, 1.0) / strengths.iter().sum::<f64>();
    let mut samples = Vec::with_capacity(length);
    for step in 0..length {
        let noise = 0.01 * of_item.normal();
        let since = (step as f64 - first) / note;
        let sound = match since >= 0.0 && since < NOTES as f64 {
            false => 0.0,
            true => {
                let place = since as usize;
                // A note comes fast and fades.
                let age = since - place as f64;
                let envelope = (20.0 * age).min(1.0) * (-2.0 * age).exp();
                let frequency = pitch * 2.0f64.powf(intervals[place] / 12.0);
                let turn = TAU * frequency * step as f64 / rate as f64;
                let wave = |(number, strength): (usize, &f64)| {
                    let harmonic = (number + 1) as f64;
                    // What the rate cannot hold is not there.
                    match frequency * harmonic < 0.5 * rate as f64 {
                        true => strength * (harmonic * turn).sin(),
                        false => 0.0,
                    }
                };
                envelope * strengths.iter().enumerate().map(wave).sum::<f64>()
            }
        };
        samples.push((loudness * sound + noise) as f32);
    }
    samples
}
