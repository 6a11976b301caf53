//! `meta serve`: a fitted learner behind HTTP, for other programs and for a person with a browser.
//!
//! One thread has the model; it takes from a queue what waits there and answers it in one pass, each item as
//! if it were alone. Connections, uploads and pictures are the work of other threads. Behind the cargo
//! feature `serve`.

use std::path::PathBuf;

use clap::Args;
use meta_core::toolkit::Toolkit;

use super::args::SupportArgs;
use crate::{command::Execute, failure::Result};

#[cfg(feature = "serve")]
mod counts;
#[cfg(feature = "serve")]
mod fault;
#[cfg(feature = "serve")]
mod http;
#[cfg_attr(
    not(feature = "serve"),
    expect(dead_code, reason = "read by the server alone")
)]
mod limits;
#[cfg(feature = "serve")]
mod queue;
#[cfg(feature = "serve")]
mod start;
#[cfg(feature = "serve")]
mod upload;

use limits::Limits;

/// Whether this build has the server.
pub const COMPILED: bool = cfg!(feature = "serve");

/// Answer over HTTP: POST /predict (a picture, a form with pictures, or JSON), GET /health, /info, /metrics,
/// and a page at / (needs the cargo feature `serve`).
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A file that `meta fit` wrote, or a run folder (with --support).
    trained: PathBuf,
    /// Changes to `learner.*`, `backend`, `device`, `precision` or `threads`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// What is learnt from.
    #[command(flatten)]
    support: SupportArgs,
    /// The port; 0 takes one that is free.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The address to listen on. Whoever reaches it may ask: there is no password, and nothing is encrypted.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: std::net::IpAddr,
    /// Another name that requests may have for this server, beside `localhost` and its address. May be given
    /// several times.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// Classes that each answer names, the most probable first; a request may ask for others by `?top=N`.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// What is allowed.
    #[command(flatten)]
    limits: Limits,
}

impl Execute for ServeArgs {
    /// Serves until Ctrl-C or SIGTERM; what is accepted by then is answered.
    ///
    /// # Errors
    /// Whatever is wrong with the learner, a port that is taken, and a build without the server.
    fn execute<T: Toolkit>(self) -> Result<()> {
        #[cfg(feature = "serve")]
        return self.start::<T>();
        #[cfg(not(feature = "serve"))]
        Err(crate::failure::CommandError::Usage(
            "`meta serve`: this build has no server; build with `--features serve`".to_owned(),
        ))
    }
}
