//! Rows of tables in the places of an episode: which row goes where, and which numbers are there.

use serde::{Deserialize, Serialize};

use super::episode::{Extras, Items, Mask, Targets};

/// What stands where a number is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    /// A mask says that it is missing; numbers are as they are.
    Mask,
    /// The mean: 0, in units of a column's mean and deviation.
    Mean,
}

/// Rows of each class in their places, `per_class` for each of `way` classes, and the labels of the places;
/// none where a place is not filled.
pub(crate) fn places(
    classes: &[&[usize]],
    way: usize,
    per_class: usize,
) -> (Vec<Option<usize>>, Vec<u32>) {
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for label in 0..way {
        let own = classes.get(label).copied().unwrap_or_default();
        rows.extend((0..per_class).map(|place| own.get(place).copied()));
        labels.extend(std::iter::repeat_n(label as u32, per_class));
    }
    (rows, labels)
}

/// Items of `width` numbers from rows; `number(row, feature)` is none where a number is missing. `classes`
/// are the numbers that the labels stand for in the source; none of values. With the masks that `extras` says
/// tasks may have.
pub(crate) fn items_of_rows(
    rows: &[Option<usize>],
    width: usize,
    targets: Targets,
    classes: &[u32],
    extras: Extras,
    number: impl Fn(usize, usize) -> Option<f32>,
) -> Items {
    let mut inputs = vec![0.0; rows.len() * width];
    let mut numbers = vec![false; rows.len() * width];
    for (place, row) in rows.iter().enumerate() {
        let Some(row) = *row else { continue };
        for feature in 0..width {
            if let Some(found) = number(row, feature) {
                inputs[place * width + feature] = found;
                numbers[place * width + feature] = true;
            }
        }
    }
    let class = |place: usize| match &targets {
        Targets::Classes(labels) => classes.get(labels[place] as usize).copied().unwrap_or(0),
        Targets::Values(_) | Targets::Sequences(_) => 0,
    };
    let ids = rows.iter().enumerate().map(|(place, row)| match row {
        Some(row) => u64::from(class(place)) << 32 | *row as u64,
        // No row has this number.
        None => u64::MAX,
    });
    let ids = ids.collect();
    Items {
        inputs,
        targets,
        ids,
        mask: (extras.items || extras.numbers).then(|| Mask {
            items: rows.iter().map(Option::is_some).collect(),
            numbers: extras.numbers.then_some(numbers),
        }),
    }
}
