//! A picture of a source: one row per class, one column per item.

use image::{GrayImage, Luma};

use super::episode::{EpisodeShape, Split};
use super::source::Source;
use crate::error::{Error, Result};
use crate::rng::Seed;

/// Grey of the lines between the images.
const SEPARATOR: u8 = 210;

/// Draws `classes` random classes of a split with `items` items each, as large as they are, with lines
/// of one pixel between them. `invert` shows 1 as black: ink on paper.
///
/// The classes are those of episode 0 of `seed` with that many ways. Colour is shown as grey.
///
/// # Errors
/// As [`Source::check`] for `items` items in all; [`Error::Setting`] when there are fewer than two of
/// either or the items are not images of 1 or 3 channels.
pub fn contact_sheet(
    source: &dyn Source,
    seed: Seed,
    split: Split,
    classes: usize,
    items: usize,
    invert: bool,
) -> Result<GrayImage> {
    let item = source.item_shape();
    if item.height * item.width <= 1 || ![1, 3].contains(&item.channels) {
        return Err(Error::setting(
            "data.source",
            source.name(),
            format!("a contact sheet needs images, not items of {item}"),
        ));
    }
    // The last column is the query, so that any two items will do.
    let shape = EpisodeShape::new(classes, items.saturating_sub(1), 1);
    let episode = source.episode(seed, split, shape, 0)?;
    let (row_height, column_width) = (item.height + 1, item.width + 1);
    let mut sheet = GrayImage::from_pixel(
        (items * column_width + 1) as u32,
        (classes * row_height + 1) as u32,
        Luma([SEPARATOR]),
    );
    for class in 0..classes {
        for column in 0..items {
            let (set, number) = if column < shape.shot.0 {
                (&episode.support, class * shape.shot.0 + column)
            } else {
                (&episode.query, class)
            };
            let pixels = set.inputs[number * item.features()..].chunks_exact(item.channels);
            for (pixel, channels) in pixels.take(item.height * item.width).enumerate() {
                let value = channels.iter().sum::<f32>() / item.channels as f32;
                let shown = if invert { 1.0 - value } else { value };
                sheet.put_pixel(
                    (column * column_width + 1 + pixel % item.width) as u32,
                    (class * row_height + 1 + pixel / item.width) as u32,
                    Luma([(shown.clamp(0.0, 1.0) * 255.0).round() as u8]),
                );
            }
        }
    }
    Ok(sheet)
}
