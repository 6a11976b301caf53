//! Points on arcs in the plane: a data source of this crate alone.
//!
//! A class is an arc of a quarter of a circle, with a centre, a radius and a direction of its own; its
//! items are points along it, with normal noise.

use std::{f64::consts::TAU, path::Path, sync::Arc};

use meta_core::{
    Result,
    data::{
        ClassRef, Episode, EpisodeShape, ItemShape, Items, Source, SourceSettings, Split, Targets,
        Task,
    },
    rng::Seed,
    settings,
};

settings! {
    /// Settings of the source.
    pub struct ArcsSettings {
        /// Standard deviation of the noise on a point.
        noise: f64 = 0.05, at_least(0.0);
        /// Number of classes of each split.
        classes: usize = 100, between(2, 100_000);
    }
}

impl SourceSettings for ArcsSettings {
    const NAME: &str = "arcs";
    const SUMMARY: &str = "points on arcs in the plane; needs no files";

    fn open(&self, _data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(Arcs {
            settings: self.clone(),
        }))
    }
}

struct Arcs {
    settings: ArcsSettings,
}

impl Arcs {
    /// `count` points of each class, as items of an episode.
    fn items(&self, classes: &[ClassRef], count: usize, first: u64, noise: Seed) -> Items {
        let mut items = Items {
            inputs: Vec::new(),
            targets: Targets::Classes(Vec::new()),
            ids: Vec::new(),
        };
        let mut labels = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let mut arc = Seed(0).stream("arcs", u64::from(class.class), "class");
            let centre = [arc.normal(), arc.normal()];
            let (radius, start) = (arc.uniform_in(0.5, 2.0), arc.uniform_in(0.0, TAU));
            let mut points = noise.stream("points", u64::from(class.class), "item");
            for item in 0..count as u64 {
                let angle = start + points.uniform_in(0.0, TAU / 4.0);
                for (along, centre) in [angle.cos(), angle.sin()].into_iter().zip(centre) {
                    let error = self.settings.noise * points.normal();
                    items.inputs.push((centre + radius * along + error) as f32);
                }
                labels.push(label as u32);
                items
                    .ids
                    .push((u64::from(class.class) << 32) + first + item);
            }
        }
        items.targets = Targets::Classes(labels);
        items
    }
}

impl Source for Arcs {
    fn name(&self) -> &'static str {
        ArcsSettings::NAME
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: 2,
        }
    }

    fn classes(&self, _split: Split) -> Option<usize> {
        Some(self.settings.classes)
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        self.check(split, shape)?;
        let mut stream = seed.stream(split.scope(), index, "classes");
        let split_number = Split::ALL.iter().position(|one| *one == split).unwrap_or(0);
        // The splits share no class.
        let class = |position: usize| ClassRef {
            class: (Split::ALL.len() * position + split_number) as u32,
            quarter_turns: 0,
        };
        let chosen = stream.choose_distinct(self.settings.classes, shape.way.0);
        let classes: Vec<ClassRef> = chosen.into_iter().map(class).collect();
        let noise = Seed(stream.next_u64());
        let other = Seed(stream.next_u64());
        Ok(Episode {
            index,
            shape,
            support: self.items(&classes, shape.shot.0, 0, noise),
            query: self.items(&classes, shape.query.0, shape.shot.0 as u64, other),
            classes,
        })
    }

    fn content_hash(&self) -> String {
        // Any change to what is drawn changes the number.
        let ArcsSettings { noise, classes } = self.settings;
        format!("arcs 1 {noise} {classes}")
    }
}
