//! Vectors by class: the tables of the files put together.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::checked::{Checked, check};
use super::settings::FeaturesSettings;
use crate::data::class_folders::compose;
use crate::data::episode::Split;
use crate::data::formats::{Keys, Text, Vectors, read_labels, read_table};
use crate::data::image_files::resolve;
use crate::error::{Error, Result};

/// Vectors of classes, in all files together; a row of the second file comes after those of the first.
pub(super) struct FeatureSet {
    /// Where they come from, for messages.
    pub path: PathBuf,
    pub width: usize,
    files: Vec<Vectors>,
    /// Names of the classes, in order.
    pub classes: Vec<String>,
    /// The class of each row; none of a row that is left out.
    class_of: Vec<Option<u32>>,
    /// The split of each row, where files or a column say so.
    pub parts: Option<Vec<Split>>,
    /// Rows that are left out, by the name of their split.
    pub left_out: BTreeMap<String, usize>,
    /// Rows of no class, by split: those whose split is `oos_train`, `oos_val`, `oos_test` or the like.
    pub outside: [Vec<usize>; 3],
    /// Columns that have one number in all rows.
    pub constant: usize,
    /// Of all numbers, labels and splits.
    pub hash: String,
}

impl FeatureSet {
    /// Reads and checks the files of the settings.
    pub fn open(settings: &FeaturesSettings, data_dir: Option<&Path>) -> Result<Self> {
        let path = resolve(&settings.path, data_dir);
        let mut set = FeatureSet {
            path,
            width: 0,
            files: Vec::new(),
            classes: Vec::new(),
            class_of: Vec::new(),
            parts: None,
            left_out: BTreeMap::new(),
            outside: Default::default(),
            constant: 0,
            hash: String::new(),
        };
        let mut labels = Text::default();
        let mut parts: Vec<Option<Split>> = Vec::new();
        let mut checks: Vec<Checked> = Vec::new();
        let by_file = settings.has_split_paths();
        for (split, path, label_path) in settings.paths() {
            if path.is_empty() {
                continue;
            }
            let path = resolve(path, data_dir);
            let file = File::read(settings, &path, label_path, data_dir)?;
            if set.width == 0 {
                set.width = file.vectors.width();
            }
            if file.vectors.width() != set.width {
                let (own, first) = (file.vectors.width(), set.width);
                let message = format!("has vectors of {own} numbers, and `data.path` of {first}");
                return Err(Error::data(&path, message));
            }
            parts.extend(set.parts_of(&path, &file, by_file.then_some(split))?);
            labels.append(&file.labels);
            checks.push(check(
                &path,
                &settings.features,
                &file.vectors,
                &settings.cache_dir,
            )?);
            set.files.push(file.vectors);
        }
        set.check_constant(settings, &checks)?;
        set.group(&labels, &parts)?;
        if by_file || !settings.split_key.is_empty() {
            // Of a row that is left out, any will do.
            set.parts = Some(
                parts
                    .iter()
                    .map(|part| part.unwrap_or(Split::Train))
                    .collect(),
            );
        }
        set.hash = set.hash_of(checks.iter().map(|checked| checked.hash.as_str()));
        Ok(set)
    }

    /// Vectors in memory, of labels and splits: what is not read from files.
    pub fn held(vectors: Vectors, labels: &Text, parts: Vec<Split>) -> Result<Self> {
        let mut set = FeatureSet {
            path: PathBuf::from("synthetic vectors"),
            width: vectors.width(),
            files: vec![vectors],
            classes: Vec::new(),
            class_of: Vec::new(),
            parts: None,
            left_out: BTreeMap::new(),
            outside: Default::default(),
            constant: 0,
            hash: String::new(),
        };
        let kept: Vec<Option<Split>> = parts.iter().copied().map(Some).collect();
        set.group(labels, &kept)?;
        set.parts = Some(parts);
        set.hash = set.hash_of(["synthetic 1"]);
        Ok(set)
    }

    /// The split of each row of a file: that of the file, or of the column; none of rows that are left out.
    fn parts_of(
        &mut self,
        path: &Path,
        file: &File,
        split: Option<Split>,
    ) -> Result<Vec<Option<Split>>> {
        let Some(column) = &file.split else {
            return Ok(vec![
                Some(split.unwrap_or(Split::Train));
                file.vectors.rows()
            ]);
        };
        let known: Vec<Option<Split>> = column
            .distinct
            .iter()
            .map(|name| Split::named(name))
            .collect();
        if known.iter().all(Option::is_none) {
            let found = column.distinct.iter().take(5).map(String::as_str);
            let found = found.collect::<Vec<_>>().join("`, `");
            let message = format!("has the splits `{found}`; `train`, `val` and `test` are known");
            return Err(Error::data(path, message));
        }
        let outside: Vec<Option<Split>> = column
            .distinct
            .iter()
            .map(|name| outside_of(name))
            .collect();
        let before: usize = self.files.iter().map(Vectors::rows).sum();
        let rows = column.rows.iter().enumerate().map(|(row, &name)| {
            let part = known[name as usize];
            if part.is_none() {
                let name_of = &column.distinct[name as usize];
                *self.left_out.entry(name_of.clone()).or_default() += 1;
                if let Some(split) = outside[name as usize] {
                    self.outside[split.position()].push(before + row);
                }
            }
            part
        });
        Ok(rows.collect())
    }

    fn check_constant(&mut self, settings: &FeaturesSettings, checks: &[Checked]) -> Result<()> {
        let Some((first, rest)) = checks.split_first() else {
            return Ok(());
        };
        let everywhere =
            |column: &&(usize, f32)| rest.iter().all(|other| other.constant.contains(column));
        let constant: Vec<&(usize, f32)> = first.constant.iter().filter(everywhere).collect();
        self.constant = constant.len();
        let Some((column, number)) = constant.first().filter(|_| !settings.constant_columns) else {
            return Ok(());
        };
        let more = match constant.len() {
            1 => String::new(),
            2 => ", and 1 more column is constant".to_owned(),
            count => format!(", and {} more columns are constant", count - 1),
        };
        let column = self.files[0].column(*column);
        let message = format!(
            "{column} is {} in all rows{more}: a file of something else, or a dead unit of a network; \
             `data.constant_columns = true` reads them",
            // Not −0.
            number + 0.0
        );
        Err(Error::data(&self.path, message))
    }

    /// Numbers the classes of the labels of rows that are not left out.
    fn group(&mut self, labels: &Text, parts: &[Option<Split>]) -> Result<()> {
        let mut used = vec![false; labels.distinct.len()];
        for (&label, part) in labels.rows.iter().zip(parts) {
            used[label as usize] |= part.is_some();
        }
        let names: BTreeMap<String, usize> = labels
            .distinct
            .iter()
            .enumerate()
            .filter(|(label, _)| used[*label])
            .map(|(label, name)| (compose(name), label))
            .collect();
        if names.len() != used.iter().filter(|&&used| used).count() {
            let message = "has two labels that differ only in how their letters are encoded (Unicode NFC and \
                           NFD)";
            return Err(Error::data(&self.path, message));
        }
        if let Some(&label) = names.get("") {
            let row = labels.rows.iter().position(|&row| row as usize == label);
            let message = format!("row {} has an empty label", row.unwrap_or_default());
            return Err(Error::data(&self.path, message));
        }
        let mut number = vec![0; used.len()];
        for (class, (name, label)) in names.into_iter().enumerate() {
            number[label] = class as u32;
            self.classes.push(name);
        }
        let rows = labels.rows.iter().zip(parts);
        self.class_of = rows
            .map(|(&label, part)| part.map(|_| number[label as usize]))
            .collect();
        Ok(())
    }

    fn hash_of<'a>(&self, numbers: impl IntoIterator<Item = &'a str>) -> String {
        let mut hasher = blake3::Hasher::new();
        for hash in numbers {
            hasher.update(format!("{hash}\n").as_bytes());
        }
        for name in &self.classes {
            hasher.update(format!("{name:?}\n").as_bytes());
        }
        let mut bytes = Vec::with_capacity(5 * self.class_of.len());
        for (row, class) in self.class_of.iter().enumerate() {
            let part = self
                .parts
                .as_ref()
                .map_or(0, |parts| 1 + parts[row].position() as u8);
            bytes.push(part);
            bytes.extend(class.map_or(u32::MAX, |class| class).to_le_bytes());
        }
        hasher.update(&bytes);
        hasher.finalize().to_hex().to_string()
    }

    /// The class of each row that is not left out.
    pub fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.class_of.iter().enumerate();
        rows.filter_map(|(row, class)| class.map(|class| (row, class as usize)))
    }

    /// Number of all rows.
    pub fn len(&self) -> usize {
        self.class_of.len()
    }

    /// Writes the vector of a row.
    pub fn read(&self, mut row: usize, place: &mut [f32]) -> io::Result<()> {
        for file in &self.files {
            if row < file.rows() {
                return file.read(row, place);
            }
            row -= file.rows();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The split whose queries rows of that split stand beside, where they are out of scope: `oos_test`.
fn outside_of(name: &str) -> Option<Split> {
    let name = name.to_ascii_lowercase();
    let rest = name.strip_prefix("oos")?;
    Split::named(rest.trim_start_matches(['_', '-', ' ']))
}

/// The table of a file, with labels from there or from another one.
struct File {
    vectors: Vectors,
    labels: Text,
    split: Option<Text>,
}

impl File {
    fn read(
        settings: &FeaturesSettings,
        path: &Path,
        label_path: &str,
        data_dir: Option<&Path>,
    ) -> Result<Self> {
        let beside = !label_path.is_empty();
        let single = path
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("npy"));
        if single && !beside {
            let message =
                "holds one array, and no labels; name a file of labels by `data.label_path`";
            return Err(Error::data(path, message));
        }
        let keys = Keys {
            features: &settings.features,
            labels: if beside { "" } else { &settings.labels },
            split: &settings.split_key,
        };
        let table = read_table(path, &keys)?;
        let labels = match table.labels {
            Some(labels) => labels,
            None => {
                let label_path = resolve(label_path, data_dir);
                let labels = read_labels(&label_path, &settings.labels)?;
                let (count, rows) = (labels.len(), table.vectors.rows());
                if count != rows {
                    let there = path.display();
                    let message = format!("has {count} labels, and {there} has {rows} vectors");
                    return Err(Error::data(&label_path, message));
                }
                labels
            }
        };
        Ok(File {
            vectors: table.vectors,
            labels,
            split: table.split,
        })
    }
}

/// A vector of each of `classes`, `[classes, v]`, from a file with their names as labels.
///
/// # Errors
/// [`Error::Io`] or [`Error::Data`] for a file that cannot be read, lacks a class or has one twice.
pub(crate) fn class_vectors(
    path: &Path,
    keys: &Keys<'_>,
    classes: &[String],
) -> Result<(Vec<f32>, usize)> {
    let table = read_table(path, keys)?;
    let labels = table.labels.unwrap_or_default();
    let width = table.vectors.width();
    let mut row_of: BTreeMap<String, usize> = BTreeMap::new();
    for (row, name) in labels.iter().enumerate() {
        if row_of.insert(compose(name), row).is_some() {
            return Err(Error::data(
                path,
                format!("has two vectors of the class `{name}`"),
            ));
        }
    }
    let mut vectors = vec![0.0; classes.len() * width];
    for (class, place) in classes.iter().zip(vectors.chunks_exact_mut(width)) {
        let Some(&row) = row_of.get(class) else {
            let message = format!(
                "has no vector of the class `{class}`, and {} others",
                labels.len()
            );
            return Err(Error::data(path, message));
        };
        table
            .vectors
            .read(row, place)
            .map_err(|error| Error::io(path, "read", error))?;
        if let Some(column) = place.iter().position(|number| !number.is_finite()) {
            let (column, number) = (table.vectors.column(column), place[column]);
            let message =
                format!("the vector of `{class}`, {column} is {number}; it must be finite");
            return Err(Error::data(path, message));
        }
    }
    Ok((vectors, width))
}
