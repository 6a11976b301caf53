//! Toy tasks: small, random or solvable, for checks and tests.

use crate::{
    data::{Episode, EpisodeShape, Extras, ItemShape, Items, Targets, Task},
    rng::{Seed, Stream},
    task::TaskSpec,
};

/// Classification of vectors of `features` numbers, trained and tested in one shape.
pub fn vectors(features: usize, shape: EpisodeShape) -> TaskSpec {
    TaskSpec {
        item: ItemShape {
            height: 1,
            width: 1,
            channels: features,
        },
        task: Task::Classification,
        train: shape,
        test: shape,
        train_classes: shape.way.0,
        extras: Extras::default(),
    }
}

/// A task that can be solved: each class is a cloud of vectors around a point of its own.
pub fn clouds(spec: &TaskSpec, index: u64) -> Episode {
    let (shape, features) = (spec.train, spec.item.features());
    let mut stream = Seed(11).stream("clouds", index, "task");
    let centres: Vec<Vec<f64>> = (0..shape.way.0)
        .map(|_| (0..features).map(|_| 2.0 * stream.normal()).collect())
        .collect();
    let mut items = |per_class: usize, first: u64| {
        let classes = (0..shape.way.0).flat_map(|class| std::iter::repeat_n(class, per_class));
        let classes: Vec<usize> = classes.collect();
        Items {
            inputs: classes
                .iter()
                .flat_map(|&class| centres[class].clone())
                .map(|centre| (centre + 0.3 * stream.normal()) as f32)
                .collect(),
            targets: Targets::Classes(classes.iter().map(|&class| class as u32).collect()),
            ids: (first..first + classes.len() as u64).collect(),
            mask: None,
        }
    };
    Episode {
        index,
        shape,
        support: items(shape.shot.0, 0),
        query: items(shape.query.0, 100),
        classes: Vec::new(),
        class_vectors: None,
        world: None,
    }
}

/// Small tasks from sequences of five words to those of at most two of three symbols.
pub const SEQUENCES: Task = Task::Sequences {
    words: 5,
    symbols: 3,
    length: 2,
};

/// Small tasks of this kind, of images of 4×4 pixels, or of sequences of at most 4 words: 3-way 2-shot with 2
/// queries, or 4 support and 3 query items.
pub fn small_spec(task: Task) -> TaskSpec {
    let shape = match task {
        Task::Classification => EpisodeShape::new(3, 2, 2),
        Task::Regression { .. } | Task::Sequences { .. } | Task::Acting { .. } => {
            EpisodeShape::new(1, 4, 3)
        }
    };
    let rows = match task {
        Task::Sequences { .. } => 1,
        _ => 4,
    };
    TaskSpec {
        item: ItemShape {
            height: rows,
            width: 4,
            channels: 1,
        },
        task,
        train: shape,
        test: shape,
        train_classes: shape.way.0,
        extras: Extras::default(),
    }
}

/// A task of standard normal items (and targets, where they are values).
pub fn random_episode(spec: &TaskSpec, index: u64) -> Episode {
    let items = |count: usize, per_class: usize, purpose: &str| {
        let mut stream = Seed(5).stream("gradient test", index, purpose);
        let mut normal =
            |count: usize| -> Vec<f32> { (0..count).map(|_| stream.normal() as f32).collect() };
        let mut inputs = normal(count * spec.item.features());
        let targets = match spec.task {
            Task::Classification => {
                Targets::Classes((0..count).map(|item| (item / per_class) as u32).collect())
            }
            Task::Regression { .. } | Task::Acting { .. } => {
                Targets::Values(normal(count * spec.outputs()))
            }
            Task::Sequences {
                words,
                symbols,
                length,
            } => {
                let drawn = sequences(&mut stream, spec, count, [words, symbols, length]);
                inputs = drawn.0;
                Targets::Sequences(drawn.1)
            }
        };
        Items {
            inputs,
            targets,
            ids: (0..count as u64).collect(),
            mask: None,
        }
    };
    let shape = spec.train;
    Episode {
        index,
        shape,
        support: items(shape.support_items(), shape.shot.0, "support"),
        query: items(shape.query_items(), shape.query.0, "query"),
        classes: Vec::new(),
        class_vectors: None,
        world: None,
    }
}

/// Random words and symbols of `count` items, of any length from 1 on.
fn sequences(
    stream: &mut Stream,
    spec: &TaskSpec,
    count: usize,
    [words, symbols, length]: [usize; 3],
) -> (Vec<f32>, Vec<u32>) {
    let (features, mut inputs, mut targets) = (spec.item.features(), Vec::new(), Vec::new());
    for item in 1..=count {
        let own = 1 + stream.below(features);
        inputs.extend((0..own).map(|_| (1 + stream.below(words)) as f32));
        inputs.resize(item * features, 0.0);
        let own = 1 + stream.below(length);
        targets.extend((0..own).map(|_| stream.below(symbols) as u32));
        targets.resize(item * (length + 1), symbols as u32);
    }
    (inputs, targets)
}

/// Tasks of translating one or two of four words, each by a symbol of its own: six examples, twelve queries.
pub fn dictionaries(features: usize) -> TaskSpec {
    TaskSpec {
        task: Task::Sequences {
            words: 4,
            symbols: 4,
            length: 2,
        },
        train_classes: 0,
        ..vectors(features, EpisodeShape::new(1, 6, 12))
    }
}

/// A task of [`dictionaries`]: its examples are every word alone, then two pairs.
pub fn dictionary(spec: &TaskSpec, index: u64) -> Episode {
    let mut stream = Seed(6).stream("dictionary", index, "symbols");
    let symbols = stream.choose_distinct(4, 4);
    let features = spec.item.features();
    let mut items = |alone: usize, count: usize, first: u64| {
        let (mut inputs, mut targets) = (Vec::new(), Vec::new());
        for item in 0..count {
            let words = match item < alone {
                true => vec![item],
                false => stream.choose_distinct(4, 1 + usize::from(alone > 0 || item % 2 > 0)),
            };
            inputs.extend(words.iter().map(|&word| (word + 1) as f32));
            inputs.resize((item + 1) * features, 0.0);
            targets.extend(words.iter().map(|&word| symbols[word] as u32));
            targets.resize((item + 1) * 3, 4);
        }
        let ids = (first..first + count as u64).collect();
        Items::new(inputs, Targets::Sequences(targets), ids)
    };
    let shape = spec.train;
    let support = items(4, shape.support_items(), 0);
    let query = items(0, shape.query_items(), 100);
    Episode::new(index, shape, support, query, Vec::new())
}
