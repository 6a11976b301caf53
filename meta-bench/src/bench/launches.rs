//! Counts the kernels that a meta-iteration launches (`meta bench --launches`).
//!
//! A GPU that waits for the next launch computes nothing, so the number of launches must not grow with
//! the number of tasks. CubeCL logs the kernels it runs, and they are counted in that log. One process
//! runs one iteration and another one three: the difference leaves out what only the start does.

use std::path::Path;

use meta_core::{Error, backend::backends, files::create_folder_beside};

use super::{
    args::Effort,
    process::{bench_one, unreadable},
    report::environment_line,
    workloads::Workload,
};
use crate::{
    failure::{CommandError, Result},
    output::print,
};

/// CubeCL reads this file in the folder it runs in.
const CONFIGURATION: &str = "cubecl.toml";
const LOG: &str = "kernels.log";
/// What it writes for each kernel.
const MARK: &str = "Executing ";
/// Numbers of iterations that are compared.
const ITERATIONS: [u64; 2] = [1, 3];

/// Counts and prints a table.
///
/// # Errors
/// For a backend that launches no kernels of CubeCL's, and as a measurement.
pub fn launches(workloads: &[&'static Workload], names: &[String], effort: Effort) -> Result<()> {
    let known = backends();
    let launching = |name: &String| {
        known
            .iter()
            .any(|info| info.name == name && info.accelerator)
    };
    let names: Vec<&String> = names.iter().filter(|name| launching(name)).collect();
    if names.is_empty() {
        return Err(CommandError::Usage(
            "`--launches` needs a backend that launches kernels: one of wgpu, vulkan, cuda, rocm"
                .to_owned(),
        ));
    }
    let mut out = format!(
        "{}\n\n| workload | backend | tasks | kernel launches per iteration |\n|---|---|--:|--:|\n",
        environment_line()
    );
    for workload in workloads {
        for backend in &names {
            let count = count(workload, backend, effort)?;
            let tasks = effort.tasks.unwrap_or(workload.tasks);
            out.push_str(&format!(
                "| `{}` | {backend} | {tasks} | {count} |\n",
                workload.name
            ));
        }
    }
    print(&out)
}

/// Kernel launches of one iteration.
fn count(workload: &Workload, backend: &str, effort: Effort) -> Result<u64> {
    let mut counts = [0; 2];
    for (iterations, count) in ITERATIONS.into_iter().zip(&mut counts) {
        let folder = create_folder_beside(&std::env::temp_dir().join("meta-launches"))?;
        let made = in_folder(&folder, workload, backend, effort, iterations);
        let _ = std::fs::remove_dir_all(&folder);
        *count = made?;
    }
    let [few, many] = counts;
    if few == 0 {
        return Err(unreadable(serde::de::Error::custom("no kernel was logged")));
    }
    Ok((many - few) / (ITERATIONS[1] - ITERATIONS[0]))
}

fn in_folder(
    folder: &Path,
    workload: &Workload,
    backend: &str,
    effort: Effort,
    iterations: u64,
) -> Result<u64> {
    let (file, log) = (folder.join(CONFIGURATION), folder.join(LOG));
    let settings = format!("[profiling]\nlogger = {{ level = \"minimal\", file = {log:?} }}\n");
    std::fs::write(&file, settings).map_err(|error| Error::io(&file, "write", error))?;
    let iterations = ["--iterations".to_owned(), iterations.to_string()];
    bench_one(Some(folder), workload.name, backend, effort, &iterations)?;
    let text = std::fs::read_to_string(&log).map_err(|error| Error::io(&log, "read", error))?;
    Ok(text.matches(MARK).count() as u64)
}
