//! Knows the outlines of letters: Latin, Greek, digits and the signs that pictures need.
//!
//! Prepared once from DejaVu Sans by `outlines.py`, so that a picture needs no font and looks the same on
//! every machine.

use std::{collections::HashMap, sync::OnceLock};

/// Units of an outline for each unit of the font's size.
pub const UNITS: f64 = 2048.0;

/// Height of capital letters, for each unit of the font's size.
pub const CAPITALS: f64 = 0.729;

/// A character as a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outline {
    /// From its start to that of the next character, in [`UNITS`].
    pub width: f64,
    /// An SVG path with relative coordinates from the start of the baseline, y down, in [`UNITS`].
    pub path: &'static str,
}

/// What stands for a character that has no outline: a box.
const BOX: Outline = Outline {
    width: 1229.0,
    path: "m150 0l0-1493l929 0l0 1493zm79-79l771 0l0-1335l-771 0z",
};

fn outlines() -> &'static HashMap<char, Outline> {
    static OUTLINES: OnceLock<HashMap<char, Outline>> = OnceLock::new();
    OUTLINES.get_or_init(|| {
        include_str!("outlines.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut parts = line.splitn(3, ' ');
                let code = u32::from_str_radix(parts.next()?, 16).ok()?;
                let width = parts.next()?.parse().ok()?;
                let path = parts.next().unwrap_or_default();
                Some((char::from_u32(code)?, Outline { width, path }))
            })
            .collect()
    })
}

/// The outline of a character; a box where there is none.
pub fn outline(letter: char) -> Outline {
    outlines().get(&letter).copied().unwrap_or(BOX)
}

/// The width of a text in a font of this size.
pub fn text_width(text: &str, size: f64) -> f64 {
    text.chars()
        .map(|letter| outline(letter).width)
        .sum::<f64>()
        * size
        / UNITS
}

/// A step of an outline, in absolute coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Starts a contour.
    Move(f64, f64),
    /// A straight line.
    Line(f64, f64),
    /// A quadratic curve: its control point and its end.
    Curve(f64, f64, f64, f64),
    /// Ends the contour.
    Close,
}

/// The steps of an outline's path.
pub fn steps(path: &str) -> Vec<Step> {
    let (mut at, mut first) = ((0.0, 0.0), (0.0, 0.0));
    let mut steps = Vec::new();
    for (letter, numbers) in commands(path) {
        let step = match (letter, numbers.as_slice()) {
            ('m', &[x, y]) => {
                at = (at.0 + x, at.1 + y);
                first = at;
                Step::Move(at.0, at.1)
            }
            ('l', &[x, y]) => {
                at = (at.0 + x, at.1 + y);
                Step::Line(at.0, at.1)
            }
            ('q', &[cx, cy, x, y]) => {
                let (control, end) = ((at.0 + cx, at.1 + cy), (at.0 + x, at.1 + y));
                at = end;
                Step::Curve(control.0, control.1, end.0, end.1)
            }
            _ => {
                at = first;
                Step::Close
            }
        };
        steps.push(step);
    }
    steps
}

/// The commands of a path with their numbers.
fn commands(path: &str) -> Vec<(char, Vec<f64>)> {
    let mut commands: Vec<(char, Vec<f64>)> = Vec::new();
    let mut number = String::new();
    for letter in path.chars().chain([' ']) {
        let ends = !letter.is_ascii_digit();
        if ends && !number.is_empty() {
            if let (Some((_, numbers)), Ok(value)) = (commands.last_mut(), number.parse()) {
                numbers.push(value);
            }
            number.clear();
        }
        match letter {
            'm' | 'l' | 'q' | 'z' => commands.push((letter, Vec::new())),
            '-' | '0'..='9' => number.push(letter),
            _ => {}
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_have_the_shape_of_their_letters() {
        // DejaVu Sans: an "l" is a bar of 184 by 1556 units, 193 from its start.
        let letter = outline('l');
        assert_eq!(letter.width, 569.0);
        let corners: Vec<(f64, f64)> = steps(letter.path)
            .into_iter()
            .filter_map(|step| match step {
                Step::Move(x, y) | Step::Line(x, y) => Some((x, y)),
                _ => None,
            })
            .collect();
        assert_eq!(
            corners,
            [
                (193.0, -1556.0),
                (377.0, -1556.0),
                (377.0, 0.0),
                (193.0, 0.0)
            ]
        );
        assert!((text_width("ll", 10.0) - 2.0 * 569.0 / 204.8).abs() < 1e-12);
    }

    #[test]
    fn what_pictures_say_has_outlines() {
        for letter in "0123456789 ±×→−–…·“”✓✗²μσαβγ∂∇∑≤≥ößéŁ %".chars()
        {
            assert_ne!(outline(letter), BOX, "{letter}");
        }
        assert_eq!(outline('语'), BOX);
        assert_eq!(steps(BOX.path).len(), 10);
    }

    /// Contours are closed, and every path is understood to its end.
    #[test]
    fn every_outline_is_a_path() {
        for (letter, outline) in outlines() {
            let steps = steps(outline.path);
            let count = |step: fn(&Step) -> bool| steps.iter().filter(|found| step(found)).count();
            let starts = count(|step| matches!(step, Step::Move(..)));
            assert_eq!(starts, count(|step| *step == Step::Close), "{letter}");
            let letters = outline
                .path
                .chars()
                .filter(|letter| letter.is_ascii_lowercase());
            assert_eq!(letters.count(), steps.len(), "{letter}");
        }
    }
}
