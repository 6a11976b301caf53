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

/// A query, its answer, and what each symbol of it and its end read of the examples.
struct Asked {
    sentence: String,
    said: Vec<u32>,
    weights: Matrix,
}

impl Asked {
    fn of(view: &EpisodeView, map: &Map, lexicon: &Lexicon, query: usize) -> Option<Self> {
        let weights = Matrix::mean(&map.by_head(query));
        let said = answer(view, lexicon, query, weights.rows)?;
        let read: Vec<usize> = (0..(said.len() + 1).min(weights.rows)).collect();
        let examples: Vec<usize> = (0..weights.columns).collect();
        Some(Asked {
            sentence: lexicon.sentence(view.inputs(view.support() + query)),
            said,
            weights: weights.select(&read, &examples),
        })
    }
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
    let shown: Vec<Asked> = view
        .shown
        .iter()
        .take(QUERIES)
        .filter_map(|&query| Asked::of(view, map, lexicon, query))
        .collect();
    let largest = shown.iter().map(|asked| asked.weights.largest());
    let largest = largest.fold(1e-12, f64::max);
    let line = format!(
        "“{}”: how much each symbol of an answer (and its end) reads of each example; the lightest {largest:.2}; mean of {} \
         heads",
        map.name, map.dims[1]
    );
    let mut drawing = Drawing::default();
    let mut y = drawing.heading(&view.title, &[&view.setting, &line]) + 24.0;
    let mut right: f64 = 0.0;
    for mut asked in shown {
        asked
            .weights
            .values
            .iter_mut()
            .for_each(|weight| *weight /= largest);
        let (width, height) = block(&mut drawing, y, lexicon, &examples, &asked);
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

/// Draws one query with its examples at `y`, with weights as shares of the largest; how far it reaches to the right,
/// and down.
fn block(
    drawing: &mut Drawing,
    y: f64,
    lexicon: &Lexicon,
    examples: &[Example],
    asked: &Asked,
) -> (f64, f64) {
    let Asked {
        sentence,
        said,
        weights,
    } = asked;
    let widest = |width: &dyn Fn(&Example) -> f64| examples.iter().map(width).fold(0.0, f64::max);
    let words = widest(&|example| text_width(&example.words, TEXT)).max(text_width(sentence, TEXT));
    let symbols = widest(&|example| example.symbols.len() as f64 * SIDE);
    let (meant, cells) = (MARGIN + words + GAP, MARGIN + words + symbols + 2.0 * GAP);
    drawing.text((MARGIN, y), TEXT, Anchor::Start, INK, sentence);
    for (place, &symbol) in said.iter().enumerate() {
        square(drawing, (cells + place as f64 * SIDE, y), lexicon, symbol);
    }
    let end = (cells + (said.len() as f64 + 0.5) * SIDE, y);
    drawing.text(end, SMALL, Anchor::Middle, GREY, "end");
    let columns = weights.rows;
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
    (right, 6.0 + (examples.len() as f64 + 0.5) * ROW)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::maps::Of;
    use meta_core::data::{Episode, EpisodeShape, ItemShape, Items};

    /// Words, and what each symbol that was said and its end reads; other maps have no such picture.
    #[test]
    fn examples_and_what_reads_them() {
        let items = |words: &[f32], symbols: &[u32]| Items {
            inputs: words.to_vec(),
            targets: Targets::Sequences(symbols.to_vec()),
            ids: (0..words.len() as u64 / 2).collect(),
            mask: None,
        };
        let name = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        // Two symbols, number 2 is the end; sentences of two words, answers of two places.
        let view = EpisodeView {
            title: "a language".to_owned(),
            setting: String::new(),
            episode: Episode {
                index: 0,
                shape: EpisodeShape::new(1, 2, 1),
                support: items(&[1.0, 0.0, 2.0, 1.0], &[0, 2, 1, 0]),
                query: items(&[2.0, 0.0], &[1, 2]),
                classes: Vec::new(),
                class_vectors: None,
                world: None,
            },
            class_names: Vec::new(),
            item: ItemShape {
                height: 1,
                width: 1,
                channels: 2,
            },
            drawn: Vec::new(),
            words: Vec::new(),
            lexicon: Some(Lexicon {
                words: name(&["dax", "lug"]),
                symbols: name(&["RED", "BLUE"]),
            }),
            answers: vec![vec![0.1, 0.8, 0.1, 0.2, 0.2, 0.6]],
            shown: vec![0],
        };
        let mut map = Map {
            name: "decoder, by symbol".to_owned(),
            rows: MapAxis::Other("symbol"),
            columns: MapAxis::Support,
            of: Of::Query,
            dims: [1, 1, 2, 2],
            weights: vec![0.25, 0.75, 0.5, 0.5],
        };
        let asked = Asked::of(&view, &map, view.lexicon.as_ref().unwrap(), 0).unwrap();
        assert_eq!((asked.sentence.as_str(), asked.said), ("lug", vec![1]));
        assert_eq!(asked.weights.values, [0.25, 0.75, 0.5, 0.5]);
        let svg = over_examples(&view, &map).expect("a picture").to_svg();
        for shown in ["lug dax", "the lightest 0.75"] {
            assert!(svg.contains(shown), "{shown}: {svg}");
        }
        map.rows = MapAxis::Query;
        assert!(over_examples(&view, &map).is_none());
    }
}
