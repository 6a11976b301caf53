//! Toy tasks: small, random or solvable, for checks and tests.

use crate::{
    data::{Episode, EpisodeShape, Extras, ItemShape, Items, Targets, Task},
    rng::Seed,
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

/// Small tasks of this kind, of images of 4×4 pixels: 3-way 2-shot with 2 queries, or 4 support and 3
/// query items.
pub fn small_spec(task: Task) -> TaskSpec {
    let shape = match task {
        Task::Classification => EpisodeShape::new(3, 2, 2),
        Task::Regression { .. } | Task::Acting { .. } => EpisodeShape::new(1, 4, 3),
    };
    TaskSpec {
        item: ItemShape {
            height: 4,
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
        let inputs = normal(count * spec.item.features());
        Items {
            inputs,
            targets: match spec.task {
                Task::Classification => {
                    Targets::Classes((0..count).map(|item| (item / per_class) as u32).collect())
                }
                Task::Regression { .. } | Task::Acting { .. } => {
                    Targets::Values(normal(count * spec.outputs()))
                }
            },
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
