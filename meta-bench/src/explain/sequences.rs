//! Draws attention over the rows of texts and series: weights behind words, and under curves.

use meta_core::data::ItemShape;

use super::{
    episode_view::EpisodeView,
    heatmap::{answer, spatial_items},
    maps::{Map, Matrix},
};
use crate::output::drawing::{
    Anchor, Colour, Drawing, GREY, INK, LINES, MARGIN, SMALL, TEXT, text_width,
};

/// Width that pictures keep to.
const WIDTH: f64 = 940.0;
/// Channels of a series that are drawn.
const CHANNELS: usize = 4;
/// Items of a picture.
const ITEMS: usize = 10;

/// An item of a picture: what stands before it, and what each of its rows receives, as a mean over heads.
struct Line {
    item: usize,
    label: String,
    /// What was predicted, where it is a query.
    answer: Option<(String, Colour)>,
    received: Vec<f64>,
}

fn lines(view: &EpisodeView, map: &Map) -> Vec<Line> {
    let items = spatial_items(view, map.of, ITEMS).into_iter();
    let line = |(item, thing): (usize, usize)| {
        let mark = view.mark(item);
        let kind = match item < view.support() {
            true => "support",
            false => "query",
        };
        Line {
            item,
            label: format!("{kind}, {}", mark.label),
            answer: answer(&mark),
            received: Matrix::mean(&map.by_head(thing)).received(),
        }
    };
    items.map(line).collect()
}

impl Line {
    /// Writes what stands above an item at `(MARGIN, y)`: what it is, what was answered, and the weight that is drawn
    /// strongest.
    fn head(&self, drawing: &mut Drawing, y: f64) {
        let largest = self.received.iter().copied().fold(0.0, f64::max);
        let mut parts = vec![(self.label.clone(), GREY)];
        parts.extend(self.answer.clone());
        parts.push((format!("largest weight {largest:.2}"), GREY));
        let mut x = MARGIN;
        for (text, colour) in parts {
            drawing.text((x, y), SMALL, Anchor::Start, colour, &text);
            x += text_width(&text, SMALL) + 12.0;
        }
    }
}

/// How much of the largest weight of its item each row receives.
fn shares(received: &[f64], rows: usize) -> Vec<f64> {
    let own = &received[..received.len().min(rows)];
    let largest = own.iter().copied().fold(0.0, f64::max).max(1e-12);
    own.iter().map(|weight| weight / largest).collect()
}

/// White for 0, and the colour of the first line for 1.
fn behind(share: f64) -> Colour {
    let Colour(red, green, blue) = LINES[1];
    let mixed = |to: u8| (255.0 + share.clamp(0.0, 1.0) * 0.8 * (f64::from(to) - 255.0)) as u8;
    Colour(mixed(red), mixed(green), mixed(blue))
}

/// The words of the items of a map over their parts, where they are texts.
fn texts<'v>(view: &'v EpisodeView, map: &Map) -> Option<Vec<(Line, &'v [String])>> {
    map.over_parts()?;
    let all = lines(view, map).into_iter().map(|line| {
        let words = view.words.get(line.item)?.as_deref()?;
        Some((line, words))
    });
    all.collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty())
}

/// Attention over the words of texts, as colours behind them; none where items are no texts.
pub fn over_words(view: &EpisodeView, map: &Map) -> Option<Drawing> {
    let texts = texts(view, map)?;
    let what = format!(
        "“{}”: the darker a word, the more attention it receives; the darkest of a text receives the most",
        map.name
    );
    let mut drawing = Drawing::default();
    let mut y = drawing.heading(&view.title, &[&view.setting, &what]) + 24.0;
    for (line, words) in texts {
        line.head(&mut drawing, y);
        y += 20.0;
        let mut x = MARGIN;
        for (word, share) in words.iter().zip(shares(&line.received, words.len())) {
            let width = text_width(word, TEXT);
            if x + width > WIDTH - MARGIN && x > MARGIN {
                x = MARGIN;
                y += 21.0;
            }
            drawing.rect(x - 3.0, y - 13.0, width + 6.0, 18.0, behind(share));
            drawing.text((x, y), TEXT, Anchor::Start, INK, word);
            x += width + 9.0;
        }
        y += 32.0;
    }
    drawing.grow(WIDTH, y);
    Some(drawing)
}

/// The same as a page of its own that needs nothing else; the weight of a word shows under the pointer.
pub fn page_of_words(view: &EpisodeView, map: &Map) -> Option<String> {
    let texts = texts(view, map)?;
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n<title>{0}</title>\n\
         <style>body{{font:16px/1.9 sans-serif;max-width:60em;margin:2em auto;color:#222}}\
         h1{{font-size:1.2em}}p{{margin:0 0 1em}}small{{color:#666;display:block}}\
         span{{padding:2px 3px;border-radius:3px}}</style>\n<h1>{0}</h1>\n<p>{1}</p>\n<p>“{2}”: the darker a \
         word, the more attention it receives; the darkest of a text receives the most.</p>\n",
        escaped(&view.title),
        escaped(&view.setting),
        escaped(&map.name)
    );
    for (line, words) in texts {
        let answer = line.answer.map(|(answer, _)| answer).unwrap_or_default();
        let label = escaped(&format!("{} {answer}", line.label));
        page.push_str(&format!("<p><small>{label}</small>"));
        let shares = shares(&line.received, words.len());
        for ((word, share), weight) in words.iter().zip(shares).zip(&line.received) {
            let Colour(red, green, blue) = behind(share);
            page.push_str(&format!(
                "<span style=\"background:rgb({red},{green},{blue})\" title=\"{weight:.4}\">{}</span> ",
                escaped(word)
            ));
        }
        page.push_str("</p>\n");
    }
    page.push_str("</html>\n");
    Some(page)
}

fn escaped(text: &str) -> String {
    let escape = |letter: char| match letter {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

/// Whether items are series: rows of few numbers, of which the last says whether the row is there.
fn is_series(item: ItemShape) -> bool {
    item.width == 1 && item.height > 1 && (2..=CHANNELS + 1).contains(&item.channels)
}

/// Attention over the steps of series: curves, and the weights under them; none where items are no series.
pub fn over_steps(view: &EpisodeView, map: &Map) -> Option<Drawing> {
    const HEIGHT: f64 = 70.0;
    const BARS: f64 = 30.0;
    if !is_series(view.item) {
        return None;
    }
    let rows = lines(view, map);
    let what = format!(
        "“{}”: the higher a bar, the more attention its step receives; the highest of a series receives the most",
        map.name
    );
    let mut drawing = Drawing::default();
    let mut y = drawing.heading(&view.title, &[&view.setting, &what]) + 24.0;
    let (length, channels) = (view.item.height, view.item.channels);
    let step = (WIDTH - 2.0 * MARGIN) / length as f64;
    for line in &rows {
        let numbers: Vec<&[f32]> = view.inputs(line.item).chunks_exact(channels).collect();
        let is_there = |row: &&[f32]| row.last().is_some_and(|&last| last != 0.0);
        if !numbers
            .iter()
            .all(|row| matches!(row.last(), Some(&last) if last == 0.0 || last == 1.0))
        {
            return None;
        }
        line.head(&mut drawing, y);
        y += 8.0;
        let there: Vec<usize> = (0..length).filter(|&row| is_there(&numbers[row])).collect();
        let values = || there.iter().flat_map(|&row| &numbers[row][..channels - 1]);
        let low = values().copied().fold(f32::INFINITY, f32::min);
        let high = values().copied().fold(f32::NEG_INFINITY, f32::max);
        let range = f64::from(high - low).max(1e-9);
        let middle = |row: usize| MARGIN + step * (row as f64 + 0.5);
        for (channel, colour) in LINES.iter().enumerate().take(channels - 1) {
            let point = |&row: &usize| {
                let share = f64::from(numbers[row][channel] - low) / range;
                (middle(row), y + HEIGHT * (1.0 - share))
            };
            let points: Vec<(f64, f64)> = there.iter().map(point).collect();
            drawing.line(&points, *colour, 1.4);
        }
        let base = y + HEIGHT + BARS + 4.0;
        for (row, share) in shares(&line.received, length).into_iter().enumerate() {
            let height = BARS * share;
            // What cannot be seen is nothing to draw.
            if height < 0.05 {
                continue;
            }
            let left = MARGIN + step * row as f64;
            drawing.rect(
                left,
                base - height,
                (0.9 * step).max(0.4),
                height,
                behind(1.0),
            );
        }
        let axis = [(MARGIN, base), (WIDTH - MARGIN, base)];
        drawing.line(&axis, GREY, 0.8);
        y = base + 24.0;
    }
    drawing.grow(WIDTH, y);
    (!rows.is_empty()).then_some(drawing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_largest_row_that_is_there() {
        assert_eq!(shares(&[0.1, 0.4, 0.2, 0.3], 3), [0.25, 1.0, 0.5]);
        assert_eq!(shares(&[0.0, 0.0], 2), [0.0, 0.0]);
        assert_eq!(behind(0.0), Colour(255, 255, 255));
    }

    #[test]
    fn words_are_no_markup() {
        assert_eq!(escaped("<b> & \"c\""), "&lt;b&gt; &amp; &quot;c&quot;");
    }
}
