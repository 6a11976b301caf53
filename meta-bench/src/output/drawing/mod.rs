//! Writes pictures as SVG, PNG and PDF: lists of shapes, whose text is drawn with prepared outlines of letters.
//!
//! | file | what it does |
//! |---|---|
//! | `outlines` | the outlines of letters, prepared from a font by `outlines.py` |
//! | `style` | colours and sizes of text |
//! | `mod` | the picture: shapes and where they stand |
//! | `svg`, `png`, `pdf` | the picture as a file |
//! | `canvas` | charts of `plotters` as shapes |

mod canvas;
mod outlines;
mod pdf;
mod png;
mod style;
mod svg;

pub use canvas::{Area, COUNTED, Canvas, Drawn};
pub use outlines::text_width;
pub use style::*;

/// Where a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It starts there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// Pixels, row by row, red, green, blue and opacity of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Bitmap {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Four bytes a pixel.
    pub rgba: Vec<u8>,
}

/// What a picture consists of. Lengths are in the units of the picture, y down.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// A rectangle: filled, or its outline.
    Rectangle {
        corner: (f64, f64),
        size: (f64, f64),
        paint: Paint,
        /// Width of the outline; none for a filled rectangle.
        line: Option<f64>,
    },
    /// Straight lines from point to point.
    Line {
        points: Vec<(f64, f64)>,
        stroke: Paint,
        width: f64,
    },
    /// A filled polygon.
    Polygon {
        points: Vec<(f64, f64)>,
        fill: Paint,
    },
    /// A circle: filled, or its outline.
    Circle {
        centre: (f64, f64),
        radius: f64,
        paint: Paint,
        /// Width of the outline; none for a filled circle.
        line: Option<f64>,
    },
    /// A text from the start of its baseline.
    Text {
        start: (f64, f64),
        /// Degrees, clockwise.
        turned: f64,
        size: f64,
        paint: Paint,
        text: String,
    },
    /// Pixels, stretched to a place.
    Image {
        corner: (f64, f64),
        size: (f64, f64),
        /// Whether they are smoothed, rather than rectangles.
        smooth: bool,
        bitmap: Bitmap,
    },
}

/// A picture under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    size: (f64, f64),
    /// What it stands on.
    ground: Colour,
    shapes: Vec<Shape>,
}

impl Default for Drawing {
    /// An empty picture without a size, on white.
    fn default() -> Self {
        Drawing {
            size: (0.0, 0.0),
            ground: Colour(255, 255, 255),
            shapes: Vec::new(),
        }
    }
}

impl Drawing {
    /// An empty picture of this width and height, on white.
    pub fn new(width: f64, height: f64) -> Self {
        Drawing {
            size: (width.ceil(), height.ceil()),
            ..Drawing::default()
        }
    }

    /// The same on another colour.
    pub fn on(self, ground: Colour) -> Self {
        Drawing { ground, ..self }
    }

    /// Makes the picture at least this wide and high, where that follows from what was drawn.
    pub fn grow(&mut self, width: f64, height: f64) {
        self.size = (
            self.size.0.max(width.ceil()),
            self.size.1.max(height.ceil()),
        );
    }

    /// Lines above everything else: a title and what is said below it. The picture becomes as wide as they
    /// are; returns where they end.
    pub fn heading(&mut self, title: &str, lines: &[&str]) -> f64 {
        let mut y = MARGIN + TITLE;
        let mut width = text_width(title, TITLE);
        self.text((MARGIN, y), TITLE, Anchor::Start, INK, title);
        for line in lines {
            y += TEXT + 6.0;
            width = width.max(text_width(line, TEXT));
            self.text((MARGIN, y), TEXT, Anchor::Start, GREY, line);
        }
        self.grow(2.0 * MARGIN + width, 0.0);
        y + 14.0
    }

    /// A filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: impl Into<Paint>) {
        self.shapes.push(Shape::Rectangle {
            corner: (x, y),
            size: (width, height),
            paint: fill.into(),
            line: None,
        });
    }

    /// The outline of a rectangle.
    pub fn frame(&mut self, x: f64, y: f64, width: f64, height: f64, stroke: Colour, line: f64) {
        self.shapes.push(Shape::Rectangle {
            corner: (x, y),
            size: (width, height),
            paint: stroke.into(),
            line: Some(line),
        });
    }

    /// Straight lines from point to point.
    pub fn line(&mut self, points: &[(f64, f64)], stroke: impl Into<Paint>, width: f64) {
        self.shapes.push(Shape::Line {
            points: points.to_vec(),
            stroke: stroke.into(),
            width,
        });
    }

    /// A filled polygon.
    pub fn polygon(&mut self, points: &[(f64, f64)], fill: impl Into<Paint>) {
        self.shapes.push(Shape::Polygon {
            points: points.to_vec(),
            fill: fill.into(),
        });
    }

    /// A circle: filled, or with a line of this width.
    pub fn circle(
        &mut self,
        centre: (f64, f64),
        radius: f64,
        paint: impl Into<Paint>,
        line: Option<f64>,
    ) {
        self.shapes.push(Shape::Circle {
            centre,
            radius,
            paint: paint.into(),
            line,
        });
    }

    /// A text whose baseline is at `y`.
    pub fn text(&mut self, at: (f64, f64), size: f64, anchor: Anchor, fill: Colour, text: &str) {
        self.turned_text(at, size, anchor, 0.0, fill.into(), text);
    }

    /// A text that is read from below.
    pub fn upright(&mut self, at: (f64, f64), size: f64, anchor: Anchor, fill: Colour, text: &str) {
        self.turned_text(at, size, anchor, -90.0, fill.into(), text);
    }

    fn turned_text(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        anchor: Anchor,
        turned: f64,
        paint: Paint,
        text: &str,
    ) {
        let before = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => 0.5,
            Anchor::End => 1.0,
        } * text_width(text, size);
        let (sine, cosine) = turned.to_radians().sin_cos();
        self.shapes.push(Shape::Text {
            start: (x - before * cosine, y - before * sine),
            turned,
            size,
            paint,
            text: text.to_owned(),
        });
    }

    /// Pixels, stretched to a place.
    pub fn image(&mut self, x: f64, y: f64, width: f64, height: f64, bitmap: &Bitmap) {
        self.stretched((x, y), (width, height), bitmap, true);
    }

    /// The same with pixels that stay rectangles.
    pub fn pixels(&mut self, x: f64, y: f64, width: f64, height: f64, bitmap: &Bitmap) {
        self.stretched((x, y), (width, height), bitmap, false);
    }

    fn stretched(&mut self, corner: (f64, f64), size: (f64, f64), bitmap: &Bitmap, smooth: bool) {
        self.shapes.push(Shape::Image {
            corner,
            size,
            smooth,
            bitmap: bitmap.clone(),
        });
    }
}
