//! Finds, lists, compares, draws and reports finished runs.

pub mod baseline;
mod changed;
pub mod compare;
pub mod diff;
pub mod export;
pub mod ledger;
mod metrics;
pub mod plot;
mod plot_many;
mod plot_run;
mod plot_setting;
pub mod report;
pub mod results;
pub mod runs;
mod store;
