//! Reads trials from a CSV file.

use std::path::Path;

use meta_core::files::read_text;

use super::sourced::split;
use crate::{
    failure::{CommandError, Result},
    manifest::{
        layer::{Layer, is_path},
        origin::Origin,
        text::parse_value,
    },
};

/// The largest file with trials.
const MOST_BYTES: u64 = 64 << 20;

/// The trials of a CSV file: a header with keys, a row for each trial; an empty cell sets nothing.
///
/// # Errors
/// A file that cannot be read, has no trial, or is no table. Each names file and line.
pub fn read_csv(path: &Path) -> Result<Vec<Vec<Layer>>> {
    let text = read_text(path, MOST_BYTES)?;
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let refuse = |line: usize, message: String| CommandError::Syntax {
        path: path.to_owned(),
        line: line + 1,
        message,
    };
    let header: Vec<String> = match lines.next() {
        Some((_, line)) => split(line)
            .iter()
            .map(|key| key.trim().to_owned())
            .collect(),
        None => {
            return Err(refuse(
                0,
                "expected a header with keys, found nothing".to_owned(),
            ));
        }
    };
    if let Some(index) = (0..header.len()).find(|&index| header[..index].contains(&header[index])) {
        return Err(refuse(
            0,
            format!("column `{}` is there twice", header[index]),
        ));
    }
    if let Some(key) = header.iter().find(|key| !is_path(key)) {
        let message = format!("column `{key}`: expected a key such as train.lr");
        return Err(refuse(0, message));
    }
    let mut rows = Vec::new();
    for (number, line) in lines {
        let cells = split(line);
        if cells.len() != header.len() {
            let (found, expected) = (cells.len(), header.len());
            return Err(refuse(
                number,
                format!("has {found} cells, the header has {expected}"),
            ));
        }
        let origin = Origin::File {
            path: path.display().to_string(),
            line: number + 1,
        };
        let row: Result<Vec<Layer>> = header
            .iter()
            .zip(&cells)
            .filter(|(_, cell)| !cell.trim().is_empty())
            .map(|(key, cell)| {
                let value = parse_value(key, cell.trim())
                    .map_err(|error| refuse(number, error.to_string()))?;
                Ok(Layer::new(key, value, origin.clone()))
            })
            .collect();
        rows.push(row?);
    }
    if rows.is_empty() {
        Err(refuse(0, "has a header and no trial".to_owned()))
    } else {
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_file_is_a_list_of_trials() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_csv(&path)
        };
        let rows = read("train.lr,learner.name\n0.1,maml\n,protonet\n").unwrap();
        assert_eq!((rows[0].len(), rows[1].len()), (2, 1));
        assert_eq!(rows[1][0].path(), "learner.name");
        for (text, part) in [
            ("", "t.csv:1"),
            ("a,b\n1\n", "t.csv:2: has 1 cells, the header has 2"),
            ("a,a\n1,2\n", "column `a`"),
            ("a\n", "no trial"),
            ("a,\n1,2\n", "t.csv:1: column ``"),
            ("train.,b\n1,2\n", "t.csv:1: column `train.`"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }
}
