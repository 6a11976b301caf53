//! Draws the charts of a report as SVG elements, whose colours are those of the page.

use maud::{Markup, html};

/// Width and height of a chart, and the room around its lines.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;
/// Colours that tell lines apart.
pub const COLOURS: usize = 7;

/// How a line is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// With its points.
    #[default]
    Points,
    /// A line alone.
    Plain,
    /// Dashes.
    Dashed,
    /// One of many, which can be hidden.
    Single,
}

/// A line of a chart.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// What the legend calls it; not in the legend where empty.
    pub name: String,
    /// Which colour it has.
    pub colour: usize,
    /// How it is drawn.
    pub style: Style,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// The ends of an interval at each point; empty for none.
    pub band: Vec<(f64, f64)>,
}

/// What a chart shows.
pub struct Chart<'a> {
    /// What is told to readers who do not see it.
    pub title: &'a str,
    /// Name of the horizontal axis.
    pub x: &'a str,
    /// Name of the vertical axis.
    pub y: &'a str,
    /// Decimals of values.
    pub decimals: usize,
    /// Lines.
    pub lines: Vec<Line>,
    /// Values that the vertical axis shows in any case.
    pub shown: Vec<f64>,
}

/// At most two decimals of a place in a picture.
pub fn place(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// A linear map from values to places.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }
}

/// The range of the finite ones of `values`, with air of this share on both sides.
fn range(values: impl Iterator<Item = f64>, air: f64) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    let width = match high - low {
        width if width > 1e-9 * high.abs().max(1e-9) => width,
        _ => high.abs().max(1e-3),
    };
    (low - air * width, high + air * width)
}

/// About `count` round numbers in a range.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let width = high - low;
    if !(width.is_finite() && width > 0.0) {
        return Vec::new();
    }
    let rough = width / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    (first..=last.min(first + 50))
        .map(|number| number as f64 * step)
        .collect()
}

/// A number on an axis, as short as it is round.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

fn polyline(points: impl Iterator<Item = (f64, f64)>) -> String {
    let pairs: Vec<String> = points
        .map(|(x, y)| format!("{},{}", place(x), place(y)))
        .collect();
    pairs.join(" ")
}

impl Chart<'_> {
    /// The chart with its legend.
    pub fn draw(&self) -> Markup {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let bands = self.lines.iter().flat_map(|line| &line.band);
        let (left, right) = range(points().map(|(x, _)| *x), 0.0);
        let values = points()
            .map(|(_, y)| *y)
            .chain(bands.flat_map(|(low, high)| [*low, *high]))
            .chain(self.shown.iter().copied());
        let (low, high) = range(values, 0.06);
        let x = Scale {
            low: left,
            high: right,
            from: LEFT,
            to: WIDTH - RIGHT,
        };
        let y = Scale {
            low,
            high,
            from: HEIGHT - BOTTOM,
            to: TOP,
        };
        html! {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                (self.axes(&x, &y))
                @for line in &self.lines { (self.line(line, &x, &y)) }
            }
            (legend(self.lines.iter().map(|line| (line.name.as_str(), line.colour, line.style))))
        }
    }

    fn axes(&self, x: &Scale, y: &Scale) -> Markup {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        html! {
            @for value in ticks(y.low, y.high, 5) {
                @let at = place(y.at(value));
                line class="axis" x1=(LEFT) x2=(right) y1=(at) y2=(at) {}
                text class="tick" x=(LEFT - 6.0) y=(at) dy="0.35em" text-anchor="end" { (number(value)) }
            }
            @for value in ticks(x.low, x.high, 6) {
                @let at = place(x.at(value));
                line class="axis" x1=(at) x2=(at) y1=(bottom) y2=(bottom + 4.0) {}
                text class="tick" x=(at) y=(bottom + 16.0) text-anchor="middle" { (number(value)) }
            }
            line class="axis" x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
            text x=(place(0.5 * (LEFT + right))) y=(HEIGHT - 6.0) text-anchor="middle" { (self.x) }
            text transform=(format!("translate(12 {}) rotate(-90)", place(0.5 * (TOP + bottom))))
                text-anchor="middle" { (self.y) }
        }
    }

    fn line(&self, line: &Line, x: &Scale, y: &Scale) -> Markup {
        let finite: Vec<(f64, f64)> = line
            .points
            .iter()
            .filter(|(at, value)| at.is_finite() && value.is_finite())
            .map(|(at, value)| (x.at(*at), y.at(*value)))
            .collect();
        let style = match line.style {
            Style::Points => "line",
            Style::Plain => "line thin",
            Style::Dashed => "line dash",
            Style::Single => "line thin seed",
        };
        let ends = line.points.iter().zip(&line.band);
        let ends: Vec<(f64, (f64, f64))> = ends
            .filter(|(_, (low, high))| low.is_finite() && high.is_finite())
            .map(|((at, _), (low, high))| (x.at(*at), (y.at(*low), y.at(*high))))
            .collect();
        let area = ends.iter().map(|(at, (low, _))| (*at, *low));
        let area = area.chain(ends.iter().rev().map(|(at, (_, high))| (*at, *high)));
        html! {
            @if ends.len() > 1 {
                polygon class=(format!("band k{}", line.colour % COLOURS)) points=(polyline(area)) {}
            } @else if let Some((at, (low, high))) = ends.first() {
                line class=(format!("line k{}", line.colour % COLOURS)) x1=(place(*at)) x2=(place(*at))
                    y1=(place(*low)) y2=(place(*high)) {}
            }
            @if finite.len() > 1 {
                polyline class=(format!("{style} k{}", line.colour % COLOURS))
                    style="fill:none" points=(polyline(finite.iter().copied())) {}
            }
            @if line.style == Style::Points {
                @for (index, (at, value)) in line.points.iter().enumerate() {
                    @if at.is_finite() && value.is_finite() {
                        (self.point(line, index, (x.at(*at), y.at(*value))))
                    }
                }
            }
        }
    }

    fn point(&self, line: &Line, index: usize, (x, y): (f64, f64)) -> Markup {
        let (at, value) = line.points[index];
        let decimals = self.decimals;
        let ends = line.band.get(index);
        let ends = ends.filter(|(low, high)| low.is_finite() && high.is_finite());
        let interval = ends.map_or_else(String::new, |(low, high)| {
            format!(" [{low:.decimals$}, {high:.decimals$}]")
        });
        let name = match line.name.as_str() {
            "" => String::new(),
            name => format!("{name}: "),
        };
        let (x, y) = (place(x), place(y));
        html! {
            circle class=(format!("dot k{}", line.colour % COLOURS)) cx=(x) cy=(y) r="2.5" {}
            circle class="hit" cx=(x) cy=(y) r="9" {
                title { (name) (self.x) " " (number(at)) ": " (format!("{value:.decimals$}")) (interval) }
            }
        }
    }
}

/// The names of lines beside their colours; nothing where no line has a name.
pub fn legend<'a>(lines: impl Iterator<Item = (&'a str, usize, Style)>) -> Markup {
    let named: Vec<_> = lines.filter(|(name, ..)| !name.is_empty()).collect();
    html! {
        @if !named.is_empty() {
            ul class="legend" {
                @for (name, colour, style) in named {
                    li {
                        svg viewBox="0 0 22 8" aria-hidden="true" {
                            line class=(format!("line k{}{}", colour % COLOURS,
                                if style == Style::Dashed { " dash" } else { "" }))
                                x1="0" x2="22" y1="4" y2="4" {}
                        }
                        bdi { (name) }
                    }
                }
            }
        }
    }
}

/// A row of a forest plot.
pub struct Row {
    /// What it is called.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Half of its interval's width; not finite for none.
    pub half_width: f64,
}

/// Values with their intervals, one a row, beside a line at zero.
pub fn forest(title: &str, unit: &str, decimals: usize, rows: &[Row]) -> Markup {
    const ROW: f64 = 34.0;
    let height = rows.len() as f64 * ROW + 34.0;
    let ends = rows.iter().flat_map(|row| {
        let half = if row.half_width.is_finite() {
            row.half_width
        } else {
            0.0
        };
        [row.value - half, row.value + half]
    });
    let (low, high) = range(ends.chain([0.0]), 0.06);
    let x = Scale {
        low,
        high,
        from: 8.0,
        to: WIDTH - 12.0,
    };
    let bottom = height - 28.0;
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(title) {
            @for value in ticks(low, high, 5) {
                @let at = place(x.at(value));
                line class="axis" x1=(at) x2=(at) y1="0" y2=(bottom) {}
                text class="tick" x=(at) y=(bottom + 14.0) text-anchor="middle" { (number(value)) }
            }
            line class="line dash k6" x1=(place(x.at(0.0))) x2=(place(x.at(0.0))) y1="0" y2=(bottom) {}
            text x=(WIDTH / 2.0) y=(height - 2.0) text-anchor="middle" { (unit) }
            @for (index, row) in rows.iter().enumerate() {
                @let y = index as f64 * ROW + 25.0;
                text x="8" y=(y - 9.0) { (cut(&row.name, 68)) }
                @if row.half_width.is_finite() {
                    line class="line k0" x1=(place(x.at(row.value - row.half_width)))
                        x2=(place(x.at(row.value + row.half_width))) y1=(y) y2=(y) {}
                }
                circle class="dot k0" cx=(place(x.at(row.value))) cy=(y) r="4" {}
                circle class="hit" cx=(place(x.at(row.value))) cy=(y) r="10" {
                    title {
                        (row.name) ": " (format!("{:+.decimals$}", row.value))
                        @if row.half_width.is_finite() { (format!(" ± {:.decimals$}", row.half_width)) }
                    }
                }
            }
        }
    }
}

/// At most so many letters of a text.
pub fn cut(text: &str, letters: usize) -> String {
    match text.chars().count() {
        count if count <= letters => text.to_owned(),
        _ => text.chars().take(letters - 1).chain(['…']).collect(),
    }
}

/// Shares by row and column, as squares that are the darker the larger; none where there is no value.
pub fn matrix(title: &str, names: &[String], shares: &[Vec<Option<(f64, String)>>]) -> Markup {
    const CELL: f64 = 20.0;
    let count = names.len() as f64;
    let left = 130.0;
    let size = left + count * CELL;
    html! {
        svg viewBox=(format!("0 0 {} {}", size + 6.0, 26.0 + count * CELL)) role="img" aria-label=(title)
            style=(format!("max-width:{}px", place(1.2 * size))) {
            text class="tick" x=(left + 0.5 * count * CELL) y="12" text-anchor="middle" { "predicted" }
            @for (row, name) in names.iter().enumerate() {
                @let y = 20.0 + row as f64 * CELL;
                text class="tick" x=(left - 6.0) y=(y + 0.5 * CELL) dy="0.35em" text-anchor="end" {
                    (cut(name, 20))
                }
                @for (column, cell) in shares[row].iter().enumerate() {
                    @let x = left + column as f64 * CELL;
                    @if let Some((share, text)) = cell {
                        rect class=(if row == column { "cell k2" } else { "cell k3" }) x=(x) y=(y)
                            width=(CELL) height=(CELL) fill-opacity=(format!("{:.2}", share.max(0.04))) {}
                        rect class="hit" x=(x) y=(y) width=(CELL) height=(CELL) { title { (text) } }
                    }
                }
            }
        }
    }
}

/// An axis of parallel coordinates.
pub struct Axis {
    /// What it is called.
    pub name: String,
    /// Where the values of the lines are, from 0 to 1.
    pub places: Vec<f64>,
    /// Labels and where they stand.
    pub labels: Vec<(f64, String)>,
}

/// Lines through all axes, one a run; `shares` say how good it is, from 0 to 1, and are its opacity.
pub fn parallel(title: &str, axes: &[Axis], shares: &[f64], names: &[String]) -> Markup {
    let step = 130.0;
    let width = step * axes.len() as f64;
    let (top, bottom) = (30.0, HEIGHT - 14.0);
    let x = |axis: usize| 62.0 + axis as f64 * step;
    let y = |place: f64| bottom - place * (bottom - top);
    let colour = |share: f64| if share >= 0.75 { "k2" } else { "k0" };
    html! {
        svg viewBox=(format!("0 0 {width} {HEIGHT}")) role="img" aria-label=(title)
            style=(format!("min-width:{}px;max-width:{}px", place(0.7 * width), place(1.4 * width))) {
            @for (line, share) in shares.iter().enumerate() {
                @let points = axes.iter().enumerate().map(|(axis, at)| (x(axis), y(at.places[line])));
                polyline class=(format!("line {}", colour(*share))) style="fill:none"
                    opacity=(format!("{:.2}", 0.12 + 0.6 * share * share)) points=(polyline(points)) {}
                @if let Some(axis) = axes.last() {
                    circle class="hit" cx=(place(x(axes.len() - 1))) cy=(place(y(axis.places[line]))) r="6" {
                        title { (names[line]) }
                    }
                }
            }
            @for (index, axis) in axes.iter().enumerate() {
                line class="axis" x1=(x(index)) x2=(x(index)) y1=(top) y2=(bottom) {}
                text x=(x(index)) y="14" text-anchor="middle" { (cut(&axis.name, 20)) }
                @for (at, label) in &axis.labels {
                    text class="tick" x=(x(index) + 5.0) y=(place(y(*at))) dy="0.35em" { (cut(label, 16)) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.31, 0.68, 4), [0.4, 0.5, 0.6000000000000001]);
        assert!(ticks(1.0, 1.0, 5).is_empty() && ticks(0.0, f64::NAN, 5).is_empty());
        let shown = [0.0, -0.0, 0.6000000000000001, 1e-5, 2e7, 1500.0].map(number);
        assert_eq!(shown, ["0", "0", "0.6", "1e-5", "2e7", "1500"]);
    }

    /// What is not a number is not drawn, and a name is text.
    #[test]
    fn a_chart_draws_what_is_finite() {
        let chart = Chart {
            title: "scores",
            x: "iteration",
            y: "accuracy (%)",
            decimals: 2,
            lines: vec![Line {
                name: "<script>a & b</script>".to_owned(),
                points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)],
                band: vec![(0.5, 1.5), (f64::NAN, 0.0), (2.5, f64::INFINITY)],
                ..Line::default()
            }],
            shown: Vec::new(),
        };
        let drawn = chart.draw().into_string();
        assert_eq!(drawn.matches(r#"class="dot k0""#).count(), 2);
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert!(
            drawn.contains("&lt;script&gt;a &amp; b&lt;/script&gt;"),
            "{drawn}"
        );
        assert!(!drawn.contains("<script>"));
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
    }
}
