//! Tasks and data, attention, encoders, autodiff levels, second-order-safe primitives and the
//! learner contract of the meta-learning toolkit.
//!
//! The layers, each of which uses only those before it:
//!
//! | layer | modules |
//! |---|---|
//! | ground | [`error`](Error), [`settings`], [`rng`], [`stats`] |
//! | host and device | [`data`] · [`backend`], [`graphs`] |
//! | differentiation | [`params`], [`primitives`], [`gradcheck`] |
//! | networks | [`nn`] |
//! | tasks and learners | [`task`], [`learner`], [`adapt`], [`amortize`], [`unroll`] |
//! | loops | [`train`], [`selection`], [`eval`], [`checkpoint`], [`meta_gradcheck`] |

mod error;

pub mod adapt;
pub mod amortize;
pub mod backend;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod eval;
pub mod gradcheck;
pub mod graphs;
pub mod learner;
pub mod meta_gradcheck;
pub mod nn;
pub mod optim;
pub mod params;
pub mod primitives;
pub mod rng;
pub mod selection;
pub mod settings;
pub mod stats;
pub mod task;
pub mod train;
pub mod unroll;

pub use error::{Error, Result};
