//! Vectors without a file: classes that are normal clouds, so that a manifest runs before its data is there.

use super::set::FeatureSet;
use crate::data::episode::Split;
use crate::data::formats::{Element, Numbers, Region, Text, Vectors};
use crate::rng::Seed;

const CLASSES: usize = 100;
const WIDTH: usize = 16;
/// Training, validation and test items of each class.
const ITEMS: [usize; 3] = [24, 8, 8];

/// Class `c` is normal around `μ_c`, itself standard normal, with variance 1 in each of 16 directions.
pub(super) fn set() -> FeatureSet {
    let (mut bytes, mut labels, mut parts) = (Vec::new(), Text::default(), Vec::new());
    for class in 0..CLASSES {
        let mut stream = Seed(0).stream("features/synthetic", class as u64, "class");
        let mean: Vec<f64> = (0..WIDTH).map(|_| stream.normal()).collect();
        for (split, count) in Split::ALL.into_iter().zip(ITEMS) {
            for _ in 0..count {
                let numbers = mean.iter().map(|mean| (mean + stream.normal()) as f32);
                bytes.extend(numbers.flat_map(f32::to_le_bytes));
                labels.push(&format!("class{class:02}"));
                parts.push(split);
            }
        }
    }
    let shape = vec![parts.len(), WIDTH];
    let numbers = Numbers::new(shape, Element::F32, Region::memory(bytes));
    let vectors = numbers.and_then(|numbers| Vectors::new(numbers).ok());
    let set = vectors.and_then(|vectors| FeatureSet::held(vectors, &labels, parts).ok());
    set.expect("as many numbers as their shape says, and names that are there")
}
