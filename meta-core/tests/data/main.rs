//! The promises of the data layer, held against every source.
//!
//! Tests on real data look for it in `$META_DATA`, else in `shared/data` beside the repository, and say
//! so when they skip.

mod audio;
mod episodes;
mod features;
mod folder;
mod formats;
mod glyphs;
mod omniglot;
mod pictures;
mod rotations;
mod samples;
mod series;
mod subwords;
mod text;
mod trees;
mod word_vectors;
