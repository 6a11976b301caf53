//! Draws what each symbol of an answer reads of the examples of an invented language.

use meta_core::{
    data::{Lexicon, Targets},
    nn::attention::MapAxis,
    train::eval::highest,
};

use super::{
    episode_view::EpisodeView,
    maps::{Map, Matrix},
};
use crate::output::drawing::{
    Anchor, Colour, Drawing, GREY, INK, LINES, MARGIN, SMALL, TEXT, readable_on, text_width,
    viridis,
};

/// Queries that are drawn.
const QUERIES: usize = 4;
/// Side of a symbol, and width of a cell.
const SIDE: f64 = 18.0;
/// Height of a row.
const ROW: f64 = 22.0;
/// From the end of one part of a row to the next.
const GAP: f64 = 16.0;

/// A sentence in words, and the symbols that it stands for.
struct Example {
    words: String,
    symbols: Vec<u32>,
}

/// A picture of a map from the symbols of answers to examples: for each query that is shown the examples, in words
/// and coloured symbols, and how much each symbol of the answer reads of them (mean over heads). None of other maps.
pub fn over_examples(view: &EpisodeView, map: &Map) -> Option<Drawing> {
    let lexicon = view.lexicon.as_ref()?;
    let of_symbols = map.rows == MapAxis::Other("symbol") && map.columns == MapAxis::Support;
    if !of_symbols || map.dims[0] != view.queries() || map.dims[3] != view.support() {
        return None;
    }
    let examples = examples(view, lexicon)?;
    let shown: Vec<(usize, Matrix)> = view
        .shown
        .iter()
        .take(QUERIES)
        .map(|&query| (query, Matrix::mean(&map.by_head(query))))
        .collect();
    let largest = shown.iter().map(|(_, weights)| weights.largest());
    let largest = largest.fold(1e-12, f64::max);
    let line = format!(
        "“{}”: how much each symbol of an answer (and its end) reads of each example; the lightest {largest:.2}; mean of {} \
         heads",
        map.name, map.dims[1]
    );
    let mut drawing = Drawing::default();
    let mut y = drawing.heading(&view.title, &[&view.setting, &line]) + 24.0;
    let mut right: f64 = 0.0;
    for (query, mut weights) in shown {
        weights
            .values
            .iter_mut()
            .for_each(|weight| *weight /= largest);
        let (width, height) = block(&mut drawing, y, view, lexicon, &examples, query, &weights)?;
        right = right.max(width);
        y += height + 30.0;
    }
    drawing.grow(right + MARGIN, y);
    Some(drawing)
}

/// The examples of an episode.
fn examples(view: &EpisodeView, lexicon: &Lexicon) -> Option<Vec<Example>> {
    let Targets::Sequences(symbols) = &view.episode.support.targets else {
        return None;
    };
    let places = (symbols.len() / view.support().max(1)).max(1);
    let example = |(item, symbols): (usize, &[u32])| Example {
        words: lexicon.sentence(view.inputs(item)),
        symbols: up_to_end(lexicon, symbols),
    };
    Some(symbols.chunks(places).enumerate().map(example).collect())
}

fn up_to_end(lexicon: &Lexicon, symbols: &[u32]) -> Vec<u32> {
    let there = symbols.iter().copied();
    there
        .take_while(|&symbol| (symbol as usize) < lexicon.symbols.len())
        .collect()
}

/// The answer to a query: at each place the symbol with the highest score.
fn answer(view: &EpisodeView, lexicon: &Lexicon, query: usize, places: usize) -> Option<Vec<u32>> {
    let scores = view.answers.get(query)?;
    let of_place = scores.chunks((scores.len() / places.max(1)).max(1));
    let said: Vec<u32> = of_place
        .filter_map(highest)
        .map(|symbol| symbol as u32)
        .collect();
    Some(up_to_end(lexicon, &said))
}

/// Draws one query with its examples at `y`, with `weights` as shares of the largest; how far it reaches to the right,
/// and down.
fn block(
    drawing: &mut Drawing,
    y: f64,
    view: &EpisodeView,
    lexicon: &Lexicon,
    examples: &[Example],
    query: usize,
    weights: &Matrix,
) -> Option<(f64, f64)> {
    let sentence = lexicon.sentence(view.inputs(view.support() + query));
    let said = answer(view, lexicon, query, weights.rows)?;
    let widest = |width: &dyn Fn(&Example) -> f64| examples.iter().map(width).fold(0.0, f64::max);
    let words =
        widest(&|example| text_width(&example.words, TEXT)).max(text_width(&sentence, TEXT));
    let symbols = widest(&|example| example.symbols.len() as f64 * SIDE);
    let (meant, cells) = (MARGIN + words + GAP, MARGIN + words + symbols + 2.0 * GAP);
    drawing.text((MARGIN, y), TEXT, Anchor::Start, INK, &sentence);
    for (place, &symbol) in said.iter().enumerate() {
        square(drawing, (cells + place as f64 * SIDE, y), lexicon, symbol);
    }
    let end = (cells + (said.len() as f64 + 0.5) * SIDE, y);
    drawing.text(end, SMALL, Anchor::Middle, GREY, "end");
    let columns = (said.len() + 1).min(weights.rows);
    for (row, example) in examples.iter().enumerate() {
        let y = y + 6.0 + (row + 1) as f64 * ROW;
        drawing.text((MARGIN, y), TEXT, Anchor::Start, GREY, &example.words);
        for (place, &symbol) in example.symbols.iter().enumerate() {
            square(drawing, (meant + place as f64 * SIDE, y), lexicon, symbol);
        }
        for place in 0..columns {
            let colour = viridis(weights.at(place, row));
            let x = cells + place as f64 * SIDE;
            drawing.rect(x, y - 14.0, SIDE - 1.0, ROW - 1.0, colour);
        }
    }
    let right = cells + (columns as f64 + 1.0) * SIDE;
    Some((right, 6.0 + (examples.len() as f64 + 0.5) * ROW))
}

/// A symbol as a square of its colour, with its first letter.
fn square(drawing: &mut Drawing, (x, y): (f64, f64), lexicon: &Lexicon, symbol: u32) {
    let Some(name) = lexicon.symbols.get(symbol as usize) else {
        return;
    };
    let colour = colour(name, symbol as usize);
    let side = SIDE - 2.0;
    drawing.rect(x, y - 13.0, side, side, colour);
    let letter: String = name.chars().take(1).collect();
    let at = (x + side / 2.0, y - 1.0);
    drawing.text(at, SMALL, Anchor::Middle, readable_on(colour), &letter);
}

/// The colour that a symbol is named after; another one for each number otherwise.
fn colour(name: &str, number: usize) -> Colour {
    match name.to_lowercase().as_str() {
        "red" => Colour(204, 51, 51),
        "green" => Colour(46, 139, 87),
        "blue" => Colour(51, 102, 204),
        "yellow" => Colour(240, 200, 40),
        "purple" => Colour(128, 64, 160),
        "pink" => Colour(240, 130, 170),
        "orange" => Colour(240, 140, 30),
        "black" => Colour(20, 20, 20),
        "white" => Colour(235, 235, 235),
        "brown" => Colour(140, 90, 50),
        "grey" | "gray" => Colour(130, 130, 130),
        _ => LINES[number % LINES.len()],
    }
}
