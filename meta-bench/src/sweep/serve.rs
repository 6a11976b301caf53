//! `meta sweep serve`: another program asks for settings and receives the resulting score, as JSON lines.
//!
//! The first line out is `{"metric", "direction"}`. Each line in, such as
//! `{"id": 1, "settings": {"learner.inner_lr": 0.1}}`, gets one line out with the same `id`. It has
//! `state`, `value` (the best validation), `run`, and `error` where there is one. With `"until": 100` the
//! run pauses at that iteration; the same settings with a later one resume it.

use std::{
    io::{BufRead, Write},
    path::Path,
};

use meta_core::{Error, toolkit::Toolkit, train::eval::Metric};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    expand::{Point, shown},
    local::Launcher,
    plan::Planner,
    runs::{Run, tasks},
    search::{check_runs, cost},
    selection::{Set, SweepSelection},
    spec::SearchObjective,
    task::Outcome,
    worker,
};
use crate::{
    failure::{CommandError, Result},
    manifest::{layer::Layer, origin::Origin},
    run::state::State,
};

/// A line in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    until: Option<u64>,
}

/// Answers until standard input ends.
///
/// # Errors
/// When the manifest cannot be used, or no program reads the answers.
pub fn serve<T: Toolkit>(selection: &SweepSelection, runs: &Path) -> Result<()> {
    let sets = selection.read()?;
    let [set] = sets.as_slice() else {
        return Err(CommandError::Usage(
            "expected one manifest to serve".to_owned(),
        ));
    };
    let spec = &set.spec;
    if spec.axes().next().is_some() || spec.search.is_some() || !spec.trials.is_empty() {
        return Err(CommandError::Usage(
            "the other program chooses the runs; expected a manifest and values without axes"
                .to_owned(),
        ));
    }
    let planner = Planner::<T>::new(runs, selection.data.as_deref(), selection.force);
    let fixed = Point {
        layers: spec.fixed.clone(),
        label: Vec::new(),
        trial: 0,
    };
    let first = set.plan(&planner, std::slice::from_ref(&fixed), false)?;
    check_runs(spec, &first)?;
    let (metric, direction) = match (spec.objective, first[0].metric) {
        (SearchObjective::Loss, _) => ("loss", "minimize"),
        (SearchObjective::Score, metric @ Metric::MeanSquaredError) => (metric.name(), "minimize"),
        (SearchObjective::Score, metric) => (metric.name(), "maximize"),
    };
    let name = &first[0].manifest.run.name;
    let server = Server {
        set,
        planner: &planner,
        fixed,
        sign: if direction == "maximize" { -1.0 } else { 1.0 },
        data: selection.data.as_deref(),
        launcher: Launcher {
            sweep: runs
                .join("sweeps")
                .join(format!("{name}-serve-{}", std::process::id())),
            jobs: 1,
            fail_fast: false,
            quiet: true,
            by: Vec::new(),
        },
    };
    say(&json!({ "metric": metric, "direction": direction }))?;
    let mut requests = std::io::stdin().lock();
    while let Some(line) =
        next_line(&mut requests).map_err(|error| Error::io(Path::new("stdin"), "read", error))?
    {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let answer = match read_request(&line) {
            Err(error) => json!({ "id": null, "state": "refused", "error": error }),
            Ok(request) => match server.answer(&request) {
                Ok(answer) => answer,
                Err(failure @ CommandError::Interrupted(_)) => return Err(failure),
                Err(error) => {
                    json!({ "id": request.id, "state": "refused", "error": error.to_string() })
                }
            },
        };
        say(&answer)?;
    }
    Ok(())
}

/// The longest line in.
const MOST_BYTES: usize = 1 << 20;

/// The next line, as far as it is not too long by more than a byte; none at the end.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let (taken, ends) = {
            let buffer = input.fill_buf()?;
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(buffer.len(), |end| end + 1);
            let room = (MOST_BYTES + 1).saturating_sub(line.len());
            line.extend_from_slice(&buffer[..end.unwrap_or(taken).min(room)]);
            (taken, end.is_some())
        };
        input.consume(taken);
        if ends || taken == 0 {
            return Ok((ends || !line.is_empty()).then_some(line));
        }
    }
}

/// What a line asks for, or what is wrong with it.
fn read_request(line: &[u8]) -> std::result::Result<Request, String> {
    if line.len() > MOST_BYTES {
        return Err(format!("the line has more than {MOST_BYTES} bytes"));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

fn say(line: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|error| Error::io(Path::new("stdout"), "write", error).into())
}

struct Server<'a, T> {
    set: &'a Set,
    planner: &'a Planner<T>,
    fixed: Point,
    sign: f64,
    data: Option<&'a Path>,
    launcher: Launcher,
}

impl<T: Toolkit> Server<'_, T> {
    fn answer(&self, request: &Request) -> Result<Value> {
        let mut point = self.fixed.clone();
        for (key, value) in &request.settings {
            let origin = Origin::Recorded(format!("trial {}", request.id));
            point.layers.push(Layer::new(key, value.clone(), origin));
            point.label.push((key.clone(), shown(value)));
        }
        let planned = self.set.plan(self.planner, &[point], false)?;
        let iterations = planned[0].manifest.train.iterations;
        let runs: Vec<Run> = planned
            .into_iter()
            .map(|planned| Run {
                planned,
                memory: self.set.spec.memory,
            })
            .collect();
        let run = &runs[0].planned;
        let lines = [worker::Line::new(run, self.data, self.set.spec.memory)];
        worker::write(&self.launcher.sweep, &lines)?;
        let mut due = tasks(&runs, false);
        for task in &mut due {
            task.until = request.until.filter(|until| *until < iterations);
        }
        let outcome = match self.launcher.run(&due)?.pop() {
            Some(outcome) => outcome,
            None => match State::of(&run.folder).failure() {
                Some(error) => Outcome::Failed(error.to_owned()),
                None => Outcome::Finished,
            },
        };
        let until = request.until.unwrap_or(u64::MAX);
        let value = cost(&run.folder, self.set.spec.objective, until).map(|cost| self.sign * cost);
        let mut answer = json!({
            "id": request.id,
            "run": run.folder,
            "value": value,
        });
        match outcome {
            Outcome::Finished => answer["state"] = json!("finished"),
            Outcome::Paused => answer["state"] = json!("paused"),
            Outcome::Failed(error) => {
                answer["state"] = json!("failed");
                answer["value"] = Value::Null;
                answer["error"] = json!(error);
            }
            Outcome::Stopped => {
                return Err(CommandError::Interrupted(
                    "interrupted; the run is saved".to_owned(),
                ));
            }
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line that is no request is refused; those after it are read.
    #[test]
    fn lines_of_any_bytes_are_read() {
        let long = vec![b'x'; MOST_BYTES + 100];
        let mut input = b"{\"id\": 1}\n\xff\xfe\n\n".to_vec();
        input.extend(&long);
        input.extend(b"\n{\"id\": 2}");
        let mut input = std::io::BufReader::with_capacity(7, input.as_slice());
        let mut next = || next_line(&mut input).unwrap();
        let id = |line: Option<Vec<u8>>| read_request(&line.unwrap()).map(|request| request.id);
        assert_eq!(id(next()), Ok(json!(1)));
        assert!(id(next()).is_err());
        assert_eq!(next(), Some(Vec::new()));
        assert!(id(next()).unwrap_err().contains("more than"));
        assert_eq!(id(next()), Ok(json!(2)));
        assert_eq!(next(), None);
    }
}
