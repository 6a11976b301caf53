//! Keeps measurements, and reports what became slower since (`meta bench --history`, `--compare`).

use std::{fs::OpenOptions, io::Write, path::Path};

use meta_core::Error;
use serde::Deserialize;
use serde_json::Value;

use super::{
    report::{Report, Spread, number},
    workloads::current_name,
};
use crate::{
    failure::{CommandError, Result},
    output::{
        print,
        target::{MEASUREMENT, check_target},
    },
};

/// Adds the report to the file, as one line.
///
/// # Errors
/// When the file cannot be written, or is something else.
pub fn append(path: &Path, report: &Report) -> Result<()> {
    check_target(path, MEASUREMENT)?;
    let line = format!("{}\n", report.json());
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(|error| Error::io(path, "append to", error).into())
}

/// A measurement of before.
#[derive(Deserialize)]
struct Before {
    workload: String,
    backend: String,
    tasks: usize,
    samples_ms: Vec<f64>,
}

/// How a time stands to one of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Slower,
    Faster,
    /// The quartiles overlap.
    WithinNoise,
}

impl Change {
    /// Beyond the noise is where the middle halves of the samples do not touch.
    fn of(before: Spread, now: Spread) -> Self {
        match () {
            () if now.lower > before.upper => Change::Slower,
            () if now.upper < before.lower => Change::Faster,
            () => Change::WithinNoise,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Change::Slower => "**slower**",
            Change::Faster => "faster",
            Change::WithinNoise => "within the noise",
        }
    }
}

/// Prints how the report stands to the measurements in the file.
///
/// # Errors
/// When the file cannot be read or holds no measurements, and [`CommandError::Wrong`] when something became
/// slower.
pub fn compare(path: &Path, report: &Report) -> Result<()> {
    let before = read(path)?;
    let mut out = String::from(
        "\n| workload | backend | tasks | ms before | ms now | ratio | |\n|---|---|--:|--:|--:|--:|---|\n",
    );
    let mut slower = Vec::new();
    for row in report.rows() {
        let same = |old: &&Before| {
            (&old.workload, &old.backend, old.tasks) == (&row.workload, &row.backend, row.tasks)
        };
        let Some(old) = before.iter().find(same) else {
            out.push_str(&format!(
                "| `{}` | {} | {} | – | | | not measured before |\n",
                row.workload, row.backend, row.tasks
            ));
            continue;
        };
        let (old, now) = (Spread::of(&old.samples_ms), Spread::of(&row.samples_ms));
        let change = Change::of(old, now);
        let ratio = now.median / old.median;
        out.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {ratio:.2} | {} |\n",
            row.workload,
            row.backend,
            row.tasks,
            number(old.median),
            number(now.median),
            change.words()
        ));
        if change == Change::Slower {
            slower.push(format!(
                "{} on {} takes {ratio:.2} times as long",
                row.workload, row.backend
            ));
        }
    }
    print(&out)?;
    if slower.is_empty() {
        Ok(())
    } else {
        Err(CommandError::Wrong(format!(
            "slower than {}, beyond the noise: {}",
            path.display(),
            slower.join("; ")
        )))
    }
}

/// The measurements of a report, or of the last line of a history.
fn read(path: &Path) -> Result<Vec<Before>> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, "read", error))?;
    let wrong = |message: String| {
        CommandError::Usage(format!(
            "{}: {message}; expected what `meta bench --json` or `--history` wrote",
            path.display()
        ))
    };
    let report: Value = serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(text.lines().last().unwrap_or_default()))
        .map_err(|error| wrong(error.to_string()))?;
    let mut before: Vec<Before> = serde_json::from_value(report["measurements"].clone())
        .map_err(|error| wrong(error.to_string()))?;
    for measurement in &mut before {
        measurement.workload = current_name(&measurement.workload).to_owned();
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::workloads, *};

    #[test]
    fn beyond_the_noise_is_where_the_middle_halves_do_not_touch() {
        let spread = |lower, median, upper| Spread {
            lower,
            median,
            upper,
        };
        let before = spread(9.0, 10.0, 11.0);
        assert_eq!(Change::of(before, spread(11.5, 12.0, 13.0)), Change::Slower);
        assert_eq!(
            Change::of(before, spread(10.5, 12.0, 13.0)),
            Change::WithinNoise
        );
        assert_eq!(Change::of(before, spread(7.0, 8.0, 8.5)), Change::Faster);
    }

    /// Workloads on drawn glyphs were named after Omniglot.
    #[test]
    fn old_names_of_workloads_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let line = |name: &str| {
            json!({
                "measurements": [
                    { "workload": name, "backend": "flex", "tasks": 8, "samples_ms": [1.0] },
                ],
            })
        };
        for (old, new) in [
            ("omniglot-maml-1", "conv4-maml-1"),
            ("omniglot-maml-5", "conv4-maml-5"),
            ("omniglot-fomaml-5", "conv4-fomaml-5"),
            ("conv4-maml-5", "conv4-maml-5"),
            ("protonet-20w1s", "protonet-20w1s"),
        ] {
            std::fs::write(&path, format!("{}\n{}\n", line("sinusoid-1"), line(old))).unwrap();
            assert_eq!(read(&path).unwrap()[0].workload, new);
            assert!(workloads::find(new).is_ok(), "{new}");
        }
    }

    #[test]
    fn a_file_without_measurements_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.json");
        std::fs::write(&path, "{}").unwrap();
        let message = read(&path).err().unwrap().to_string();
        assert!(message.contains("old.json"), "{message}");
        assert!(message.contains("meta bench --json"), "{message}");
    }
}
