//! Uses a trained learner: names what a person brings, from a support that a person brings.

pub mod answer;
mod args;
pub mod calibrate;
pub mod embed;
pub mod export;
pub mod fit;
mod fitted;
pub mod predict;
mod render;
pub mod serve;
mod session;
mod table_file;
mod trained;

pub use answer::Answer;
pub use trained::{Fitted, TrainedLearner};
