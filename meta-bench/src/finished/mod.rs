//! Finished runs: finding, listing, comparing and drawing them.

pub mod baseline;
pub mod compare;
pub mod plot_run;
pub mod plot_setting;
pub mod results;
pub mod runs;
pub mod store;
