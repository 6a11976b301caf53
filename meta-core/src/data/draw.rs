//! Drawing a classification episode: which classes, which of their items, in which rotation.

use super::episode::{ClassRef, Episode, EpisodeShape, Items, Mask, Split, Targets};
use super::source::Source;
use crate::error::Result;
use crate::rng::Seed;

/// Draws episode `index` of a source of classes whose items can be made one by one: what
/// [`Source::episode`] of such a source comes to.
///
/// `write(class, item, place)` writes an item of the class at that position of the split; `place` has as
/// many numbers as an item. It must write the same numbers whenever it is asked. Items are numbered below
/// [`Source::items_per_class`]; without a limit, from all numbers of 32 bits.
///
/// # Errors
/// As [`Source::check`].
pub fn classification_episode(
    source: &dyn Source,
    seed: Seed,
    split: Split,
    shape: EpisodeShape,
    index: u64,
    write: impl Fn(usize, usize, &mut [f32]),
) -> Result<Episode> {
    source.check(split, shape)?;
    let classes = source.classes(split).unwrap_or(0);
    let items = source.items_per_class().unwrap_or(u32::MAX as usize);
    let draws = draw_classes(seed, split, shape, index, classes, |_| items);
    // The splits share no class.
    let number = |position: usize| (Split::ALL.len() * position + split.position()) as u32;
    let references = draws.iter().map(|draw| ClassRef {
        class: number(draw.position),
        position: draw.position as u32,
        quarter_turns: 0,
    });
    let features = source.item_shape().features();
    let classes = references.collect();
    let place = |label: usize, item: usize, place: &mut [f32]| {
        write(draws[label].position, item, place);
    };
    Ok(assemble(index, shape, features, &draws, classes, place))
}

/// One class of an episode.
pub(crate) struct ClassDraw {
    /// The class's position in its split.
    pub position: usize,
    /// `shot + query` distinct items of the class: the support first.
    pub items: Vec<usize>,
}

/// Draws `way` distinct classes of `classes`, and `shot + query` distinct items of each.
///
/// The caller has checked that there are enough of both.
pub(crate) fn draw_classes(
    seed: Seed,
    split: Split,
    shape: EpisodeShape,
    index: u64,
    classes: usize,
    items_of: impl Fn(usize) -> usize,
) -> Vec<ClassDraw> {
    let mut items = seed.stream(split.scope(), index, "items");
    seed.stream(split.scope(), index, "classes")
        .choose_distinct(classes, shape.way.0)
        .into_iter()
        .map(|position| ClassDraw {
            position,
            items: items.choose_distinct(items_of(position), shape.shot.0 + shape.query.0),
        })
        .collect()
}

/// Puts drawn classes together into an episode.
///
/// `write(label, item, place)` writes an item of the class with that label; `place` has `features`
/// numbers.
pub(crate) fn assemble(
    index: u64,
    shape: EpisodeShape,
    features: usize,
    draws: &[ClassDraw],
    classes: Vec<ClassRef>,
    write: impl Fn(usize, usize, &mut [f32]),
) -> Episode {
    let parts = draws.iter().map(|draw| draw.items.split_at(shape.shot.0));
    let parts: Vec<(&[usize], &[usize])> = parts.collect();
    assemble_parts(index, shape, features, &parts, classes, write)
}

/// Puts drawn classes together into an episode: the support and query items of each, at most as many as the
/// shape says, of at most as many classes. Where there are fewer, masks say so.
pub(crate) fn assemble_parts(
    index: u64,
    shape: EpisodeShape,
    features: usize,
    parts: &[(&[usize], &[usize])],
    classes: Vec<ClassRef>,
    write: impl Fn(usize, usize, &mut [f32]),
) -> Episode {
    let gather = |of_query: bool, count: usize| {
        let total = shape.way.0 * count;
        let mut inputs = vec![0.0; total * features];
        let mut labels = Vec::with_capacity(total);
        let mut ids = Vec::with_capacity(total);
        let mut there = Vec::with_capacity(total);
        let mut places = inputs.chunks_exact_mut(features.max(1));
        for label in 0..shape.way.0 {
            let items = match parts.get(label) {
                Some((support, query)) => {
                    if of_query {
                        query
                    } else {
                        support
                    }
                }
                None => &[][..],
            };
            for place in 0..count {
                let (item, numbers) = (items.get(place), places.next());
                labels.push(label as u32);
                there.push(item.is_some());
                ids.push(match (item, classes.get(label)) {
                    (Some(&item), Some(of)) => u64::from(of.class) << 32 | item as u64,
                    // No item has this number.
                    _ => u64::MAX,
                });
                if let (Some(&item), Some(numbers)) = (item, numbers) {
                    write(label, item, numbers);
                }
            }
        }
        let mut items = Items::new(inputs, Targets::Classes(labels), ids);
        if !there.iter().all(|&there| there) {
            items.mask = Some(Mask {
                items: there,
                numbers: None,
            });
        }
        items
    };
    let support = gather(false, shape.shot.0);
    let query = gather(true, shape.query.0);
    Episode::new(index, shape, support, query, classes)
}
