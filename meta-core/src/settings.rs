//! Settings: groups of named values with defaults, documentation and ranges, said once.
//!
//! The macro [`settings!`](crate::settings!) declares a group; sources, encoders, learners, the outer
//! loop and the manifest all use it, so every part of the toolkit refuses a bad setting in the same
//! words, and the manifest reference is written from the same lines.

use std::fmt::Display;

#[doc(hidden)]
pub use serde::{Serialize, Serializer};
use serde::{de::DeserializeOwned, ser::SerializeMap};
use serde_json::Map;
#[doc(hidden)]
pub use serde_json::Value;

use crate::{Error, Result};

/// A setting of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// What it means, with its range; one paragraph of Markdown.
    pub doc: String,
    /// The version that added it to a group that runs were recorded with before. At its default it is
    /// left out of a run's identity, so that older runs keep theirs.
    pub added: Option<&'static str>,
}

/// A group of settings that a user can give: all have defaults, all are checked once.
///
/// Declare one with [`settings!`](crate::settings!).
pub trait Settings: Default + Clone + Send + Sync + 'static {
    /// Every key with its documentation, in the order of declaration.
    fn fields() -> Vec<Field>;

    /// Every key with its value, in the order of declaration.
    fn entries(&self) -> Vec<(&'static str, Value)>;

    /// Sets the value at `key`; returns false where there is no such key.
    ///
    /// # Errors
    /// [`Error::Setting`] for a value of the wrong type.
    fn set(&mut self, section: &str, key: &str, value: &Value) -> Result<bool>;

    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key under `section`.
    fn check_ranges(&self, section: &str) -> Result<()>;

    /// The settings as an object.
    fn to_value(&self) -> Value {
        let entries = self.entries().into_iter();
        Value::Object(
            entries
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    /// The defaults as an object.
    fn defaults() -> Value {
        Self::default().to_value()
    }

    /// Reads the settings from `given`, an object (null: an empty one); absent keys take their
    /// defaults.
    ///
    /// `section` is the dotted path of the object in the manifest and only serves messages.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a key that does not exist (the nearest one is suggested),
    /// [`Error::Setting`] for a value of the wrong type or out of its range.
    fn from_value(section: &str, given: &Value) -> Result<Self> {
        let empty = Map::new();
        let given = match given {
            Value::Object(given) => given,
            Value::Null => &empty,
            other => {
                return Err(Error::setting(
                    section,
                    other,
                    "expected a table of settings",
                ));
            }
        };
        let mut settings = Self::default();
        for (key, value) in given {
            if !settings.set(section, key, value)? {
                let known = Self::fields();
                return Err(unknown_key(
                    section,
                    key,
                    known.iter().map(|field| field.name),
                ));
            }
        }
        settings.check_ranges(section)?;
        Ok(settings)
    }
}

/// Declares a group of settings: a struct, its defaults, its documentation and its ranges.
///
/// ```
/// use meta_core::settings::Settings;
///
/// meta_core::settings! {
///     /// Settings of gradient descent.
///     pub struct DescentSettings {
///         /// Learning rate `α`.
///         lr: f64 = 0.1, above(0.0);
///         /// Number of steps.
///         steps: usize = 5, at_least(1);
///         /// Whether steps are logged.
///         log: bool = false;
///     }
/// }
///
/// let settings = DescentSettings::from_value("learner", &serde_json::json!({ "steps": 3 }))?;
/// assert_eq!((settings.lr, settings.steps), (0.1, 3));
/// let error = DescentSettings::from_value("learner", &serde_json::json!({ "lr": 0.0 })).unwrap_err();
/// assert_eq!(error.to_string(), "`learner.lr = 0`: must be above 0");
/// assert_eq!(DescentSettings::fields()[1].doc, "Number of steps, at least 1.");
/// # Ok::<(), meta_core::Error>(())
/// ```
///
/// A value's type implements `Serialize` and `DeserializeOwned`. Ranges are [`above`], [`at_least`],
/// [`below_one`], [`inside_unit`], [`fraction`], [`between`] and [`size`]; of a list, they hold for each
/// item.
/// `#[added("0.2")]` before
/// a field is its [`Field::added`]. A last line `..name: Type;` takes in the keys of another group.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])*
        $vis:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[added($added:literal)])?
                $field:ident : $type:ty = $default:expr $(, $range:ident ( $($bound:expr),* ))? ;
            )*
            $( .. $group:ident : $group_type:ty ; )?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $(
                $(#[doc = $doc])*
                pub $field: $type,
            )*
            $(
                /// The keys of another group.
                pub $group: $group_type,
            )?
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $default,)*
                    $($group: Default::default(),)?
                }
            }
        }

        impl $crate::settings::Settings for $name {
            fn fields() -> Vec<$crate::settings::Field> {
                #[allow(unused_mut)]
                let mut fields = vec![$(
                    $crate::settings::Field {
                        name: stringify!($field),
                        doc: $crate::settings::documented(
                            concat!($($doc),*),
                            &[$($crate::settings::$range($($bound),*).text())?],
                        ),
                        added: [$(Some($added),)? None][0],
                    }
                ),*];
                $(fields.extend(<$group_type as $crate::settings::Settings>::fields());)?
                fields
            }

            fn entries(&self) -> Vec<(&'static str, $crate::settings::Value)> {
                #[allow(unused_mut)]
                let mut entries = vec![$(
                    (stringify!($field), $crate::settings::to_value(&self.$field))
                ),*];
                $(entries.extend($crate::settings::Settings::entries(&self.$group));)?
                entries
            }

            fn set(
                &mut self,
                section: &str,
                key: &str,
                value: &$crate::settings::Value,
            ) -> $crate::Result<bool> {
                $(if key == stringify!($field) {
                    self.$field = $crate::settings::read(section, key, value)?;
                    return Ok(true);
                })*
                $(if $crate::settings::Settings::set(&mut self.$group, section, key, value)? {
                    return Ok(true);
                })?
                let _ = (section, key, value);
                Ok(false)
            }

            fn check_ranges(&self, section: &str) -> $crate::Result<()> {
                $($(
                    $crate::settings::Ranged::check(
                        &self.$field,
                        section,
                        stringify!($field),
                        &$crate::settings::$range($($bound),*),
                    )?;
                )?)*
                $($crate::settings::Settings::check_ranges(&self.$group, section)?;)?
                let _ = section;
                Ok(())
            }
        }

        impl $crate::settings::Serialize for $name {
            fn serialize<S: $crate::settings::Serializer>(
                &self,
                serializer: S,
            ) -> std::result::Result<S::Ok, S::Error> {
                $crate::settings::serialize(self, serializer)
            }
        }
    };
}

/// Which numbers a setting may be.
#[derive(Clone, Copy, Debug)]
pub enum Range<T> {
    /// Greater than this.
    Above(T),
    /// This or greater.
    AtLeast(T),
    /// From the first, included, to the second, excluded.
    HalfOpen(T, T),
    /// From the first to the second, both included.
    Closed(T, T),
    /// Between the two, both excluded.
    Open(T, T),
    /// From the first, excluded, to the second, included.
    OpenClosed(T, T),
    /// A size from the first on. The second is so large that no run has a use for more; it is said
    /// where it is exceeded, and once for all sizes in the reference.
    Size(T, T),
}

/// The largest size that a setting may ask for: of a layer, a set, a number of steps.
///
/// Products of three such sizes fit into 64 bits. What fits into the memory of a machine is a matter of
/// estimates; this bound is for what can only be a mistake.
pub const LARGEST_SIZE: usize = 1 << 20;

/// Sizes from `low` to [`LARGEST_SIZE`].
pub const fn size(low: usize) -> Range<usize> {
    Range::Size(low, LARGEST_SIZE)
}

/// Numbers above `low`.
pub const fn above<T>(low: T) -> Range<T> {
    Range::Above(low)
}

/// Numbers from `low` on.
pub const fn at_least<T>(low: T) -> Range<T> {
    Range::AtLeast(low)
}

/// Numbers in [0, 1).
pub const fn below_one() -> Range<f64> {
    Range::HalfOpen(0.0, 1.0)
}

/// Numbers in (0, 1).
pub const fn inside_unit() -> Range<f64> {
    Range::Open(0.0, 1.0)
}

/// Numbers in (0, 1].
pub const fn fraction() -> Range<f64> {
    Range::OpenClosed(0.0, 1.0)
}

/// Numbers from `low` to `high`, both included.
pub const fn between<T>(low: T, high: T) -> Range<T> {
    Range::Closed(low, high)
}

impl<T: PartialOrd + Display> Range<T> {
    /// The range in words: `above 0`, `at least 1`, `in [0, 1)`; nothing for sizes from 0 on.
    pub fn text(&self) -> String {
        match self {
            Range::Above(low) => format!("above {low}"),
            Range::AtLeast(low) => format!("at least {low}"),
            Range::HalfOpen(low, high) => format!("in [{low}, {high})"),
            Range::Closed(low, high) => format!("in [{low}, {high}]"),
            Range::Open(low, high) => format!("in ({low}, {high})"),
            Range::OpenClosed(low, high) => format!("in ({low}, {high}]"),
            Range::Size(low, _) => match low.to_string() {
                none if none == "0" => String::new(),
                low => format!("at least {low}"),
            },
        }
    }

    fn contains(&self, value: &T) -> bool {
        match self {
            Range::Above(low) => value > low,
            Range::AtLeast(low) => value >= low,
            Range::HalfOpen(low, high) => value >= low && value < high,
            Range::Closed(low, high) | Range::Size(low, high) => value >= low && value <= high,
            Range::Open(low, high) => value > low && value < high,
            Range::OpenClosed(low, high) => value > low && value <= high,
        }
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `key`.
    pub fn check(&self, key: impl Into<String>, value: &T) -> Result<()> {
        if self.contains(value) {
            return Ok(());
        }
        let expected = match self {
            Range::Size(_, high) if value > high => format!("must be at most {high}"),
            _ => format!("must be {}", self.text()),
        };
        Err(Error::setting(key, value, expected))
    }
}

/// A value, or a list of values, that can be out of a [`Range`].
pub trait Ranged {
    /// The value.
    type Number;

    /// Checks the value, or each of the list.
    ///
    /// # Errors
    /// [`Error::Setting`] naming `section.key`.
    fn check(&self, section: &str, key: &str, range: &Range<Self::Number>) -> Result<()>;
}

impl Ranged for f64 {
    type Number = f64;

    fn check(&self, section: &str, key: &str, range: &Range<f64>) -> Result<()> {
        range.check(dotted(section, key), self)?;
        if self.is_finite() {
            return Ok(());
        }
        Err(Error::setting(dotted(section, key), self, "must be finite"))
    }
}

macro_rules! ranged {
    ($($number:ty),+) => {
        $(impl Ranged for $number {
            type Number = $number;

            fn check(&self, section: &str, key: &str, range: &Range<$number>) -> Result<()> {
                range.check(dotted(section, key), self)
            }
        })+
    };
}

ranged!(usize, u64, u32, i64);

impl<T: Ranged> Ranged for Vec<T> {
    type Number = T::Number;

    fn check(&self, section: &str, key: &str, range: &Range<T::Number>) -> Result<()> {
        self.iter()
            .try_for_each(|item| item.check(section, key, range))
    }
}

impl<T: Ranged, const N: usize> Ranged for [T; N] {
    type Number = T::Number;

    fn check(&self, section: &str, key: &str, range: &Range<T::Number>) -> Result<()> {
        self.iter()
            .try_for_each(|item| item.check(section, key, range))
    }
}

/// The dotted path of `key` in `section`; the top of a manifest has no section.
pub fn dotted(section: &str, key: &str) -> String {
    match section {
        "" => key.to_owned(),
        section => format!("{section}.{key}"),
    }
}

/// The error for a key that `section` does not have.
pub fn unknown_key<'a>(
    section: &str,
    key: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Error {
    match Error::unknown("key", key, known) {
        Error::Unknown {
            kind,
            name,
            nearest,
            known,
        } => Error::Unknown {
            kind,
            name: dotted(section, &name),
            nearest,
            known,
        },
        other => other,
    }
}

/// What a doc comment and a range say together.
#[doc(hidden)]
pub fn documented(comment: &str, ranges: &[String]) -> String {
    let text = comment.trim().replace("[`", "`").replace("`]", "`");
    let Some(range) = ranges.first().filter(|range| !range.is_empty()) else {
        return text;
    };
    let sentence = text.trim_end_matches('.');
    if sentence.contains(". ") || sentence.contains(';') {
        let (first, rest) = range.split_at(1);
        format!("{text} {}{rest}.", first.to_uppercase())
    } else {
        format!("{sentence}, {range}.")
    }
}

#[doc(hidden)]
pub fn to_value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).expect("a setting serialises")
}

#[doc(hidden)]
pub fn read<T: DeserializeOwned>(section: &str, key: &str, value: &Value) -> Result<T> {
    T::deserialize(value)
        .map_err(|error| Error::setting(dotted(section, key), value, error.to_string()))
}

#[doc(hidden)]
pub fn serialize<T: Settings, S: Serializer>(
    settings: &T,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let entries = settings.entries();
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (key, value) in entries {
        map.serialize_entry(key, &value)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    crate::settings! {
        /// Settings of a step.
        struct Step {
            /// Length `α`.
            lr: f64 = 0.4, above(0.0);
            /// Share of the last step. None at first.
            momentum: f64 = 0.0, below_one();
        }
    }

    crate::settings! {
        /// Settings of an example.
        struct Example {
            /// Number of
            /// steps.
            steps: usize = 1, at_least(1);
            /// Widths.
            #[added("0.2")]
            hidden: Vec<usize> = vec![4, 4], size(1);
            /// Steps at the end; 0 for none.
            last: usize = 0, size(0);
            ..step: Step;
        }
    }

    fn message(given: Value) -> String {
        let error = Example::from_value("learner", &given).unwrap_err();
        error.to_string()
    }

    #[test]
    fn absent_keys_take_their_defaults() {
        let read = Example::from_value("learner", &json!({"steps": 5, "lr": 1})).unwrap();
        let expected = Example {
            steps: 5,
            hidden: vec![4, 4],
            last: 0,
            step: Step {
                lr: 1.0,
                momentum: 0.0,
            },
        };
        assert_eq!(read, expected);
        let empty = Example::from_value("", &Value::Null).unwrap();
        assert_eq!(empty, Example::default());
    }

    #[test]
    fn an_unknown_key_suggests_the_nearest() {
        let message = message(json!({"momentun": 1.0}));
        assert!(message.contains("`learner.momentun`"), "{message}");
        assert!(message.contains("did you mean `momentum`"), "{message}");
    }

    #[test]
    fn a_wrong_type_names_key_value_and_type() {
        let message = message(json!({"steps": "five"}));
        for part in ["learner.steps", "five", "usize"] {
            assert!(message.contains(part), "{message}");
        }
        let other = Example::from_value("learner", &json!(3)).unwrap_err();
        assert_eq!(
            other.to_string(),
            "`learner = 3`: expected a table of settings"
        );
    }

    #[test]
    fn ranges_are_checked_of_values_lists_and_groups() {
        for (given, expected) in [
            (
                json!({"steps": 0}),
                "`learner.steps = 0`: must be at least 1",
            ),
            (
                json!({"hidden": [3, 0]}),
                "`learner.hidden = 0`: must be at least 1",
            ),
            (json!({"lr": 0.0}), "`learner.lr = 0`: must be above 0"),
            (
                json!({"hidden": [4, 1048577]}),
                "`learner.hidden = 1048577`: must be at most 1048576",
            ),
            (
                json!({"momentum": 1.0}),
                "`learner.momentum = 1`: must be in [0, 1)",
            ),
        ] {
            assert_eq!(message(given), expected);
        }
        let mut settings = Example::default();
        settings.step.lr = f64::INFINITY;
        let infinite = settings.check_ranges("").unwrap_err().to_string();
        assert_eq!(infinite, "`lr = inf`: must be finite");
        settings.step.lr = f64::NAN;
        assert!(settings.check_ranges("").is_err());
    }

    #[test]
    fn fields_say_what_a_reference_needs() {
        let fields = Example::fields();
        let told: Vec<_> = fields
            .iter()
            .map(|field| (field.name, field.doc.as_str()))
            .collect();
        let expected = [
            ("steps", "Number of steps, at least 1."),
            ("hidden", "Widths, at least 1."),
            ("last", "Steps at the end; 0 for none."),
            ("lr", "Length `α`, above 0."),
            (
                "momentum",
                "Share of the last step. None at first. In [0, 1).",
            ),
        ];
        assert_eq!(told, expected);
        let added: Vec<_> = fields.iter().filter_map(|field| field.added).collect();
        assert_eq!(added, ["0.2"]);
    }

    #[test]
    fn settings_serialise_in_the_order_of_declaration() {
        let text = serde_json::to_string(&Example::default()).unwrap();
        assert_eq!(
            text,
            r#"{"steps":1,"hidden":[4,4],"last":0,"lr":0.4,"momentum":0.0}"#
        );
    }
}
