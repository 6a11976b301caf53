//! `meta equivalence`: compares every backend with one reference, in f64 on a CPU.
//!
//! Each operation, layer and encoder is compared by its value, its gradient and a gradient of second
//! order. Each learner is compared by its predictions, its meta-gradient, and its predictions after one
//! meta-iteration. A backend and precision computes in a process of its own: what one of them fixes
//! (default formats, drivers) does not affect the others.

use std::{collections::BTreeMap, marker::PhantomData};

use clap::Args;
use meta_core::{
    backend::{ComputeTarget, Precision, WithBackend, backends, dispatch},
    primitives::Primitives,
    toolkit::Toolkit,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    cases,
    checks::{Checks, KINDS, Outcome, Purpose, Share},
    learners,
};
use crate::{
    command::Execute,
    experiment::subprocess::{self, SubprocessError},
    failure::{CommandError, Result},
    output::print,
};

/// Compare every backend of this build with a reference in f64: operations, layers, encoders,
/// learners.
#[derive(Debug, Args)]
pub struct EquivalenceArgs {
    /// Backends, separated by commas; one that cannot be run is then an error [default: all that the
    /// toolkit knows, those that cannot be run marked as such].
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    backends: Vec<String>,
    /// Print everything as one JSON array on stdout.
    #[arg(long)]
    json: bool,
}

/// Print the values of one backend as JSON, for `meta equivalence`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct EquivalenceOneArgs {
    /// The backend.
    #[arg(long, value_name = "NAME")]
    backend: String,
    /// The precision.
    #[arg(long, value_name = "NAME", value_parser = precision)]
    precision: Precision,
}

fn precision(name: &str) -> Result<Precision, String> {
    serde_json::from_value(Value::String(name.to_owned()))
        .map_err(|_| "expected f32, f64, f16 or bf16".to_owned())
}

/// Largest difference, relative to the largest number of the same result, that a precision may make.
///
/// Inner steps multiply the rounding of a format, an inner Adam most of all; a wrong derivative is off
/// by a hundredth or more.
fn tolerance(precision: Precision) -> f64 {
    match precision {
        Precision::F64 => 1e-9,
        Precision::F32 => 2e-3,
        Precision::F16 => 5e-2,
        Precision::Bf16 => 2e-1,
    }
}

/// A backend in a precision, and how far it is from the reference.
#[derive(Serialize)]
struct Column {
    backend: String,
    precision: Precision,
    tolerance: f64,
    /// Why it was not run, where it was not.
    not_run: Option<String>,
    /// The device, in the driver's words.
    device: Option<String>,
    /// Largest relative difference of each name, by kind and name: with the case and the part.
    largest: BTreeMap<(String, String), Difference>,
}

#[derive(Clone, Serialize)]
struct Difference {
    relative: f64,
    case: String,
    part: String,
}

impl Execute for EquivalenceArgs {
    /// Compares the backends of this build and prints a table.
    ///
    /// # Errors
    /// [`CommandError::Wrong`] when one of them is further from the reference than its precision
    /// explains.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let reference = ComputeTarget {
            precision: Precision::F64,
            ..ComputeTarget::of(&reference_backend(&self.backends)?)
        };
        eprintln!("{} in f64: the reference", reference.backend);
        let expected = compute(&reference)?;
        let mut columns = Vec::new();
        for info in backends() {
            let asked =
                self.backends.is_empty() || self.backends.iter().any(|name| name == info.name);
            if !asked {
                continue;
            }
            let precisions: &[Precision] = if info.accelerator {
                &[Precision::F32]
            } else {
                &[Precision::F32, Precision::F64]
            };
            for &precision in precisions {
                let target = ComputeTarget {
                    precision,
                    ..ComputeTarget::of(info.name)
                };
                if target != reference {
                    columns.push(column(&target, &expected, !self.backends.is_empty())?);
                }
            }
        }
        print(&if self.json {
            columns_json(&columns)
        } else {
            markdown(&reference, &columns)
        })?;
        let wrong: Vec<String> = columns.iter().flat_map(Column::wrong).collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Wrong(wrong.join("; ")))
        }
    }
}

/// The CPU backend that computes the reference; those that are `asked` for must exist.
fn reference_backend(asked: &[String]) -> Result<String> {
    for name in asked {
        meta_core::backend::check(name)?;
    }
    let mut cpus = backends()
        .into_iter()
        .filter(|info| info.compiled && !info.accelerator);
    let found = cpus.find(|info| info.name == "ndarray").or_else(|| {
        let mut all = backends().into_iter();
        all.find(|info| info.compiled && !info.accelerator)
    });
    found.map(|info| info.name.to_owned()).ok_or_else(|| {
        CommandError::Usage(
            "the reference is computed in f64 on a CPU, and this build has no CPU backend; build with \
             `--features ndarray`"
                .to_owned(),
        )
    })
}

fn column(target: &ComputeTarget, expected: &Computed, demanded: bool) -> Result<Column> {
    let (backend, precision) = (target.backend.clone(), target.precision);
    eprintln!("{backend} in {}", precision.name());
    let mut column = Column {
        tolerance: tolerance(precision),
        backend,
        precision,
        not_run: None,
        device: None,
        largest: BTreeMap::new(),
    };
    let found = match compute(target) {
        Ok(found) => found,
        Err(failure) if demanded => return Err(failure),
        Err(failure) => {
            column.not_run = Some(failure.to_string());
            return Ok(column);
        }
    };
    column.device = Some(found.device);
    assert_eq!(
        found.outcomes.len(),
        expected.outcomes.len(),
        "the same cases"
    );
    for (found, expected) in found.outcomes.iter().zip(&expected.outcomes) {
        assert_eq!((&found.name, &found.case), (&expected.name, &expected.case));
        for ((part, values), (_, exact)) in found.parts.iter().zip(&expected.parts) {
            let relative = difference(values, exact);
            let key = (found.kind.clone(), found.name.clone());
            let known = column.largest.get(&key);
            if known.is_none_or(|known| relative > known.relative) {
                let difference = Difference {
                    relative,
                    case: found.case.clone(),
                    part: part.clone(),
                };
                column.largest.insert(key, difference);
            }
        }
    }
    Ok(column)
}

/// Largest difference relative to the largest exact number; infinite where a value is
/// not a number.
fn difference(values: &[f64], exact: &[f64]) -> f64 {
    assert_eq!(values.len(), exact.len(), "as many numbers");
    let scale = exact.iter().fold(1e-6f64, |scale, v| scale.max(v.abs()));
    let mut largest = 0.0f64;
    for (value, exact) in values.iter().zip(exact) {
        let off = (value - exact).abs() / scale;
        if off.is_nan() {
            return f64::INFINITY;
        }
        largest = largest.max(off);
    }
    largest
}

impl Column {
    fn title(&self) -> String {
        format!("{} {}", self.backend, self.precision.name())
    }

    fn wrong(&self) -> Vec<String> {
        self.largest
            .iter()
            .filter(|(_, found)| found.relative > self.tolerance)
            .map(|((_, name), found)| {
                format!(
                    "`{name}` on {} is off by {:.0e}, more than {:.0e} ({}; {})",
                    self.title(),
                    found.relative,
                    self.tolerance,
                    found.case,
                    found.part
                )
            })
            .collect()
    }
}

/// What a process computed.
#[derive(Serialize, Deserialize)]
struct Computed {
    device: String,
    outcomes: Vec<Outcome>,
}

/// Computes in a new process.
fn compute(target: &ComputeTarget) -> Result<Computed> {
    let computed = subprocess::json_output(|command| {
        command.args(["equivalence-one", "--backend", &target.backend]);
        command.args(["--precision", target.precision.name()]);
    });
    computed.map_err(|error| {
        CommandError::Usage(match error {
            SubprocessError::Message(message) => message,
            SubprocessError::Ended(status) => format!("backend `{}`: {status}", target.backend),
        })
    })
}

impl Execute for EquivalenceOneArgs {
    /// Prints the values of one backend, as JSON.
    ///
    /// # Errors
    /// When the backend, its device or the precision is not there.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let target = ComputeTarget {
            precision: self.precision,
            ..ComputeTarget::of(&self.backend)
        };
        let computed = dispatch(&target, Values::<T>(PhantomData))??;
        let json = serde_json::to_string(&computed).expect("numbers serialise");
        print(&format!("{json}\n"))
    }
}

struct Values<T>(PhantomData<T>);

impl<T: Toolkit> WithBackend for Values<T> {
    type Output = Result<Computed>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let name = B::name(&device);
        let mut checks = Checks::<B> {
            device: device.clone(),
            purpose: Purpose::Values,
            share: Share::ALL,
            cases: 0,
            names: &[],
            known: KINDS.map(str::to_owned).to_vec(),
            rows: Vec::new(),
            outcomes: Vec::new(),
            report: &|_| {},
        };
        cases::operations(&mut checks);
        cases::layers(&mut checks);
        cases::encoders::<T, B>(&mut checks)?;
        learners::learners::<T, B>(&mut checks)?;
        Ok(Computed {
            device: format!("{name}, {device:?}"),
            outcomes: checks.outcomes,
        })
    }
}

fn columns_json(columns: &[Column]) -> String {
    let rows: Vec<_> = columns
        .iter()
        .map(|column| {
            let largest: Vec<_> = column
                .largest
                .iter()
                .map(|((kind, name), found)| {
                    json!({"kind": kind, "name": name, "difference": found})
                })
                .collect();
            json!({
                "backend": column.backend,
                "precision": column.precision,
                "tolerance": column.tolerance,
                "device": column.device,
                "not_run": column.not_run,
                "largest": largest,
            })
        })
        .collect();
    format!("{}\n", Value::Array(rows))
}

fn markdown(reference: &ComputeTarget, columns: &[Column]) -> String {
    let (run, left): (Vec<&Column>, Vec<&Column>) =
        columns.iter().partition(|column| column.not_run.is_none());
    let mut out = format!(
        "Largest difference from {} in {}, relative to the largest number of the same result, over \
         all cases and over value, gradient and second order (learners: predictions, meta-gradient, \
         predictions after a meta-iteration).\n\n",
        reference.backend,
        reference.precision.name()
    );
    let titles = run.iter().map(|column| column.title());
    out.push_str(&format!(
        "| kind | name | {} |\n",
        titles.collect::<Vec<_>>().join(" | ")
    ));
    out.push_str(&format!("|---|---|{}\n", "---|".repeat(run.len())));
    let cell = |found: Option<&Difference>, tolerance: f64| match found {
        Some(found) if found.relative <= tolerance => format!("{:.0e}", found.relative),
        Some(found) => format!("**{:.0e}**", found.relative),
        None => "–".to_owned(),
    };
    for kind in KINDS {
        let mut worst: Vec<Option<Difference>> = vec![None; run.len()];
        let names = run
            .first()
            .into_iter()
            .flat_map(|column| column.largest.keys());
        for key in names.filter(|(of, _)| of == kind) {
            out.push_str(&format!("| {kind} | `{}` |", key.1));
            for (column, worst) in run.iter().zip(&mut worst) {
                let found = column.largest.get(key);
                out.push_str(&format!(" {} |", cell(found, column.tolerance)));
                let above = |worst: &Difference| found.is_some_and(|f| f.relative > worst.relative);
                if worst.as_ref().is_none_or(above) {
                    *worst = found.cloned();
                }
            }
            out.push('\n');
        }
        out.push_str(&format!("| {kind} | **all** |"));
        for (column, worst) in run.iter().zip(&worst) {
            out.push_str(&format!(" {} |", cell(worst.as_ref(), column.tolerance)));
        }
        out.push('\n');
    }
    out.push_str("| | tolerance |");
    for column in &run {
        out.push_str(&format!(" {:.0e} |", column.tolerance));
    }
    out.push_str("\n\n| backend | precision | device |\n|---|---|---|\n");
    for column in run.iter().chain(&left) {
        let device = match (&column.device, &column.not_run) {
            (Some(device), _) => device.clone(),
            (None, Some(reason)) => format!("**not run**: {reason}"),
            (None, None) => unreachable!("a column was run or says why not"),
        };
        out.push_str(&format!(
            "| `{}` | {} | {} |\n",
            column.backend,
            column.precision.name(),
            device.replace('|', "\\|").replace('\n', " ")
        ));
    }
    out
}
