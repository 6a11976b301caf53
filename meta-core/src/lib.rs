//! Tasks and data, attention, encoders, autodiff levels, second-order-safe primitives and the
//! learner contract of the meta-learning toolkit.
//!
//! The rooms, lowest first; a row imports only from the rows above it:
//!
//! | rooms | what they hold |
//! |---|---|
//! | `error` | [`Error`], which names the key, the file or the value |
//! | `device` `files` `rng` `settings` `stats` | failures of an accelerator; files that are never half written; the seed tree; settings with defaults and ranges; means and intervals |
//! | `data` `params` | episodes and the [sources](data::sources) they come from; [parameters](params::Params) that are lifted to a level and fanned out over tasks |
//! | `optim` `primitives` `task` | [optimisers](optim::Optimizer); [operations](primitives::Primitives) closed under differentiation; [episodes as tensors](task::TaskBatch) |
//! | `backend` `nn` | a [backend](backend::dispatch) by its name; layers, [attention](nn::attention) and [encoders](nn::encoder) |
//! | `learner` | the [contract](learner::Learner) of a learner, and the three ways to be one |
//! | `train` | the [outer loop](train::Trainer), [evaluation](train::eval), checkpoints |
//! | `gradcheck` | derivatives against central differences, at first and second order |
//! | `toolkit` | [learners, encoders, sources and optimisers](toolkit::Toolkit) under one name, those of your own too |
//! | `conformance` | the tests that every learner of a toolkit must pass |

mod error;

pub mod backend;
#[cfg(any(feature = "flex", feature = "ndarray"))]
pub mod conformance;
pub mod data;
pub mod device;
pub mod files;
pub mod gradcheck;
pub mod learner;
pub mod nn;
pub mod optim;
pub mod params;
pub mod primitives;
pub mod rng;
pub mod settings;
pub mod stats;
pub mod task;
pub mod toolkit;
pub mod train;

pub use error::{Error, Result};
#[doc(inline)]
pub use meta_kernels::parallel;
