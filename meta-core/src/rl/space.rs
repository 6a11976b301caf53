//! What an observation or an action is.

use serde::Serialize;

/// The set that observations or actions are of.
///
/// Buffers hold `f32` for both kinds, so that one layout serves every family: `[lanes, width]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// One of n things: a buffer holds its number in 0..n.
    Discrete(usize),
    /// A vector of real numbers, each between its two bounds. Infinite where there is no bound.
    Continuous(Vec<[f32; 2]>),
}

impl Space {
    /// A vector of `width` numbers between the same two bounds.
    pub fn cube(width: usize, low: f32, high: f32) -> Self {
        Space::Continuous(vec![[low, high]; width])
    }

    /// Numbers that one element takes in a buffer: 1 for a discrete space.
    pub fn width(&self) -> usize {
        match self {
            Space::Discrete(_) => 1,
            Space::Continuous(bounds) => bounds.len(),
        }
    }

    /// Numbers that one element takes for a network: n for a discrete space.
    pub fn encoded_width(&self) -> usize {
        match self {
            Space::Discrete(n) => *n,
            Space::Continuous(bounds) => bounds.len(),
        }
    }

    /// Writes elements for a network: `[lanes, width]` to `[lanes, encoded_width]`. A discrete element
    /// becomes one-hot; a vector stays as it is.
    ///
    /// ```
    /// use meta_core::rl::Space;
    /// let mut encoded = [0.0; 6];
    /// Space::Discrete(3).encode(&[2.0, 0.0], &mut encoded);
    /// assert_eq!(encoded, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
    /// ```
    pub fn encode(&self, elements: &[f32], encoded: &mut [f32]) {
        match self {
            Space::Discrete(n) => {
                encoded.fill(0.0);
                for (&element, row) in elements.iter().zip(encoded.chunks_exact_mut(*n)) {
                    row[index(element, *n)] = 1.0;
                }
            }
            Space::Continuous(_) => {
                for (to, &from) in encoded.iter_mut().zip(elements) {
                    *to = from;
                }
            }
        }
    }

    /// Moves each number of an element to the nearest one of the space; what is not a number to the lowest.
    pub fn clip(&self, element: &mut [f32]) {
        match self {
            Space::Discrete(n) => {
                for number in element {
                    *number = index(*number, *n) as f32;
                }
            }
            Space::Continuous(bounds) => {
                for (number, &[low, high]) in element.iter_mut().zip(bounds) {
                    *number = clip(*number, low, high);
                }
            }
        }
    }
}

/// The number in 0..`n` that a buffer holds; the nearest one where it holds none.
pub fn index(element: f32, n: usize) -> usize {
    // A cast saturates, and gives 0 for what is not a number.
    (element as usize).min(n.saturating_sub(1))
}

/// The number nearest to `value` between two bounds; the lower one for what is not a number.
pub fn clip(value: f32, low: f32, high: f32) -> f32 {
    // `max` leaves out what is not a number; `clamp` would keep it.
    value.max(low).min(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_nearest_element() {
        let mut arms = [f32::NAN, -3.0, 1.0, 7.0, f32::INFINITY];
        Space::Discrete(3).clip(&mut arms);
        assert_eq!(arms, [0.0, 0.0, 1.0, 2.0, 2.0]);
        let mut forces = [f32::NAN, -3.0, 0.25, f32::INFINITY];
        Space::cube(4, -1.0, 1.0).clip(&mut forces);
        assert_eq!(forces, [-1.0, -1.0, 0.25, 1.0]);
    }
}
