//! `meta bench`: measures how fast the learners are, and how much memory they take.
//!
//! Each workload is measured in a process of its own ([`process`]), so that its peak memory is its own.
//! [`measure`] is what such a process does. It makes sure that it measured what was asked for.

mod args;
mod batches;
mod export;
mod flops;
mod history;
mod launches;
mod measure;
pub mod messages;
mod peers;
pub mod process;
mod report;
mod scaling;
mod table;
mod trials;
mod workloads;

use meta_core::toolkit::Toolkit;

use crate::{
    command::Execute,
    experiment::start_threads,
    failure::Result,
    output::{
        print,
        target::{MEASUREMENT, PICTURE, check_target, write_over},
    },
};
pub use args::BenchArgs;
use process::{gemm_peak, measured};
use report::Report;

impl Execute for BenchArgs {
    /// Measures, and prints a table.
    ///
    /// # Errors
    /// * A workload, backend or peer that does not exist or cannot be used.
    /// * A backend or number type that was asked for, and was not used.
    /// * A peer that computes something else.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let workloads = workloads::chosen(&self.workloads)?;
        let backends = self.chosen_backends()?;
        let effort = self.checked_effort()?;
        // Before hours of measuring.
        for (target, mark) in [
            (&self.json, MEASUREMENT),
            (&self.history, MEASUREMENT),
            (&self.plot, PICTURE),
            (&self.scaling, PICTURE),
        ] {
            target
                .as_ref()
                .map_or(Ok(()), |path| check_target(path, mark))?;
        }
        start_threads(effort.threads)?;
        if self.peers {
            return peers::compare::<T>(&self, &workloads, &backends[0]);
        }
        if let Some(folder) = &self.export {
            return export::export::<T>(folder, &workloads, effort);
        }
        if self.launches {
            return launches::launches(&workloads, &backends, effort);
        }
        if let Some(picture) = &self.plot {
            return batches::batches(&self, &workloads, &backends, picture);
        }
        if let Some(picture) = &self.scaling {
            return scaling::scaling(&self, &workloads, &backends[0], picture);
        }
        let mut report = Report::new(effort);
        for round in 0..self.rounds.unwrap_or(1) {
            for backend in &backends {
                report.add_peak(backend, gemm_peak(backend, effort)?);
                for workload in &workloads {
                    eprintln!("{} on {backend}, round {}", workload.name, round + 1);
                    report.add(measured(workload, backend, effort)?);
                }
            }
        }
        finish(&self, &report)
    }
}

/// Prints the tables and writes the JSON.
fn finish(args: &BenchArgs, report: &Report) -> Result<()> {
    if let Some(path) = &args.json {
        let json = format!("{:#}\n", report.json());
        write_over(path, json.as_bytes(), MEASUREMENT)?;
    }
    print(&report.markdown())?;
    // Before this report is a part of the history.
    let compared = match &args.compare {
        Some(path) => history::compare(path, report),
        None => Ok(()),
    };
    if let Some(path) = &args.history {
        history::append(path, report)?;
    }
    compared
}
