//! Points on arcs in the plane: a data source of this crate alone.
//!
//! A class is an arc of a quarter of a circle, with a centre, a radius and a direction of its own; its
//! items are points along it, with normal noise.

use std::{f64::consts::TAU, path::Path, sync::Arc};

use meta_core::{
    Result,
    data::{
        Episode, EpisodeShape, ItemShape, Source, SourceSettings, Split, Task,
        classification_episode,
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
        classification_episode(self, seed, split, shape, index, |class, item, place| {
            let mut arc = Seed(0).stream(split.scope(), class as u64, "arc");
            let centre = [arc.normal(), arc.normal()];
            let (radius, start) = (arc.uniform_in(0.5, 2.0), arc.uniform_in(0.0, TAU));
            let id = (class as u64) << 32 | item as u64;
            let mut point = Seed(0).stream(split.scope(), id, "point");
            let angle = start + point.uniform_in(0.0, TAU / 4.0);
            for (place, (along, centre)) in place
                .iter_mut()
                .zip([angle.cos(), angle.sin()].into_iter().zip(centre))
            {
                let error = self.settings.noise * point.normal();
                *place = (centre + radius * along + error) as f32;
            }
        })
    }

    fn content_hash(&self) -> String {
        // Any change to what is drawn changes the number.
        let ArcsSettings { noise, classes } = self.settings;
        format!("arcs 1 {noise} {classes}")
    }
}
