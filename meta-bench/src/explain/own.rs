//! What a learner attends to as it answers for items that a person brings.

use meta_core::{
    data::{Episode, ItemShape, Preparation, Targets},
    train::eval::highest,
};
use serde_json::{Value, json};

use super::{
    episode_view::EpisodeView,
    explained::ExplainedBatch,
    map_pictures::draw_map,
    numbers::map_numbers,
    pictures::{KIND, Pictures, slug},
};
use crate::{failure::Result, run::folder::EXPLAIN_NUMBERS};

/// Version of the form of the numbers.
const VERSION: u64 = 1;

/// An item, and what the learner says of the task in which it was answered.
pub struct OwnItem {
    /// Its name.
    pub name: String,
    /// The support, and the item as the query, once or as often as there are classes.
    pub episode: Episode,
    /// What the learner says of it.
    pub explained: ExplainedBatch,
}

/// Whose answers are explained.
pub struct OwnSetting<'a> {
    /// Below the title of every picture: the learner, and what it has learnt from.
    pub line: String,
    /// What answers depend on.
    pub header: Value,
    /// Shape of the items.
    pub item: ItemShape,
    /// How they became numbers.
    pub preparation: &'a Preparation,
    /// Names of the classes.
    pub classes: &'a [String],
}

/// The pictures of the maps of all items, and the numbers; none where nothing attends.
///
/// # Errors
/// When a picture is too large for a file.
pub fn own_pictures(setting: &OwnSetting<'_>, items: Vec<OwnItem>) -> Result<Option<Pictures>> {
    let mut pictures = Pictures::default();
    let mut numbers = Vec::new();
    let mut has_maps = false;
    for (place, item) in items.into_iter().enumerate() {
        let OwnItem {
            name,
            episode,
            mut explained,
        } = item;
        let answers = explained.answers.pop().and_then(|mut steps| steps.pop());
        let view = view(setting, &name, episode, answers.unwrap_or_default());
        let mut maps = Vec::new();
        for map in explained.maps.pop().unwrap_or_default() {
            has_maps = true;
            let base = format!("item-{place}-{}", slug(&map.name));
            let mut own = Vec::new();
            for (suffix, drawing) in draw_map(&view, &map) {
                own.push(pictures.add(&format!("{base}{suffix}"), &drawing)?);
            }
            maps.push(map_numbers(&map, &own));
        }
        numbers.push(json!({ "item": name, "maps": maps }));
    }
    let numbers = json!({
        "kind": KIND,
        "version": VERSION,
        "header": setting.header,
        "items": numbers,
    });
    let numbers = format!("{numbers}\n").into_bytes();
    pictures.files.push((EXPLAIN_NUMBERS.to_owned(), numbers));
    Ok(has_maps.then_some(pictures))
}

/// The task of an item as pictures show it: the query is of the class that was predicted, since nobody knows
/// another one.
fn view(
    setting: &OwnSetting<'_>,
    name: &str,
    mut episode: Episode,
    answers: Vec<Vec<f64>>,
) -> EpisodeView {
    let classes = setting.classes.len();
    if let Targets::Classes(labels) = &mut episode.query.targets {
        for (label, scores) in labels.iter_mut().zip(&answers) {
            let best = highest(&scores[..scores.len().min(classes)]);
            *label = best.unwrap_or(0) as u32;
        }
    }
    let features = setting.item.features().max(1);
    if setting.item.height * setting.item.width > 1 {
        for items in [&mut episode.support, &mut episode.query] {
            let images = items.inputs.chunks_exact_mut(features);
            images.for_each(|image| setting.preparation.to_picture(image));
        }
    }
    let count = episode.support.len() + episode.query.len();
    EpisodeView {
        title: name.to_owned(),
        setting: setting.line.clone(),
        class_names: setting.classes.to_vec(),
        item: setting.item,
        drawn: vec![None; count],
        words: Vec::new(),
        lexicon: setting.preparation.lexicon().cloned(),
        episode,
        answers,
        shown: vec![0],
    }
}
