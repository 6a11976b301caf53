//! The binary `meta` from the outside: every test runs it in a temporary folder.

mod answers;
mod backends;
mod bench;
mod commands;
mod compare;
mod corpora;
mod damage;
mod data;
mod diverged;
mod elsewhere;
mod explain;
mod extremes;
mod fingerprints;
mod foreign;
mod mistakes;
mod names;
mod races;
mod reference;
mod report;
mod resume;
mod slurm;
mod surroundings;
mod sweep;
mod workbench;
