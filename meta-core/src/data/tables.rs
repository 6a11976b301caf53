//! Tables as tasks: a folder of CSV files, each with a target; or one table whose groups are tasks.
//!
//! | tables | a task |
//! |---|---|
//! | a folder of tables | rows of one of them |
//! | tables with `group` | rows of one group of one table: a hospital, a customer, a month |
//! | tables with `resample` | rows of one of them; those of validation and test are other rows |
//! | tables with fixed test masks | support of the rows that a mask leaves, queries of those that it names |
//!
//! Task `i` of a split is of its table (or group) `i mod n`, and of mask `⌊i / n⌋ mod m`: as many episodes as
//! tables times masks have each once. Rows are drawn without replacement.
//!
//! **Rules.** A column is one of numbers where at least 95 % of its values are, else of categories, or as
//! declared. Empty cells and `?`, `NA`, `N/A`, `NaN`, `null`, `None`, `-` are missing. Categories are
//! numbered in the order of their names, or get a feature each (`indicators`); a category that no row of the
//! support has is missing. All else is of the support alone: with `fill = "mean"` features are in units of its
//! mean and deviation, and 0 where missing; the target of regression always is in units of its mean and
//! deviation, so that a squared error of 1 is about that of guessing the mean.

mod column;
mod own;
mod table;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::column::Column;
pub use self::own::{LabelledRows, TableColumn, rows_like};
use self::table::{Table, Target, Wanted, files};
use super::class_splits::Fractions;
use super::episode::{
    ClassRef, Episode, EpisodeShape, Extras, ItemShape, Items, Split, Targets, Task,
};
use super::image_files::resolve;
use super::rows::{Fill, items_of_rows, places};
use super::source::{Source, SourceSettings, check_items, check_regression};
use crate::error::{Error, Result};
use crate::rng::{Seed, Stream};
use crate::settings;
use crate::settings::Settings;

/// What is asked of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableTask {
    /// Its class.
    Classification,
    /// A number.
    Regression,
}

settings! {
    /// Settings of the source of tables.
    ///
    /// Files end in `.csv`, `.tsv` (also with `.gz`), or `.parquet` in builds with that feature. A relative
    /// path starts at the data folder when there is one, else at the working directory.
    pub struct TablesSettings {
        /// A folder of tables, or one table.
        path: String = String::new();
        /// What is asked of a row: `classification` or `regression`.
        task: TableTask = TableTask::Classification;
        /// Whether the first row names the columns; without names they are `column 1`, `column 2`, ….
        header: bool = true;
        /// The column that is predicted. Empty: the last one.
        target: String = String::new();
        /// The column whose values make tasks of a table; it is no feature. Empty for none.
        group: String = String::new();
        /// Whether every split has every table, so that one table without groups will do: rows of validation
        /// and test are other rows than those of training, by the hash of their number.
        resample: bool = false;
        /// Columns that are left out: numbers of rows, and what is known only after the target.
        leave_out: Vec<String> = Vec::new();
        /// Columns that hold categories, whatever they look like.
        categorical: Vec<String> = Vec::new();
        /// Columns that hold numbers, whatever they look like.
        numeric: Vec<String> = Vec::new();
        /// Whether a column of three categories or more becomes a feature for each, 0 or 1; else it is one
        /// feature, the number of the category in the order of names.
        indicators: bool = false;
        /// `mask`: numbers as they are, and masks where they are missing, for learners that read masks, such
        /// as `pfn`. `mean`: units of the support, 0 where missing, for any learner.
        fill: Fill = Fill::Mask;
        /// Tables with fewer rows are left out.
        least_rows: usize = 0, size(0);
        /// The most features of a table; one with more is refused.
        max_features: usize = 128, size(1);
        /// Whether a task may have fewer classes than `way`, or fewer rows of a class than `shot` and
        /// `query`, where its table has no more.
        uneven: bool = false;
        /// Before the ending of a file's name: it holds test masks, of the table of the rest of the name. A
        /// row for each of the table, a column for each mask, 1 where a row tests. Empty for none.
        masks: String = ".test_mask".to_owned();
        /// The expected fraction of tables (groups; with `resample`, rows) that validate, by the BLAKE3 hash
        /// of the name. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// The expected fraction that test, decided likewise. In 0..=1, and at most 1 together with
        /// `validation_fraction`.
        test_fraction: f64 = 0.2;
    }
}

impl SourceSettings for TablesSettings {
    const NAME: &str = "tables";
    const SUMMARY: &str =
        "tables with a target (csv, parquet): many tables, or groups of one, as tasks";
    const TABLES: bool = true;

    fn open(&self, data_folder: Option<&Path>) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.build(data_folder)?))
    }
}

impl TablesSettings {
    /// Reads and checks the tables.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that cannot be used; [`Error::Data`] or [`Error::Io`] naming the
    /// file, the column and the line of what cannot be read: a target that is missing or has one class, text
    /// among numbers, a column without values, more features than the bound, and one table without groups.
    pub fn build(&self, data_folder: Option<&Path>) -> Result<TablesSource> {
        self.check_ranges("data")?;
        self.fractions().check()?;
        if self.path.is_empty() {
            let expected = "must name a folder of tables, or one table";
            return Err(Error::setting("data.path", "\"\"", expected));
        }
        if self.resample && !self.group.is_empty() {
            let expected = "splits the rows of tables without groups; leave out one of the two";
            return Err(Error::setting("data.resample", true, expected));
        }
        let path = resolve(&self.path, data_folder);
        let wanted = Wanted {
            header: self.header,
            target: &self.target,
            classes: self.task == TableTask::Classification,
            group: &self.group,
            leave_out: &self.leave_out,
            categorical: &self.categorical,
            numeric: &self.numeric,
            indicators: self.indicators,
            max_features: self.max_features,
        };
        let read = files(&path, &self.masks)?.into_iter();
        let tables: Vec<Table> = read
            .map(|files| Table::read(files, &wanted))
            .collect::<Result<_>>()?;
        self.check_names(&tables)?;
        let (count, least) = (tables.len(), self.least_rows);
        let tables: Vec<Table> = tables
            .into_iter()
            .filter(|table| table.rows >= least)
            .collect();
        if tables.is_empty() {
            let expected = format!("leaves none of the {count} tables of {}", path.display());
            return Err(Error::setting("data.least_rows", least, expected));
        }
        let units = self.units(&tables)?;
        if let [only] = units.as_slice()
            && !self.resample
            && tables[only.table].masks.is_empty()
        {
            return Err(Error::data(
                &path,
                "is one table without groups, and a meta-learner learns from many tasks; name a column of \
                 groups (a hospital, a customer, a month) with `data.group`, add more tables to the folder, \
                 or draw tasks from its rows with `data.resample = true`",
            ));
        }
        let names = units.iter().map(|unit| unit.name.as_str());
        let splits = match self.resample {
            true => [(); 3].map(|()| (0..units.len()).collect()),
            false => self.fractions().by_name(names),
        };
        Ok(TablesSource {
            width: tables
                .iter()
                .map(|table| table.features.len())
                .max()
                .unwrap_or(1),
            settings: self.clone(),
            path,
            tables,
            units,
            splits,
        })
    }

    fn fractions(&self) -> Fractions {
        Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        }
    }

    /// Checks that every column that is named is one of some table.
    fn check_names(&self, tables: &[Table]) -> Result<()> {
        let known: HashSet<&str> = tables
            .iter()
            .flat_map(|table| table.header.iter().map(String::as_str))
            .collect();
        for (key, names) in [
            ("data.leave_out", &self.leave_out),
            ("data.categorical", &self.categorical),
            ("data.numeric", &self.numeric),
        ] {
            if let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) {
                return Err(Error::setting(
                    key,
                    name,
                    "is a column of none of the tables",
                ));
            }
        }
        let both = self
            .categorical
            .iter()
            .find(|name| self.numeric.contains(name));
        match both {
            Some(name) => {
                let expected = "is declared in `data.numeric` as well";
                Err(Error::setting("data.categorical", name, expected))
            }
            None => Ok(()),
        }
    }

    /// The sets of rows that tasks are drawn from.
    fn units(&self, tables: &[Table]) -> Result<Vec<Unit>> {
        let mut units = Vec::new();
        for (number, table) in tables.iter().enumerate() {
            let Some(groups) = &table.groups else {
                let unit = Unit::of(number, table, table.name.clone(), (0..table.rows).collect());
                if let Some(reason) = unit.fault(table) {
                    return Err(Error::data(&table.path, reason));
                }
                units.push(unit);
                continue;
            };
            let mut rows: Vec<Vec<usize>> = vec![Vec::new(); groups.distinct.len()];
            for (row, &group) in groups.rows.iter().enumerate() {
                rows[group as usize].push(row);
            }
            let before = units.len();
            for (group, rows) in groups.distinct.iter().zip(rows) {
                let mut unit = Unit::of(number, table, format!("{}/{group}", table.name), rows);
                unit.classes.retain(|(_, rows)| rows.len() > 1);
                if unit.fault(table).is_none() {
                    units.push(unit);
                }
            }
            if units.len() == before {
                let message = format!(
                    "has no group of `{}` with two rows of two classes (regression: with two rows)",
                    self.group
                );
                return Err(Error::data(&table.path, message));
            }
        }
        Ok(units)
    }
}

/// Rows of a table that tasks are drawn from.
#[derive(Clone, Debug)]
struct Unit {
    table: usize,
    name: String,
    /// Each class with its rows; of regression, class 0 with all.
    classes: Vec<(u32, Vec<usize>)>,
}

impl Unit {
    fn of(number: usize, table: &Table, name: String, rows: Vec<usize>) -> Self {
        let classes = match &table.target {
            Target::Values(_) => vec![(0, rows)],
            Target::Classes(names, labels) => {
                let mut classes: Vec<(u32, Vec<usize>)> = (0..names.len() as u32)
                    .map(|label| (label, Vec::new()))
                    .collect();
                for row in rows {
                    classes[labels[row] as usize].1.push(row);
                }
                classes
            }
        };
        Unit {
            table: number,
            name,
            classes,
        }
    }

    /// Why no task can be drawn, a clause.
    fn fault(&self, table: &Table) -> Option<String> {
        let few = "too few for one to learn from and one to predict";
        if let Some((class, rows)) = self.classes.iter().find(|(_, rows)| rows.len() < 2) {
            let count = rows.len();
            return Some(match &table.target {
                Target::Values(_) => format!("has {count} row(s): {few}"),
                Target::Classes(names, _) => {
                    format!(
                        "has {count} row(s) of class `{}`: {few}",
                        names[*class as usize]
                    )
                }
            });
        }
        let classes = matches!(table.target, Target::Classes(..));
        (classes && self.classes.len() < 2).then(|| "has one class alone".to_owned())
    }
}

/// Tables in memory; an item is a row, padded to the widest table.
#[derive(Clone)]
pub struct TablesSource {
    settings: TablesSettings,
    path: PathBuf,
    tables: Vec<Table>,
    units: Vec<Unit>,
    /// Units of each split.
    splits: [Vec<usize>; 3],
    width: usize,
}

/// Rows of one class that support and queries are drawn from; the same where no mask says so.
struct Pool {
    class: u32,
    support: Vec<usize>,
    /// None where they are those that the support leaves.
    query: Option<Vec<usize>>,
}

impl Pool {
    /// How many support and query rows there are for so many.
    fn room(&self, shot: usize, query: usize) -> (usize, usize) {
        match &self.query {
            Some(own) => (shot.min(self.support.len()), query.min(own.len())),
            None => {
                let shots = shot.min(self.support.len().saturating_sub(1));
                (shots, query.min(self.support.len() - shots))
            }
        }
    }

    fn draw(&self, shot: usize, query: usize, stream: &mut Stream) -> (Vec<usize>, Vec<usize>) {
        let (shot, query) = self.room(shot, query);
        let rows = |pool: &[usize], drawn: &[usize]| drawn.iter().map(|&item| pool[item]).collect();
        match &self.query {
            Some(own) => {
                let support = stream.choose_distinct(self.support.len(), shot);
                let queries = stream.choose_distinct(own.len(), query);
                (rows(&self.support, &support), rows(own, &queries))
            }
            None => {
                let drawn = stream.choose_distinct(self.support.len(), shot + query);
                let (support, queries) = drawn.split_at(shot);
                (rows(&self.support, support), rows(&self.support, queries))
            }
        }
    }
}

/// Mean and deviation of what the support has of each feature, and the categories that it has.
struct Units {
    moments: Vec<(f64, f64)>,
    /// Categories of the support, of each column; none of a column of numbers.
    seen: Vec<Option<HashSet<u32>>>,
}

impl Units {
    fn of(table: &Table, support: &[usize]) -> Self {
        let seen = table.columns.iter().map(|column| match column {
            Column::Numbers(_) => None,
            Column::Categories(rows, _) => Some(support.iter().map(|&row| rows[row]).collect()),
        });
        let moments = (0..table.features.len()).map(|feature| {
            let values = support.iter().filter_map(|&row| table.value(row, feature));
            moments(values.map(f64::from))
        });
        Units {
            moments: moments.collect(),
            seen: seen.collect(),
        }
    }

    /// A feature of a row as the support knows it: none of a category that it does not have.
    fn value(&self, table: &Table, row: usize, feature: usize) -> Option<f32> {
        let value = table.value(row, feature)?;
        let column = table.features[feature].column;
        match (&self.seen[column], &table.columns[column]) {
            (Some(seen), Column::Categories(rows, _)) => seen.contains(&rows[row]).then_some(value),
            _ => Some(value),
        }
    }

    fn scaled(&self, value: f32, feature: usize) -> f32 {
        let (mean, deviation) = self.moments[feature];
        ((f64::from(value) - mean) / deviation) as f32
    }
}

/// Mean and standard deviation; a deviation of 1 where values are the same.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    // What rounding leaves of equal numbers is no variance.
    let constant = variance <= 1e-12 * mean * mean || variance < f64::MIN_POSITIVE;
    (mean, if constant { 1.0 } else { variance.sqrt() })
}

impl TablesSource {
    /// Names of the tables or groups of a split, in the order of its tasks.
    pub fn unit_names(&self, split: Split) -> impl Iterator<Item = &str> {
        let units = self.splits[split.position()].iter();
        units.map(|&unit| self.units[unit].name.as_str())
    }

    /// The rows of each class of a unit that tasks of a split are drawn from, with the mask of that number;
    /// without the classes that then have none to learn from.
    fn pools(&self, unit: &Unit, split: Split, fold: u64) -> Vec<Pool> {
        let table = &self.tables[unit.table];
        let masks = table.masks.len() as u64;
        let mask = (masks > 0).then(|| &table.masks[(fold % masks) as usize]);
        let of_split = |&row: &usize| {
            !self.settings.resample
                || self.settings.fractions().split_at(place_of_row(row)) == split
        };
        let pools = unit.classes.iter().map(|(class, rows)| {
            let rows: Vec<usize> = rows.iter().copied().filter(of_split).collect();
            match mask {
                None => Pool {
                    class: *class,
                    support: rows,
                    query: None,
                },
                Some(mask) => {
                    let (query, support) = rows.into_iter().partition(|&row| mask[row]);
                    Pool {
                        class: *class,
                        support,
                        query: Some(query),
                    }
                }
            }
        });
        pools.filter(|pool| pool.room(1, 1).0 > 0).collect()
    }

    /// The first number of the classes of a table among those of all.
    fn first_class(&self, table: usize) -> u32 {
        let classes = self.tables[..table]
            .iter()
            .map(|table| match &table.target {
                Target::Classes(names, _) => names.len() as u32,
                Target::Values(_) => 1,
            });
        classes.sum()
    }

    /// Checks the units of a split against the shape.
    fn check_units(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        let hint = "; `data.uneven = true` takes as many as there are";
        let (way, shot, query) = (shape.way.0, shape.shot.0, shape.query.0);
        for &unit in &self.splits[split.position()] {
            let unit = &self.units[unit];
            let folds = self.tables[unit.table].masks.len().max(1) as u64;
            for fold in 0..folds {
                let pools = self.pools(unit, split, fold);
                let name = &unit.name;
                let classes = pools.len();
                if self.task() == Task::Classification {
                    if classes < 2 {
                        let expected =
                            format!("`{name}` has {classes} classes to learn from for {split}");
                        return Err(Error::setting("data.shot", shot, expected));
                    }
                    if classes > way || (classes < way && !self.settings.uneven) {
                        let hint = if classes > way { "" } else { hint };
                        let expected = format!("`{name}` has {classes} classes{hint}");
                        return Err(Error::setting("data.way", way, expected));
                    }
                }
                let rooms = pools.iter().map(|pool| pool.room(shot, query));
                let (shots, queries): (Vec<usize>, Vec<usize>) = rooms.unzip();
                let (fewest, queries_in_all) = (shots.iter().min(), queries.iter().sum::<usize>());
                let least = queries.iter().min().copied().unwrap_or(0);
                let too_few = match self.settings.uneven {
                    true => pools.is_empty() || queries_in_all == 0,
                    false => fewest.is_none_or(|&fewest| fewest < shot) || least < query,
                };
                if too_few {
                    let (shots, hint) = (
                        fewest.copied().unwrap_or(0),
                        if self.settings.uneven { "" } else { hint },
                    );
                    let expected = format!(
                        "`{name}` has rows for {shots} shots and {least} queries of its smallest class in \
                         {split}{hint}"
                    );
                    return Err(Error::setting("data.shot", shot, expected));
                }
            }
        }
        Ok(())
    }

    /// Targets of rows in their places: labels, or values in the units of the support.
    fn values(&self, table: &Table, rows: &[Option<usize>], support: &[usize]) -> Targets {
        let Target::Values(values) = &table.target else {
            return Targets::Values(Vec::new());
        };
        let (mean, deviation) = moments(support.iter().map(|&row| f64::from(values[row])));
        let scaled = |row: usize| ((f64::from(values[row]) - mean) / deviation) as f32;
        Targets::Values(rows.iter().map(|row| row.map_or(0.0, scaled)).collect())
    }
}

/// A number in \[0, 1) that depends on the number of a row alone.
fn place_of_row(row: usize) -> f64 {
    Seed(0).stream("tables/row", row as u64, "split").uniform()
}

impl Source for TablesSource {
    fn name(&self) -> &'static str {
        TablesSettings::NAME
    }

    fn task(&self) -> Task {
        match self.settings.task {
            TableTask::Classification => Task::Classification,
            TableTask::Regression => Task::Regression { outputs: 1 },
        }
    }

    fn item_shape(&self) -> ItemShape {
        ItemShape {
            height: 1,
            width: 1,
            channels: self.width,
        }
    }

    fn extras(&self) -> Extras {
        let gaps = self.tables.iter().any(|table| {
            let unseen =
                |column: &Column| matches!(column, Column::Categories(..)) || column.has_gaps();
            table.features.len() < self.width || table.columns.iter().any(unseen)
        });
        Extras {
            items: self.settings.uneven,
            numbers: self.settings.fill == Fill::Mask && gaps,
            class_vector: 0,
        }
    }

    fn class_name(&self, class: ClassRef) -> Option<String> {
        let of_table = |(number, table): (usize, &Table)| match &table.target {
            Target::Classes(names, _) => {
                let label = class.class.checked_sub(self.first_class(number))?;
                names.get(label as usize).cloned()
            }
            Target::Values(_) => None,
        };
        self.tables.iter().enumerate().find_map(of_table)
    }

    fn check(&self, split: Split, shape: EpisodeShape) -> Result<()> {
        match self.settings.task {
            TableTask::Regression => check_regression(shape)?,
            TableTask::Classification => check_items(shape)?,
        }
        if self.splits[split.position()].is_empty() {
            let expected = format!(
                "leaves no table or group of {} for {split} (`data.validation_fraction`, \
                 `data.test_fraction`)",
                self.path.display()
            );
            return Err(Error::setting("data.path", &self.settings.path, expected));
        }
        self.check_units(split, shape)
    }

    fn episode(
        &self,
        seed: Seed,
        split: Split,
        shape: EpisodeShape,
        index: u64,
    ) -> Result<Episode> {
        let units = &self.splits[split.position()];
        if units.is_empty() {
            self.check(split, shape)?;
        }
        let count = units.len() as u64;
        let unit = &self.units[units[(index % count) as usize]];
        let table = &self.tables[unit.table];
        let stream = |purpose: &str| seed.stream(split.scope(), index, purpose);
        let mut pools = self.pools(unit, split, index / count);
        stream("classes").shuffle(&mut pools);
        pools.truncate(shape.way.0);
        let mut items = stream("items");
        let drawn = pools
            .iter()
            .map(|pool| pool.draw(shape.shot.0, shape.query.0, &mut items));
        let (support, query): (Vec<Vec<usize>>, Vec<Vec<usize>>) = drawn.unzip();
        let known: Vec<usize> = support.iter().flatten().copied().collect();
        let units = Units::of(table, &known);
        let fill = self.settings.fill;
        let number = |row: usize, feature: usize| {
            let inside = feature < table.features.len();
            let value = inside.then(|| units.value(table, row, feature)).flatten();
            match fill {
                Fill::Mask => value,
                Fill::Mean => Some(value.map_or(0.0, |value| units.scaled(value, feature))),
            }
        };
        let first = self.first_class(unit.table);
        let numbers: Vec<u32> = pools.iter().map(|pool| first + pool.class).collect();
        let extras = self.extras();
        let part = |classes: &[Vec<usize>], per_class: usize| -> Items {
            let classes: Vec<&[usize]> = classes.iter().map(Vec::as_slice).collect();
            let (rows, labels) = places(&classes, shape.way.0, per_class);
            let targets = match self.settings.task {
                TableTask::Classification => Targets::Classes(labels),
                TableTask::Regression => self.values(table, &rows, &known),
            };
            items_of_rows(&rows, self.width, targets, &numbers, extras, number)
        };
        let (support, query) = (part(&support, shape.shot.0), part(&query, shape.query.0));
        let references = pools.iter().map(|pool| ClassRef {
            class: first + pool.class,
            position: pool.class,
            quarter_turns: 0,
        });
        let references = match self.settings.task {
            TableTask::Classification => references.collect(),
            TableTask::Regression => Vec::new(),
        };
        Ok(Episode::new(index, shape, support, query, references))
    }

    /// The table, or its group.
    fn set_of(&self, split: Split, index: u64) -> Option<String> {
        let units = &self.splits[split.position()];
        let unit = index.checked_rem(units.len() as u64)? as usize;
        Some(self.units[units[unit]].name.clone())
    }

    fn content_hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let settings = self
            .settings
            .entries()
            .into_iter()
            .filter(|(key, _)| *key != "path");
        for (key, value) in settings {
            hasher.update(format!("{key}={value}\n").as_bytes());
        }
        for table in &self.tables {
            hasher.update(format!("{}\n", table.name).as_bytes());
            hasher.update(table.hash.as_bytes());
        }
        format!("{}", hasher.finalize().to_hex())
    }

    fn describe(&self) -> Value {
        let tables = self.tables.iter().map(|table| {
            let categorical = table
                .columns
                .iter()
                .filter(|c| matches!(c, Column::Categories(..)));
            json!({
                "name": table.name,
                "rows": table.rows,
                "features": table.features.len(),
                "categorical_columns": categorical.count(),
                "classes": match &table.target {
                    Target::Classes(names, _) => json!(names),
                    Target::Values(_) => Value::Null,
                },
                "masks": table.masks.len(),
            })
        });
        let counts = |split: Split| self.splits[split.position()].len();
        json!({
            "source": self.name(),
            "task": self.task(),
            "item_shape": self.item_shape(),
            "tables": tables.collect::<Vec<Value>>(),
            "train": counts(Split::Train),
            "validation": counts(Split::Validation),
            "test": counts(Split::Test),
            "content_hash": self.content_hash(),
        })
    }
}

impl std::fmt::Debug for TablesSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TablesSource")
            .field("path", &self.path)
            .field("units", &self.units.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
