//! Draws what charts share: titles, axes, ranges, intervals, legends, files.

use std::{ops::Range, path::Path};

use meta_core::train::eval::Metric;
use plotters::{
    chart::MeshStyle,
    coord::{
        CoordTranslate,
        ranged1d::{Ranged, ValueFormatter},
    },
    element::ErrorBarOrientV,
    prelude::*,
};

use super::{
    drawing::{Area, COUNTED, Canvas, Colour, Drawing, Drawn, INK, SMALL, TEXT},
    target::{PICTURE, write_over},
    units::axis_text,
};
use crate::failure::{CommandError, Result};

/// A picture of at least this width and height: charts below a title and what is said of them.
///
/// # Errors
/// When there is no room for a chart.
pub fn draw_charts(
    (width, height): (f64, f64),
    title: &str,
    lines: &[&str],
    draw: impl FnOnce(&Area) -> Drawn,
) -> Result<Drawing> {
    let mut drawing = Drawing::new(width, height);
    let top = drawing.heading(title, lines);
    draw(&drawing.area().margin(top as i32, 0, 0, 0))
        .map_err(|error| CommandError::Usage(format!("a picture cannot be drawn: {error}")))?;
    Ok(drawing)
}

/// A form of picture files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureFormat {
    /// SVG, which has no ending of another one.
    Svg,
    /// PNG.
    Png,
    /// PDF.
    Pdf,
}

impl PictureFormat {
    /// The form that a file's name asks for.
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        match ending.to_str() {
            Some("png") => PictureFormat::Png,
            Some("pdf") => PictureFormat::Pdf,
            _ => PictureFormat::Svg,
        }
    }
}

/// Writes a picture into the file at `path`: PNG or PDF where its name ends so, else SVG.
///
/// # Errors
/// When it cannot be written, or something else is there.
pub fn write_picture(path: &Path, drawing: &Drawing) -> Result<()> {
    let bytes = match PictureFormat::of(path) {
        // The mark is the first thing in the picture.
        PictureFormat::Svg => drawing
            .to_svg()
            .replacen(">\n", &format!(">\n<!-- {PICTURE} -->\n"), 1)
            .into_bytes(),
        PictureFormat::Png => drawing.to_png().ok_or_else(|| {
            let size = "the picture is too large for PNG; name a file that ends in .svg or .pdf";
            CommandError::Usage(format!("{}: {size}", path.display()))
        })?,
        PictureFormat::Pdf => drawing.to_pdf(),
    };
    write_over(path, &bytes, PICTURE)
}

/// The font of charts, as `plotters` asks for one; letters have their own outlines.
fn font<'a>(size: f64) -> TextStyle<'a> {
    TextStyle::from(("sans-serif", COUNTED * size)).color(&INK)
}

/// How labels are written.
pub fn label_style<'a>() -> TextStyle<'a> {
    font(SMALL)
}

/// How what stands above one of several charts is written.
pub fn heading_style<'a>() -> TextStyle<'a> {
    font(TEXT)
}

/// A chart in `area`, with room for its axes.
pub fn chart<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'a, Canvas<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart
        .margin(8)
        .margin_right(20)
        .x_label_area_size(40)
        .y_label_area_size(60);
    chart
}

/// How the values of a vertical axis are written.
static TICK: fn(&f64) -> String = tick;

/// At most five decimals, at least one.
fn tick(value: &f64) -> String {
    let text = axis_text(*value, 5);
    if text.contains('e') {
        return text;
    }
    let short = text.trim_end_matches('0');
    let zero = if short.ends_with('.') { "0" } else { "" };
    format!("{short}{zero}")
}

/// The axes of a chart, with their names.
pub fn axes<'a, 'b, 'c, X, Y>(
    chart: &'b mut ChartContext<'a, Canvas<'c>, Cartesian2d<X, Y>>,
    x: &str,
    y: &str,
) -> MeshStyle<'a, 'b, X, Y, Canvas<'c>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut axes = chart.configure_mesh();
    axes.light_line_style(TRANSPARENT)
        .x_desc(x)
        .y_desc(y)
        .y_label_formatter(&TICK)
        .label_style(font(SMALL))
        .axis_desc_style(font(TEXT));
    axes
}

/// The factor and the title of an axis of scores: accuracies are drawn in per cent.
pub fn score_axis(metric: Metric) -> (f64, &'static str) {
    match metric {
        Metric::Accuracy => (100.0, "accuracy (%)"),
        Metric::MeanSquaredError => (1.0, "mean squared error"),
        Metric::Return => (1.0, "return"),
    }
}

/// A range that holds all values, with air: a little below them, and `above` of their width on top,
/// where labels or a legend stand.
pub fn range(values: impl Iterator<Item = f64>, above: f64) -> Range<f64> {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return 0.0..1.0;
    }
    let width = match high - low {
        width if width > 1e-9 * high.abs() => width,
        _ => high.abs().max(1e-6),
    };
    low - 0.06 * width..high + above * width
}

/// A mean at `x` with the ends of its interval.
pub fn error_bar(
    x: f64,
    (low, mean, high): (f64, f64, f64),
    colour: Colour,
) -> ErrorBar<f64, f64, ErrorBarOrientV<f64, f64>> {
    ErrorBar::new_vertical(x, low, mean, high, colour.filled(), 6)
}

/// How a legend shows a line of this style.
pub fn legend_line(style: impl Into<ShapeStyle>) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    let style = style.into();
    move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style)
}

/// The corner on the right that scores get away from while they get better.
pub fn far_corner(metric: Metric) -> SeriesLabelPosition {
    match metric {
        Metric::Accuracy | Metric::Return => SeriesLabelPosition::LowerRight,
        Metric::MeanSquaredError => SeriesLabelPosition::UpperRight,
    }
}

/// Draws the legend in a corner.
///
/// # Errors
/// None that a picture has.
pub fn draw_legend<'a, 'b: 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, Canvas<'b>, C>,
    position: SeriesLabelPosition,
) -> Drawn {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(label_style())
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_fit_the_margin() {
        let written = [0.0, 0.35, -2.5, 120.0, 1e6, -5e55].map(|value| tick(&value));
        assert_eq!(
            written,
            ["0.0", "0.35", "-2.5", "120.0", "1.0e6", "-5.0e55"]
        );
    }

    #[test]
    fn a_range_holds_its_values_with_air() {
        assert_eq!(range([0.0, 10.0, f64::NAN].into_iter(), 0.1), -0.6..11.0);
        let one = range([2.0].into_iter(), 0.1);
        assert!(one.start < 2.0 && 2.0 < one.end, "{one:?}");
        assert_eq!(range([f64::INFINITY].into_iter(), 0.1), 0.0..1.0);
    }
}
