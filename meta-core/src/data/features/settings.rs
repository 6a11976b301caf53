//! Settings of the source of vectors.

use serde::{Deserialize, Serialize};

use crate::data::class_splits::Fractions;
use crate::data::episode::Split;
use crate::error::{Error, Result};
use crate::settings;
use crate::settings::Settings;

/// What training does not have of the tasks of validation and test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// Their classes.
    NewClasses,
    /// Their queries: classes and support items are those of training.
    NewItems,
}

/// What becomes of a class with fewer items than a task asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fewer {
    /// It is an error.
    Refuse,
    /// A task takes all there are.
    All,
}

settings! {
    /// Settings of the source of vectors.
    ///
    /// Files are read by their endings: `.npz`, `.npy`, `.safetensors`, `.pt`, `.csv` and `.tsv` (also with
    /// `.gz`), and `.parquet` in builds with that feature. Numbers may have 16, 32 or 64 bits; labels are
    /// text or integers.
    ///
    /// Relative paths start at the data folder when there is one, else at the working directory; a list of
    /// classes that is not there is looked for in the working directory too.
    pub struct FeaturesSettings {
        /// The file of vectors. Empty: synthetic ones, 100 classes of 40.
        path: String = String::new();
        /// Another file, of validation vectors; those of `path` are then for training.
        validation_path: String = String::new();
        /// Another file, of test vectors.
        test_path: String = String::new();
        /// The array or the list column of the vectors. Of a table with columns of numbers: `prefix*` for
        /// the columns that begin so, `*` for all beside labels and splits.
        features: String = "features".to_owned();
        /// The array or column of the labels.
        labels: String = "labels".to_owned();
        /// The file of the labels of `path`, where they are not in it: of any of these formats, or text
        /// with one a line.
        label_path: String = String::new();
        /// The file of the labels of `validation_path`.
        validation_label_path: String = String::new();
        /// The file of the labels of `test_path`.
        test_label_path: String = String::new();
        /// The array or column that says the split of each row: `train`, `val` or `test`. Other rows are left
        /// out. Empty for none.
        split_key: String = String::new();
        /// `new_classes`: tasks of validation and test have classes of their own. `new_items`: they have the
        /// classes and the support of training, and queries of their own.
        protocol: Protocol = Protocol::NewClasses;
        /// With `new_classes`: file with the names of the training classes, one a line. When any of the
        /// three files is given, a split without a file has no classes, and a class in no file is not used.
        /// Without them, the files or the column of splits say which class is whose, else its name.
        train_classes: String = String::new();
        /// File with the names of the validation classes.
        validation_classes: String = String::new();
        /// File with the names of the test classes.
        test_classes: String = String::new();
        /// Where neither files nor a column say so: the expected fraction of classes (`new_items`: of items)
        /// that validate. Whether a class does is decided by the BLAKE3 hash of its name alone, and of an item
        /// by that of its row. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// The expected fraction that test, decided likewise. In 0..=1, and at most 1 together with
        /// `validation_fraction`.
        test_fraction: f64 = 0.2;
        /// A class with fewer items than a task asks for: `refuse`, or take `all` there are. Tasks then have
        /// classes with fewer shots or queries than others.
        fewer: Fewer = Fewer::Refuse;
        /// The least number of classes of a task, each with its own, up to `way`; 0 for always `way`.
        least_way: usize = 0, size(0);
        /// The least number of shots of a class, each class with its own, up to `shot`; 0 for always `shot`.
        least_shot: usize = 0, size(0);
        /// Whether columns that are the same in all rows are accepted.
        constant_columns: bool = false;
        /// File with a vector that describes each class, such as an embedding of its name: under the keys of
        /// `features` and `labels`, a row for each class. Learners that read such vectors get them with
        /// every task.
        class_vectors: String = String::new();
        /// Folder that remembers which files were checked. Empty: `$XDG_CACHE_HOME/meta-attention`, else
        /// `~/.cache/meta-attention`.
        cache_dir: String = String::new();
    }
}

impl FeaturesSettings {
    /// Checks the settings by themselves.
    pub(super) fn check(&self) -> Result<()> {
        self.check_ranges("data")?;
        self.fractions().check()?;
        if self.path.is_empty() && self.has_split_paths() {
            let expected =
                "must name the training vectors where validation or test vectors have files";
            return Err(Error::setting("data.path", "\"\"", expected));
        }
        if self.has_split_paths() && !self.split_key.is_empty() {
            let expected = "says the splits of rows, and so do `data.validation_path` and `data.test_path`; \
                            leave one of them out";
            return Err(Error::setting("data.split_key", &self.split_key, expected));
        }
        if self.protocol == Protocol::NewItems && self.has_class_lists() {
            let expected =
                "has the same classes in all splits; lists of classes are for `new_classes`";
            return Err(Error::setting("data.protocol", "new_items", expected));
        }
        for (key, path, name) in [
            ("data.features", &self.path, &self.features),
            ("data.labels", &self.path, &self.labels),
        ] {
            if !path.is_empty() && name.is_empty() {
                let expected = "must name an array or a column of the file";
                return Err(Error::setting(key, "\"\"", expected));
            }
        }
        Ok(())
    }

    pub(super) fn fractions(&self) -> Fractions {
        Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        }
    }

    /// The files of vectors and of their labels.
    pub(super) fn paths(&self) -> [(Split, &str, &str); 3] {
        [
            (Split::Train, &self.path, &self.label_path),
            (
                Split::Validation,
                &self.validation_path,
                &self.validation_label_path,
            ),
            (Split::Test, &self.test_path, &self.test_label_path),
        ]
    }

    pub(super) fn has_split_paths(&self) -> bool {
        !self.validation_path.is_empty() || !self.test_path.is_empty()
    }

    pub(super) fn class_lists(&self) -> [(Split, &str); 3] {
        [
            (Split::Train, &self.train_classes),
            (Split::Validation, &self.validation_classes),
            (Split::Test, &self.test_classes),
        ]
    }

    pub(super) fn has_class_lists(&self) -> bool {
        self.class_lists().iter().any(|(_, file)| !file.is_empty())
    }
}
