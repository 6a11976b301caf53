//! The binary `meta` from the outside: every test runs it in a temporary folder.

mod answers;
mod backends;
mod bench;
mod commands;
mod compare;
mod corpora;
mod damage;
mod data;
mod distributed;
mod diverged;
mod elsewhere;
mod explain;
mod extremes;
mod fingerprints;
mod first;
mod foreign;
mod mistakes;
mod names;
mod published;
mod races;
mod reference;
mod report;
mod resume;
#[cfg(feature = "serve")]
mod serve;
mod slurm;
mod surroundings;
mod sweep;
mod tables;
mod workbench;
