//! Episodes and where they come from, in plain host memory: no tensors, no backend.
//!
//! A [`Source`] makes [`Episode`]s; each is a pure function of (content, seed, split, shape, index). The
//! sources that can be named in a manifest are listed by [`sources`].
//!
//! | Module | Subject |
//! |---|---|
//! | `episode` | what an episode is |
//! | `source` | what a source promises |
//! | `glyphs`, `projected`, `sinusoid`, `gp`, `prior`, `grammar`, `tables`, `omniglot`, `folder`, `features`, `topics`, `text`, `series`, `scan`, `audio`, `forecast` | the sources |
//! | `draw` | drawing classes and items |
//! | `pairs` | pairs of sentences, and their files |
//! | `rows` | rows of tables in the places of an episode |
//! | `cholesky` | normal vectors with a given covariance |
//! | `formats` | readers of files of numbers |
//! | `image_decode` | from a file's bytes to pixels |
//! | `image_archive`, `image_files`, `class_folders`, `class_splits` | images on disk, what the folders around them mean, and which class is of which split |
//! | `image_set`, `image_cache` | images in memory, and decoded on disk |
//! | `pictures` | augmentation and normalisation |
//! | `preparation`, `own_items` | what training did to its data, done to what a person brings |
//! | `prefetch` | making episodes ahead of time |
//! | `contact_sheet` | looking at a source |

pub mod cholesky;
mod class_folders;
mod class_splits;
mod contact_sheet;
mod draw;
mod episode;
pub mod formats;
mod image_archive;
mod image_cache;
mod image_decode;
mod image_files;
mod image_set;
mod own_items;
mod pairs;
mod pictures;
mod prefetch;
mod preparation;
mod rows;
mod source;

use crate::error::{Error, Result};

pub use audio::AudioSource;
pub use class_folders::SplitFolders;
pub use contact_sheet::contact_sheet;
pub use draw::classification_episode;
pub(crate) use episode::rows_of;
pub use episode::{
    Actions, ClassRef, Episode, EpisodeShape, Extras, ItemShape, Items, Mask, Query, Shot, Split,
    Targets, Task, Way, World, before_end,
};
pub use features::{FeatureSource, Fewer, Protocol};
pub use folder::Duplicates;
pub use forecast::{ForecastSource, SeriesLayout};
pub use glyphs::{GlyphWorld, GlyphsSource};
pub use gp::{GpSource, Kernel};
pub use grammar::{Asked, GrammarSource, LanguageKind};
pub use image_decode::{Background, Fit, ImageFilter, picture_size};
pub use image_set::{ImageSource, Rotations};
pub use omniglot::OmniglotSplit;
pub use own_items::{ItemKeys, OwnItems, Wanted, class_vectors};
pub use pairs::Lexicon;
pub use pictures::PictureSettings;
pub use prefetch::Prefetch;
pub use preparation::Preparation;
pub use prior::{PriorSource, PriorTask, ProcessKernel};
pub use projected::ProjectedSource;
pub use rows::Fill;
pub use scan::{ScanSource, ScanSplit};
pub use series::{LabelPlace, MissingValues, SeriesFit, SeriesSource};
pub use sinusoid::{SinusoidSource, Wave};
pub(crate) use source::settings_hash;

pub use source::{
    BuildSource, ItemPicture, Source, SourceEntry, SourceSettings, episode_set_hash,
    stored_episode_set_hash,
};
pub use tables::{LabelledRows, TableColumn, TableTask, TablesSource, rows_like};
pub use text::{TextSource, Tokens, UnknownWords, Vocabulary};
pub use topics::TopicsSource;

/// Writes the modules and the list of sources: a line for each.
macro_rules! list_of_sources {
    ($($module:ident::$settings:ident),+ $(,)?) => {
        $(
            mod $module;
            pub use $module::$settings;
        )+

        /// All sources of this crate that can be named, in the order of help.
        pub fn sources() -> Vec<SourceEntry> {
            vec![$(SourceEntry::of::<$settings>()),+]
        }
    };
}

list_of_sources! {
    glyphs::GlyphsSettings,
    projected::ProjectedSettings,
    sinusoid::SinusoidSettings,
    gp::GpSettings,
    prior::PriorSettings,
    grammar::GrammarSettings,
    tables::TablesSettings,
    omniglot::OmniglotSettings,
    folder::FolderSettings,
    features::FeaturesSettings,
    topics::TopicsSettings,
    text::TextSettings,
    series::SeriesSettings,
    scan::ScanSettings,
    audio::AudioSettings,
    forecast::ForecastSettings,
}

/// The source of that name among `entries`.
///
/// # Errors
/// [`Error::Unknown`] with the known names.
pub fn find_source(entries: &[SourceEntry], name: &str) -> Result<SourceEntry> {
    let found = entries.iter().find(|entry| entry.name == name);
    found
        .copied()
        .ok_or_else(|| Error::unknown("source", name, entries.iter().map(|entry| entry.name)))
}
