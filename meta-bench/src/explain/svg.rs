//! Draws pictures as SVG text, and as PNG files with an embedded font.

use std::{
    fmt::Write,
    sync::{Arc, OnceLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};
use resvg::{
    tiny_skia::{IntSize, Pixmap, Transform},
    usvg::{Options, Tree, fontdb},
};

use crate::failure::{CommandError, Result};

/// Fonts in the order of preference; the first is the embedded one.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";
/// Pixels of a PNG for each unit of the SVG: sharp on dense screens.
const SCALE: f32 = 1.5;

/// A colour as SVG names it.
pub type Colour = [u8; 3];

/// Text and lines.
pub const INK: Colour = [34, 34, 34];
/// What is said beside the point.
pub const GREY: Colour = [105, 105, 105];
/// What is marked: vermilion, told from every colour of the map.
pub const MARK: Colour = [213, 94, 0];

/// The colour of `share`, in [0, 1]: viridis, whose lightness rises evenly.
pub fn viridis(share: f64) -> Colour {
    let colour = ViridisRGB.get_color(share.clamp(0.0, 1.0) as f32);
    [colour.0, colour.1, colour.2]
}

/// Black or white, whichever can be read on `colour`.
pub fn readable_on([red, green, blue]: Colour) -> Colour {
    let lightness = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if lightness > 140.0 { [0; 3] } else { [255; 3] }
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

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

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
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

impl Bitmap {
    fn data_uri(&self) -> Option<String> {
        let premultiplied = self
            .rgba
            .chunks_exact(4)
            .flat_map(|pixel| {
                let of = |channel: u8| {
                    (u16::from(channel) * u16::from(pixel[3]))
                        .div_ceil(255)
                        .min(255) as u8
                };
                [
                    of(pixel[0]).min(pixel[3]),
                    of(pixel[1]).min(pixel[3]),
                    of(pixel[2]).min(pixel[3]),
                    pixel[3],
                ]
            })
            .collect();
        let size = IntSize::from_wh(self.width as u32, self.height as u32)?;
        let png = Pixmap::from_vec(premultiplied, size)?.encode_png().ok()?;
        Some(format!("data:image/png;base64,{}", STANDARD.encode(png)))
    }
}

/// About how wide a text is; the embedded font is a wide one.
pub fn text_width(text: &str, size: f64) -> f64 {
    0.6 * size * text.chars().count() as f64
}

/// A picture under way.
#[derive(Debug, Default)]
pub struct Svg {
    body: String,
}

impl Svg {
    fn push(&mut self, element: std::fmt::Arguments) {
        self.body
            .write_fmt(element)
            .expect("a string can be written to");
        self.body.push('\n');
    }

    /// A filled rectangle.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: Colour, opacity: f64) {
        let fill = hex(fill);
        let opacity = if opacity < 1.0 {
            format!(r#" fill-opacity="{opacity}""#)
        } else {
            String::new()
        };
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"{opacity}/>"#
        ));
    }

    /// The outline of a rectangle.
    pub fn frame(&mut self, x: f64, y: f64, width: f64, height: f64, stroke: Colour, line: f64) {
        self.push(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="none" stroke="{}" stroke-width="{line}"/>"#,
            hex(stroke)
        ));
    }

    /// A line from one place to another.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Colour, line: f64) {
        self.push(format_args!(
            r#"<line x1="{:.2}" y1="{:.2}" x2="{:.2}" y2="{:.2}" stroke="{}" stroke-width="{line}"/>"#,
            from.0,
            from.1,
            to.0,
            to.1,
            hex(stroke)
        ));
    }

    /// A text whose baseline is at `y`.
    pub fn text(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        anchor: Anchor,
        fill: Colour,
        text: &str,
    ) {
        self.push(format_args!(
            r#"<text x="{x:.2}" y="{y:.2}" font-size="{size}" text-anchor="{}" fill="{}">{}</text>"#,
            anchor.name(),
            hex(fill),
            escaped(text)
        ));
    }

    /// A text that is read from below, centred on `(x, y)` unless `anchor` says otherwise.
    pub fn upright(
        &mut self,
        (x, y): (f64, f64),
        size: f64,
        anchor: Anchor,
        fill: Colour,
        text: &str,
    ) {
        self.push(format_args!(
            r#"<text transform="translate({x:.2} {y:.2}) rotate(-90)" font-size="{size}" text-anchor="{}" fill="{}">{}</text>"#,
            anchor.name(),
            hex(fill),
            escaped(text)
        ));
    }

    /// Pixels, stretched to a place.
    pub fn image(&mut self, x: f64, y: f64, width: f64, height: f64, bitmap: &Bitmap) {
        self.stretched(x, y, width, height, bitmap, "optimizeQuality");
    }

    /// The same with pixels that stay rectangles.
    pub fn pixels(&mut self, x: f64, y: f64, width: f64, height: f64, bitmap: &Bitmap) {
        self.stretched(x, y, width, height, bitmap, "pixelated");
    }

    fn stretched(&mut self, x: f64, y: f64, width: f64, height: f64, bitmap: &Bitmap, how: &str) {
        if let Some(uri) = bitmap.data_uri() {
            self.push(format_args!(
                r#"<image x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" preserveAspectRatio="none" style="image-rendering:{how}" href="{uri}"/>"#
            ));
        }
    }

    /// The whole picture, on white.
    pub fn finish(self, width: f64, height: f64) -> String {
        let (width, height) = (width.ceil(), height.ceil());
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" \
             shape-rendering=\"crispEdges\" font-family=\"{FONTS}\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.body
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The picture of an SVG text as a PNG file, with the embedded font alone: the same on every machine.
///
/// # Errors
/// When the text is no SVG, or empty.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    static DATABASE: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let fontdb = DATABASE.get_or_init(|| {
        let mut database = fontdb::Database::new();
        database.load_font_data(dejavu::sans::regular().to_vec());
        database.set_sans_serif_family("DejaVu Sans");
        Arc::new(database)
    });
    let options = Options {
        fontdb: fontdb.clone(),
        font_family: "DejaVu Sans".to_owned(),
        ..Options::default()
    };
    let drawn =
        |reason: String| CommandError::Usage(format!("a picture cannot be drawn: {reason}"));
    let tree = Tree::from_str(svg, &options).map_err(|error| drawn(error.to_string()))?;
    let [width, height] =
        [tree.size().width(), tree.size().height()].map(|side| (side * SCALE).ceil() as u32);
    let mut pixels =
        Pixmap::new(width, height).ok_or_else(|| drawn("it has no pixels".to_owned()))?;
    let scale = Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    // The picture stands on white, so nothing of it is transparent.
    let colours: Vec<u8> = pixels
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(&colours))
        .map_err(|error| drawn(error.to_string()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text leaves ink without any font of the machine, and images their pixels.
    #[test]
    fn text_and_images_are_drawn() {
        let red = Bitmap {
            width: 1,
            height: 1,
            rgba: vec![255, 0, 0, 255],
        };
        let mut svg = Svg::default();
        svg.text((5.0, 20.0), 16.0, Anchor::Start, INK, "✓ <class> 0 → 1");
        svg.image(0.0, 30.0, 10.0, 10.0, &red);
        let png = png(&svg.finish(100.0, 40.0)).unwrap();
        let pixels = Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (150, 60));
        let dark = |from: u32, to: u32| {
            (from..to)
                .flat_map(|y| (0..150).map(move |x| (x, y)))
                .filter(|&(x, y)| pixels.pixel(x, y).is_some_and(|pixel| pixel.green() < 128))
                .count()
        };
        assert!(dark(0, 45) > 100, "{}", dark(0, 45));
        assert_eq!(dark(46, 60), 14 * 15);
    }

    #[test]
    fn the_map_gets_lighter() {
        let lightness = |share| {
            viridis(share)
                .iter()
                .map(|&part| u32::from(part))
                .sum::<u32>()
        };
        assert!(lightness(0.0) < lightness(0.5) && lightness(0.5) < lightness(1.0));
        assert_eq!(readable_on(viridis(0.0)), [255; 3]);
        assert_eq!(readable_on(viridis(1.0)), [0; 3]);
    }
}
