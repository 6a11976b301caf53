//! Draws an episode itself, for every learner: its items with what was predicted for them, and where they are
//! in the space of the encoder.

use meta_core::data::Targets;

use super::{episode_view::EpisodeView, space::Space};
use crate::{
    output::drawing::{
        Anchor, Bitmap, Colour, Drawing, GREY, INK, LINES, MARGIN, MARK, SMALL, TEXT, text_width,
        viridis,
    },
    run::predictions::Predictions,
};

/// Side of an item in a picture.
const SIDE: f64 = 46.0;
/// Room of an item with what stands below it.
const CELL: f64 = 68.0;
const ROW: f64 = 82.0;
/// Room of the names of classes.
const NAMES: f64 = 150.0;
/// Classes and items of a class that a picture shows.
const MOST_CLASSES: usize = 30;
const MOST_ITEMS: usize = 8;
/// Classes of a matrix of confusions.
const MATRIX: usize = 24;
/// Right.
const RIGHT: Colour = LINES[2];

/// An item without a picture: its numbers as stripes.
fn stripes(inputs: &[f32]) -> Bitmap {
    let (low, high) = inputs
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    let width = inputs.len().clamp(1, 64);
    let pixel = |place: usize| {
        let value = inputs
            .get(place * inputs.len() / width)
            .copied()
            .unwrap_or(0.0);
        let share = f64::from(value - low) / f64::from(high - low).max(1e-12);
        let Colour(red, green, blue) = viridis(share);
        [red, green, blue, 255]
    };
    Bitmap {
        width,
        height: 1,
        rgba: (0..width).flat_map(pixel).collect(),
    }
}

/// The probabilities of class scores.
pub fn probabilities(scores: &[f64]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// A text cut to a width.
fn fitted(text: &str, width: f64, size: f64) -> String {
    if text_width(text, size) <= width {
        return text.to_owned();
    }
    let mut letters: Vec<char> = text.chars().collect();
    while !letters.is_empty() {
        letters.pop();
        let cut: String = letters.iter().chain(['…'].iter()).collect();
        if text_width(&cut, size) <= width {
            return cut;
        }
    }
    String::new()
}

/// The classes of an episode, one a row: support, then queries with the probability of what was predicted;
/// none for a regression.
pub fn items(view: &EpisodeView) -> Option<Drawing> {
    let Targets::Classes(_) = &view.episode.support.targets else {
        return None;
    };
    let way = view.episode.shape.way.0;
    let shown = way.min(MOST_CLASSES);
    let of_class = |items: &mut dyn Iterator<Item = usize>, class: usize| -> Vec<usize> {
        let of_class =
            items.filter(|item| view.class(*item) == Some(class) && view.is_there(*item));
        of_class.take(MOST_ITEMS).collect()
    };
    let support = |class| of_class(&mut (0..view.support()), class);
    let query = |class| {
        let queries = view.shown.iter().map(|query| view.support() + query);
        of_class(&mut { queries }, class)
    };
    let columns = (0..shown)
        .map(|class| support(class).len())
        .max()
        .unwrap_or(0);
    let texts: Option<Vec<_>> = (0..shown)
        .map(|class| texts_of(view, support(class), query(class)))
        .collect();
    if let Some(texts) = texts {
        return Some(draw_texts(view, &texts));
    }
    let wide = (0..shown)
        .map(|class| query(class).len())
        .max()
        .unwrap_or(0);
    let left = MARGIN + NAMES;
    let right = left + columns as f64 * CELL + 24.0;
    let mut drawing = Drawing::new(right + wide as f64 * CELL + MARGIN, 0.0);
    let what = format!(
        "support, then queries with the probability of the predicted class: green is right{}",
        if shown < way {
            format!("; {shown} of {way} classes")
        } else {
            String::new()
        }
    );
    let mut y = drawing.heading(&view.title, &[&view.setting, &what]) + 10.0;
    drawing.text((left, y), SMALL, Anchor::Start, GREY, "support");
    drawing.text((right, y), SMALL, Anchor::Start, GREY, "queries");
    y += 8.0;
    for class in 0..shown {
        let name = fitted(&view.class_label(class), NAMES - 12.0, TEXT);
        drawing.text(
            (MARGIN, y + 0.5 * SIDE + 4.0),
            TEXT,
            Anchor::Start,
            INK,
            &name,
        );
        for (place, item) in support(class).into_iter().enumerate() {
            draw_item(&mut drawing, view, item, (left + place as f64 * CELL, y));
        }
        for (place, item) in query(class).into_iter().enumerate() {
            let corner = (right + place as f64 * CELL, y);
            draw_item(&mut drawing, view, item, corner);
            draw_answer(&mut drawing, view, item, corner);
        }
        y += ROW;
    }
    drawing.grow(0.0, y + MARGIN - 8.0);
    Some(drawing)
}

/// A text and what was predicted for it, where it is a query.
type Told<'v> = (&'v [String], Option<(String, Colour)>);

/// The texts of the items of a class, support first; none where an item is no text.
fn texts_of(view: &EpisodeView, support: Vec<usize>, query: Vec<usize>) -> Option<Vec<Told<'_>>> {
    let text = |item: usize| view.words.get(item)?.as_deref();
    let support = support.into_iter().map(|item| Some((text(item)?, None)));
    let query = query
        .into_iter()
        .map(|item| Some((text(item)?, told(view, item))));
    support.chain(query).collect()
}

/// The classes of an episode of texts: their support, then queries, each with what was predicted for it.
fn draw_texts(view: &EpisodeView, classes: &[Vec<Told>]) -> Drawing {
    const WIDTH: f64 = 940.0;
    const ANSWERS: f64 = 190.0;
    let mut drawing = Drawing::new(WIDTH, 0.0);
    let what = "support, then queries with the predicted class and its probability: green is right";
    let mut y = drawing.heading(&view.title, &[&view.setting, what]) + 24.0;
    for (class, texts) in classes.iter().enumerate() {
        let name = fitted(&view.class_label(class), WIDTH - 2.0 * MARGIN, TEXT);
        drawing.text((MARGIN, y), TEXT, Anchor::Start, INK, &name);
        y += 20.0;
        for (words, answer) in texts {
            let left = MARGIN + ANSWERS;
            let text = fitted(&words.join(" "), WIDTH - MARGIN - left, SMALL);
            drawing.text((left, y), SMALL, Anchor::Start, INK, &text);
            let (told, colour) = match answer {
                Some((told, colour)) => (told.as_str(), *colour),
                None => ("support", GREY),
            };
            let told = fitted(told, ANSWERS - 12.0, SMALL);
            drawing.text((MARGIN + 12.0, y), SMALL, Anchor::Start, colour, &told);
            y += 18.0;
        }
        y += 14.0;
    }
    drawing.grow(WIDTH, y);
    drawing
}

/// What was predicted for an item that is a query, and the colour that says whether it is right.
fn told(view: &EpisodeView, item: usize) -> Option<(String, Colour)> {
    let query = item.checked_sub(view.support())?;
    let class = view.predicted(query)?;
    let probability = probabilities(view.answers.get(query)?).get(class).copied();
    let colour = match view.class(item) == Some(class) {
        true => RIGHT,
        false => MARK,
    };
    let percent = 100.0 * probability.unwrap_or(0.0);
    Some((
        format!("{percent:.0} % {}", view.class_label(class)),
        colour,
    ))
}

fn draw_item(drawing: &mut Drawing, view: &EpisodeView, item: usize, (x, y): (f64, f64)) {
    match view.picture(item) {
        Some(picture) => drawing.image(x, y, SIDE, SIDE, &picture),
        None => drawing.pixels(x, y, SIDE, SIDE, &stripes(view.inputs(item))),
    }
    drawing.frame(x, y, SIDE, SIDE, Colour(200, 200, 200), 1.0);
}

/// What was predicted for a query, below and around it.
fn draw_answer(drawing: &mut Drawing, view: &EpisodeView, item: usize, (x, y): (f64, f64)) {
    let query = item - view.support();
    let (Some(class), Some(scores)) = (view.predicted(query), view.answers.get(query)) else {
        return;
    };
    let probability = probabilities(scores).get(class).copied().unwrap_or(0.0);
    let is_right = view.class(item) == Some(class);
    let colour = if is_right { RIGHT } else { MARK };
    drawing.frame(x, y, SIDE, SIDE, colour, 2.5);
    let mut below = y + SIDE + 13.0;
    if !is_right {
        let label = fitted(&view.class_label(class), CELL - 4.0, SMALL);
        drawing.text((x, below), SMALL, Anchor::Start, colour, &label);
        below += 13.0;
    }
    let text = format!("{:.0} %", 100.0 * probability);
    drawing.text((x, below), SMALL, Anchor::Start, colour, &text);
}

/// Support, queries and prototypes in two dimensions; none for a regression.
pub fn projection(view: &EpisodeView, space: &Space) -> Option<Drawing> {
    const WIDTH: f64 = 560.0;
    const HEIGHT: f64 = 400.0;
    let Targets::Classes(_) = &view.episode.support.targets else {
        return None;
    };
    let (places, shares) = space.projected();
    let way = view.episode.shape.way.0;
    let legend = MARGIN + WIDTH + 24.0;
    let mut drawing = Drawing::new(legend + NAMES + MARGIN, 0.0);
    let what = format!(
        "{}: first two principal components, {:.0} % and {:.0} % of the variance; squares are \
         support, circles queries, a ring is a wrong answer",
        space.of,
        100.0 * shares[0],
        100.0 * shares[1]
    );
    let top = drawing.heading(&view.title, &[&view.setting, &what]) + 6.0;
    let ends = |of: fn(&(f64, f64)) -> f64| {
        let values = places.iter().map(of);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (low, (high - low).max(1e-9))
    };
    let ((x_low, x_width), (y_low, y_width)) = (ends(|place| place.0), ends(|place| place.1));
    let at = |(x, y): (f64, f64)| {
        (
            MARGIN + 14.0 + (x - x_low) / x_width * (WIDTH - 28.0),
            top + HEIGHT - 14.0 - (y - y_low) / y_width * (HEIGHT - 28.0),
        )
    };
    drawing.frame(MARGIN, top, WIDTH, HEIGHT, Colour(200, 200, 200), 1.0);
    let colour = |class: usize| LINES[class % LINES.len()];
    for (item, place) in places.iter().enumerate() {
        let Some(class) = view.class(item).filter(|_| view.is_there(item)) else {
            continue;
        };
        let (x, y) = at(*place);
        if item < view.support() {
            drawing.rect(x - 6.0, y - 6.0, 12.0, 12.0, colour(class));
        } else {
            drawing.circle((x, y), 4.0, colour(class), None);
            let predicted = view.predicted(item - view.support());
            if predicted.is_some_and(|predicted| predicted != class) {
                drawing.circle((x, y), 7.5, MARK, Some(1.5));
            }
        }
        // More classes than colours are told apart by their numbers.
        if way > LINES.len() && item < view.support() {
            drawing.text(
                (x + 9.0, y + 4.0),
                SMALL,
                Anchor::Start,
                INK,
                &class.to_string(),
            );
        }
    }
    for class in 0..way.min(20) {
        let y = top + 12.0 + 20.0 * class as f64;
        drawing.rect(legend, y - 9.0, 12.0, 12.0, colour(class));
        let label = match way > LINES.len() {
            true => format!("{class}: {}", view.class_label(class)),
            false => view.class_label(class),
        };
        let label = fitted(&label, NAMES - 20.0, SMALL);
        drawing.text((legend + 18.0, y + 1.0), SMALL, Anchor::Start, INK, &label);
    }
    drawing.grow(0.0, top + HEIGHT + MARGIN);
    Some(drawing)
}

/// The classes that are hardest to tell apart: shares of what each was taken for.
pub fn confusion(title: &str, setting: &str, predictions: &Predictions) -> Option<Drawing> {
    const SQUARE: f64 = 26.0;
    let hardest = predictions.hardest();
    if hardest.is_empty() {
        return None;
    }
    let mut shown: Vec<usize> = hardest.iter().take(MATRIX).map(|one| one.class).collect();
    shown.sort_unstable();
    let left = MARGIN + NAMES;
    let size = shown.len() as f64 * SQUARE;
    let mut drawing = Drawing::new(left + size + MARGIN, 0.0);
    let what = format!(
        "{} queries of {} episodes; a row is a class, a column what it was taken for, in % of its queries in \
         episodes with both{}",
        predictions.all.len(),
        predictions.episodes.len(),
        if shown.len() < predictions.classes.len() {
            format!(
                "; the {} hardest of {} classes",
                shown.len(),
                predictions.classes.len()
            )
        } else {
            String::new()
        }
    );
    let top = drawing.heading(title, &[setting, &what]) + 6.0;
    let at = |class: usize| shown.iter().position(|&other| other == class);
    for one in predictions.confusions() {
        let (Some(row), Some(column)) = (at(one.class), at(one.taken_for)) else {
            continue;
        };
        let share = one.count as f64 / one.of.max(1) as f64;
        let (x, y) = (left + column as f64 * SQUARE, top + row as f64 * SQUARE);
        let colour = viridis(share);
        drawing.rect(x, y, SQUARE, SQUARE, colour);
        let ink = crate::output::drawing::readable_on(colour);
        let text = format!("{:.0}", 100.0 * share);
        let middle = (x + 0.5 * SQUARE, y + 0.5 * SQUARE + 4.0);
        drawing.text(middle, SMALL, Anchor::Middle, ink, &text);
    }
    for (row, &class) in shown.iter().enumerate() {
        let y = top + (row as f64 + 0.5) * SQUARE + 4.0;
        let name = fitted(&predictions.classes[class], NAMES - 10.0, SMALL);
        drawing.text((left - 8.0, y), SMALL, Anchor::End, INK, &name);
    }
    drawing.frame(left, top, size, size, Colour(200, 200, 200), 1.0);
    drawing.grow(0.0, top + size + MARGIN);
    Some(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let found = probabilities(&[1000.0, 1000.0 + 3.0f64.ln()]);
        assert!((found[0] - 0.25).abs() < 1e-12 && (found[1] - 0.75).abs() < 1e-12);
    }

    #[test]
    fn names_are_cut_to_their_room() {
        let name = "a name that is far too long for its place";
        let cut = fitted(name, 100.0, TEXT);
        assert!(
            cut.ends_with('…') && text_width(&cut, TEXT) <= 100.0,
            "{cut}"
        );
        assert_eq!(fitted("short", 100.0, TEXT), "short");
        assert_eq!(fitted(name, 1.0, TEXT), "");
    }

    #[test]
    fn stripes_run_from_the_smallest_to_the_largest() {
        let drawn = stripes(&[0.0, 2.0]);
        let Colour(red, green, blue) = viridis(1.0);
        assert_eq!(drawn.width, 2);
        assert_eq!(drawn.rgba[4..], [red, green, blue, 255]);
        assert_eq!(stripes(&[1.0; 300]).width, 64);
    }
}
