//! Networks: layers, attention and encoders, all with the task axis and all differentiable twice.
//!
//! A layer's parameters are `[1, …]` when all tasks share them and `[t, …]` when each task has its
//! own; its forward pass takes and returns `[t, b, …]` either way. A batched pass equals a loop over
//! tasks, to rounding.

pub mod activation;
pub mod attention;
mod attention_map;
pub mod conv;
pub mod distance;
pub mod dropout;
pub mod encoder;
pub mod feed_forward;
pub mod init;
pub mod linear;
pub mod loss;
pub mod modulation;
pub mod norm;
pub mod pass;
pub mod past;
pub mod recurrent;
pub mod solve;
pub mod temporal;

pub use pass::{Mode, Noise, Pass};
