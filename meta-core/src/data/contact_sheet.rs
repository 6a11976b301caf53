//! A picture of a source: one row per class, one column per item.

use image::{DynamicImage, GrayImage, Rgb, RgbImage};

use super::episode::{EpisodeShape, Split};
use super::source::Source;
use crate::error::{Error, Result};
use crate::rng::Seed;

/// Grey of the lines between the images.
const SEPARATOR: u8 = 210;
/// Pixels of the largest sheet.
const MAXIMUM_PIXELS: usize = 1 << 26;

/// Draws `classes` random classes of a split with `items` items each, as large as they are, with lines
/// of one pixel between them: in colour or grey as they are, and ink dark on paper.
///
/// The classes are the first of those of episode 0 of `seed` with that many ways, at least two.
///
/// # Errors
/// [`Error::Setting`] naming `classes` or `items` where there are none or more than the split has, or than
/// fit on a sheet; naming `data.source` when its items are not images of 1 or 3 channels.
pub fn contact_sheet(
    source: &dyn Source,
    seed: Seed,
    split: Split,
    classes: usize,
    items: usize,
) -> Result<DynamicImage> {
    let item = source.item_shape();
    if item.height * item.width <= 1 || ![1, 3].contains(&item.channels) {
        return Err(Error::setting(
            "data.source",
            source.name(),
            format!("a contact sheet needs images, not items of {item}"),
        ));
    }
    let (row_height, column_width) = (item.height + 1, item.width + 1);
    check_counts(source, split, classes, items, row_height * column_width)?;
    // A task has at least two classes, an item of support and a query of each; the last column is the
    // query, so that any two items will do.
    let shape = EpisodeShape::new(classes.max(2), items.saturating_sub(1).max(1), 1);
    let episode = source.episode(seed, split, shape, 0)?;
    let mut sheet = RgbImage::from_pixel(
        (items * column_width + 1) as u32,
        (classes * row_height + 1) as u32,
        Rgb([SEPARATOR; 3]),
    );
    for class in 0..classes {
        for column in 0..items {
            let (set, number) = if column < shape.shot.0 {
                (&episode.support, class * shape.shot.0 + column)
            } else {
                (&episode.query, class)
            };
            let start = number * item.features();
            let mut picture = set.inputs[start..start + item.features()].to_vec();
            source.to_picture(&mut picture);
            for (pixel, channels) in picture.chunks_exact(item.channels).enumerate() {
                let shown = |channel: usize| {
                    let value = channels[channel % item.channels];
                    let shown = if source.is_ink() { 1.0 - value } else { value };
                    (shown.clamp(0.0, 1.0) * 255.0).round() as u8
                };
                sheet.put_pixel(
                    (column * column_width + 1 + pixel % item.width) as u32,
                    (class * row_height + 1 + pixel / item.width) as u32,
                    Rgb([0, 1, 2].map(shown)),
                );
            }
        }
    }
    if item.channels == 3 {
        return Ok(DynamicImage::ImageRgb8(sheet));
    }
    let grey = sheet.pixels().map(|pixel| pixel.0[0]).collect();
    let grey = GrayImage::from_raw(sheet.width(), sheet.height(), grey);
    Ok(DynamicImage::ImageLuma8(grey.unwrap_or_default()))
}

/// Checks the counts against what the split has and a sheet can show.
fn check_counts(
    source: &dyn Source,
    split: Split,
    classes: usize,
    items: usize,
    pixels: usize,
) -> Result<()> {
    let (name, known) = (source.name(), source.classes(split).unwrap_or(0));
    // The smallest class of all splits, where one has no limit of its own.
    let most_items = source.items_per_class().unwrap_or(usize::MAX);
    for (key, given, most) in [("classes", classes, known), ("items", items, most_items)] {
        if given == 0 || given > most {
            let expected = match most {
                usize::MAX => "must be at least 1".to_owned(),
                _ => {
                    format!("must be in 1..={most}, which is what {split} classes of `{name}` have")
                }
            };
            return Err(Error::setting(key, given, expected));
        }
        let all = classes
            .checked_mul(items)
            .and_then(|all| all.checked_mul(pixels));
        if all.is_none_or(|all| all > MAXIMUM_PIXELS) {
            return Err(Error::setting(
                "items",
                items,
                format!("{classes} rows of them have more than {MAXIMUM_PIXELS} pixels"),
            ));
        }
    }
    Ok(())
}
