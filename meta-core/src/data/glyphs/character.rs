//! Inventing characters: pen strokes, alphabets, and the character that a class stands for.

use std::f32::consts::{PI, TAU};

use crate::rng::{Seed, Stream};

/// Characters of one alphabet.
const ALPHABET_CLASSES: usize = 30;

/// A point or vector, in units of the image's side: x to the right, y down.
pub type Point = [f32; 2];

pub fn add(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

pub fn subtract(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}

pub fn scale(a: Point, factor: f32) -> Point {
    [a[0] * factor, a[1] * factor]
}

pub fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

pub fn turn(a: Point, angle: f32) -> Point {
    let (sin, cos) = angle.sin_cos();
    [a[0] * cos - a[1] * sin, a[0] * sin + a[1] * cos]
}

fn uniform_in(stream: &mut Stream, low: f32, high: f32) -> f32 {
    stream.uniform_in(f64::from(low), f64::from(high)) as f32
}

pub fn normal(stream: &mut Stream) -> f32 {
    stream.normal() as f32
}

fn chance(stream: &mut Stream, probability: f32) -> bool {
    stream.uniform() < f64::from(probability)
}

/// Picks a position with a probability in proportion to its weight.
fn pick(stream: &mut Stream, weights: &[f32]) -> usize {
    let mut place = stream.uniform() as f32 * weights.iter().sum::<f32>();
    for (position, weight) in weights.iter().enumerate() {
        place -= weight;
        if place < 0.0 {
            return position;
        }
    }
    weights.len() - 1
}

/// A point that the pen passes through.
#[derive(Clone, Copy, Debug)]
pub struct Knot {
    pub at: Point,
    /// Whether the pen turns sharply here rather than in a curve.
    pub corner: bool,
}

/// One movement of the pen, from pen down to pen up.
#[derive(Clone, Debug)]
pub struct PenStroke(pub Vec<Knot>);

/// What a pen can do between two corners.
#[derive(Clone, Copy)]
enum Move {
    Line,
    Arc,
    Hook,
    Wave,
    Loop,
}

const MOVES: [Move; 5] = [Move::Line, Move::Arc, Move::Hook, Move::Wave, Move::Loop];

impl PenStroke {
    /// A stroke as a pen makes it: `moves` pieces of lines, arcs, hooks, waves and loops, each continuing
    /// where the last one ended, smoothly or around a corner. Centred on its bounding box.
    fn invent(stream: &mut Stream, move_weights: &[f32; 5], straightness: f32) -> Self {
        let moves = 1 + pick(stream, &[0.50, 0.34, 0.16]);
        // Writing prefers down, right and the diagonals.
        let mut heading = if chance(stream, straightness) {
            PI / 4.0 * pick(stream, &[3.0, 1.0, 4.0, 1.0, 0.6, 0.2, 0.3, 0.6]) as f32
        } else {
            uniform_in(stream, 0.0, TAU)
        };
        let mut at = [0.0; 2];
        let mut knots = vec![Knot { at, corner: false }];
        let mut weights = *move_weights;
        for piece in 0..moves {
            if piece > 0 && chance(stream, 0.62) {
                let sign = if chance(stream, 0.5) { 1.0 } else { -1.0 };
                let angle = [PI / 2.0, 0.72 * PI, PI / 4.0, 0.85 * PI];
                heading += sign * angle[pick(stream, &[0.45, 0.25, 0.2, 0.1])];
                if let Some(last) = knots.last_mut() {
                    last.corner = true;
                }
            }
            let sign = if chance(stream, 0.5) { 1.0 } else { -1.0 };
            // Length, and the total turn of the first and of the second half.
            let made = MOVES[pick(stream, &weights)];
            let (length, first, second) = match made {
                Move::Line => (uniform_in(stream, 0.25, 0.75), 0.0, 0.0),
                Move::Arc => {
                    let half = sign * uniform_in(stream, 0.2, 0.5) * PI;
                    (uniform_in(stream, 0.4, 0.95), half, half)
                }
                Move::Hook => {
                    let half = sign * uniform_in(stream, 0.5, 0.9) * PI;
                    (uniform_in(stream, 0.4, 0.8), 0.0, half)
                }
                Move::Wave => {
                    let half = sign * uniform_in(stream, 0.35, 0.8) * PI;
                    (uniform_in(stream, 0.5, 0.95), half, -half)
                }
                Move::Loop => {
                    let half = sign * uniform_in(stream, 0.9, 1.08) * PI;
                    (uniform_in(stream, 0.5, 1.5), half, half)
                }
            };
            if matches!(made, Move::Hook | Move::Wave | Move::Loop) {
                // One of these makes a letter; more of them make a scribble.
                weights[2..].fill(0.0);
            }
            let length = if moves == 1 { length } else { 0.75 * length };
            // A knot about every eighth of a circle, and a middle one for straight lines to bend at.
            let steps = 2 * (1 + ((first.abs() + second.abs()) / (PI / 2.0)) as usize);
            for step in 0..steps {
                let bend = if step < steps / 2 { first } else { second } / (steps / 2) as f32;
                // The chord of an arc points along its middle heading and is this much shorter.
                let chord = if bend.abs() > 1e-3 {
                    (bend / 2.0).sin() / (bend / 2.0)
                } else {
                    1.0
                };
                let (sin, cos) = (heading + bend / 2.0).sin_cos();
                at = add(at, scale([cos, sin], chord * length / steps as f32));
                heading += bend;
                knots.push(Knot { at, corner: false });
            }
        }
        let mut stroke = PenStroke(knots);
        let (low, high) = bounds(std::slice::from_ref(&stroke));
        let centre = scale(add(low, high), 0.5);
        stroke.map(|point| subtract(point, centre));
        stroke
    }

    /// A dot, or a short tick.
    fn dot(stream: &mut Stream) -> Self {
        let half = turn(
            [uniform_in(stream, 0.008, 0.03), 0.0],
            uniform_in(stream, 0.0, TAU),
        );
        let knot = |at| Knot { at, corner: false };
        PenStroke(vec![knot(scale(half, -1.0)), knot([0.0; 2]), knot(half)])
    }

    fn map(&mut self, mut function: impl FnMut(Point) -> Point) {
        for knot in &mut self.0 {
            knot.at = function(knot.at);
        }
    }

    /// Length of the straight lines between the knots.
    fn length(&self) -> f32 {
        let pairs = self.0.windows(2);
        pairs.map(|pair| distance(pair[0].at, pair[1].at)).sum()
    }

    fn start(&self) -> Point {
        self.0[0].at
    }

    fn end(&self) -> Point {
        self.0[self.0.len() - 1].at
    }

    pub fn middle(&self) -> Point {
        self.0[self.0.len() / 2].at
    }
}

/// Corners of the bounding box of all knots: least x and y, greatest x and y.
fn bounds(strokes: &[PenStroke]) -> (Point, Point) {
    let mut low = [f32::INFINITY; 2];
    let mut high = [f32::NEG_INFINITY; 2];
    for knot in strokes.iter().flat_map(|stroke| &stroke.0) {
        for axis in 0..2 {
            low[axis] = low[axis].min(knot.at[axis]);
            high[axis] = high[axis].max(knot.at[axis]);
        }
    }
    (low, high)
}

/// What the characters of an alphabet have in common.
struct Alphabet {
    vocabulary: Vec<PenStroke>,
    move_weights: [f32; 5],
    straightness: f32,
    /// Weights of one, two, three and four strokes.
    stroke_weights: [f32; 4],
    /// Probability that a stroke touches an earlier one.
    joined: f32,
    /// Probability that a further stroke is a dot.
    dotted: f32,
}

impl Alphabet {
    fn new(world: Seed, number: u64) -> Self {
        let mut stream = world.stream("glyphs-alphabet", number, "style");
        let mut tilt = |weight: f32, spread: f32| weight * (spread * normal(&mut stream)).exp();
        let move_weights = [3.2, 1.8, 0.9, 0.5, 0.6].map(|weight| tilt(weight, 0.6));
        let stroke_weights = [0.24, 0.36, 0.27, 0.13].map(|weight| tilt(weight, 0.5));
        let straightness = uniform_in(&mut stream, 0.55, 0.95);
        let joined = uniform_in(&mut stream, 0.65, 0.95);
        let dotted = uniform_in(&mut stream, 0.0, 0.22);
        let words = 8 + stream.below(9);
        let vocabulary = (0..words)
            .map(|_| PenStroke::invent(&mut stream, &move_weights, straightness))
            .collect();
        Alphabet {
            vocabulary,
            move_weights,
            straightness,
            stroke_weights,
            joined,
            dotted,
        }
    }

    /// A stroke of the vocabulary, at times turned or mirrored, or a new one.
    fn stroke(&self, stream: &mut Stream) -> PenStroke {
        if chance(stream, 0.3) {
            return PenStroke::invent(stream, &self.move_weights, self.straightness);
        }
        let mut stroke = self.vocabulary[stream.below(self.vocabulary.len())].clone();
        match pick(stream, &[0.7, 0.12, 0.1, 0.08]) {
            1 => stroke.map(|[x, y]| [-x, y]),
            2 => stroke.map(|[x, y]| [x, -y]),
            3 => stroke.map(|[x, y]| [-y, x]),
            _ => {}
        }
        stroke
    }

    /// A character of one to four strokes, of any size and anywhere.
    fn compose(&self, stream: &mut Stream) -> Vec<PenStroke> {
        let count = 1 + pick(stream, &self.stroke_weights);
        let mut first = self.stroke(stream);
        if count == 1 {
            // A character of one plain line or arc would be met again in every alphabet.
            for _ in 0..16 {
                if first.0.iter().any(|knot| knot.corner) || first.0.len() > 8 {
                    break;
                }
                first = self.stroke(stream);
            }
        }
        let mut strokes = vec![first];
        while strokes.len() < count {
            let next = self.further_stroke(&strokes[stream.below(strokes.len())], stream);
            strokes.push(next);
        }
        strokes
    }

    /// A stroke that goes with an earlier one: a dot near it, its twin, or another that touches it or
    /// lies beside it.
    fn further_stroke(&self, earlier: &PenStroke, stream: &mut Stream) -> PenStroke {
        let any_angle = |stream: &mut Stream, low: f32, high: f32| {
            turn(
                [uniform_in(stream, low, high), 0.0],
                uniform_in(stream, 0.0, TAU),
            )
        };
        if chance(stream, self.dotted) {
            let mut dot = PenStroke::dot(stream);
            let offset = any_angle(stream, 0.15, 0.3);
            let anchor = [earlier.middle(), earlier.end()][stream.below(2)];
            dot.map(|point| add(point, add(anchor, offset)));
            return dot;
        }
        if chance(stream, 0.12) {
            // The same again beside it, as in many scripts.
            let mut twin = earlier.clone();
            let across = subtract(earlier.end(), earlier.start());
            let length = distance(earlier.end(), earlier.start()).max(0.1);
            let step = scale(
                turn(across, PI / 2.0),
                uniform_in(stream, 0.18, 0.35) / length,
            );
            twin.map(|point| add(point, step));
            return twin;
        }
        let mut next = self.stroke(stream);
        let size = uniform_in(stream, 0.55, 1.05);
        next.map(|point| scale(point, size));
        let own = [next.start(), next.end(), next.middle()][pick(stream, &[0.5, 0.2, 0.3])];
        let other = if chance(stream, self.joined) {
            match pick(stream, &[0.3, 0.3, 0.4]) {
                0 => earlier.start(),
                1 => earlier.end(),
                _ => earlier.0[stream.below(earlier.0.len())].at,
            }
        } else {
            add(earlier.middle(), any_angle(stream, 0.15, 0.4))
        };
        let shift = subtract(other, own);
        next.map(|point| add(point, shift));
        next
    }
}

/// A class: the character that all its drawers have in mind.
#[derive(Debug)]
pub struct Glyph(pub Vec<PenStroke>);

impl Glyph {
    pub fn of_class(world: Seed, class: u32) -> Self {
        let (position, split) = (class as usize / 3, u64::from(class % 3));
        let alphabet = Alphabet::new(world, 3 * (position / ALPHABET_CLASSES) as u64 + split);
        let mut stream = world.stream("glyphs-class", u64::from(class), "strokes");
        let stream = &mut stream;
        // People keep characters that are neither slivers nor scribbles.
        let mut strokes = alphabet.compose(stream);
        for _ in 0..12 {
            let ([width, height], intricacy) = measure(&strokes);
            if width.min(height) >= 0.42 * width.max(height) && intricacy <= 4.6 {
                break;
            }
            strokes = alphabet.compose(stream);
        }
        // They draw what is intricate larger than what is plain.
        let ([width, height], intricacy) = measure(&strokes);
        let (low, high) = bounds(&strokes);
        let centre = scale(add(low, high), 0.5);
        let size = (0.33 + 0.09 * intricacy) * (0.12 * normal(stream)).exp();
        let factor = size.clamp(0.36, 0.78) / width.max(height).max(0.2);
        let place = [0.5 + 0.03 * normal(stream), 0.5 + 0.03 * normal(stream)];
        for stroke in &mut strokes {
            stroke.map(|point| add(scale(subtract(point, centre), factor), place));
        }
        Glyph(strokes)
    }
}

/// Numbers of a description.
pub const DESCRIPTION: usize = 17;

/// Cells of a description along each side of the image.
const CELLS: usize = 3;

impl Glyph {
    /// What there is to say of a character without drawing it, all numbers from 0 to about 1: how many
    /// strokes (out of four), their length relative to the image, width and height; how much of the
    /// length runs across, down and along the two diagonals; how much of it lies in each cell of 3×3.
    pub fn describe(&self) -> [f32; DESCRIPTION] {
        let strokes = &self.0;
        let (low, high) = bounds(strokes);
        let mut directions = [0.0; 4];
        let mut cells = [0.0; CELLS * CELLS];
        let mut length = 0.0;
        for stroke in strokes {
            for pair in stroke.0.windows(2) {
                let way = subtract(pair[1].at, pair[0].at);
                let piece = distance(pair[0].at, pair[1].at);
                let eighths = way[1].atan2(way[0]).rem_euclid(PI) / (PI / 4.0);
                directions[eighths.round() as usize % 4] += piece;
                let middle = scale(add(pair[0].at, pair[1].at), 0.5);
                let [column, row] =
                    middle.map(|place| ((place * CELLS as f32).max(0.0) as usize).min(CELLS - 1));
                cells[CELLS * row + column] += piece;
                length += piece;
            }
        }
        let share = |part: &f32| part / length.max(1e-6);
        let mut numbers = vec![strokes.len() as f32 / 4.0, length / 4.0];
        numbers.extend(subtract(high, low));
        numbers.extend(directions.iter().map(share));
        numbers.extend(cells.iter().map(share));
        numbers.try_into().expect("as many as are described")
    }
}

/// Width and height of the bounding box, and the length of all strokes relative to its longer side.
fn measure(strokes: &[PenStroke]) -> (Point, f32) {
    let (low, high) = bounds(strokes);
    let sides = subtract(high, low);
    let length: f32 = strokes.iter().map(PenStroke::length).sum();
    (sides, length / sides[0].max(sides[1]).max(0.2))
}
