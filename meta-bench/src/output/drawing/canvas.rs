//! Lets `plotters` draw its charts into a [`Drawing`].

use plotters::{
    coord::Shift,
    drawing::{DrawingArea, IntoDrawingArea},
    style::{
        FontTransform,
        text_anchor::{HPos, VPos},
    },
};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

use super::{Anchor, Drawing, Paint, outlines, text_width};

/// A chart's part of a picture.
pub type Area<'a> = DrawingArea<Canvas<'a>, Shift>;

/// What drawing returns. Nothing can go wrong but a chart without an area.
pub type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

/// Size of text as `plotters` counts it, for each unit of a picture: its boxes of legends are as wide as
/// text that is this much smaller than its size.
pub const COUNTED: f64 = 1.24;

/// A picture that `plotters` draws into.
pub struct Canvas<'a>(&'a mut Drawing);

impl Drawing {
    /// The whole picture as an area of charts.
    pub fn area(&mut self) -> Area<'_> {
        Canvas(self).into_drawing_area()
    }
}

type Outcome = Result<(), DrawingErrorKind<std::convert::Infallible>>;

fn paint(colour: BackendColor) -> Paint {
    let (red, green, blue) = colour.rgb;
    Paint(red, green, blue, colour.alpha)
}

fn place((x, y): BackendCoord) -> (f64, f64) {
    (f64::from(x), f64::from(y))
}

fn places(path: impl IntoIterator<Item = BackendCoord>) -> Vec<(f64, f64)> {
    path.into_iter().map(place).collect()
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = std::convert::Infallible;

    fn get_size(&self) -> (u32, u32) {
        (self.0.size.0 as u32, self.0.size.1 as u32)
    }

    fn ensure_prepared(&mut self) -> Outcome {
        Ok(())
    }

    fn present(&mut self) -> Outcome {
        Ok(())
    }

    fn draw_pixel(&mut self, point: BackendCoord, colour: BackendColor) -> Outcome {
        let (x, y) = place(point);
        self.0.rect(x, y, 1.0, 1.0, paint(colour));
        Ok(())
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Outcome {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Outcome {
        let ((x, y), (right, bottom)) = (place(upper_left), place(bottom_right));
        let paint = paint(style.color());
        if paint.3 == 0.0 {
            return Ok(());
        }
        if fill {
            self.0.rect(x, y, right - x, bottom - y, paint);
        } else {
            let corners = [(x, y), (right, y), (right, bottom), (x, bottom), (x, y)];
            self.0
                .line(&corners, paint, f64::from(style.stroke_width()));
        }
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Outcome {
        let paint = paint(style.color());
        if paint.3 > 0.0 {
            self.0
                .line(&places(path), paint, f64::from(style.stroke_width()));
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        centre: BackendCoord,
        radius: u32,
        style: &S,
        fill: bool,
    ) -> Outcome {
        let paint = paint(style.color());
        if paint.3 > 0.0 {
            let line = (!fill).then(|| f64::from(style.stroke_width()));
            self.0.circle(place(centre), f64::from(radius), paint, line);
        }
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Outcome {
        let paint = paint(style.color());
        if paint.3 > 0.0 {
            self.0.polygon(&places(vertices), paint);
        }
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: BackendCoord,
    ) -> Outcome {
        let size = style.size() / COUNTED;
        let anchor = match style.anchor().h_pos {
            HPos::Left => Anchor::Start,
            HPos::Center => Anchor::Middle,
            HPos::Right => Anchor::End,
        };
        // From the place down to the baseline, before the text is turned.
        let down = outlines::CAPITALS
            * size
            * match style.anchor().v_pos {
                VPos::Top => 1.0,
                VPos::Center => 0.5,
                VPos::Bottom => 0.0,
            };
        let turned = match style.transform() {
            FontTransform::None => 0.0f64,
            FontTransform::Rotate90 => 90.0,
            FontTransform::Rotate180 => 180.0,
            FontTransform::Rotate270 => -90.0,
        };
        let (sine, cosine) = turned.to_radians().sin_cos();
        let (x, y) = place(at);
        let baseline = (x - down * sine, y + down * cosine);
        let paint = paint(style.color());
        if paint.3 > 0.0 {
            self.0
                .turned_text(baseline, size, anchor, turned, paint, text);
        }
        Ok(())
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<Self::ErrorType>> {
        let size = style.size() / COUNTED;
        let width = text_width(text, size).ceil() as u32;
        Ok((width, size.ceil() as u32))
    }
}

#[cfg(test)]
mod tests {
    use plotters::prelude::*;

    use super::*;

    /// Lines, points and labels of a chart are shapes of the picture; what is transparent is none.
    #[test]
    fn a_chart_is_drawn_into_a_picture() {
        let mut drawing = Drawing::new(200.0, 100.0);
        let drawn = |area: Area| -> Drawn {
            let mut chart = ChartBuilder::on(&area)
                .x_label_area_size(30)
                .y_label_area_size(30)
                .build_cartesian_2d(0.0..4.0, 0.0..1.0)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_desc("steps")
                .draw()?;
            chart.draw_series([Circle::new((2.0, 0.5), 3, RED.mix(0.5).filled())])?;
            Ok(())
        };
        drawn(drawing.area()).unwrap();
        let svg = drawing.to_svg();
        for part in [
            r#"aria-label="steps""#,
            r#"aria-label="4.0""#,
            r##"r="3" fill="#ff0000" fill-opacity="0.5""##,
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains(r#"opacity="0""#), "{svg}");
    }
}
