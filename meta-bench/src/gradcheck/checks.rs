//! Makes checks, and collects what they find.

use meta_core::{
    gradcheck::{Derivatives, Function, ModuleCase, OfModule, check, derivatives, scatter},
    primitives::Primitives,
};
use serde::{Deserialize, Serialize};

/// Above this, relative, a gradient is wrong; central differences in f64 are good to about 1e-9.
pub const LIMIT: f64 = 1e-6;

/// What is checked, in the order of the table.
pub const KINDS: [&str; 4] = ["op", "layer", "encoder", "learner"];

/// The outcome of one check.
#[derive(Serialize)]
pub struct Row {
    /// `op`, `layer`, `encoder` or `learner`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Shapes, settings, tasks.
    pub case: String,
    /// Error of the first derivative.
    pub first: Option<f64>,
    /// Error of the second derivative.
    pub second: Option<f64>,
    /// Why there is nothing to check, where that is so.
    pub exception: Option<String>,
}

impl Row {
    /// Whether both errors are within the limit.
    pub fn passes(&self) -> bool {
        let within = |error: Option<f64>| error.is_none_or(|error| error <= LIMIT);
        within(self.first) && within(self.second)
    }
}

/// What is made of each case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Errors against central differences.
    Differences,
    /// The values, as this backend computes them.
    Values,
}

/// What a backend computes for one case.
#[derive(Serialize, Deserialize)]
pub struct Outcome {
    /// Its kind, as in [`Row`].
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Shapes, settings, tasks.
    pub case: String,
    /// What was computed, in words, and its numbers.
    pub parts: Vec<(String, Vec<f64>)>,
}

/// Every `of`-th case from `index` on: what one of several threads takes.
#[derive(Clone, Copy)]
pub struct Share {
    /// The first case.
    pub index: usize,
    /// The number of shares.
    pub of: usize,
}

impl Share {
    /// All cases.
    pub const ALL: Share = Share { index: 0, of: 1 };
}

/// The checks being made on the backend `B`, and what has been found.
pub struct Checks<'a, B: Primitives> {
    /// Where to compute.
    pub device: B::Device,
    /// What is made of each case.
    pub purpose: Purpose,
    /// What is asked for: names and kinds; everything where it is empty.
    pub names: &'a [String],
    /// The names and kinds that exist.
    pub known: Vec<String>,
    /// Which of the cases are taken.
    pub share: Share,
    /// Cases so far.
    pub cases: usize,
    /// The errors that were found, with the numbers of their cases.
    pub rows: Vec<(usize, Row)>,
    /// The values that were computed.
    pub outcomes: Vec<Outcome>,
    /// Receives each row as it is found.
    pub report: &'a (dyn Fn(&Row) + Sync),
}

impl<B: Primitives> Checks<'_, B> {
    /// Whether the user asked for it; remembers the name.
    pub fn wants(&mut self, kind: &str, name: &str) -> bool {
        if self.known.last().is_none_or(|last| last != name) {
            self.known.push(name.to_owned());
        }
        self.names.is_empty()
            || self
                .names
                .iter()
                .any(|asked| asked == name || asked == kind)
    }

    /// Whether the next case is of this share.
    pub fn takes_next(&mut self) -> bool {
        self.cases += 1;
        (self.cases - 1) % self.share.of == self.share.index
    }

    /// Adds the row of the current case, and reports it.
    pub fn push(&mut self, row: Row) {
        (self.report)(&row);
        self.rows.push((self.cases, row));
    }

    /// Checks an operation at a point of inputs of these lengths.
    pub fn op(&mut self, name: &str, case: &str, function: &impl Function, lengths: &[usize]) {
        if self.wants("op", name) && self.takes_next() {
            let inputs = lengths.iter().enumerate();
            let point: Vec<_> = inputs.map(|(i, &length)| scatter(length, i)).collect();
            self.both_orders("op", name, case, function, &point);
        }
    }

    /// Checks a layer or encoder in its parameters, near those it is built with, and in inputs of
    /// these lengths.
    pub fn module(
        &mut self,
        kind: &'static str,
        name: &str,
        case: &str,
        module: &impl ModuleCase,
        lengths: &[usize],
    ) {
        if self.wants(kind, name) && self.takes_next() {
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

    /// Adds what the backend computed for a case.
    pub fn outcome(
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
