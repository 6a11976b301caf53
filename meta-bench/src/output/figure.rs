//! Draws figures for a paper, for slides and for the screen: curves with bands, and differences with intervals.
//!
//! Text never overlaps: the legend stands below the axes, as many lines as it needs, and names are cut in
//! their middle where they are wider than the figure.

use clap::ValueEnum;

use super::{
    drawing::{Anchor, Colour, Drawing, LINES, Paint, text_width},
    table::{Cell, Table},
    units::axis_text,
};

/// What a figure is for: its size, its text, its colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// The screen.
    #[default]
    Screen,
    /// A column of a paper, 3.3 inches wide, with text of 7 points.
    Paper,
    /// A slide, with large text and thick lines.
    Slides,
    /// A dark ground.
    Dark,
}

/// Sizes and colours of a style.
struct Look {
    width: f64,
    height: f64,
    text: f64,
    line: f64,
    ink: Colour,
    grey: Colour,
    ground: Colour,
}

impl Style {
    fn look(self) -> Look {
        let light = Look {
            width: 640.0,
            height: 360.0,
            text: 12.0,
            line: 2.0,
            ink: Colour(34, 34, 34),
            grey: Colour(150, 150, 150),
            ground: Colour(255, 255, 255),
        };
        match self {
            Style::Screen => light,
            Style::Paper => Look {
                width: 238.0,
                height: 150.0,
                text: 7.0,
                line: 1.0,
                ink: Colour(0, 0, 0),
                ..light
            },
            Style::Slides => Look {
                width: 960.0,
                height: 480.0,
                text: 20.0,
                line: 4.0,
                ..light
            },
            Style::Dark => Look {
                ink: Colour(230, 230, 230),
                grey: Colour(110, 110, 110),
                ground: Colour(24, 26, 27),
                ..light
            },
        }
    }

    /// The colour of a line: those of all pictures; on a dark ground, the darkest of them lighter.
    fn colour(self, place: usize) -> Colour {
        let colour = LINES[place % LINES.len()];
        match (self, place % LINES.len()) {
            (Style::Dark, 6) => Colour(200, 200, 200),
            (Style::Dark, 0) => Colour(60, 150, 220),
            _ => colour,
        }
    }
}

/// A mean at a place, with the ends of its interval; both are the mean where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// The mean.
    pub mean: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// A line of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// How intervals are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// As a band around the line.
    Band,
    /// As a bar at each point.
    Bars,
}

/// Lines over an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What stands above.
    pub title: String,
    /// The name of the horizontal axis.
    pub x: String,
    /// The name of the vertical axis.
    pub y: String,
    /// Whether places are drawn by their logarithm.
    pub logarithmic: bool,
    /// Whether the line on which both axes agree is drawn.
    pub diagonal: bool,
    /// How intervals are drawn.
    pub spread: Spread,
    /// The lines.
    pub series: Vec<Series>,
    /// What is said below.
    pub note: String,
}

/// Lengths of dashes and gaps, in widths of a line: of the first colours, the next ones, and the rest.
const DASHES: [&[f64]; 3] = [&[], &[4.0, 2.0], &[1.0, 2.0]];

/// A picture with its look.
struct Pen {
    drawing: Drawing,
    look: Look,
}

impl Pen {
    fn new(style: Style, height: f64) -> Self {
        let look = style.look();
        let drawing = Drawing::new(look.width, height).on(look.ground);
        Pen { drawing, look }
    }

    /// A text whose middle line is at `y`.
    fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: Colour, text: &str) {
        let size = self.look.text;
        self.drawing
            .text((x, y + 0.36 * size), size, anchor, colour, text);
    }

    /// A line with dashes.
    fn dashed(&mut self, points: &[(f64, f64)], colour: Colour, width: f64, dashes: &[f64]) {
        let Some(&first) = points.first() else { return };
        if dashes.is_empty() {
            self.drawing.line(points, colour, width);
            return;
        }
        let (mut place, mut left, mut from) = (0, dashes[0] * width, first);
        let mut dash = vec![first];
        for &to in &points[1..] {
            loop {
                let length = (to.0 - from.0).hypot(to.1 - from.1);
                let drawn = place % 2 == 0;
                if length <= left {
                    left -= length;
                    from = to;
                    if drawn {
                        dash.push(to);
                    }
                    break;
                }
                let share = left / length;
                from = (
                    from.0 + share * (to.0 - from.0),
                    from.1 + share * (to.1 - from.1),
                );
                if drawn {
                    dash.push(from);
                    self.drawing.line(&dash, colour, width);
                }
                place += 1;
                left = dashes[place % dashes.len()] * width;
                dash = vec![from];
            }
        }
        if place % 2 == 0 && dash.len() > 1 {
            self.drawing.line(&dash, colour, width);
        }
    }
}

/// A text that is at most `room` wide: cut in its middle, for its ends tell it from others.
fn cut(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let letters: Vec<char> = text.chars().collect();
    let shortened = |kept: usize| -> String {
        let end = kept / 2;
        let first = &letters[..kept - end];
        let last = &letters[letters.len() - end..];
        first.iter().chain(&['…']).chain(last).collect()
    };
    let fits = |kept: &usize| text_width(&shortened(*kept), size) <= room;
    let kept = (0..letters.len()).rev().find(fits).unwrap_or(0);
    shortened(kept)
}

/// Round numbers between two others, about `count` of them.
fn ticks(low: f64, high: f64, count: f64) -> Vec<f64> {
    let rough = (high - low) / count.max(1.0);
    if !(rough.is_finite() && rough > 0.0) {
        return Vec::new();
    }
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    let (first, last) = (
        (low / step - 1e-9).ceil() as i64,
        (high / step + 1e-9).floor() as i64,
    );
    (first..=last).map(|place| place as f64 * step).collect()
}

/// Decimals that tell these ticks apart.
fn decimals(ticks: &[f64]) -> usize {
    let step = ticks
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(f64::INFINITY, f64::min);
    match step.is_finite() && step > 0.0 {
        true => (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize,
        false => 2,
    }
}

/// The least and the greatest of some numbers with some air; 0 and 1 where there is none.
fn range(values: impl Iterator<Item = f64>, air: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low > high {
        return (0.0, 1.0);
    }
    let width = match high - low {
        width if width > 1e-9 * high.abs().max(1e-300) => width,
        _ if high == 0.0 => 1.0,
        _ => high.abs(),
    };
    (low - air * width, high + air * width)
}

impl Figure {
    /// The place of a value on the horizontal axis, before it is drawn.
    fn at(&self, x: f64) -> f64 {
        if self.logarithmic { x.log10() } else { x }
    }

    /// The picture.
    pub fn draw(&self, style: Style) -> Drawing {
        let look = style.look();
        let (text, line) = (look.text, look.line);
        let margin = text;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let ends = points().flat_map(|point| [point.mean, point.low, point.high]);
        let (low, high) = match self.diagonal {
            true => (0.0, 100.0),
            false => range(ends, 0.05),
        };
        let (left_end, right_end) = match self.diagonal {
            true => (0.0, 100.0),
            false => range(points().map(|point| self.at(point.x)), 0.02),
        };
        let room = look.height - 5.5 * text;
        let y_ticks = ticks(low, high, room / (3.0 * text));
        let y_decimals = decimals(&y_ticks);
        let y_label = |value: f64| axis_text(value, y_decimals);
        let widest = y_ticks.iter().map(|&tick| text_width(&y_label(tick), text));
        let left = margin + 1.8 * text + widest.fold(0.0, f64::max) + 0.6 * text;
        // Half of the last label is beyond the axis.
        let right = look.width - margin - 1.5 * text;
        let (top, bottom) = (margin + 2.0 * text, look.height - margin - 2.8 * text);
        let rows = self.legend_rows(&look);
        let notes = lines_of(&self.note, text, look.width - 2.0 * margin);
        let legend = rows
            .last()
            .map_or(0.0, |row| (row.2 + 1) as f64 * 1.5 * text);
        let height = look.height + legend + notes.len() as f64 * 1.4 * text;
        let mut pen = Pen::new(style, height);
        let x_at =
            |x: f64| left + (self.at(x) - left_end) / (right_end - left_end) * (right - left);
        let y_at = |y: f64| bottom - (y - low) / (high - low) * (bottom - top);
        let (ink, grey) = (look.ink, look.grey);
        let title = cut(&self.title, text, look.width - 2.0 * margin);
        pen.text((margin, margin + 0.4 * text), Anchor::Start, ink, &title);
        for &tick in &y_ticks {
            let y = y_at(tick);
            pen.drawing.line(
                &[(left, y), (right, y)],
                Paint(grey.0, grey.1, grey.2, 0.35),
                0.5,
            );
            pen.text((left - 0.5 * text, y), Anchor::End, ink, &y_label(tick));
        }
        for (x, label) in self.x_labels((left_end, right_end), right - left, text) {
            let x = left + (x - left_end) / (right_end - left_end) * (right - left);
            pen.drawing
                .line(&[(x, bottom), (x, bottom + 0.3 * text)], ink, 0.5);
            pen.text((x, bottom + 0.9 * text), Anchor::Middle, ink, &label);
        }
        pen.drawing
            .line(&[(left, top), (left, bottom), (right, bottom)], ink, 0.75);
        let x_name = cut(&self.x, text, right - left);
        pen.text(
            ((left + right) / 2.0, bottom + 2.3 * text),
            Anchor::Middle,
            ink,
            &x_name,
        );
        let y_name = cut(&self.y, text, bottom - top);
        let middle = (margin + 0.9 * text, (top + bottom) / 2.0);
        pen.drawing
            .upright(middle, text, Anchor::Middle, ink, &y_name);
        if self.diagonal {
            let ends = [(x_at(0.0), y_at(0.0)), (x_at(100.0), y_at(100.0))];
            pen.dashed(&ends, grey, 0.5 * line, &[4.0, 4.0]);
        }
        for (place, series) in self.series.iter().enumerate() {
            let points: Vec<Point> = series.points.iter().copied().filter(is_finite).collect();
            draw_series(&mut pen, &points, (style, place), self.spread, &x_at, &y_at);
        }
        let start = look.height;
        for (name, x, row) in rows {
            let place = name.0;
            let y = start + (row as f64 + 0.2) * 1.5 * text;
            let ends = [(x, y), (x + 2.4 * text, y)];
            let dashes = DASHES[(place / LINES.len()) % DASHES.len()];
            pen.dashed(&ends, style.colour(place), line, dashes);
            pen.text((x + 3.0 * text, y), Anchor::Start, ink, &name.1);
        }
        for (row, note) in notes.iter().enumerate() {
            let y = start + legend + (row as f64 + 0.3) * 1.4 * text;
            pen.text((margin, y), Anchor::Start, grey, note);
        }
        pen.drawing
    }

    /// The legend: each name with its place among the lines, where it begins, and in which row.
    fn legend_rows(&self, look: &Look) -> Vec<((usize, String), f64, usize)> {
        let (margin, text) = (look.text, look.text);
        let room = look.width - 2.0 * margin;
        let (mut x, mut row) = (0.0, 0);
        let mut rows = Vec::new();
        for (place, series) in self.series.iter().enumerate() {
            if series.name.is_empty() {
                continue;
            }
            let name = cut(&series.name, text, room - 3.0 * text);
            let width = 3.0 * text + text_width(&name, text);
            if x > 0.0 && x + width > room {
                (x, row) = (0.0, row + 1);
            }
            rows.push(((place, name), margin + x, row));
            x += width + 1.5 * text;
        }
        rows
    }

    /// Places on the horizontal axis as they are drawn, with what is written there, no two of which touch.
    fn x_labels(&self, (low, high): (f64, f64), width: f64, text: f64) -> Vec<(f64, String)> {
        let places: Vec<(f64, String)> = if self.logarithmic {
            let mut known: Vec<f64> = self
                .series
                .iter()
                .flat_map(|it| &it.points)
                .map(|it| it.x)
                .collect();
            known.sort_by(f64::total_cmp);
            known.dedup();
            known.into_iter().map(|x| (x.log10(), number(x))).collect()
        } else {
            let mut ticks = ticks(low, high, width / (6.0 * text));
            let mut points = self.series.iter().flat_map(|it| &it.points);
            // Steps and iterations are counted.
            let counted = points.all(|point| point.x.fract() == 0.0);
            if counted {
                ticks.retain(|tick| (tick - tick.round()).abs() < 1e-9);
            }
            let decimals = if counted { 0 } else { decimals(&ticks) };
            ticks
                .into_iter()
                .map(|x| (x, format!("{x:.decimals$}")))
                .collect()
        };
        let mut end = f64::NEG_INFINITY;
        let mut labels = Vec::new();
        for (x, label) in places {
            let middle = (x - low) / (high - low) * width;
            let half = text_width(&label, text) / 2.0;
            if middle - half > end + 0.5 * text {
                end = middle + half;
                labels.push((x, label));
            }
        }
        labels
    }

    /// What is drawn, as rows.
    pub fn table(&self) -> Table {
        let mut table = Table::new(COLUMNS);
        for series in &self.series {
            for point in &series.points {
                let Point { x, mean, low, high } = *point;
                let mut row = vec![Cell::from(series.name.clone())];
                row.extend([x, mean, low, high].map(|value| Cell::new(value.to_string(), value)));
                table.rows.push(row);
            }
        }
        table
    }
}

/// The columns of the data behind a figure.
pub const COLUMNS: [&str; 5] = ["series", "x", "mean", "low", "high"];
/// In every file of them.
pub const MARK_CSV: &str = "series,x,mean,low,high";

fn is_finite(point: &Point) -> bool {
    point.x.is_finite() && point.mean.is_finite()
}

/// A number without needless zeros.
fn number(value: f64) -> String {
    match value {
        _ if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) => format!("{value:e}"),
        _ => value.to_string(),
    }
}

/// A text in lines of at most this width.
fn lines_of(text: &str, size: f64, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line, size) + text_width(word, size) + 0.4 * size <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, size, room)),
        }
    }
    lines
}

/// Draws a line with its intervals and points.
fn draw_series(
    pen: &mut Pen,
    points: &[Point],
    (style, place): (Style, usize),
    spread: Spread,
    x_at: &impl Fn(f64) -> f64,
    y_at: &impl Fn(f64) -> f64,
) {
    let width = pen.look.line;
    let colour = style.colour(place);
    let has_interval =
        |point: &&Point| point.high > point.low && (point.high - point.low).is_finite();
    let with: Vec<&Point> = points.iter().filter(has_interval).collect();
    match spread {
        Spread::Band if with.len() > 1 => {
            let upper = with.iter().map(|point| (x_at(point.x), y_at(point.high)));
            let lower = with
                .iter()
                .rev()
                .map(|point| (x_at(point.x), y_at(point.low)));
            let band: Vec<(f64, f64)> = upper.chain(lower).collect();
            let paint = Paint(colour.0, colour.1, colour.2, 0.18);
            pen.drawing.polygon(&band, paint);
        }
        Spread::Band => {}
        Spread::Bars => {
            for point in with {
                let (x, low, high) = (x_at(point.x), y_at(point.low), y_at(point.high));
                let cap = 1.2 * width;
                pen.drawing
                    .line(&[(x, low), (x, high)], colour, 0.6 * width);
                for y in [low, high] {
                    pen.drawing
                        .line(&[(x - cap, y), (x + cap, y)], colour, 0.6 * width);
                }
            }
        }
    }
    let line: Vec<(f64, f64)> = points
        .iter()
        .map(|it| (x_at(it.x), y_at(it.mean)))
        .collect();
    let dashes = DASHES[(place / LINES.len()) % DASHES.len()];
    pen.dashed(&line, colour, width, dashes);
    if points.len() <= 30 {
        for &point in &line {
            pen.drawing.circle(point, 1.3 * width, colour, None);
        }
    }
}

/// A row of differences.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What is compared.
    pub name: String,
    /// The difference.
    pub mean: f64,
    /// Half of its interval's width; infinite where it has none.
    pub half_width: f64,
}

/// Differences with their intervals, one below the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Forest {
    /// What stands above.
    pub title: String,
    /// The name of the axis.
    pub x: String,
    /// The rows.
    pub rows: Vec<Difference>,
}

impl Forest {
    /// The picture.
    pub fn draw(&self, style: Style) -> Drawing {
        let look = style.look();
        let (text, line, ink, grey) = (look.text, look.line, look.ink, look.grey);
        let margin = text;
        let row_height = 1.7 * text;
        let top = margin + 2.2 * text;
        let bottom = top + row_height * self.rows.len().max(1) as f64;
        let mut pen = Pen::new(style, bottom + 3.6 * text + margin);
        let most = 0.45 * look.width;
        let names: Vec<String> = self
            .rows
            .iter()
            .map(|row| cut(&row.name, text, most))
            .collect();
        let widest = names
            .iter()
            .map(|name| text_width(name, text))
            .fold(0.0, f64::max);
        let (left, right) = (margin + widest + text, look.width - margin - text);
        let ends = self.rows.iter().flat_map(|row| {
            [
                row.mean,
                row.mean - row.half_width,
                row.mean + row.half_width,
            ]
        });
        let (low, high) = range(ends.chain([0.0]), 0.06);
        let x_at = |x: f64| left + (x - low) / (high - low) * (right - left);
        let title = cut(&self.title, text, look.width - 2.0 * margin);
        pen.text((margin, margin + 0.4 * text), Anchor::Start, ink, &title);
        let ticks = ticks(low, high, (right - left) / (6.0 * text));
        let decimals = decimals(&ticks);
        for tick in ticks {
            let x = x_at(tick);
            pen.drawing.line(
                &[(x, top), (x, bottom)],
                Paint(grey.0, grey.1, grey.2, 0.35),
                0.5,
            );
            let label = axis_text(tick, decimals);
            pen.text((x, bottom + 0.9 * text), Anchor::Middle, ink, &label);
        }
        pen.drawing
            .line(&[(x_at(0.0), top), (x_at(0.0), bottom)], ink, 0.75);
        for (place, (row, name)) in self.rows.iter().zip(&names).enumerate() {
            let y = top + (place as f64 + 0.5) * row_height;
            pen.text((left - 0.8 * text, y), Anchor::End, ink, name);
            if !row.mean.is_finite() {
                continue;
            }
            // What is told from 0 is drawn in colour.
            let told = row.half_width.is_finite() && row.mean.abs() > row.half_width;
            let colour = if told { style.colour(0) } else { grey };
            if row.half_width.is_finite() {
                let ends = [
                    (x_at(row.mean - row.half_width), y),
                    (x_at(row.mean + row.half_width), y),
                ];
                pen.drawing.line(&ends, colour, line);
            }
            pen.drawing
                .circle((x_at(row.mean), y), 1.6 * line, colour, None);
        }
        let name = cut(&self.x, text, look.width - 2.0 * margin);
        let middle = (left + right) / 2.0;
        let half = text_width(&name, text) / 2.0;
        let middle = middle.min(look.width - margin - half).max(margin + half);
        pen.text((middle, bottom + 2.3 * text), Anchor::Middle, ink, &name);
        pen.drawing
    }

    /// What is drawn, as rows.
    pub fn table(&self) -> Table {
        let mut table = Table::new(COLUMNS);
        for (place, row) in self.rows.iter().enumerate() {
            let (low, high) = (row.mean - row.half_width, row.mean + row.half_width);
            let mut cells = vec![
                Cell::from(row.name.clone()),
                Cell::new(place.to_string(), place),
            ];
            cells.extend([row.mean, low, high].map(|value| Cell::new(value.to_string(), value)));
            table.rows.push(cells);
        }
        table
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Lines with names of 60 letters.
    pub fn figure(lines: usize) -> Figure {
        let series = (0..lines).map(|line| Series {
            name: format!("learner.name=a-name-that-is-rather-long-for-a-legend seed={line:04}"),
            points: (0..20)
                .map(|x| {
                    let mean = 90.0 - 60.0 * (-f64::from(x) / (5.0 + line as f64)).exp();
                    let x = 100.0 * f64::from(x);
                    Point {
                        x,
                        mean,
                        low: mean - 2.0,
                        high: mean + 2.0,
                    }
                })
                .collect(),
        });
        Figure {
            title: "quickstart: protonet, conv4, glyphs".to_owned(),
            x: "iteration".to_owned(),
            y: "accuracy (%)".to_owned(),
            logarithmic: false,
            diagonal: false,
            spread: Spread::Band,
            series: series.collect(),
            note: "Validation scores; a band is the 95 % interval over seeds.".to_owned(),
        }
    }

    pub fn forest(rows: usize) -> Forest {
        let rows = (0..rows).map(|row| Difference {
            name: format!("protonet − a-learner-with-a-name-of-about-sixty-letters-in-all {row}"),
            mean: row as f64 - 2.0,
            half_width: if row == 3 { f64::INFINITY } else { 1.5 },
        });
        Forest {
            title: "paired differences".to_owned(),
            x: "difference in points, 95 % interval over episodes".to_owned(),
            rows: rows.collect(),
        }
    }

    /// The places of all texts of a picture, as boxes.
    fn boxes(svg: &str) -> Vec<(String, [f64; 4])> {
        let texts = svg.split("<g role=\"img\" aria-label=\"").skip(1);
        texts
            .filter_map(|part| {
                let (label, rest) = part.split_once('"')?;
                let (place, rest) = rest.split_once("translate(")?.1.split_once(')')?;
                let (x, y) = place.split_once(' ')?;
                let (x, y): (f64, f64) = (x.parse().ok()?, y.parse().ok()?);
                let scale: f64 = rest
                    .split_once("scale(")?
                    .1
                    .split_once(')')?
                    .0
                    .parse()
                    .ok()?;
                let size = 2048.0 * scale;
                let width = text_width(label, size);
                let turned = rest.trim_start().starts_with("rotate");
                Some((
                    label.to_owned(),
                    match turned {
                        false => [x, y - 0.73 * size, x + width, y],
                        true => [x - 0.73 * size, y - width, x, y],
                    },
                ))
            })
            .collect()
    }

    #[track_caller]
    fn apart(drawing: &Drawing, style: Style) {
        let svg = drawing.to_svg();
        let boxes = boxes(&svg);
        let side = |name: &str| -> f64 {
            let (_, rest) = svg.split_once(&format!("{name}=\"")).unwrap();
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let (width, height) = (side("width"), side("height"));
        for (place, (label, a)) in boxes.iter().enumerate() {
            assert!(
                a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= width && a[3] <= height,
                "{style:?}: {label} {a:?}"
            );
            for (other, b) in &boxes[..place] {
                let overlaps = a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
                assert!(!overlaps, "{style:?}: `{label}` {a:?} over `{other}` {b:?}");
            }
        }
    }

    /// With 1, 5 and 40 lines and names of 60 letters, no text is over another one or leaves the picture.
    #[test]
    fn no_text_is_over_another_one() {
        for style in [Style::Screen, Style::Paper, Style::Slides, Style::Dark] {
            for lines in [0, 1, 5, 40] {
                let mut drawn = figure(lines);
                apart(&drawn.draw(style), style);
                drawn.logarithmic = true;
                for point in drawn
                    .series
                    .iter_mut()
                    .flat_map(|series| &mut series.points)
                {
                    point.x += 1.0;
                }
                apart(&drawn.draw(style), style);
                apart(&forest(lines).draw(style), style);
            }
        }
    }

    /// Errors of any size fit the margin.
    #[test]
    fn large_numbers_fit() {
        let mut drawn = figure(2);
        for series in &mut drawn.series {
            for point in &mut series.points {
                point.mean *= 1e55;
                (point.low, point.high) = (0.9 * point.mean, 1.1 * point.mean);
            }
        }
        let mut rows = forest(3);
        for row in &mut rows.rows {
            row.mean *= 1e55;
            row.half_width *= 1e54;
        }
        for style in [Style::Screen, Style::Paper, Style::Slides] {
            apart(&drawn.draw(style), style);
            apart(&rows.draw(style), style);
        }
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(
            ticks(0.0, 1.0, 5.0),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(ticks(-3.0, 11.0, 3.0), [0.0, 5.0, 10.0]);
        assert!(ticks(1.0, 1.0, 5.0).is_empty() && ticks(0.0, f64::NAN, 5.0).is_empty());
        assert_eq!(
            (decimals(&[0.0, 0.2]), decimals(&[0.0, 50.0]), decimals(&[])),
            (1, 0, 2)
        );
        assert_eq!(cut("features", 10.0, 1000.0), "features");
        let short = cut("a-long-name-of-letters", 10.0, 60.0);
        assert!(
            short.contains('…') && text_width(&short, 10.0) <= 60.0,
            "{short}"
        );
    }

    /// Nothing that is not finite is drawn.
    #[test]
    fn what_is_not_finite_is_left_out() {
        let mut drawn = figure(2);
        drawn.series[0].points[3].mean = f64::NAN;
        drawn.series[1].points[4].high = f64::INFINITY;
        let svg = drawn.draw(Style::Screen).to_svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(drawn.table().rows.len(), 40);
        assert!(
            drawn
                .table()
                .render(crate::output::table::Format::Csv)
                .starts_with(MARK_CSV)
        );
    }

    /// A dash is as long as it should be.
    #[test]
    fn dashes_follow_the_line() {
        let mut pen = Pen::new(Style::Screen, 100.0);
        pen.dashed(
            &[(0.0, 0.0), (5.0, 0.0), (20.0, 0.0)],
            Colour(0, 0, 0),
            1.0,
            &[4.0, 2.0],
        );
        let svg = pen.drawing.to_svg();
        for dash in ["0,0 4,0", "6,0 10,0", "12,0 16,0", "18,0 20,0"] {
            assert!(svg.contains(&format!("points=\"{dash}\"")), "{dash}: {svg}");
        }
    }
}
