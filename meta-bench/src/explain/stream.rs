//! Draws the episodes that are explained.

use meta_core::{
    data::{Episode, EpisodeShape, Split},
    rng::Seed,
    toolkit::Toolkit,
};

use crate::{
    experiment::Experiment,
    failure::{CommandError, Result},
};

/// The episodes of a split.
pub struct Stream {
    /// The split.
    pub split: Split,
    /// Seed of its episodes.
    pub seed: Seed,
    /// Their shape.
    pub shape: EpisodeShape,
    /// How many there are; no limit where absent.
    pub count: Option<usize>,
}

impl Stream {
    /// The episodes of `split` in an experiment.
    pub fn of<T: Toolkit>(experiment: &Experiment<T>, split: Split) -> Self {
        let manifest = &experiment.manifest;
        let (seed, shape, count) = match split {
            Split::Train => (experiment.seed(), experiment.spec.train, None),
            Split::Validation => (
                experiment.frozen_seed(),
                experiment.spec.test,
                Some(manifest.train.validation_episodes),
            ),
            Split::Test => (
                experiment.frozen_seed(),
                experiment.spec.test,
                Some(manifest.test.episodes),
            ),
        };
        Stream {
            split,
            seed,
            shape,
            count,
        }
    }

    /// Checks that there is an episode `index`, which `option` asks for.
    ///
    /// # Errors
    /// When there is none.
    pub fn check(&self, option: &str, index: u64) -> Result<()> {
        match self.count {
            Some(count) if index >= count as u64 => Err(CommandError::Usage(format!(
                "`{option}`: there is no episode {index}; the {} split of this run has {count}, \
                 from 0 to {}",
                self.split,
                count.saturating_sub(1)
            ))),
            _ => Ok(()),
        }
    }

    /// The episode with this number.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn episode<T: Toolkit>(&self, experiment: &Experiment<T>, index: u64) -> Result<Episode> {
        let source = experiment.source.as_ref();
        let episode = source.episode(self.seed, self.split, self.shape, index);
        episode.map_err(|error| experiment.manifest.locate(error))
    }
}
