//! Draws a picture into a PDF file of one page: a unit of the picture is a point, and letters are paths.

use std::collections::BTreeSet;

use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, TextStr};

use super::{
    Bitmap, Drawing, Paint, Shape,
    outlines::{self, Step},
};
use crate::output::target::PICTURE;

/// The control points of a quarter of a circle, for a radius of 1.
const KAPPA: f64 = 0.552_284_75;

/// The objects of the file, by their numbers.
const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const PAGE: Ref = Ref::new(3);
const CONTENT: Ref = Ref::new(4);
const INFO: Ref = Ref::new(5);
/// The first number of what the page uses.
const USED: i32 = 6;

impl Drawing {
    /// The picture as the bytes of a PDF file.
    pub fn to_pdf(&self) -> Vec<u8> {
        let opacities = self.opacities();
        let (content, images) = self.content();
        let mut pdf = Pdf::new();
        pdf.catalog(CATALOG).pages(PAGES);
        pdf.pages(PAGES).kids([PAGE]).count(1);
        // No date: the same picture is the same bytes.
        pdf.document_info(INFO).producer(TextStr(PICTURE));
        let mut page = pdf.page(PAGE);
        page.parent(PAGES).contents(CONTENT);
        page.media_box(Rect::new(0.0, 0.0, self.size.0 as f32, self.size.1 as f32));
        let mut resources = page.resources();
        let mut used = USED;
        let mut next = || {
            used += 1;
            Ref::new(used - 1)
        };
        let states: Vec<(u8, Ref)> = opacities.iter().map(|&opacity| (opacity, next())).collect();
        let mut listed = resources.ext_g_states();
        for (opacity, state) in &states {
            listed.pair(Name(opacity_name(*opacity).as_bytes()), *state);
        }
        listed.finish();
        let pictures: Vec<(Ref, Ref)> = images.iter().map(|_| (next(), next())).collect();
        let mut listed = resources.x_objects();
        for (place, (picture, _)) in pictures.iter().enumerate() {
            listed.pair(Name(format!("I{place}").as_bytes()), *picture);
        }
        listed.finish();
        resources.finish();
        page.finish();
        for (opacity, state) in states {
            let opacity = f32::from(opacity) / 255.0;
            let mut written = pdf.ext_graphics(state);
            written.non_stroking_alpha(opacity).stroking_alpha(opacity);
        }
        for ((picture, mask), (bitmap, smooth)) in pictures.into_iter().zip(images) {
            image(&mut pdf, (picture, mask), bitmap, smooth);
        }
        let packed = packed(&content);
        pdf.stream(CONTENT, &packed).filter(Filter::FlateDecode);
        pdf.finish()
    }

    /// Every opacity that the picture has, in 255ths.
    fn opacities(&self) -> BTreeSet<u8> {
        let paints = self.shapes.iter().filter_map(|shape| match shape {
            Shape::Rectangle { paint, .. }
            | Shape::Circle { paint, .. }
            | Shape::Text { paint, .. } => Some(paint),
            Shape::Line { stroke, .. } => Some(stroke),
            Shape::Polygon { fill, .. } => Some(fill),
            Shape::Image { .. } => None,
        });
        paints
            .map(|paint| opacity_of(*paint))
            .chain([255])
            .collect()
    }

    /// What is drawn on the page, and the images that it names.
    fn content(&self) -> (Vec<u8>, Vec<(&Bitmap, bool)>) {
        let mut content = Content::new();
        // Up is up on a page.
        content.transform([1.0, 0.0, 0.0, -1.0, 0.0, self.size.1 as f32]);
        let mut images = Vec::new();
        let ground = Shape::Rectangle {
            corner: (0.0, 0.0),
            size: self.size,
            paint: self.ground.into(),
            line: None,
        };
        draw(&mut content, &ground);
        for shape in &self.shapes {
            if let Shape::Image {
                corner,
                size,
                smooth,
                bitmap,
            } = shape
            {
                let [x, y, wide, high] = [corner.0, corner.1, size.0, size.1].map(|it| it as f32);
                content.save_state();
                content.set_parameters(Name(opacity_name(255).as_bytes()));
                // An image stands on its feet where up is up.
                content.transform([wide, 0.0, 0.0, -high, x, y + high]);
                content.x_object(Name(format!("I{}", images.len()).as_bytes()));
                content.restore_state();
                images.push((bitmap, *smooth));
            } else {
                draw(&mut content, shape);
            }
        }
        (content.finish().to_vec(), images)
    }
}

fn opacity_of(Paint(.., opacity): Paint) -> u8 {
    (255.0 * opacity).round() as u8
}

fn opacity_name(opacity: u8) -> String {
    format!("G{opacity}")
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;

    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    let written = packer.write_all(bytes).and_then(|()| packer.finish());
    written.expect("memory takes every byte")
}

/// Writes an image and its opacity.
fn image(pdf: &mut Pdf, (picture, mask): (Ref, Ref), bitmap: &Bitmap, smooth: bool) {
    let pixels = || bitmap.rgba.chunks_exact(4);
    let colours: Vec<u8> = pixels()
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let opacity: Vec<u8> = pixels().map(|pixel| pixel[3]).collect();
    let (width, height) = (bitmap.width as i32, bitmap.height as i32);
    let bytes = packed(&colours);
    let mut written = pdf.image_xobject(picture, &bytes);
    written.filter(Filter::FlateDecode);
    written.width(width).height(height).bits_per_component(8);
    written.color_space().device_rgb();
    written.interpolate(smooth).s_mask(mask);
    written.finish();
    let bytes = packed(&opacity);
    let mut written = pdf.image_xobject(mask, &bytes);
    written.filter(Filter::FlateDecode);
    written.width(width).height(height).bits_per_component(8);
    written.color_space().device_gray();
}

fn fill_with(content: &mut Content, paint: Paint) {
    let Paint(red, green, blue, _) = paint;
    let [red, green, blue] = [red, green, blue].map(|part| f32::from(part) / 255.0);
    content.set_parameters(Name(opacity_name(opacity_of(paint)).as_bytes()));
    content.set_fill_rgb(red, green, blue);
}

fn stroke_with(content: &mut Content, paint: Paint, width: f64) {
    let Paint(red, green, blue, _) = paint;
    let [red, green, blue] = [red, green, blue].map(|part| f32::from(part) / 255.0);
    content.set_parameters(Name(opacity_name(opacity_of(paint)).as_bytes()));
    content.set_stroke_rgb(red, green, blue);
    content.set_line_width(width as f32);
}

/// Fills a path with a colour, or draws its outline.
fn paint_path(content: &mut Content, paint: Paint, line: Option<f64>, path: impl Fn(&mut Content)) {
    match line {
        Some(width) => {
            stroke_with(content, paint, width);
            path(content);
            content.stroke();
        }
        None => {
            fill_with(content, paint);
            path(content);
            content.fill_nonzero();
        }
    }
}

fn joined(content: &mut Content, points: &[(f64, f64)]) {
    for (place, &(x, y)) in points.iter().enumerate() {
        if place == 0 {
            content.move_to(x as f32, y as f32);
        } else {
            content.line_to(x as f32, y as f32);
        }
    }
}

fn draw(content: &mut Content, shape: &Shape) {
    match shape {
        Shape::Rectangle {
            corner,
            size,
            paint,
            line,
        } => paint_path(content, *paint, *line, |content| {
            let [x, y, wide, high] = [corner.0, corner.1, size.0, size.1].map(|it| it as f32);
            content.rect(x, y, wide, high);
        }),
        Shape::Line {
            points,
            stroke,
            width,
        } => paint_path(content, *stroke, Some(*width), |content| {
            joined(content, points);
        }),
        Shape::Polygon { points, fill } => paint_path(content, *fill, None, |content| {
            joined(content, points);
            content.close_path();
        }),
        Shape::Circle {
            centre,
            radius,
            paint,
            line,
        } => paint_path(content, *paint, *line, |content| {
            circle(content, *centre, *radius);
        }),
        Shape::Text {
            start,
            turned,
            size,
            paint,
            text,
        } => {
            let (sine, cosine) = turned.to_radians().sin_cos();
            let scale = size / outlines::UNITS;
            let at = |x: f64, y: f64| {
                let (x, y) = (x * scale, y * scale);
                let place = (
                    start.0 + x * cosine - y * sine,
                    start.1 + x * sine + y * cosine,
                );
                (place.0 as f32, place.1 as f32)
            };
            paint_path(content, *paint, None, |content| letters(content, text, &at));
        }
        Shape::Image { .. } => {}
    }
}

fn circle(content: &mut Content, (x, y): (f64, f64), radius: f64) {
    let at = |right: f64, down: f64| ((x + right * radius) as f32, (y + down * radius) as f32);
    let quarters = [
        [(1.0, KAPPA), (KAPPA, 1.0), (0.0, 1.0)],
        [(-KAPPA, 1.0), (-1.0, KAPPA), (-1.0, 0.0)],
        [(-1.0, -KAPPA), (-KAPPA, -1.0), (0.0, -1.0)],
        [(KAPPA, -1.0), (1.0, -KAPPA), (1.0, 0.0)],
    ];
    let (start_x, start_y) = at(1.0, 0.0);
    content.move_to(start_x, start_y);
    for quarter in quarters {
        let [(ax, ay), (bx, by), (cx, cy)] = quarter.map(|(right, down)| at(right, down));
        content.cubic_to(ax, ay, bx, by, cx, cy);
    }
    content.close_path();
}

/// The outlines of a text; `at` places what is given in units of outlines.
fn letters(content: &mut Content, text: &str, at: &impl Fn(f64, f64) -> (f32, f32)) {
    let mut start = 0.0;
    for letter in text.chars() {
        let outline = outlines::outline(letter);
        let mut here = (0.0, 0.0);
        for step in outlines::steps(outline.path) {
            match step {
                Step::Move(x, y) => {
                    let to = at(start + x, y);
                    content.move_to(to.0, to.1);
                    here = (x, y);
                }
                Step::Line(x, y) => {
                    let to = at(start + x, y);
                    content.line_to(to.0, to.1);
                    here = (x, y);
                }
                Step::Curve(cx, cy, x, y) => {
                    // A quadratic curve as a cubic one: its control points are two thirds of the way.
                    let toward = |from: f64, control: f64| from + 2.0 / 3.0 * (control - from);
                    let first = at(start + toward(here.0, cx), toward(here.1, cy));
                    let second = at(start + toward(x, cx), toward(y, cy));
                    let end = at(start + x, y);
                    content.cubic_to(first.0, first.1, second.0, second.1, end.0, end.1);
                    here = (x, y);
                }
                Step::Close => {
                    content.close_path();
                }
            }
        }
        start += outline.width;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Anchor, Colour, INK};
    use super::*;

    /// The content of the page, as text.
    fn content(drawing: &Drawing) -> String {
        String::from_utf8(drawing.content().0).unwrap()
    }

    #[test]
    fn shapes_are_operators_of_the_page() {
        let mut drawing = Drawing::new(100.0, 50.0);
        drawing.rect(1.0, 2.0, 3.0, 4.0, Colour(255, 0, 0));
        drawing.line(&[(0.0, 0.0), (5.0, 5.0)], Paint(0, 0, 255, 0.2), 2.0);
        drawing.circle((10.0, 10.0), 2.0, INK, None);
        let text = content(&drawing);
        for part in [
            "1 0 0 -1 0 50 cm",
            "/G255 gs\\n1 0 0 rg\\n1 2 3 4 re\\nf",
            "/G51 gs\\n0 0 1 RG\\n2 w\\n0 0 m\\n5 5 l\\nS",
            "12 10 m",
        ] {
            let part = part.replace("\\n", "\n");
            assert!(text.contains(&part), "{part}: {text}");
        }
        let file = drawing.to_pdf();
        let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
        assert!(file.starts_with(b"%PDF-1.") && has(b"%%EOF"));
        assert!(has(PICTURE.as_bytes()) && has(b"/MediaBox [0 0 100 50]"));
        assert!(has(b"/ca 0.2") && has(b"/FlateDecode"));
        assert_eq!(file, drawing.to_pdf(), "the same picture is the same bytes");
    }

    #[test]
    fn letters_are_paths_and_images_have_masks() {
        let mut drawing = Drawing::new(40.0, 40.0);
        drawing.text((0.0, 20.0), 20.48, Anchor::Start, INK, "l");
        // A bar from 193 to 377 units, a hundredth of a point each.
        let text = content(&drawing);
        assert!(
            text.contains("1.93 4.44 m\n3.77 4.44 l\n3.77 20 l"),
            "{text}"
        );
        let bitmap = Bitmap {
            width: 1,
            height: 2,
            rgba: vec![255, 0, 0, 128, 0, 255, 0, 255],
        };
        drawing.image(5.0, 6.0, 10.0, 20.0, &bitmap);
        assert!(content(&drawing).contains("10 0 0 -20 5 26 cm\n/I0 Do"));
        let file = drawing.to_pdf();
        let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
        assert!(has(b"/SMask") && has(b"/DeviceGray") && has(b"/Interpolate true"));
    }
}
