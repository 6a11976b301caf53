//! Finds, lists, compares and draws finished runs.

pub mod baseline;
pub mod compare;
pub mod diff;
pub mod plot;
mod plot_run;
mod plot_setting;
pub mod results;
pub mod runs;
mod store;
