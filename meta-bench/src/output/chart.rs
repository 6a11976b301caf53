//! Draws what charts share: ranges, intervals, legends, files.

use std::{ops::Range, path::Path};

use meta_core::train::eval::Metric;
use plotters::{coord::CoordTranslate, element::ErrorBarOrientV, prelude::*};

use super::{
    palette::{DrawResult, FONT},
    target::{PICTURE, write_over},
};
use crate::failure::{CommandError, Result};

/// Writes what `draw` draws into the SVG file at `path`.
///
/// # Errors
/// When it cannot be drawn or written, or something else is there.
pub fn write_svg(path: &Path, draw: impl FnOnce(&mut String) -> DrawResult) -> Result<()> {
    let mut svg = String::new();
    draw(&mut svg).map_err(|error| CommandError::Usage(format!("{}: {error}", path.display())))?;
    // The mark is the first thing in the picture.
    let svg = svg.replacen(">\n", &format!(">\n{PICTURE}\n"), 1);
    write_over(path, svg.as_bytes(), PICTURE)
}

/// The factor and the title of an axis of scores: accuracies are drawn in per cent.
pub fn score_axis(metric: Metric) -> (f64, &'static str) {
    match metric {
        Metric::Accuracy => (100.0, "accuracy (%)"),
        Metric::MeanSquaredError => (1.0, "mean squared error"),
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
    colour: RGBColor,
) -> ErrorBar<f64, f64, ErrorBarOrientV<f64, f64>> {
    ErrorBar::new_vertical(x, low, mean, high, colour.filled(), 6)
}

/// How a legend shows a line of this style.
pub fn legend_line(style: impl Into<ShapeStyle>) -> impl Fn((i32, i32)) -> PathElement<(i32, i32)> {
    let style = style.into();
    move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style)
}

/// Draws the legend in a corner, in letters of this size.
///
/// # Errors
/// As the backend of the drawing.
pub fn draw_legend<'a, 'b: 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, SVGBackend<'b>, C>,
    position: SeriesLabelPosition,
    size: u32,
) -> DrawResult {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, size))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_its_values_with_air() {
        assert_eq!(range([0.0, 10.0, f64::NAN].into_iter(), 0.1), -0.6..11.0);
        let one = range([2.0].into_iter(), 0.1);
        assert!(one.start < 2.0 && 2.0 < one.end, "{one:?}");
        assert_eq!(range([f64::INFINITY].into_iter(), 0.1), 0.0..1.0);
    }
}
