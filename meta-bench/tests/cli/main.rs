//! The binary `meta` from the outside: every test runs it in a temporary folder.

mod backends;
mod bench;
mod commands;
mod compare;
mod corpora;
mod data;
mod explain;
mod extremes;
mod fingerprints;
mod mistakes;
mod names;
mod reference;
mod resume;
mod slurm;
mod surroundings;
mod sweep;
mod workbench;
