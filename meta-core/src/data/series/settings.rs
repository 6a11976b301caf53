//! Settings of the source of series.

use serde::{Deserialize, Serialize};

use crate::data::class_splits::Fractions;
use crate::data::episode::Split;
use crate::error::{Error, Result};
use crate::settings;
use crate::settings::Settings;

/// Where the label of a series stands in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelPlace {
    /// Before the values.
    First,
    /// After them.
    Last,
}

/// What becomes of series that have another length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesFit {
    /// Shorter ones end earlier, and of longer ones the end is left out.
    Pad,
    /// All are drawn to the length, by straight lines between points.
    Resample,
}

/// What becomes of missing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingValues {
    /// They lie on the straight line between their neighbours in time; before the first and after the last
    /// value of a channel they are equal to it.
    Interpolate,
    /// They are 0 after the series is normalised; a step without any value is not there.
    Mask,
}

settings! {
    /// Settings of the source of series.
    ///
    /// Files are read by their endings: `.tsv`, `.txt`, `.csv`, `.ts` (each also with `.gz`), and `.tar.gz` of
    /// such files. Relative paths start at the data folder when there is one, else at the working directory; a
    /// list of classes that is not there is looked for in the working directory too.
    pub struct SeriesSettings {
        /// Files of series with labels. A data set is called as its file, without `_TRAIN` and `_TEST`, which
        /// are read as one; a class is `SET/LABEL`.
        files: Vec<String> = Vec::new();
        /// Data sets that are read; empty for all.
        sets: Vec<String> = Vec::new();
        /// Data sets whose classes validate. When this or `test_sets` is given, the classes of all others
        /// are for training.
        validation_sets: Vec<String> = Vec::new();
        /// Data sets whose classes test.
        test_sets: Vec<String> = Vec::new();
        /// Where the label stands in a row: `first` or `last`. In `.ts` it is the last.
        label: LabelPlace = LabelPlace::First;
        /// Steps of an item; 0 for the longest series. An item has a row for each step: its channels, and a 1
        /// where the step is there. Rows of zeros are not, and encoders that read masks do not read them.
        length: usize = 0, between(0, 65_536);
        /// Series of another length: `pad` or `resample`.
        fit: SeriesFit = SeriesFit::Pad;
        /// Whether each channel of each series is centred, and divided by its standard deviation; a constant
        /// one is 0.
        normalise: bool = true;
        /// Missing values: `interpolate`, or `mask`.
        missing: MissingValues = MissingValues::Interpolate;
        /// Whether the classes of a task may come from several data sets; else each task is of one.
        across: bool = false;
        /// Classes with fewer series are left out.
        least_series: usize = 0, size(0);
        /// File with the names of the training classes, `SET/LABEL`, one a line. When any of the three files is
        /// given, a split without a file has no classes, and a class in no file is not used.
        train_classes: String = String::new();
        /// File with the names of the validation classes.
        validation_classes: String = String::new();
        /// File with the names of the test classes.
        test_classes: String = String::new();
        /// Where neither files nor sets say so: the expected fraction of classes that validate, decided by the
        /// BLAKE3 hash of a name alone. In 0..=1.
        validation_fraction: f64 = 0.16;
        /// The expected fraction of classes that test, decided likewise. In 0..=1, and at most 1 together with
        /// `validation_fraction`.
        test_fraction: f64 = 0.2;
    }
}

impl SeriesSettings {
    /// Checks the settings by themselves.
    pub(super) fn check(&self) -> Result<()> {
        self.check_ranges("data")?;
        self.fractions().check()?;
        if self.files.is_empty() {
            let expected = "must name a file of series with labels";
            return Err(Error::setting("data.files", "[]", expected));
        }
        if self.length == 1 {
            let expected = "an item has at least two steps: must be 0, or at least 2";
            return Err(Error::setting("data.length", 1, expected));
        }
        if self.is_split_by_sets() && self.has_class_lists() {
            let expected = "say which classes are whose, and so do the lists of classes; leave one of them out";
            return Err(Error::setting(
                "data.test_sets",
                self.test_sets.join(", "),
                expected,
            ));
        }
        if let Some(both) = self
            .validation_sets
            .iter()
            .find(|set| self.test_sets.contains(set))
        {
            let expected = "is among `data.test_sets`, too";
            return Err(Error::setting("data.validation_sets", both, expected));
        }
        Ok(())
    }

    pub(super) fn fractions(&self) -> Fractions {
        Fractions {
            validation: self.validation_fraction,
            test: self.test_fraction,
        }
    }

    pub(super) fn is_split_by_sets(&self) -> bool {
        !self.validation_sets.is_empty() || !self.test_sets.is_empty()
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
