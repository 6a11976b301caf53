//! Prepares an episode for pictures: its items, how they look, and what was predicted for them.

use meta_core::{
    data::{Episode, ItemPicture, ItemShape, Lexicon, Targets},
    nn::attention::MapAxis,
    train::eval::highest,
};

use crate::output::drawing::Bitmap;

/// An episode with the answers to it.
pub struct EpisodeView {
    /// What stands above every picture: the run and the episode.
    pub title: String,
    /// Below it: learner, encoder, source and shape.
    pub setting: String,
    /// The episode.
    pub episode: Episode,
    /// Names of its classes, where they have names.
    pub class_names: Vec<String>,
    /// Shape of its items.
    pub item: ItemShape,
    /// Its items as the source draws them, support first; empty where it draws none.
    pub drawn: Vec<Option<Bitmap>>,
    /// The words of its items, support first, where they are texts.
    pub words: Vec<Option<Vec<String>>>,
    /// What its words and symbols are called, where it asks for sequences.
    pub lexicon: Option<Lexicon>,
    /// The learner's answer for each query: class scores or values.
    pub answers: Vec<Vec<f64>>,
    /// Queries that pictures show, in order.
    pub shown: Vec<usize>,
}

/// One place of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// What it is called; neighbours of one name are bracketed.
    pub label: String,
    /// What it looks like.
    pub picture: Option<Bitmap>,
    /// The class it belongs to.
    pub class: Option<usize>,
    /// The class that was predicted, where there is an answer, and what it is called.
    pub predicted: Option<(usize, String)>,
}

impl Mark {
    fn named(label: impl Into<String>) -> Self {
        Mark {
            label: label.into(),
            picture: None,
            class: None,
            predicted: None,
        }
    }
}

/// An axis of a picture: which entries of the map it shows, in order, and what they are.
pub struct Shown {
    /// What the axis is.
    pub title: String,
    /// Entries of the map.
    pub places: Vec<usize>,
    /// As many.
    pub marks: Vec<Mark>,
}

impl Shown {
    /// Numbered entries: of anything that has no picture.
    pub fn numbered(title: &str, count: usize) -> Self {
        Shown {
            title: title.to_owned(),
            places: (0..count).collect(),
            marks: (0..count)
                .map(|place| Mark::named(place.to_string()))
                .collect(),
        }
    }

    /// Episodes, by their numbers.
    pub fn episodes(episodes: &[u64]) -> Self {
        Shown {
            title: "episode".to_owned(),
            places: (0..episodes.len()).collect(),
            marks: episodes
                .iter()
                .map(|index| Mark::named(index.to_string()))
                .collect(),
        }
    }
}

impl EpisodeView {
    /// Number of support items.
    pub fn support(&self) -> usize {
        self.episode.support.len()
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.episode.query.len()
    }

    fn is_support(&self, item: usize) -> bool {
        item < self.support()
    }

    /// Inputs of an item: support, then queries.
    pub fn inputs(&self, item: usize) -> &[f32] {
        let features = self.item.features();
        let (items, place) = if self.is_support(item) {
            (&self.episode.support, item)
        } else {
            (&self.episode.query, item - self.support())
        };
        &items.inputs[place * features..(place + 1) * features]
    }

    /// The class of an item; none in regression.
    pub fn class(&self, item: usize) -> Option<usize> {
        let (items, place) = if self.is_support(item) {
            (&self.episode.support, item)
        } else {
            (&self.episode.query, item - self.support())
        };
        match &items.targets {
            Targets::Classes(classes) => Some(classes[place] as usize),
            Targets::Values(_) | Targets::Sequences(_) => None,
        }
    }

    /// What a class is called: its name, shortened, or its number.
    pub fn class_label(&self, class: usize) -> String {
        /// Letters of a name that fit beside a picture.
        const LETTERS: usize = 18;
        let Some(name) = self.class_names.get(class) else {
            return format!("class {class}");
        };
        // The end tells classes of nested folders apart.
        match name.chars().count().checked_sub(LETTERS) {
            None | Some(0) => name.clone(),
            Some(more) => format!("…{}", name.chars().skip(more + 1).collect::<String>()),
        }
    }

    /// The class that was predicted for a query; none in regression.
    pub fn predicted(&self, query: usize) -> Option<usize> {
        self.class(self.support() + query)?;
        highest(self.answers.get(query)?)
    }

    /// Whether items are numbers: they are then ordered by them.
    pub fn numbers(&self) -> bool {
        self.item.features() == 1
    }

    /// An item as a picture, where it is one.
    pub fn picture(&self, item: usize) -> Option<Bitmap> {
        let drawn = self.drawn.get(item).cloned().flatten();
        drawn.or_else(|| thumbnail(self.inputs(item), self.item))
    }

    /// Whether an item is there: support, then queries.
    pub fn is_there(&self, item: usize) -> bool {
        match item.checked_sub(self.support()) {
            None => self.episode.support.is_there(item),
            Some(query) => self.episode.query.is_there(query),
        }
    }

    /// An item on an axis.
    pub fn mark(&self, item: usize) -> Mark {
        let query = item.checked_sub(self.support());
        let label = match self.class(item) {
            Some(class) => self.class_label(class),
            None if self.numbers() => format!("{:.2}", self.inputs(item)[0]),
            None => query.unwrap_or(item).to_string(),
        };
        Mark {
            label,
            picture: self.picture(item),
            class: self.class(item),
            predicted: query
                .and_then(|query| self.predicted(query))
                .map(|class| (class, self.class_label(class))),
        }
    }

    fn items(&self, title: &str, mut items: Vec<usize>, first: usize) -> Shown {
        if self.numbers() {
            items.sort_by(|&a, &b| self.inputs(a)[0].total_cmp(&self.inputs(b)[0]));
        }
        Shown {
            title: if self.numbers() {
                format!("x of {title}")
            } else {
                title.to_owned()
            },
            places: items.iter().map(|item| item - first).collect(),
            marks: items.into_iter().map(|item| self.mark(item)).collect(),
        }
    }

    /// The entries of an axis of `count` that are shown; numbers where it is not what it says.
    pub fn shown(&self, axis: &MapAxis, count: usize) -> Shown {
        let (s, q) = (self.support(), self.queries());
        let queries = self.shown.iter().map(|query| s + query);
        match axis {
            MapAxis::Query if count == q => self.items("query", queries.collect(), s),
            MapAxis::Support if count == s => self.items("support item", (0..s).collect(), 0),
            MapAxis::Item if count == s + q && !self.numbers() => {
                let items = (0..s).chain(queries).collect();
                let mut shown = self.items("support items, then queries", items, 0);
                for mark in &mut shown.marks[s..] {
                    mark.label = format!("query, {}", mark.label);
                }
                shown
            }
            MapAxis::Item if count == s + q => self.items("item", (0..s + q).collect(), 0),
            MapAxis::Class if count == self.episode.shape.way.0 => Shown {
                title: "class".to_owned(),
                places: (0..count).collect(),
                marks: (0..count)
                    .map(|class| Mark {
                        picture: (0..s)
                            .find(|&item| self.class(item) == Some(class))
                            .and_then(|item| self.picture(item)),
                        class: Some(class),
                        ..Mark::named(self.class_label(class))
                    })
                    .collect(),
            },
            other => Shown::numbered(axis_name(other), count),
        }
    }
}

/// What an axis is called.
pub fn axis_name(axis: &MapAxis) -> &'static str {
    match axis {
        MapAxis::Query => "query",
        MapAxis::Support => "support item",
        MapAxis::Item => "item",
        MapAxis::Class => "class",
        MapAxis::Task => "task",
        MapAxis::Part(..) => "part",
        MapAxis::Other(name) => name,
    }
}

/// A picture that a source drew, where it has as many pixels as it says.
pub fn bitmap(picture: ItemPicture) -> Option<Bitmap> {
    let ItemPicture {
        width,
        height,
        rgba,
    } = picture;
    let bytes = width.checked_mul(height)?.checked_mul(4)?;
    (bytes > 0 && rgba.len() == bytes).then_some(Bitmap {
        width,
        height,
        rgba,
    })
}

/// An item as a picture: one channel as ink on paper, three as colours; none for anything else.
pub fn thumbnail(inputs: &[f32], item: ItemShape) -> Option<Bitmap> {
    if item.height * item.width <= 1 {
        return None;
    }
    let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    let pixel = |channels: &[f32]| match *channels {
        [ink] => Some([byte(1.0 - ink), byte(1.0 - ink), byte(1.0 - ink), 255]),
        [red, green, blue] => Some([byte(red), byte(green), byte(blue), 255]),
        _ => None,
    };
    let pixels: Option<Vec<[u8; 4]>> = inputs.chunks_exact(item.channels).map(pixel).collect();
    Some(Bitmap {
        width: item.width,
        height: item.height,
        rgba: pixels?.concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use meta_core::data::{EpisodeShape, Items};

    #[test]
    fn images_are_shown_and_vectors_are_not() {
        let shape = |height, width, channels| ItemShape {
            height,
            width,
            channels,
        };
        let ink = thumbnail(&[0.0, 1.0], shape(1, 2, 1)).unwrap();
        assert_eq!(ink.rgba, [255, 255, 255, 255, 0, 0, 0, 255]);
        let red = thumbnail(&[1.0, 0.0, 0.0, 0.0, 0.0, 2.0], shape(2, 1, 3)).unwrap();
        assert_eq!(red.rgba, [255, 0, 0, 255, 0, 0, 255, 255]);
        assert_eq!(thumbnail(&[1.0; 4], shape(1, 1, 4)), None);
        assert_eq!(thumbnail(&[1.0; 4], shape(1, 2, 2)), None);
    }

    /// A source's own picture of an item, if it is one.
    #[test]
    fn a_source_draws_its_items() {
        let picture = |bytes: usize| ItemPicture {
            width: 2,
            height: 1,
            rgba: vec![7; bytes],
        };
        assert_eq!(bitmap(picture(8)).unwrap().rgba, [7; 8]);
        assert_eq!(bitmap(picture(7)), None);
    }

    /// Numbers are ordered by their size, and an axis of another length is numbered.
    #[test]
    fn axes_of_a_regression() {
        let items = |inputs: &[f32]| Items {
            inputs: inputs.to_vec(),
            targets: Targets::Values(vec![0.0; inputs.len()]),
            ids: (0..inputs.len() as u64).collect(),
            mask: None,
        };
        let view = EpisodeView {
            title: String::new(),
            setting: String::new(),
            episode: Episode {
                index: 0,
                shape: EpisodeShape::new(1, 3, 2),
                support: items(&[0.5, -1.0, 2.0]),
                query: items(&[4.0, 3.0]),
                classes: Vec::new(),
                class_vectors: None,
                world: None,
            },
            class_names: vec!["fox".to_owned(), "animals/mammals/red fox".to_owned()],
            item: ItemShape {
                height: 1,
                width: 1,
                channels: 1,
            },
            drawn: Vec::new(),
            words: Vec::new(),
            lexicon: None,
            answers: vec![vec![0.0]; 2],
            shown: vec![0, 1],
        };
        assert_eq!(view.shown(&MapAxis::Support, 3).places, [1, 0, 2]);
        assert_eq!(view.shown(&MapAxis::Query, 2).places, [1, 0]);
        let labels = [0, 1, 2].map(|class| view.class_label(class));
        assert_eq!(labels, ["fox", "…s/mammals/red fox", "class 2"]);
        assert_eq!(view.shown(&MapAxis::Query, 2).marks[0].label, "3.00");
        let other = view.shown(&MapAxis::Other("memory slot"), 2);
        assert_eq!(
            (other.title.as_str(), other.marks[1].label.as_str()),
            ("memory slot", "1")
        );
        assert_eq!(view.shown(&MapAxis::Support, 4).title, "support item");
    }
}
