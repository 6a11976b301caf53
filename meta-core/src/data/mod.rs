//! Episodes and where they come from, in plain host memory: no tensors, no backend.
//!
//! A [`Source`] makes [`Episode`]s; each is a pure function of (content, seed, split, shape, index). The
//! sources that can be named in a manifest are listed by [`sources`].
//!
//! | Module | Subject |
//! |---|---|
//! | `episode` | what an episode is |
//! | `source` | what a source promises |
//! | `glyphs`, `projected`, `sinusoid`, `gp`, `omniglot`, `folder` | the sources |
//! | `draw` | drawing classes and items |
//! | `image_files`, `image_set`, `image_cache` | images on disk, in memory, and decoded on disk |
//! | `prefetch` | making episodes ahead of time |
//! | `contact_sheet` | looking at a source |

mod contact_sheet;
mod draw;
mod episode;
mod folder;
mod glyphs;
mod gp;
mod image_cache;
mod image_files;
mod image_set;
mod omniglot;
mod prefetch;
mod projected;
mod sinusoid;
mod source;

use std::sync::Arc;

use crate::error::{Error, Result};
use source::{config_value, parse_config};

pub use contact_sheet::contact_sheet;
pub use episode::{
    ClassRef, Episode, EpisodeShape, ItemShape, Items, Query, Shot, Split, Targets, Task, Way,
};
pub use folder::FolderConfig;
pub use glyphs::{GlyphsConfig, GlyphsSource};
pub use gp::{GpConfig, GpSource, Kernel};
pub use image_files::ImageFilter;
pub use image_set::{ImageSource, Rotations};
pub use omniglot::{OmniglotConfig, OmniglotSplit};
pub use prefetch::Prefetch;
pub use projected::{ProjectedConfig, ProjectedSource};
pub use sinusoid::{SinusoidConfig, SinusoidSource, Wave};
pub use source::{BuildSource, Source, SourceEntry, episode_set_hash};

/// The list of sources; adding a row makes a source known to manifests and help.
static SOURCES: [SourceEntry; 6] = [
    SourceEntry {
        name: "glyphs",
        summary: "handwritten-like characters drawn by a program; needs no files",
        default_config: || config_value(&GlyphsConfig::default()),
        build: |settings, _| Ok(Arc::new(parse_config::<GlyphsConfig>(settings)?.build()?)),
    },
    SourceEntry {
        name: "projected-glyphs",
        summary: "random projections of glyphs, a number of training tasks (Kirsch et al. 2022); needs no files",
        default_config: || config_value(&ProjectedConfig::default()),
        build: |settings, _| {
            Ok(Arc::new(
                parse_config::<ProjectedConfig>(settings)?.build()?,
            ))
        },
    },
    SourceEntry {
        name: "sinusoid",
        summary: "regression of sine waves (Finn et al. 2017); needs no files",
        default_config: || config_value(&SinusoidConfig::default()),
        build: |settings, _| Ok(Arc::new(parse_config::<SinusoidConfig>(settings)?.build()?)),
    },
    SourceEntry {
        name: "gp",
        summary: "regression of functions from a Gaussian process, with its exact posterior; needs no files",
        default_config: || config_value(&GpConfig::default()),
        build: |settings, _| Ok(Arc::new(parse_config::<GpConfig>(settings)?.build()?)),
    },
    SourceEntry {
        name: "omniglot",
        summary: "1623 handwritten characters of 50 alphabets (Lake et al. 2015)",
        default_config: || config_value(&OmniglotConfig::default()),
        build: |settings, data_dir| {
            Ok(Arc::new(
                parse_config::<OmniglotConfig>(settings)?.build(data_dir)?,
            ))
        },
    },
    SourceEntry {
        name: "folder",
        summary: "any folder or zip archive of class/image.png or .jpg",
        default_config: || config_value(&FolderConfig::default()),
        build: |settings, data_dir| {
            Ok(Arc::new(
                parse_config::<FolderConfig>(settings)?.build(data_dir)?,
            ))
        },
    },
];

/// All sources that can be named, in the order of help.
pub fn sources() -> &'static [SourceEntry] {
    &SOURCES
}

/// The source of that name.
///
/// # Errors
/// [`Error::Unknown`] with the known names.
pub fn find_source(name: &str) -> Result<&'static SourceEntry> {
    SOURCES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| Error::unknown("source", name, SOURCES.iter().map(|entry| entry.name)))
}
