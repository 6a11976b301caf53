//! Writes a picture as SVG. Letters are paths, so that it looks the same without any font.

use std::{collections::BTreeSet, fmt::Write};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Bitmap, Drawing, Paint, Shape, outlines, png};

/// Edges that fall on pixels: no seams between the cells of a heat map.
const CRISP: &str = r#" shape-rendering="crispEdges""#;

impl Drawing {
    /// The picture as the text of an SVG file.
    pub fn to_svg(&self) -> String {
        let (width, height) = self.size;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\">\n{}\
             <rect width=\"{width}\" height=\"{height}\"{}/>\n",
            self.definitions(),
            painted("fill", self.ground.into())
        );
        for shape in &self.shapes {
            svg.push_str(&element(shape));
            svg.push('\n');
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// The outlines of the letters that the picture uses.
    fn definitions(&self) -> String {
        let texts = self.shapes.iter().filter_map(|shape| match shape {
            Shape::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let letters: BTreeSet<char> = texts.flat_map(str::chars).collect();
        let mut out = String::new();
        for letter in letters {
            let path = outlines::outline(letter).path;
            if !path.is_empty() {
                let _ = writeln!(out, r#"<path id="{}" d="{path}"/>"#, id(letter));
            }
        }
        if out.is_empty() {
            out
        } else {
            format!("<defs>\n{out}</defs>\n")
        }
    }
}

fn id(letter: char) -> String {
    format!("c{:x}", u32::from(letter))
}

/// At most two decimals, none where they are zero.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

/// An attribute that is a colour, with its opacity where it has one.
fn painted(attribute: &str, Paint(red, green, blue, opacity): Paint) -> String {
    let mut out = format!(r##" {attribute}="#{red:02x}{green:02x}{blue:02x}""##);
    if opacity < 1.0 {
        let _ = write!(out, r#" {attribute}-opacity="{}""#, short(opacity));
    }
    out
}

fn stroked(paint: Paint, width: f64) -> String {
    format!(
        r#"{} stroke-width="{}""#,
        painted("stroke", paint),
        short(width)
    )
}

/// Of a shape that is filled, or has an outline of this width.
fn filled_or_outlined(paint: Paint, line: Option<f64>) -> String {
    match line {
        Some(width) => format!(r#" fill="none"{}"#, stroked(paint, width)),
        None => painted("fill", paint),
    }
}

fn listed(points: &[(f64, f64)]) -> String {
    let pairs = points
        .iter()
        .map(|&(x, y)| format!("{},{}", short(x), short(y)));
    pairs.collect::<Vec<_>>().join(" ")
}

fn element(shape: &Shape) -> String {
    match shape {
        Shape::Rectangle {
            corner,
            size,
            paint,
            line,
        } => {
            let paint = filled_or_outlined(*paint, *line);
            let [x, y, width, height] = [corner.0, corner.1, size.0, size.1].map(short);
            format!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}"{paint}{CRISP}/>"#)
        }
        Shape::Line {
            points,
            stroke,
            width,
        } => {
            let (points, stroke) = (listed(points), stroked(*stroke, *width));
            format!(r#"<polyline points="{points}" fill="none"{stroke}/>"#)
        }
        Shape::Polygon { points, fill } => {
            let (points, fill) = (listed(points), painted("fill", *fill));
            format!(r#"<polygon points="{points}"{fill}/>"#)
        }
        Shape::Circle {
            centre,
            radius,
            paint,
            line,
        } => {
            let paint = filled_or_outlined(*paint, *line);
            let [x, y, radius] = [centre.0, centre.1, *radius].map(short);
            format!(r#"<circle cx="{x}" cy="{y}" r="{radius}"{paint}/>"#)
        }
        Shape::Text { .. } => text_element(shape),
        Shape::Image {
            corner,
            size,
            smooth,
            bitmap,
        } => {
            let how = if *smooth {
                "optimizeQuality"
            } else {
                "pixelated"
            };
            let [x, y, width, height] = [corner.0, corner.1, size.0, size.1].map(short);
            let uri = data_uri(bitmap);
            format!(
                r#"<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" style="image-rendering:{how}" href="{uri}"/>"#
            )
        }
    }
}

/// A text as outlines, named for readers that do not see.
fn text_element(shape: &Shape) -> String {
    let Shape::Text {
        start,
        turned,
        size,
        paint,
        text,
    } = shape
    else {
        return String::new();
    };
    let (name, fill) = (escaped(text), painted("fill", *paint));
    let mut place = format!("translate({} {})", short(start.0), short(start.1));
    if *turned != 0.0 {
        let _ = write!(place, " rotate({})", short(*turned));
    }
    let scale = size / outlines::UNITS;
    let mut out = format!(
        r#"<g role="img" aria-label="{name}" transform="{place} scale({scale:.6})"{fill}>"#
    );
    let mut x = 0.0;
    for letter in text.chars() {
        let outline = outlines::outline(letter);
        if !outline.path.is_empty() {
            let _ = write!(out, r##"<use href="#{}" x="{x}"/>"##, id(letter));
        }
        x += outline.width;
    }
    out.push_str("</g>");
    out
}

fn data_uri(bitmap: &Bitmap) -> String {
    let file = png::rgba(bitmap);
    format!("data:image/png;base64,{}", STANDARD.encode(file))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::{Anchor, Colour, GREY, INK};
    use super::*;

    /// A reader that does not see finds the words; every letter is defined once, and a box stands for one
    /// without an outline.
    #[test]
    fn text_is_drawn_with_outlines_and_named() {
        let mut drawing = Drawing::new(100.0, 40.0);
        drawing.text((50.0, 20.0), 16.0, Anchor::Middle, INK, "a<\"a\" & 语");
        drawing.upright((9.5, 20.0), 16.0, Anchor::Start, GREY, "a");
        let svg = drawing.to_svg();
        assert!(svg.contains(r#"aria-label="a&lt;&quot;a&quot; &amp; 语""#));
        assert!(svg.contains(r#"aria-label="a" transform="translate(9.5 20) rotate(-90)"#));
        assert_eq!(svg.matches(r##"<path id="c61""##).count(), 1);
        assert_eq!(svg.matches(r##"<use href="#c61""##).count(), 3);
        assert!(svg.contains(r##"<use href="#c8bed""##));
        assert!(!svg.contains("<text"));
    }

    #[test]
    fn shapes_are_short_and_sharp() {
        let mut drawing = Drawing::default();
        drawing.rect(0.0, 1.254, 2.0, 3.5, Paint(1, 2, 3, 0.5));
        drawing.line(&[(0.0, 1.0), (5.0, 1.0)], Colour(255, 0, 0), 2.0);
        drawing.circle((1.0, 1.0), 3.0, INK, Some(1.0));
        drawing.grow(10.2, 7.0);
        let svg = drawing.to_svg();
        for part in [
            r#"width="11" height="7""#,
            r##"<rect x="0" y="1.25" width="2" height="3.5" fill="#010203" fill-opacity="0.5" shape-rendering="crispEdges"/>"##,
            r##"<polyline points="0,1 5,1" fill="none" stroke="#ff0000" stroke-width="2"/>"##,
            r##"<circle cx="1" cy="1" r="3" fill="none" stroke="#222222" stroke-width="1"/>"##,
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
