//! What an episode is: its shape, its items and its targets, as plain host memory.

use serde::{Deserialize, Serialize};

/// Gives a typed number the traits that all of them share.
macro_rules! typed_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub usize);

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

typed_number! {
    /// Number of classes of a task (`n`); 1 for regression.
    Way
}
typed_number! {
    /// Number of support items per class (`k`); of all support items for regression.
    Shot
}
typed_number! {
    /// Number of query items per class; of all query items for regression.
    Query
}

/// The shape of an episode, per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpisodeShape {
    /// Classes of the task; 1 for regression.
    pub way: Way,
    /// Support items per class.
    pub shot: Shot,
    /// Query items per class.
    pub query: Query,
}

impl EpisodeShape {
    /// An episode of `way` classes with `shot` support and `query` query items each.
    pub fn new(way: usize, shot: usize, query: usize) -> Self {
        EpisodeShape {
            way: Way(way),
            shot: Shot(shot),
            query: Query(query),
        }
    }

    /// Support items of the whole episode (`s = n·k`).
    pub fn support_items(&self) -> usize {
        self.way.0 * self.shot.0
    }

    /// Query items of the whole episode (`q`).
    pub fn query_items(&self) -> usize {
        self.way.0 * self.query.0
    }
}

impl std::fmt::Display for EpisodeShape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}-way {}-shot, {} query",
            self.way, self.shot, self.query
        )
    }
}

/// The three disjoint parts of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Tasks that are learned from.
    Train,
    /// Tasks that choose between checkpoints and settings.
    Validation,
    /// Tasks that are reported, and decide nothing.
    Test,
}

impl Split {
    /// All splits, in order.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// The name in manifests and files: `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// The split that a folder or a column calls by this name, whatever its case.
    pub(crate) fn named(name: &str) -> Option<Split> {
        match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Some(Split::Train),
            "val" | "valid" | "validation" | "dev" => Some(Split::Validation),
            "test" | "testing" => Some(Split::Test),
            _ => None,
        }
    }

    /// The scope of this split's episodes in the seed tree.
    pub fn scope(self) -> &'static str {
        match self {
            Split::Train => "episode/train",
            Split::Validation => "episode/validation",
            Split::Test => "episode/test",
        }
    }

    /// Position in [`Split::ALL`].
    pub(crate) fn position(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// The shape of one item. An image is `[h, w, c]`, row-major with the channel running fastest; a
/// vector of f features is 1×1×f.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ItemShape {
    /// Rows (`h`).
    pub height: usize,
    /// Columns (`w`).
    pub width: usize,
    /// Channels (`c`).
    pub channels: usize,
}

impl ItemShape {
    /// Numbers in one item (`f = h·w·c`).
    pub fn features(&self) -> usize {
        self.height * self.width * self.channels
    }
}

impl std::fmt::Display for ItemShape {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{}×{}×{}",
            self.height, self.width, self.channels
        )
    }
}

/// What an action is, and how many numbers a policy says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actions {
    /// One of so many.
    Discrete(usize),
    /// So many real numbers.
    Continuous(usize),
}

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One of `way` classes per item.
    Classification,
    /// A vector of real numbers per item.
    Regression {
        /// Numbers per item.
        outputs: usize,
    },
    /// A sequence of symbols per item, which is a sequence of words: the number of each word counts from 1,
    /// and zeros follow the last.
    Sequences {
        /// Words that items are made of.
        words: usize,
        /// Symbols that targets are made of.
        symbols: usize,
        /// The most symbols of a target.
        length: usize,
    },
    /// Nothing: a policy acts in environments, and is scored by its return. An item stands for an episode:
    /// the support are those of a trial, the query the trials that are scored.
    Acting {
        /// What an action is.
        actions: Actions,
        /// Steps of an episode at most.
        horizon: usize,
    },
}

impl Task {
    /// Numbers of a prediction: values, the scores of the symbols and of the end at each place of a
    /// sequence, one place more than symbols fit, or those of actions. Of classification, that depends on the way.
    pub fn outputs(self, way: usize) -> usize {
        match self {
            Task::Classification => way,
            Task::Regression { outputs } => outputs,
            Task::Sequences {
                symbols, length, ..
            } => (length + 1) * (symbols + 1),
            Task::Acting { actions, .. } => match actions {
                Actions::Discrete(count) | Actions::Continuous(count) => count,
            },
        }
    }

    /// Whether a policy acts in environments, where others predict for items.
    pub fn is_acting(self) -> bool {
        matches!(self, Task::Acting { .. })
    }
}

/// The environments that a task is acted in, opaque here: `rl` makes it, and knows what is inside.
#[derive(Clone)]
pub struct World(pub std::sync::Arc<dyn std::any::Any + Send + Sync>);

impl std::fmt::Debug for World {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("World")
    }
}

/// Whether both are one.
impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        std::sync::Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What is to be predicted for each item of a set.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// A label in 0..way per item.
    Classes(Vec<u32>),
    /// `[items, outputs]`, row-major.
    Values(Vec<f32>),
    /// `[items, length + 1]`, row-major: the symbols of each item, counted from 0, and the end from there on,
    /// whose number is that of the symbols there are.
    Sequences(Vec<u32>),
}

impl Targets {
    /// The targets of these items alone, of as many as there are `items`.
    pub fn select(&self, kept: &[usize], items: usize) -> Targets {
        match self {
            Targets::Classes(classes) => Targets::Classes(rows_of(classes, kept, items)),
            Targets::Values(values) => Targets::Values(rows_of(values, kept, items)),
            Targets::Sequences(symbols) => Targets::Sequences(rows_of(symbols, kept, items)),
        }
    }
}

/// The rows of these items, of as many in `all` as there are `items`.
pub(crate) fn rows_of<T: Copy>(all: &[T], kept: &[usize], items: usize) -> Vec<T> {
    let width = all.len() / items.max(1);
    let own = |&item: &usize| all[item * width..(item + 1) * width].iter().copied();
    kept.iter().flat_map(own).collect()
}

/// The symbols of a target before its end.
pub fn before_end(target: &[u32], end: u32) -> &[u32] {
    let length = target.iter().position(|&symbol| symbol == end);
    &target[..length.unwrap_or(target.len())]
}

/// A set of items with their targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Items {
    /// `[items, f]`, row-major; an item is laid out as its source's [`ItemShape`] says.
    pub inputs: Vec<f32>,
    /// One target per item.
    pub targets: Targets,
    /// Identity of each item in its source (`class << 32 | item`, or a counter for drawn functions).
    /// Support and query of an episode share none.
    pub ids: Vec<u64>,
    /// What of the items is there, where not all is.
    pub mask: Option<Mask>,
}

/// What of a set of items is there; the rest fills the shape of its episode.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// `[items]`: whether an item is there. One that is not is of zeros, and its target is one that an item
    /// at its place could have.
    pub items: Vec<bool>,
    /// `[items, f]`: whether a number of an item is there, and zero where not; absent where all are.
    pub numbers: Option<Vec<bool>>,
}

impl Items {
    /// Items that are all there.
    pub fn new(inputs: Vec<f32>, targets: Targets, ids: Vec<u64>) -> Self {
        Items {
            inputs,
            targets,
            ids,
            mask: None,
        }
    }

    /// Whether the item at that position is there.
    pub fn is_there(&self, item: usize) -> bool {
        let mask = self.mask.as_ref();
        mask.is_none_or(|mask| mask.items.get(item).copied().unwrap_or(false))
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// Which class of the source a label of an episode stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClassRef {
    /// The class's number in the source, unique over all splits: the upper half of its items' ids.
    pub class: u32,
    /// Its position among the classes of its split.
    pub position: u32,
    /// Counter-clockwise quarter turns that this class's items were rotated by, in 0..4; the same for
    /// its support and query.
    pub quarter_turns: u8,
}

/// What the tasks of a source may have beyond even ones: those with as many shots of every class, and items of
/// as many numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Extras {
    /// A task may have fewer classes than its shape, or fewer support or query items of some: items carry
    /// masks.
    pub items: bool,
    /// An item may have fewer numbers than its shape, or lack some: masks say which.
    pub numbers: bool,
    /// Width of the vector that comes with each class; 0 for none.
    pub class_vector: usize,
}

/// One task: a support set to learn from and a query set to predict.
///
/// Its shape is a bound where items carry masks: a class with fewer items, or a class that is not there, has
/// items that are not there in their places.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// The episode's number in its split.
    pub index: u64,
    /// Its shape.
    pub shape: EpisodeShape,
    /// `[s]` items, ordered by class, then by shot.
    pub support: Items,
    /// `[q]` items, ordered by class, then by query number.
    pub query: Items,
    /// The `way` classes in the order of their labels, fewer where some are not there; empty for regression.
    pub classes: Vec<ClassRef>,
    /// `[way, v]`, row-major: a vector that describes each class, where the source has such; zeros where a
    /// class is not there.
    pub class_vectors: Option<Vec<f32>>,
    /// Where it is acted in, where it is.
    pub world: Option<World>,
}

impl Episode {
    /// An episode without vectors of classes.
    pub fn new(
        index: u64,
        shape: EpisodeShape,
        support: Items,
        query: Items,
        classes: Vec<ClassRef>,
    ) -> Self {
        Episode {
            index,
            shape,
            support,
            query,
            classes,
            class_vectors: None,
            world: None,
        }
    }
}
