//! `meta gradcheck`: compares gradients of everything with central differences in f64.
//!
//! Operations, layers and encoders are checked at first and second order. A learner is checked by its
//! meta-gradient, which is of second order itself where the learner adapts by gradient steps.
//! [`equivalence`] compares backends by the values of the same cases.

mod cases;
mod checks;
pub mod equivalence;
mod learners;

use std::marker::PhantomData;

use burn::tensor::{DType, set_default_dtypes};
use clap::Args;
use meta_core::{
    Error,
    backend::{WithBackend, on_cpu},
    parallel,
    primitives::Primitives,
    toolkit::Toolkit,
};

use crate::{
    command::Execute,
    failure::{CommandError, Result},
    machine,
    output::print,
};
use checks::{Checks, KINDS, LIMIT, Purpose, Row, Share};

/// Check gradients against central differences in f64, at first and second order.
#[derive(Debug, Args)]
pub struct GradcheckArgs {
    /// What to check: `op`, `layer`, `encoder`, `learner`, or the name of one of them.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Check everything.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Print the rows as one JSON array on stdout.
    #[arg(long)]
    json: bool,
    /// No progress on stderr.
    #[arg(long)]
    quiet: bool,
}

impl Execute for GradcheckArgs {
    /// Checks what was asked for and prints a table.
    ///
    /// # Errors
    /// [`CommandError::Usage`] when nothing or something unknown is asked for, [`CommandError::Wrong`]
    /// when a gradient is wrong.
    fn execute<T: Toolkit>(self) -> Result<()> {
        if self.names.is_empty() && !self.all {
            let kinds = KINDS.join(", ");
            return Err(CommandError::Usage(format!(
                "say what to check: --all, a kind ({kinds}), or the name of an operation, a layer, an \
                 encoder or a learner"
            )));
        }
        let all = All::<T> {
            args: &self,
            toolkit: PhantomData,
        };
        let (known, rows) = on_cpu(all)??;
        for name in &self.names {
            if !known.contains(name) {
                let known = known.iter().map(String::as_str);
                return Err(Error::unknown("check", name, known).into());
            }
        }
        print(&if self.json {
            format!(
                "{}\n",
                serde_json::to_string(&rows).expect("rows serialise")
            )
        } else if self.all {
            page(&rows)
        } else {
            table(&rows)
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
        let shares = shares();
        let found: Vec<Result<_>> = parallel::each(&shares, shares.len(), |&share| {
            let mut checks = Checks::<B> {
                device: device.clone(),
                purpose: Purpose::Differences,
                outcomes: Vec::new(),
                names: if args.all { &[] } else { &args.names },
                known: KINDS.map(str::to_owned).to_vec(),
                share,
                cases: 0,
                rows: Vec::new(),
                report: &report,
            };
            cases::operations(&mut checks);
            cases::layers(&mut checks);
            cases::encoders::<T, B>(&mut checks)?;
            learners::learners::<T, B>(&mut checks)?;
            Ok((checks.known, checks.rows))
        });
        let mut all = Vec::new();
        let mut names = Vec::new();
        for found in found {
            let (known, rows) = found?;
            all.extend(rows);
            names = known;
        }
        all.sort_by_key(|(case, _)| *case);
        Ok((names, all.into_iter().map(|(_, row)| row).collect()))
    }
}

/// A share of the cases for each core.
fn shares() -> Vec<Share> {
    let of = machine::cores();
    (0..of).map(|index| Share { index, of }).collect()
}

fn number(error: Option<f64>) -> String {
    error.map_or("–".to_owned(), |error| format!("{error:.0e}"))
}

/// The page of all checks: what they are, a summary, and every row.
fn page(rows: &[Row]) -> String {
    let mut out = format!(
        "# Gradient checks\n\n\
         Every operation, layer, encoder and learner, held against central differences in f64. An error is \
         relative, the largest of the case; a check passes up to {LIMIT:.0e}. A learner is checked by its \
         meta-gradient (of a parameter of more than eight numbers, along four random directions), which is of \
         second order where it adapts by gradient steps.\n\n\
         Written by `meta gradcheck --all > docs/gradcheck.md`.\n\n\
         | kind | names | checks | passed | largest first-order error | largest second-order error |\n\
         |---|--:|--:|--:|--:|--:|\n"
    );
    for kind in KINDS {
        let of_kind = || rows.iter().filter(|row| row.kind == kind);
        let mut names: Vec<&str> = of_kind().map(|row| row.name.as_str()).collect();
        names.dedup();
        let checked = || of_kind().filter(|row| row.exception.is_none());
        let largest = |error: fn(&Row) -> Option<f64>| {
            number(checked().filter_map(error).max_by(f64::total_cmp))
        };
        out.push_str(&format!(
            "| {kind} | {} | {} | {} | {} | {} |\n",
            names.len(),
            checked().count(),
            checked().filter(|row| row.passes()).count(),
            largest(|row| row.first),
            largest(|row| row.second),
        ));
    }
    let exceptions = rows.iter().filter(|row| row.exception.is_some()).count();
    if exceptions > 0 {
        out.push_str(&format!(
            "\n{exceptions} cases are not compared: what the learner returns is not the gradient of its query \
             loss. The last column says what it is.\n"
        ));
    }
    out + "\n## Every check\n\n" + &table(rows)
}

/// The rows as a Markdown table, and how many passed.
fn table(rows: &[Row]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, first: f64, second: Option<f64>, exception: Option<&str>) -> Row {
        Row {
            kind: "layer",
            name: name.to_owned(),
            case: String::new(),
            first: Some(first),
            second,
            exception: exception.map(str::to_owned),
        }
    }

    #[test]
    fn the_summary_counts_what_the_table_shows() {
        let rows = [
            row("Linear", 2e-9, Some(3e-10), None),
            row("Linear", 1e-9, Some(5e-3), None),
            row("Norm", 4e-9, None, None),
            row("Norm", 7.0, None, Some("not a derivative")),
        ];
        let page = page(&rows);
        assert!(
            page.contains("| layer | 2 | 3 | 2 | 4e-9 | 5e-3 |"),
            "{page}"
        );
        assert!(page.contains("| op | 0 | 0 | 0 | – | – |"), "{page}");
        assert!(page.contains("\n1 cases are not compared"), "{page}");
        assert!(page.ends_with("\n2 of 3 checks passed.\n"), "{page}");
    }
}
