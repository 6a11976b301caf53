//! What a server allows.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

/// Limits of a server.
#[derive(Clone, Copy, Debug, Args, Serialize)]
pub struct Limits {
    /// Largest body of a request, in megabytes (10⁶ bytes).
    #[arg(long, default_value_t = 16, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub max_body: u64,
    /// Most pixels of a picture, in millions.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub max_pixels: u64,
    /// Most items of a request.
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub max_items: u64,
    /// Requests that are read and answered at a time; others wait.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub max_requests: u64,
    /// Seconds that a request may take.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

impl Limits {
    /// Largest body in bytes.
    pub fn body_bytes(&self) -> usize {
        self.max_body as usize * 1_000_000
    }

    /// Most pixels of a picture.
    pub fn pixels(&self) -> u64 {
        self.max_pixels * 1_000_000
    }

    /// How long a request may take.
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
