//! Draws a picture into a PNG file.

use tiny_skia::{
    Color, FillRule, FilterQuality, IntSize, LineJoin, Paint as Ink, Path, PathBuilder, Pixmap,
    PixmapPaint, Rect, Stroke, Transform,
};

use super::{
    Bitmap, Colour, Drawing, Paint, Shape,
    outlines::{self, Step},
};
use crate::output::target::PICTURE;

/// Pixels for each unit of a picture: sharp on dense screens.
const SCALE: f32 = 1.5;

/// Largest side of a picture, in pixels.
const LARGEST: f32 = 30_000.0;

impl Drawing {
    /// The picture as the bytes of a PNG file; none where it has no area or is larger than memory.
    pub fn to_png(&self) -> Option<Vec<u8>> {
        let [width, height] = [self.size.0, self.size.1].map(|side| side as f32 * SCALE);
        if !(width >= 1.0 && height >= 1.0 && width <= LARGEST && height <= LARGEST) {
            return None;
        }
        let mut pixels = Pixmap::new(width.ceil() as u32, height.ceil() as u32)?;
        let Colour(red, green, blue) = self.ground;
        pixels.fill(Color::from_rgba8(red, green, blue, 255));
        for shape in &self.shapes {
            // A shape without an area leaves nothing, which is what it looks like.
            let _ = draw(shape, &mut pixels);
        }
        // The picture stands on a colour, so nothing of it is transparent.
        let colours: Vec<u8> = pixels
            .data()
            .chunks_exact(4)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect();
        let size = (pixels.width(), pixels.height());
        Some(encode(size, png::ColorType::Rgb, &colours))
    }
}

/// A bitmap as the bytes of a PNG file.
pub fn rgba(bitmap: &Bitmap) -> Vec<u8> {
    let size = (bitmap.width as u32, bitmap.height as u32);
    encode(size, png::ColorType::Rgba, &bitmap.rgba)
}

fn encode((width, height): (u32, u32), colours: png::ColorType, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colours);
    encoder
        .add_text_chunk("Software".to_owned(), PICTURE.to_owned())
        .expect("the keyword and the text are short and of ASCII");
    encoder.set_compression(png::Compression::High);
    encoder
        .write_header()
        .and_then(|mut writer| writer.write_image_data(bytes))
        .expect("memory takes every byte, and the size is that of the bytes");
    file
}

fn ink(paint: Paint, crisp: bool) -> Ink<'static> {
    let Paint(red, green, blue, opacity) = paint;
    let mut ink = Ink::default();
    ink.set_color_rgba8(red, green, blue, (255.0 * opacity).round() as u8);
    ink.anti_alias = !crisp;
    ink
}

fn joined(points: &[(f64, f64)], closed: bool) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (place, &(x, y)) in points.iter().enumerate() {
        if place == 0 {
            path.move_to(x as f32, y as f32);
        } else {
            path.line_to(x as f32, y as f32);
        }
    }
    if closed {
        path.close();
    }
    path.finish()
}

fn line(width: f64) -> Stroke {
    Stroke {
        width: width as f32,
        line_join: LineJoin::Miter,
        ..Stroke::default()
    }
}

fn draw(shape: &Shape, pixels: &mut Pixmap) -> Option<()> {
    let scale = Transform::from_scale(SCALE, SCALE);
    match shape {
        Shape::Rectangle {
            corner,
            size,
            paint,
            line: width,
        } => {
            let [x, y, wide, high] = [corner.0, corner.1, size.0, size.1].map(|side| side as f32);
            let rect = Rect::from_xywh(x, y, wide, high)?;
            let (path, ink) = (PathBuilder::from_rect(rect), ink(*paint, true));
            match width {
                Some(width) => pixels.stroke_path(&path, &ink, &line(*width), scale, None),
                None => pixels.fill_rect(rect, &ink, scale, None),
            }
        }
        Shape::Line {
            points,
            stroke,
            width,
        } => {
            let path = joined(points, false)?;
            pixels.stroke_path(&path, &ink(*stroke, false), &line(*width), scale, None);
        }
        Shape::Polygon { points, fill } => {
            let path = joined(points, true)?;
            pixels.fill_path(&path, &ink(*fill, false), FillRule::Winding, scale, None);
        }
        Shape::Circle {
            centre,
            radius,
            paint,
            line: width,
        } => {
            let path = PathBuilder::from_circle(centre.0 as f32, centre.1 as f32, *radius as f32)?;
            let ink = ink(*paint, false);
            match width {
                Some(width) => pixels.stroke_path(&path, &ink, &line(*width), scale, None),
                None => pixels.fill_path(&path, &ink, FillRule::Winding, scale, None),
            }
        }
        Shape::Text {
            start,
            turned,
            size,
            paint,
            text,
        } => {
            let place = scale
                .pre_translate(start.0 as f32, start.1 as f32)
                .pre_rotate(*turned as f32);
            let path = letters(text, *size)?;
            pixels.fill_path(&path, &ink(*paint, false), FillRule::Winding, place, None);
        }
        Shape::Image {
            corner,
            size,
            smooth,
            bitmap,
        } => {
            let stretch = scale
                .pre_translate(corner.0 as f32, corner.1 as f32)
                .pre_scale(
                    size.0 as f32 / bitmap.width as f32,
                    size.1 as f32 / bitmap.height as f32,
                );
            let paint = PixmapPaint {
                quality: if *smooth {
                    FilterQuality::Bicubic
                } else {
                    FilterQuality::Nearest
                },
                ..PixmapPaint::default()
            };
            let source = premultiplied(bitmap)?;
            pixels.draw_pixmap(0, 0, source.as_ref(), &paint, stretch, None);
        }
    }
    Some(())
}

/// The outlines of a text from the start of its baseline.
fn letters(text: &str, size: f64) -> Option<Path> {
    let scale = size / outlines::UNITS;
    let (mut path, mut x) = (PathBuilder::new(), 0.0);
    for letter in text.chars() {
        let outline = outlines::outline(letter);
        let at = |dx: f64, dy: f64| (((x + dx) * scale) as f32, (dy * scale) as f32);
        for step in outlines::steps(outline.path) {
            match step {
                Step::Move(dx, dy) => {
                    let (x, y) = at(dx, dy);
                    path.move_to(x, y);
                }
                Step::Line(dx, dy) => {
                    let (x, y) = at(dx, dy);
                    path.line_to(x, y);
                }
                Step::Curve(cx, cy, dx, dy) => {
                    let (control, end) = (at(cx, cy), at(dx, dy));
                    path.quad_to(control.0, control.1, end.0, end.1);
                }
                Step::Close => path.close(),
            }
        }
        x += outline.width;
    }
    path.finish()
}

/// The pixels of a bitmap as tiny-skia has them: colours times opacity.
fn premultiplied(bitmap: &Bitmap) -> Option<Pixmap> {
    let scaled =
        |channel: u8, opacity: u8| (u16::from(channel) * u16::from(opacity)).div_ceil(255) as u8;
    let bytes = bitmap.rgba.chunks_exact(4).flat_map(|pixel| {
        let opacity = pixel[3];
        [
            scaled(pixel[0], opacity).min(opacity),
            scaled(pixel[1], opacity).min(opacity),
            scaled(pixel[2], opacity).min(opacity),
            opacity,
        ]
    });
    let size = IntSize::from_wh(bitmap.width as u32, bitmap.height as u32)?;
    Pixmap::from_vec(bytes.collect(), size)
}

#[cfg(test)]
mod tests {
    use super::super::{Anchor, INK};
    use super::*;

    /// Width, height, and the pixels as red, green and blue.
    fn decoded(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    /// Text leaves ink without any font of the machine, images their pixels, and lines what they cross.
    #[test]
    fn every_shape_leaves_ink() {
        let red = Bitmap {
            width: 1,
            height: 1,
            rgba: vec![255, 0, 0, 255],
        };
        let mut drawing = Drawing::new(100.0, 60.0);
        drawing.text((5.0, 20.0), 16.0, Anchor::Start, INK, "✓ <class> 0 → 语");
        drawing.pixels(0.0, 30.0, 10.0, 10.0, &red);
        drawing.frame(20.0, 32.0, 10.0, 4.0, INK, 2.0);
        drawing.line(&[(40.0, 35.0), (50.0, 35.0)], INK, 2.0);
        drawing.polygon(&[(60.0, 30.0), (70.0, 30.0), (70.0, 40.0)], INK);
        drawing.circle((85.0, 35.0), 4.0, INK, None);
        drawing.rect(0.0, 50.0, 100.0, 10.0, Paint(0, 0, 0, 0.5));
        let (width, height, pixels) = decoded(&drawing.to_png().unwrap());
        assert_eq!((width, height), (150, 90));
        let at = |x: u32, y: u32| &pixels[3 * (y * width + x) as usize..][..3];
        let dark = |xs: std::ops::Range<u32>, ys: std::ops::Range<u32>| {
            let places = ys.flat_map(|y| xs.clone().map(move |x| (x, y)));
            places.filter(|&(x, y)| at(x, y)[1] < 128).count()
        };
        assert!(dark(0..150, 0..45) > 300, "{}", dark(0..150, 0..45));
        assert_eq!(dark(0..16, 45..70), 15 * 15);
        assert_eq!(at(7, 52), [255, 0, 0]);
        assert_eq!(at(37, 51), [255; 3], "the inside of a frame");
        for part in [28..46, 60..75, 90..106, 120..136] {
            assert!(dark(part.clone(), 45..65) > 20, "{part:?}");
        }
        assert!((126..=129).contains(&at(75, 80)[0]), "{:?}", at(75, 80));
    }

    /// A line that goes back the way it came has no spike: all ink is near its points.
    #[test]
    fn lines_turn_back_without_spikes() {
        for offset in [0.0, 1e-9, 1e-6, 1e-4, 1e-3] {
            let mut drawing = Drawing::new(200.0, 200.0);
            let turn = [(80.0, 80.0), (110.0, 110.0), (80.0 + offset, 80.0)];
            drawing.line(&turn, INK, 1.5);
            let (width, _, pixels) = decoded(&drawing.to_png().unwrap());
            let ink = pixels
                .chunks(3)
                .enumerate()
                .filter(|(_, pixel)| pixel[1] < 250);
            let mut places = ink.map(|(index, _)| (index as u32 % width, index as u32 / width));
            assert!(
                places.all(|(x, y)| x.max(y) < 180 && x.min(y) > 110),
                "{offset}"
            );
        }
    }

    #[test]
    fn a_picture_without_an_area_is_none() {
        assert_eq!(Drawing::default().to_png(), None);
        assert_eq!(Drawing::new(1e6, 1.0).to_png(), None);
    }
}
