//! `meta gradcheck`: gradients of everything against central differences in f64.
//!
//! Operations, layers and encoders are checked at first and second order; a learner by its
//! meta-gradient, which for a learner that adapts by gradient steps is of second order itself. The same
//! cases, with values in place of errors, are what [`equivalence`] compares backends by.

mod cases;
pub mod equivalence;
mod learners;

use std::marker::PhantomData;

use burn::tensor::{DType, set_default_dtypes};
use meta_core::{
    backend::{WithBackend, on_cpu},
    gradcheck::{Derivatives, Function, ModuleCase, OfModule, check, derivatives, scatter},
    primitives::Primitives,
};
use serde::{Deserialize, Serialize};

use crate::{
    Toolkit,
    cli::GradcheckArgs,
    failure::{CommandError, Result},
};

/// Above this, relative, a gradient is wrong; central differences in f64 are good to about 1e-9.
const LIMIT: f64 = 1e-6;

/// What is checked, in the order of the table.
const KINDS: [&str; 4] = ["op", "layer", "encoder", "learner"];

/// The outcome of one check.
#[derive(Serialize)]
struct Row {
    /// `op`, `layer`, `encoder` or `learner`.
    kind: &'static str,
    /// Its name.
    name: String,
    /// Shapes, settings, tasks.
    case: String,
    /// Error of the first derivative.
    first: Option<f64>,
    /// Error of the second derivative.
    second: Option<f64>,
    /// Why there is nothing to check, where that is so.
    exception: Option<String>,
}

impl Row {
    fn passes(&self) -> bool {
        let within = |error: Option<f64>| error.is_none_or(|error| error <= LIMIT);
        within(self.first) && within(self.second)
    }
}

/// What is made of each case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Errors against central differences.
    Differences,
    /// The values, as this backend computes them.
    Values,
}

/// What a backend computes for one case.
#[derive(Serialize, Deserialize)]
struct Outcome {
    kind: String,
    name: String,
    case: String,
    /// What was computed, in words, and its numbers.
    parts: Vec<(String, Vec<f64>)>,
}

/// The checks being made on the backend `B`, and what has been found.
struct Checks<'a, B: Primitives> {
    device: B::Device,
    purpose: Purpose,
    names: &'a [String],
    known: Vec<String>,
    rows: Vec<Row>,
    outcomes: Vec<Outcome>,
    /// Told of each row as it is found.
    report: &'a dyn Fn(&Row),
}

impl<B: Primitives> Checks<'_, B> {
    /// Whether the user asked for it; remembers the name.
    fn wants(&mut self, kind: &str, name: &str) -> bool {
        if self.known.last().is_none_or(|last| last != name) {
            self.known.push(name.to_owned());
        }
        self.names.is_empty()
            || self
                .names
                .iter()
                .any(|asked| asked == name || asked == kind)
    }

    fn push(&mut self, row: Row) {
        (self.report)(&row);
        self.rows.push(row);
    }

    /// Checks an operation at a point of inputs of these lengths.
    fn op(&mut self, name: &str, case: &str, function: &impl Function, lengths: &[usize]) {
        if self.wants("op", name) {
            let inputs = lengths.iter().enumerate();
            let point: Vec<_> = inputs.map(|(i, &length)| scatter(length, i)).collect();
            self.both_orders("op", name, case, function, &point);
        }
    }

    /// Checks a layer or encoder in its parameters, near those it is built with, and in inputs of
    /// these lengths.
    fn module(
        &mut self,
        kind: &'static str,
        name: &str,
        case: &str,
        module: &impl ModuleCase,
        lengths: &[usize],
    ) {
        if self.wants(kind, name) {
            let function = OfModule(module);
            let built = function.parameters::<B>(&self.device);
            let noise = scatter(built.len(), 9);
            let moved = built.iter().zip(noise).map(|(p, noise)| p + 0.1 * noise);
            let mut point = vec![moved.collect::<Vec<_>>()];
            let inputs = lengths.iter().enumerate();
            point.extend(inputs.map(|(i, &length)| scatter(length, i)));
            self.both_orders(kind, name, case, &function, &point);
        }
    }

    fn outcome(
        &mut self,
        kind: &str,
        name: &str,
        case: &str,
        parts: impl IntoIterator<Item = (String, Vec<f64>)>,
    ) {
        self.outcomes.push(Outcome {
            kind: kind.to_owned(),
            name: name.to_owned(),
            case: case.to_owned(),
            parts: parts.into_iter().collect(),
        });
    }

    fn both_orders(
        &mut self,
        kind: &'static str,
        name: &str,
        case: &str,
        function: &impl Function,
        point: &[Vec<f64>],
    ) {
        if self.purpose == Purpose::Values {
            let Derivatives {
                value,
                gradient,
                second,
            } = derivatives::<B>(function, point, &self.device);
            let parts = [
                ("value", value),
                ("gradient", gradient),
                ("second order", second),
            ];
            return self.outcome(
                kind,
                name,
                case,
                parts.map(|(part, v)| (part.to_owned(), v)),
            );
        }
        let errors = check::<B>(function, point, &self.device);
        self.push(Row {
            kind,
            name: name.to_owned(),
            case: case.to_owned(),
            first: Some(errors.first),
            second: Some(errors.second),
            exception: None,
        });
    }
}

/// Checks what was asked for and prints a table.
///
/// # Errors
/// [`CommandError::Usage`] when nothing or something unknown is asked for, [`CommandError::Wrong`] when a
/// gradient is.
pub fn gradcheck<T: Toolkit>(args: &GradcheckArgs) -> Result<()> {
    if args.names.is_empty() && !args.all {
        let kinds = KINDS.join(", ");
        return Err(CommandError::Usage(format!(
            "say what to check: --all, a kind ({kinds}), or the name of an operation, a layer, an \
             encoder or a learner"
        )));
    }
    let all = All::<T> {
        args,
        toolkit: PhantomData,
    };
    let (known, rows) = on_cpu(all)??;
    for name in &args.names {
        if !known.contains(name) {
            let known = known.iter().map(String::as_str);
            return Err(meta_core::Error::unknown("check", name, known).into());
        }
    }
    crate::output::print(&if args.json {
        format!(
            "{}\n",
            serde_json::to_string(&rows).expect("rows serialise")
        )
    } else {
        markdown(&rows)
    })?;
    let wrong: Vec<&str> = rows
        .iter()
        .filter(|row| !row.passes())
        .map(|row| row.name.as_str())
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Wrong(format!(
            "the gradient of {} differs from central differences by more than {LIMIT:.0e}",
            wrong.join(", ")
        )))
    }
}

/// All checks that are asked for: the names that exist, and what was found.
struct All<'a, T> {
    args: &'a GradcheckArgs,
    toolkit: PhantomData<T>,
}

impl<T: Toolkit> WithBackend for All<'_, T> {
    type Output = Result<(Vec<String>, Vec<Row>)>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let args = self.args;
        set_default_dtypes::<B>(&device, DType::F64, DType::I32)
            .expect("nothing ran before on this backend");
        let report = |row: &Row| {
            if !args.quiet {
                let errors = format!("{:>9} {:>9}", number(row.first), number(row.second));
                eprintln!("{errors}  {} {} {}", row.kind, row.name, row.case);
            }
        };
        let mut checks = Checks::<B> {
            device,
            purpose: Purpose::Differences,
            outcomes: Vec::new(),
            names: if args.all { &[] } else { &args.names },
            known: KINDS.map(str::to_owned).to_vec(),
            rows: Vec::new(),
            report: &report,
        };
        cases::operations(&mut checks);
        cases::layers(&mut checks);
        cases::encoders::<T, B>(&mut checks)?;
        learners::learners::<T, B>(&mut checks)?;
        Ok((checks.known, checks.rows))
    }
}

fn number(error: Option<f64>) -> String {
    error.map_or("–".to_owned(), |error| format!("{error:.0e}"))
}

fn markdown(rows: &[Row]) -> String {
    let mut out = format!(
        "Relative error of derivatives against central differences in f64; {LIMIT:.0e} is the \
         limit.\n\n| kind | name | case | first order | second order | |\n|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let verdict = match (&row.exception, row.passes()) {
            (Some(reason), _) => reason.as_str(),
            (None, true) => "ok",
            (None, false) => "**wrong**",
        };
        out.push_str(&format!(
            "| {} | `{}` | {} | {} | {} | {verdict} |\n",
            row.kind,
            row.name,
            row.case.replace('|', "\\|"),
            number(row.first),
            number(row.second),
        ));
    }
    let checked = rows.iter().filter(|row| row.exception.is_none()).count();
    let passed = rows
        .iter()
        .filter(|row| row.exception.is_none() && row.passes())
        .count();
    out.push_str(&format!("\n{passed} of {checked} checks passed.\n"));
    out
}
