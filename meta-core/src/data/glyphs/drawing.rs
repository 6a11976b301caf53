//! Drawing characters: how a drawer differs from what is meant, and how a pen leaves ink on pixels.

use super::character::{Glyph, Knot, Point, add, distance, normal, scale, subtract, turn};
use crate::rng::Stream;

/// How one drawer differs from the character in mind.
pub struct Drawer {
    /// Rows of the matrix that slants, turns and stretches the whole character.
    matrix: [Point; 2],
    shift: Point,
    /// Spread of everything that differs from stroke to stroke and knot to knot.
    sloppiness: f32,
    /// In units of the image's side.
    pub pen_width: f32,
}

impl Drawer {
    pub fn new(stream: &mut Stream, variation: f32) -> Self {
        let sloppiness = variation * (0.35 * normal(stream)).exp();
        let (sin, cos) = (variation * 0.08 * normal(stream)).sin_cos();
        let slant = variation * 0.12 * normal(stream);
        let size = (variation * 0.13 * normal(stream)).exp();
        let aspect = (variation * 0.09 * normal(stream)).exp();
        let (wide, high) = (size * aspect, size / aspect);
        Drawer {
            matrix: [[cos * wide, (slant - sin) * high], [sin * wide, cos * high]],
            shift: [
                variation * 0.045 * normal(stream),
                variation * 0.045 * normal(stream),
            ],
            sloppiness,
            pen_width: 0.056 * (variation * 0.05 * normal(stream)).exp(),
        }
    }

    pub fn draw(&self, glyph: &Glyph, stream: &mut Stream, canvas: &mut Canvas) {
        let spread = self.sloppiness;
        let mut knots: Vec<Knot> = Vec::new();
        for stroke in &glyph.0 {
            knots.clone_from(&stroke.0);
            let pivot = stroke.middle();
            let angle = spread * 0.10 * normal(stream);
            let size = (spread * 0.11 * normal(stream)).exp();
            let shift = [
                spread * 0.026 * normal(stream),
                spread * 0.026 * normal(stream),
            ];
            // The hand drifts: errors of neighbouring knots are alike.
            let mut drift = [0.0f32; 2];
            for knot in &mut knots {
                for axis in &mut drift {
                    *axis = 0.6 * *axis + spread * 0.015 * normal(stream);
                }
                let own = scale(turn(subtract(knot.at, pivot), angle), size);
                knot.at = add(add(add(pivot, own), shift), drift);
            }
            self.overshoot(&mut knots, stream);
            for knot in &mut knots {
                let [x, y] = subtract(knot.at, [0.5; 2]);
                let [first, second] = self.matrix;
                let turned = [first[0] * x + first[1] * y, second[0] * x + second[1] * y];
                knot.at = add(add(turned, [0.5; 2]), self.shift);
            }
            canvas.stroke(&knots, self.pen_width);
        }
    }

    /// Strokes begin and end a little early or late.
    fn overshoot(&self, knots: &mut [Knot], stream: &mut Stream) {
        let mut extend = |end: Point, before: Point| {
            let along = subtract(end, before);
            let length = distance(end, before);
            let by = self.sloppiness * 0.03 * normal(stream);
            // Never back beyond the knot before.
            let factor = (by / length.max(1e-3)).max(-0.8);
            add(end, scale(along, factor))
        };
        if let [first, second, ..] = knots {
            first.at = extend(first.at, second.at);
        }
        if let [.., before, last] = knots {
            last.at = extend(last.at, before.at);
        }
    }
}

/// A square of pixels that knows how far each is from the nearest line.
pub struct Canvas {
    size: usize,
    /// Squared distance in pixels, where it is small enough to matter.
    squared: Vec<f32>,
}

impl Canvas {
    pub fn new(size: usize) -> Self {
        Canvas {
            size,
            squared: vec![f32::INFINITY; size * size],
        }
    }

    pub fn clear(&mut self) {
        self.squared.fill(f32::INFINITY);
    }

    /// Draws the curve through the knots: between corners a uniform Catmull–Rom spline.
    fn stroke(&mut self, knots: &[Knot], pen_width: f32) {
        let side = self.size as f32;
        // Beyond half the pen and half a pixel there is no ink.
        let reach = 0.5 * (pen_width * side + 1.0);
        let at = |position: usize| scale(knots[position].at, side);
        for from in 0..knots.len().saturating_sub(1) {
            let (p1, p2) = (at(from), at(from + 1));
            // At the ends and at corners the neighbour is the mirror image of the other one.
            let sharp_start = from == 0 || knots[from].corner;
            let sharp_end = from + 2 == knots.len() || knots[from + 1].corner;
            let p0 = if sharp_start {
                subtract(scale(p1, 2.0), p2)
            } else {
                at(from - 1)
            };
            let p3 = if sharp_end {
                subtract(scale(p2, 2.0), p1)
            } else {
                at(from + 2)
            };
            let pieces = ((distance(p1, p2) / 1.5) as usize + 1).min(32);
            let mut previous = p1;
            for piece in 1..=pieces {
                let next = catmull_rom([p0, p1, p2, p3], piece as f32 / pieces as f32);
                self.line(previous, next, reach);
                previous = next;
            }
        }
    }

    /// Lowers the distances around the line from `a` to `b`, both in pixels.
    fn line(&mut self, a: Point, b: Point, reach: f32) {
        let along = subtract(b, a);
        let length = along[0] * along[0] + along[1] * along[1];
        let inverse = 1.0 / length.max(1e-12);
        // Pixel centres lie at half numbers.
        let span = |axis: usize| {
            let low = a[axis].min(b[axis]) - reach - 0.5;
            let high = a[axis].max(b[axis]) + reach - 0.5;
            // A cast of a negative number gives 0.
            (
                low.ceil() as usize,
                ((high.floor() + 1.0) as usize).min(self.size),
            )
        };
        let ((left, right), (top, bottom)) = (span(0), span(1));
        if left >= right {
            return;
        }
        for row in top..bottom {
            let y = row as f32 + 0.5 - a[1];
            let start = row * self.size;
            let pixels = &mut self.squared[start + left..start + right];
            for (column, pixel) in (left..).zip(pixels) {
                let x = column as f32 + 0.5 - a[0];
                let place = ((x * along[0] + y * along[1]) * inverse).clamp(0.0, 1.0);
                let (dx, dy) = (x - place * along[0], y - place * along[1]);
                *pixel = pixel.min(dx * dx + dy * dy);
            }
        }
    }

    /// Appends the ink of each pixel as a byte: the part of a pixel that a line of that width covers,
    /// were the line straight and along an axis.
    pub fn read(&self, pen_width: f32, pixels: &mut Vec<u8>) {
        let width = pen_width * self.size as f32;
        let full = width.min(1.0);
        pixels.extend(self.squared.iter().map(|squared| {
            let ink = (0.5 * (1.0 + width) - squared.sqrt()).clamp(0.0, full);
            (255.0 * ink + 0.5) as u8
        }));
    }
}

/// The point at `t` in 0..=1 between the two middle points.
fn catmull_rom([p0, p1, p2, p3]: [Point; 4], t: f32) -> Point {
    std::array::from_fn(|axis| {
        let (a, b, c, d) = (p0[axis], p1[axis], p2[axis], p3[axis]);
        let linear = c - a;
        let square = 2.0 * a - 5.0 * b + 4.0 * c - d;
        let cube = 3.0 * (b - c) + d - a;
        b + 0.5 * t * (linear + t * (square + t * cube))
    })
}
