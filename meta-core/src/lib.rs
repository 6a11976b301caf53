//! Tasks and data, attention, encoders, autodiff levels, second-order-safe primitives and the
//! learner contract of a toolkit for meta-learning.
//!
//! # A tour
//!
//! 1. A [source](data::Source) draws [episodes](data::Episode): classes or functions with a support and
//!    queries. An episode is a pure function of a [seed](rng::Seed), a split, a shape and an index.
//! 2. A [`TaskBatch`](task::TaskBatch) puts the episodes of a meta-batch on the device. Tasks are the
//!    first axis of every tensor: items are `[t, b, …]`.
//! 3. An [encoder](nn::encoder) embeds items. It is a family over backends, so the same network computes
//!    on a plain backend, on `Autodiff<B>` and on `Autodiff<Autodiff<B>>`.
//! 4. [`Params`](params::Params) are the parameters of a network by name. They are lifted to a level,
//!    fanned out to a copy for each task, and written back into a network.
//! 5. A [learner](learner::Learner) gives the meta-gradient of tasks and predicts their queries.
//! 6. A [`Trainer`](train::Trainer) runs the outer loop; [`evaluate`](train::eval::evaluate) scores a
//!    learner on frozen episodes, with an interval.
//!
//! MAML by hand, one inner step at second order. Learners do this for you
//! ([`inner_loop`](learner::inner_loop)); here every level is in sight:
//!
//! ```
//! use burn_autodiff::Autodiff;
//! use meta_core::{
//!     backend::Cpu,
//!     data::{EpisodeShape, SinusoidSettings, SourceSettings, Split},
//!     learner::adapt::Adaptable,
//!     nn::{Mode, encoder::{EncoderSettings, MlpSettings}},
//!     params::Params,
//!     rng::Seed,
//!     task::{TaskBatch, TaskSpec},
//! };
//!
//! // Four sine waves, 10 support items and 5 queries of each.
//! let source = SinusoidSettings::default().open(None)?;
//! let shape = EpisodeShape::new(1, 10, 5);
//! let spec = TaskSpec::of(source.as_ref(), shape);
//! let episodes = (0..4)
//!     .map(|index| source.episode(Seed(0), Split::Train, shape, index))
//!     .collect::<Result<Vec<_>, _>>()?;
//! let device = Default::default();
//! let tasks = TaskBatch::<Cpu>::new(&episodes, &spec, &device);
//! assert_eq!(tasks.support.inputs.dims(), [4, 10, 1]);
//!
//! // A network, and its parameters on the plain backend: one copy, shared by all tasks.
//! let encoder = MlpSettings::default().on(spec.item)?;
//! let network = Adaptable::new(encoder, spec.outputs(), &device);
//! let theta: Params<Cpu> = network.draw(Seed(0));
//!
//! // One level up, θ are leaves; every task gets a copy of them and takes a step along its own gradient.
//! type Meta = Autodiff<Cpu>;
//! let tasks = tasks.lift::<Meta>();
//! let leaves = theta.clone().lift::<Meta>();
//! let fast = leaves.clone().fan_out(4);
//! let gradients = network.support_gradient(&fast, &tasks.support, &Mode::training(None));
//! let fast = fast.plus(&gradients.scale(-0.01));
//!
//! // ∇θ of the mean query loss at the adapted copies, through the step.
//! let exact = network.query_gradient(&leaves, fast, &tasks).gradients;
//! assert_eq!(exact.shapes(), theta.shapes());
//!
//! // At first order the inner gradient is a constant; the meta-gradient is another one.
//! let fast = leaves.clone().fan_out(4);
//! let gradients = network.support_gradient(&fast.clone().detach(), &tasks.support, &Mode::training(None));
//! let fast = fast.plus(&gradients.detach().scale(-0.01));
//! let first = network.query_gradient(&leaves, fast, &tasks).gradients;
//! let change = exact.plus(&first.scale(-1.0)).squared_norm();
//! assert!(change.into_scalar() > 0.0);
//! # Ok::<(), meta_core::Error>(())
//! ```
//!
//! # By task
//!
//! | I want to … | start at |
//! |---|---|
//! | write a learner | [`learner`], and [`settings!`] for its settings |
//! | write an encoder | [`nn::encoder::EncoderSettings`] |
//! | bring data | [`data::SourceSettings`] and [`data::Source`] |
//! | bring environments to act in | [`rl::FamilySettings`] and [`rl::Environment`] |
//! | write an optimiser of the outer loop | [`optim::OptimizerRule`] |
//! | put them into the binary `meta`, from a crate of my own | [`toolkit!`] |
//! | train and test in a program | [`train::Trainer`], [`train::eval::evaluate`] |
//! | check a derivative | [`gradcheck::check`] |
//! | use an operation that is differentiable at any order | [`primitives`] |
//! | choose a backend at run time | [`backend::dispatch`] |
//!
//! # Features
//!
//! A backend is a cargo feature: `flex` (the default), `ndarray`, `wgpu`, `vulkan`, `cuda`, `rocm`, `tch`.
//! [`backend::Cpu`] is the first CPU backend of a build.
//!
//! # Rooms
//!
//! Lowest first; a row imports only from the rows above it.
//!
//! | rooms | what they hold |
//! |---|---|
//! | `error` | [`Error`], which names the key, the file or the value |
//! | `device` `files` `processes` `settings` `stats` | failures of an accelerator; files that are never half written; [processes](processes::Processes) that share a run; settings with defaults and ranges; means and intervals |
//! | `calibration` | how far probabilities can be believed: temperature, rejection, conformal sets |
//! | `data` `primitives` | episodes and the [sources](data::sources) they come from; [operations](primitives::Primitives) closed under differentiation |
//! | `params` | [parameters](params::Params) that are lifted to a level and fanned out over tasks |
//! | `optim` `rl` `task` | [optimisers](optim::Optimizer); [environments](rl::Family) to act in, and reference policies; [episodes as tensors](task::TaskBatch) |
//! | `backend` `nn` | a [backend](backend::dispatch) by its name; layers, [attention](nn::attention) and [encoders](nn::encoder) |
//! | `learner` | the [contract](learner::Learner) of a learner, and the three ways to be one |
//! | `train` | the [outer loop](train::Trainer), [evaluation](train::eval), checkpoints |
//! | `gradcheck` | derivatives against central differences, at first and second order |
//! | `toolkit` | [learners, encoders, sources and optimisers](toolkit::Toolkit) under one name, those of your own too |
//! | `acting_conformance` `conformance` | the tests that every learner of a toolkit must pass: policies, and those that predict |

mod error;

#[cfg(any(feature = "flex", feature = "ndarray"))]
pub mod acting_conformance;
pub mod backend;
pub mod calibration;
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
pub mod processes;
pub mod rl;
pub mod settings;
pub mod stats;
pub mod task;
pub mod toolkit;
pub mod train;

pub use error::{Error, Result};
#[doc(inline)]
pub use meta_kernels::{logistic, parallel, rng};
