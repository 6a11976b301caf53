//! The binary `meta` from the outside: every test runs it in a temporary folder.

mod backends;
mod bench;
mod commands;
mod compare;
mod damage;
mod diverged;
mod explain;
mod fingerprints;
mod foreign;
mod mistakes;
mod races;
mod reference;
mod resume;
mod slurm;
mod sweep;
mod workbench;
