//! Draws heat maps: a matrix with what its rows and columns are, and attention over the parts of items.

use super::{
    episode_view::{EpisodeView, Mark, Shown},
    maps::{Map, Matrix, Of},
};
use crate::output::drawing::{
    Anchor, Bitmap, Colour, Drawing, GREY, INK, MARGIN, MARK, Paint, SMALL, TEXT, readable_on,
    text_width, viridis,
};

/// Width that pictures keep to where they can.
const WIDTH: f64 = 940.0;
/// Opacity of ink over attention: the colour of a part is seen under it.
const INK_OPACITY: f64 = 0.7;
/// Width of the colour bar with its numbers and its unit.
const BAR: f64 = 92.0;

/// The end of the colour scale: a round number at or above `largest`.
fn scale_end(largest: f64) -> f64 {
    if largest.is_nan() || largest <= 0.0 {
        return 1.0;
    }
    let magnitude = 10f64.powf(largest.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps
        .into_iter()
        .find(|step| step * magnitude >= largest * (1.0 - 1e-6));
    step.unwrap_or(10.0) * magnitude
}

/// The colour bar from 0 to `end` with its unit.
fn colour_bar(drawing: &mut Drawing, x: f64, y: f64, height: f64, end: f64) {
    let (width, steps) = (16.0, 64);
    let step = height / f64::from(steps);
    for place in 0..steps {
        let share = (f64::from(place) + 0.5) / f64::from(steps);
        let top = y + height - step * f64::from(place + 1);
        drawing.rect(x, top, width, step + 0.3, viridis(share));
    }
    drawing.frame(x, y, width, height, GREY, 0.8);
    // As many decimals as the quarters of the scale need.
    let exact = |decimals: &i32| {
        let scaled = end / 4.0 * 10f64.powi(*decimals);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    let decimals = (2..6).find(exact).unwrap_or(6) as usize;
    for tick in 0..=4 {
        let share = f64::from(tick) / 4.0;
        let at = y + height * (1.0 - share);
        drawing.line(&[(x + width, at), (x + width + 4.0, at)], GREY, 0.8);
        let number = format!("{:.decimals$}", share * end);
        drawing.text(
            (x + width + 7.0, at + 4.0),
            SMALL,
            Anchor::Start,
            INK,
            &number,
        );
    }
    let unit = (x + width + 62.0, y + height / 2.0);
    drawing.upright(unit, TEXT, Anchor::Middle, INK, "attention weight");
}

/// Neighbours of one label: where they start, how many, and the label.
fn groups(marks: &[Mark]) -> Vec<(usize, usize, &str)> {
    let mut groups: Vec<(usize, usize, &str)> = Vec::new();
    for (place, mark) in marks.iter().enumerate() {
        match groups.last_mut() {
            Some((_, count, label)) if *label == mark.label => *count += 1,
            _ => groups.push((place, 1, &mark.label)),
        }
    }
    groups
}

/// What was predicted for a query of a known class, and the colour to say it in.
pub fn answer(mark: &Mark) -> Option<(String, Colour)> {
    let (class, (predicted, label)) = (mark.class?, mark.predicted.as_ref()?);
    let (sign, colour) = if class == *predicted {
        ("✓", GREY)
    } else {
        ("✗", MARK)
    };
    Some((format!("→ {label} {sign}"), colour))
}

/// A matrix to be drawn.
struct Panel<'a> {
    matrix: Matrix,
    rows: &'a Shown,
    columns: &'a Shown,
    /// Width and height of a cell.
    cell: (f64, f64),
    /// End of the colour scale.
    end: f64,
    /// Whether numbers, answers and marks are drawn, too.
    full: bool,
}

impl Panel<'_> {
    /// Side of a thumbnail; none where cells are too small for them.
    fn thumbnail(&self, marks: &[Mark]) -> f64 {
        let side = self.cell.0.min(self.cell.1);
        if side >= 14.0 && marks.iter().any(|mark| mark.picture.is_some()) {
            side - 3.0
        } else {
            0.0
        }
    }

    fn label_width(marks: &[Mark]) -> f64 {
        let widths = marks.iter().map(|mark| text_width(&mark.label, SMALL));
        widths.fold(0.0, f64::max).ceil()
    }

    /// Space to the left of the matrix: title, labels, thumbnails.
    fn left(&self) -> f64 {
        let thumbnail = self.thumbnail(&self.rows.marks);
        TEXT + 8.0 + Self::label_width(&self.rows.marks) + 10.0 + thumbnail + 4.0
    }

    /// Whether the labels of the columns stand upright: they are wider than what they name.
    fn upright(&self) -> bool {
        groups(&self.columns.marks).iter().any(|(_, count, label)| {
            text_width(label, SMALL) > self.cell.0 * *count as f64 - 3.0 && self.cell.0 < 60.0
        }) && groups(&self.columns.marks).len() > 1
    }

    /// Space below the matrix.
    fn below(&self) -> f64 {
        let labels = if self.upright() {
            Self::label_width(&self.columns.marks)
        } else {
            SMALL
        };
        self.thumbnail(&self.columns.marks) + 4.0 + 8.0 + labels + 8.0 + TEXT + 4.0
    }

    fn size(&self) -> (f64, f64) {
        (
            self.cell.0 * self.columns.marks.len() as f64,
            self.cell.1 * self.rows.marks.len() as f64,
        )
    }

    /// Space to the right: the answers.
    fn right(&self) -> f64 {
        let answers = self.rows.marks.iter().any(|mark| mark.predicted.is_some());
        if self.full && answers {
            text_width("→ class 99 ✗", SMALL) + 12.0
        } else {
            0.0
        }
    }

    /// Draws it with its upper left corner, labels included, at `(x, y)`.
    fn draw(&self, drawing: &mut Drawing, x: f64, y: f64) {
        let (width, height) = self.size();
        let (cell_width, cell_height) = self.cell;
        let origin = x + self.left();
        for row in 0..self.matrix.rows {
            for column in 0..self.matrix.columns {
                let weight = self.matrix.at(row, column);
                let colour = viridis(weight / self.end);
                let (left, top) = (
                    origin + cell_width * column as f64,
                    y + cell_height * row as f64,
                );
                // A little larger than the cell: no paper shines through between neighbours.
                drawing.rect(left, top, cell_width + 0.2, cell_height + 0.2, colour);
                if self.full && cell_width >= 34.0 && cell_height >= 16.0 {
                    let place = (left + cell_width / 2.0, top + cell_height / 2.0 + 4.0);
                    let number = format!("{weight:.2}");
                    drawing.text(place, SMALL, Anchor::Middle, readable_on(colour), &number);
                }
            }
        }
        self.draw_classes(drawing, origin, y);
        drawing.frame(origin, y, width, height, GREY, 0.8);
        self.draw_rows(drawing, x, origin, y);
        self.draw_columns(drawing, origin, y + height);
        let middle = y + height / 2.0;
        drawing.upright(
            (x + TEXT, middle),
            TEXT,
            Anchor::Middle,
            INK,
            &self.rows.title,
        );
        let bottom = (origin + width / 2.0, y + height + self.below() - 6.0);
        drawing.text(bottom, TEXT, Anchor::Middle, INK, &self.columns.title);
    }

    /// A frame around what has the class of the row, and the answer beside the row.
    fn draw_classes(&self, drawing: &mut Drawing, origin: f64, y: f64) {
        let (cell_width, cell_height) = self.cell;
        for (row, mark) in self.rows.marks.iter().enumerate() {
            let Some((answer, colour)) = answer(mark).filter(|_| self.full) else {
                continue;
            };
            let top = y + cell_height * row as f64;
            let own = |column: &usize| self.columns.marks[*column].class == mark.class;
            let places = 0..self.columns.marks.len();
            if let Some(first) = places.clone().find(own) {
                let count = places.skip(first).take_while(own).count();
                drawing.frame(
                    origin + cell_width * first as f64 + 1.5,
                    top + 1.5,
                    cell_width * count as f64 - 3.0,
                    cell_height - 3.0,
                    MARK,
                    2.0,
                );
            }
            if cell_height >= SMALL {
                let place = (origin + self.size().0 + 8.0, top + cell_height / 2.0 + 4.0);
                drawing.text(place, SMALL, Anchor::Start, colour, &answer);
            }
        }
    }

    fn draw_rows(&self, drawing: &mut Drawing, x: f64, origin: f64, y: f64) {
        let cell = self.cell.1;
        let side = self.thumbnail(&self.rows.marks);
        for (row, mark) in self.rows.marks.iter().enumerate() {
            if let (Some(picture), true) = (&mark.picture, side > 0.0) {
                let top = y + cell * row as f64 + (cell - side) / 2.0;
                thumbnail(drawing, origin - side - 4.0, top, side, picture);
            }
        }
        let labels_end = origin - side - 10.0;
        let groups = groups(&self.rows.marks);
        let skip = ((SMALL + 3.0) * groups.len() as f64 / self.size().1)
            .ceil()
            .max(1.0) as usize;
        for (number, (first, count, label)) in groups.into_iter().enumerate() {
            let (top, span) = (y + cell * first as f64, cell * count as f64);
            if count > 1 {
                let at = labels_end + 4.0;
                drawing.line(&[(at, top + 2.0), (at, top + span - 2.0)], GREY, 1.0);
            }
            if number % skip == 0 {
                let place = (labels_end, top + span / 2.0 + 4.0);
                drawing.text(place, SMALL, Anchor::End, INK, label);
            }
        }
        debug_assert!(x < labels_end);
    }

    fn draw_columns(&self, drawing: &mut Drawing, origin: f64, y: f64) {
        let cell = self.cell.0;
        let side = self.thumbnail(&self.columns.marks);
        for (column, mark) in self.columns.marks.iter().enumerate() {
            if let (Some(picture), true) = (&mark.picture, side > 0.0) {
                let left = origin + cell * column as f64 + (cell - side) / 2.0;
                thumbnail(drawing, left, y + 4.0, side, picture);
            }
        }
        let top = y + 4.0 + side + 4.0;
        let upright = self.upright();
        let groups = groups(&self.columns.marks);
        let skip = if upright {
            ((SMALL + 3.0) * groups.len() as f64 / self.size().0)
                .ceil()
                .max(1.0) as usize
        } else {
            1
        };
        for (number, (first, count, label)) in groups.into_iter().enumerate() {
            let (left, span) = (origin + cell * first as f64, cell * count as f64);
            if count > 1 && span >= 20.0 {
                drawing.line(&[(left + 2.0, top), (left + span - 2.0, top)], GREY, 1.0);
            }
            if number % skip > 0 {
                continue;
            }
            if upright {
                let place = (left + span / 2.0 + 4.0, top + 4.0);
                drawing.upright(place, SMALL, Anchor::End, INK, label);
            } else {
                let place = (left + span / 2.0, top + SMALL + 4.0);
                drawing.text(place, SMALL, Anchor::Middle, INK, label);
            }
        }
    }
}

fn thumbnail(drawing: &mut Drawing, x: f64, y: f64, side: f64, picture: &Bitmap) {
    let largest = picture.width.max(picture.height) as f64;
    let (width, height) = (
        side * picture.width as f64 / largest,
        side * picture.height as f64 / largest,
    );
    let (x, y) = (x + (side - width) / 2.0, y + (side - height) / 2.0);
    drawing.image(x, y, width, height, picture);
    drawing.frame(x, y, width, height, Colour(200, 200, 200), 0.8);
}

/// The sides of the cells of a matrix in this space: squares where they are not too small.
fn cells(rows: usize, columns: usize, space: (f64, f64), largest: f64) -> (f64, f64) {
    let width = (space.0 / columns as f64).min(largest);
    let height = (space.1 / rows as f64).min(largest);
    if width.min(height) >= 14.0 {
        (width.min(height), width.min(height))
    } else {
        (width, height)
    }
}

/// What a matrix shows and what is said of it.
pub struct Subject<'a> {
    /// The lines above it.
    pub title: &'a str,
    /// More of them.
    pub lines: &'a [&'a str],
    /// What attended.
    pub rows: &'a Shown,
    /// What was attended to.
    pub columns: &'a Shown,
}

impl Subject<'_> {
    fn panel(&self, matrix: &Matrix, cell: (f64, f64), end: f64, full: bool) -> Panel<'_> {
        Panel {
            matrix: matrix.select(&self.rows.places, &self.columns.places),
            rows: self.rows,
            columns: self.columns,
            cell,
            end,
            full,
        }
    }

    /// One matrix, as large as the page allows.
    pub fn one(&self, matrix: &Matrix) -> Drawing {
        let (rows, columns) = (self.rows.marks.len(), self.columns.marks.len());
        let cell = cells(rows, columns, (540.0, 620.0), 54.0);
        let selected = matrix.select(&self.rows.places, &self.columns.places);
        let end = scale_end(selected.largest());
        let panel = self.panel(matrix, cell, end, true);
        let mut drawing = Drawing::default();
        let top = drawing.heading(self.title, self.lines) + 8.0;
        panel.draw(&mut drawing, MARGIN, top);
        let (width, height) = panel.size();
        let bar = MARGIN + panel.left() + width + panel.right() + 22.0;
        let tall = height.max(120.0);
        colour_bar(&mut drawing, bar, top, tall, end);
        drawing.grow(bar + BAR, top + tall.max(height + panel.below()) + MARGIN);
        drawing
    }

    /// All heads side by side, on one scale.
    pub fn heads(&self, matrices: &[Matrix]) -> Drawing {
        let (rows, columns) = (self.rows.marks.len(), self.columns.marks.len());
        let selected = |matrix: &Matrix| matrix.select(&self.rows.places, &self.columns.places);
        let end = scale_end(
            matrices
                .iter()
                .map(|matrix| selected(matrix).largest())
                .fold(0.0, f64::max),
        );
        let across = if matrices.len() > 4 {
            4
        } else {
            2.min(matrices.len())
        };
        let page = (WIDTH - 2.0 * MARGIN - BAR) / across as f64;
        let probe = self.panel(&matrices[0], (20.0, 20.0), end, false);
        let space = (page - probe.left() - 20.0, 300.0);
        let cell = cells(rows, columns, space, 34.0);
        let mut drawing = Drawing::default();
        let top = drawing.heading(self.title, self.lines) + 8.0;
        let (mut right, mut bottom) = (0.0f64, top);
        for (head, matrix) in matrices.iter().enumerate() {
            let panel = self.panel(matrix, cell, end, false);
            let (width, height) = panel.size();
            let wide = panel.left() + width.max(60.0) + 20.0;
            let tall = 20.0 + height + panel.below() + 14.0;
            let x = MARGIN + wide * (head % across) as f64;
            let y = top + tall * (head / across) as f64;
            let middle = (x + panel.left() + width / 2.0, y + 8.0);
            drawing.text(
                middle,
                TEXT,
                Anchor::Middle,
                INK,
                &format!("head {}", head + 1),
            );
            panel.draw(&mut drawing, x, y + 16.0);
            right = right.max(x + wide);
            bottom = bottom.max(y + tall);
        }
        colour_bar(
            &mut drawing,
            right + 6.0,
            top + 16.0,
            (bottom - top - 90.0).clamp(120.0, 300.0),
            end,
        );
        drawing.grow(right + BAR + 12.0, bottom.max(top + 150.0) + MARGIN);
        drawing
    }
}

/// How a picture looks under attention: ink alone, black or white by the colour below it, where there
/// is one channel.
fn ink_over(
    view: &EpisodeView,
    item: usize,
    tile: impl Fn(usize, usize) -> Colour,
) -> Option<Bitmap> {
    let picture = view.picture(item)?;
    let mut rgba = Vec::with_capacity(picture.rgba.len());
    for (place, pixel) in picture.rgba.chunks_exact(4).enumerate() {
        let (row, column) = (place / picture.width, place % picture.width);
        let Colour(red, green, blue) = readable_on(tile(row, column));
        let opacity = INK_OPACITY * f64::from(255 - pixel[0]);
        rgba.extend([red, green, blue, opacity as u8]);
    }
    Some(Bitmap { rgba, ..picture })
}

/// What the parts of items receive: the items above, then the mean over heads, then each head, as
/// coloured tiles under the ink, or, for items of three channels, over the pixels.
pub fn over_parts(
    view: &EpisodeView,
    map: &Map,
    grid: (usize, usize),
    title: &str,
    lines: &[&str],
) -> Option<Drawing> {
    let items = spatial_items(view, map.of, 8);
    let first = items.first()?;
    view.picture(first.0)?;
    let rows = received(map, &items);
    let largest = rows
        .iter()
        .flat_map(|(_, items)| items.iter().flatten())
        .copied();
    let end = scale_end(largest.fold(0.0, f64::max));
    let marks: Vec<(String, Mark)> = items
        .iter()
        .map(|&(item, _)| {
            let mark = view.mark(item);
            let kind = if item < view.support() {
                "support"
            } else {
                "query"
            };
            (format!("{kind}, {}", mark.label), mark)
        })
        .collect();
    let names = || std::iter::once("image").chain(rows.iter().map(|(name, _)| name.as_str()));
    let widest = |width: f64, text: &str| width.max(text_width(text, SMALL));
    let side = 84.0;
    let down = side + 10.0;
    let labels = marks.iter().map(|(label, _)| label.as_str());
    let across = labels.fold(side, widest).ceil() + 10.0;
    let mut drawing = Drawing::default();
    let top = drawing.heading(title, lines) + 8.0 + 2.0 * (SMALL + 4.0);
    let left = MARGIN + names().fold(0.0, widest).ceil() + 10.0;
    for (column, (label, mark)) in marks.iter().enumerate() {
        let x = left + across * column as f64;
        let above = |line: f64| (x + side / 2.0, top - 6.0 - line * (SMALL + 4.0));
        drawing.text(above(1.0), SMALL, Anchor::Middle, INK, label);
        if let Some((answer, colour)) = answer(mark) {
            drawing.text(above(0.0), SMALL, Anchor::Middle, colour, &answer);
        }
        if let Some(picture) = &mark.picture {
            thumbnail(&mut drawing, x, top, side, picture);
        }
        for (row, (_, of_items)) in rows.iter().enumerate() {
            let place = (x, top + down * (row + 1) as f64, side);
            let (item, _) = items[column];
            tiles(
                &mut drawing,
                view,
                item,
                &of_items[column],
                grid,
                end,
                place,
            );
        }
    }
    for (row, name) in names().enumerate() {
        let middle = top + down * row as f64 + side / 2.0 + 4.0;
        drawing.text((left - 10.0, middle), SMALL, Anchor::End, INK, name);
    }
    let right = left + across * items.len() as f64;
    let height = down * (rows.len() + 1) as f64 - 10.0;
    let bar = height.min(300.0);
    colour_bar(&mut drawing, right + 8.0, top, bar, end);
    drawing.grow(right + BAR + 12.0, top + height + MARGIN);
    Some(drawing)
}

/// The rows of a picture of parts: what each part of each item receives, as a mean over the heads where
/// there are several, and by head.
fn received(map: &Map, items: &[(usize, usize)]) -> Vec<(String, Vec<Vec<f64>>)> {
    let received: Vec<Vec<Vec<f64>>> = items
        .iter()
        .map(|&(_, thing)| map.by_head(thing).iter().map(Matrix::received).collect())
        .collect();
    let heads = map.dims[1];
    let mut rows = Vec::new();
    if heads > 1 {
        let mean = |of_heads: &Vec<Vec<f64>>| -> Vec<f64> {
            (0..of_heads[0].len())
                .map(|part| of_heads.iter().map(|head| head[part]).sum::<f64>() / heads as f64)
                .collect()
        };
        rows.push((
            format!("mean of {heads} heads"),
            received.iter().map(mean).collect(),
        ));
    }
    for head in 0..heads {
        let name = match heads {
            1 => "attention".to_owned(),
            _ => format!("head {}", head + 1),
        };
        rows.push((
            name,
            received.iter().map(|heads| heads[head].clone()).collect(),
        ));
    }
    rows
}

/// Items of a spatial picture, and the matrix of each: of support and queries one a class, at most `most` in
/// all.
pub fn spatial_items(view: &EpisodeView, of: Of, most: usize) -> Vec<(usize, usize)> {
    let s = view.support();
    let shot = view.episode.shape.shot.0.max(1);
    let support = (0..s).step_by(shot);
    let mut seen = Vec::new();
    let queries = view.shown.iter().copied().filter(move |query| {
        let class = view.class(s + query);
        let new = class.is_none() || !seen.contains(&class);
        seen.push(class);
        new
    });
    match of {
        Of::Support => support.take(most).map(|item| (item, item)).collect(),
        Of::Query => queries.take(most).map(|query| (s + query, query)).collect(),
        _ => {
            let queries = queries.take(most / 2).map(|query| (s + query, s + query));
            let support = support.take(most / 2).map(|item| (item, item));
            support.chain(queries).collect()
        }
    }
}

/// The attention that the parts of an item receive, with the item.
fn tiles(
    drawing: &mut Drawing,
    view: &EpisodeView,
    item: usize,
    received: &[f64],
    (rows, columns): (usize, usize),
    end: f64,
    (x, y, side): (f64, f64, f64),
) {
    let (pixel_rows, pixel_columns) = (view.item.height, view.item.width);
    let colour = |part: usize| viridis(received.get(part).copied().unwrap_or(0.0) / end);
    let ink = view.item.channels == 1;
    if let (false, Some(picture)) = (ink, view.picture(item)) {
        drawing.image(x, y, side, side, &picture);
    }
    let (width, height) = (side / columns as f64, side / rows as f64);
    for part in 0..rows * columns {
        let (left, top) = (
            x + width * (part % columns) as f64,
            y + height * (part / columns) as f64,
        );
        let opacity = if ink { 1.0 } else { 0.6 };
        let seam = if ink { 0.2 } else { 0.0 };
        let Colour(red, green, blue) = colour(part);
        drawing.rect(
            left,
            top,
            width + seam,
            height + seam,
            Paint(red, green, blue, opacity),
        );
    }
    let tile = |row: usize, column: usize| {
        colour((row * rows / pixel_rows) * columns + column * columns / pixel_columns)
    };
    if let (true, Some(over)) = (ink, ink_over(view, item, tile)) {
        drawing.pixels(x, y, side, side, &over);
    }
    drawing.frame(x, y, side, side, GREY, 0.8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (largest, end) in [
            (0.97, 1.0),
            (0.21, 0.25),
            (0.25, 0.25),
            (0.034, 0.04),
            (0.0, 1.0),
        ] {
            assert!((scale_end(largest) - end).abs() < 1e-12, "{largest}");
        }
    }

    #[test]
    fn neighbours_of_one_label_are_bracketed() {
        let mark = |label: &str| Mark {
            label: label.to_owned(),
            picture: None,
            class: None,
            predicted: None,
        };
        let marks = ["a", "a", "b", "a"].map(mark);
        assert_eq!(groups(&marks), [(0, 2, "a"), (2, 1, "b"), (3, 1, "a")]);
    }

    #[test]
    fn cells_are_squares_where_there_is_room() {
        assert_eq!(cells(10, 5, (540.0, 620.0), 54.0), (54.0, 54.0));
        assert_eq!(cells(10, 100, (500.0, 600.0), 54.0), (5.0, 54.0));
    }
}
