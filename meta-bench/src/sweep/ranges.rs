//! Reads ranges, and draws values from them.

use serde_json::{Value, json};

use super::sourced::Sourced;
use crate::{
    failure::Result,
    manifest::{layer::Layer, origin::Origin},
};

/// Where the values of a random axis come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Range {
    /// Real numbers, all equally likely.
    Uniform(f64, f64),
    /// Positive real numbers whose logarithms are equally likely.
    LogUniform(f64, f64),
    /// Whole numbers, both ends included.
    Integer(i64, i64),
    /// Positive whole numbers, both ends included, whose logarithms are equally likely.
    LogInteger(i64, i64),
    /// One of a list.
    Choice(Vec<Value>),
}

/// A key whose values are drawn or searched.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The key.
    pub key: String,
    /// Where it was given.
    pub origin: Origin,
    /// Where its values come from.
    pub range: Range,
}

impl Drawn {
    /// The value at `position` of its range, which is in [0, 1].
    pub fn value(&self, position: f64) -> Value {
        let index = |count: usize| ((position * count as f64) as usize).min(count - 1);
        match &self.range {
            Range::Uniform(low, high) => json!(rounded(between(position, *low, *high))),
            Range::LogUniform(low, high) => {
                json!(rounded(
                    (low.ln() + position * log_width(*low, *high)).exp()
                ))
            }
            Range::Integer(low, high) => {
                let count = count(*low, *high);
                let index = ((position * count as f64) as i128).min(count - 1);
                json!((i128::from(*low) + index) as i64)
            }
            Range::LogInteger(low, high) => {
                let (from, to) = around(*low, *high);
                let value = (from.ln() + position * (to / from).ln()).exp();
                json!((value.round() as i64).clamp(*low, *high))
            }
            Range::Choice(values) => values[index(values.len())].clone(),
        }
    }

    /// The same as a layer.
    pub fn layer(&self, position: f64) -> Layer {
        Layer::new(&self.key, self.value(position), self.origin.clone())
    }

    /// The position of `value` in the range; none for what is not in it.
    pub fn position(&self, value: &Value) -> Option<f64> {
        let number = || value.as_f64();
        let position = match &self.range {
            Range::Uniform(low, high) if (high - low).is_finite() => {
                (number()? - low) / (high - low)
            }
            Range::Uniform(low, high) => (number()? / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0),
            Range::LogUniform(low, high) => log_width(*low, number()?) / log_width(*low, *high),
            Range::Integer(low, high) => {
                let index = i128::from(value.as_i64()?) - i128::from(*low);
                (index as f64 + 0.5) / count(*low, *high) as f64
            }
            Range::LogInteger(low, high) => {
                let (from, to) = around(*low, *high);
                (value.as_i64()? as f64 / from).ln() / (to / from).ln()
            }
            Range::Choice(values) => {
                let index = values.iter().position(|other| other == value)?;
                (index as f64 + 0.5) / values.len() as f64
            }
        };
        // Rounding may leave the range by a hair.
        (position > -1e-3 && position < 1.001).then_some(position.clamp(0.0, 1.0 - 1e-12))
    }
}

/// The number at `position` between two, whose difference may be beyond all numbers.
fn between(position: f64, low: f64, high: f64) -> f64 {
    let width = high - low;
    if width.is_finite() {
        low + position * width
    } else {
        low * (1.0 - position) + high * position
    }
}

/// `ln(high / low)` of positive numbers, whose quotient may be beyond all numbers.
fn log_width(low: f64, high: f64) -> f64 {
    let quotient = high / low;
    if quotient.is_finite() && quotient > 0.0 {
        quotient.ln()
    } else {
        high.ln() - low.ln()
    }
}

/// Whole numbers from `low` to `high`.
fn count(low: i64, high: i64) -> i128 {
    i128::from(high) - i128::from(low) + 1
}

/// What is rounded to the whole numbers from `low` to `high`.
fn around(low: i64, high: i64) -> (f64, f64) {
    (low as f64 - 0.5, high as f64 + 0.5)
}

/// Five significant digits: values that people can read, type and find again. The value itself where they
/// are beyond all numbers.
fn rounded(value: f64) -> f64 {
    let short = format!("{value:.4e}").parse();
    short
        .ok()
        .filter(|short: &f64| short.is_finite())
        .unwrap_or(value)
}

/// How a range is written.
const FORM: &str = "expected { uniform = [low, high] }, { log_uniform = [low, high] }, \
                    { integer = [low, high] }, { log_integer = [low, high] } or { choice = [value, …] }";

const RANGES: [&str; 5] = ["uniform", "log_uniform", "integer", "log_integer", "choice"];

/// The drawn keys at `given`: one, or those of a section.
///
/// # Errors
/// When it is no range.
pub fn drawn(given: &Sourced<'_>, origin: &dyn Fn(usize) -> Origin) -> Result<Vec<Drawn>> {
    let table = given.value.as_table().ok_or_else(|| given.refuse(FORM))?;
    let is_range = |name: &str| RANGES.contains(&name);
    if given.path.len() == 2 && !table.iter().any(|(name, _)| is_range(name.get_ref())) {
        // A section, or a range with a name that does not exist.
        if table
            .iter()
            .all(|(_, value)| value.get_ref().as_table().is_none())
        {
            return Err(given.refuse(FORM));
        }
        let inner = given.inner(origin)?;
        let drawn = inner.iter().map(|given| drawn(given, origin));
        return Ok(drawn.collect::<Result<Vec<_>>>()?.concat());
    }
    Ok(vec![Drawn {
        key: given.path[1..].join("."),
        origin: given.origin.clone(),
        range: range(given)?,
    }])
}

/// The range at `given`.
fn range(given: &Sourced<'_>) -> Result<Range> {
    let value = given.value()?;
    let mut entries = value.as_object().into_iter().flatten();
    let (Some((kind, list)), None) = (entries.next(), entries.next()) else {
        return Err(given.refuse(FORM));
    };
    let list = list.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| given.refuse(FORM))?;
    let ends = |low_limit: f64| -> Option<(f64, f64)> {
        let [low, high] = list.as_slice() else {
            return None;
        };
        let (low, high) = (low.as_f64()?, high.as_f64()?);
        (low < high && low > low_limit).then_some((low, high))
    };
    let whole = |least: i64| -> Option<(i64, i64)> {
        let [low, high] = list.as_slice() else {
            return None;
        };
        let (low, high) = (low.as_i64()?, high.as_i64()?);
        (low < high && low >= least).then_some((low, high))
    };
    let range = match kind.as_str() {
        "uniform" => ends(f64::NEG_INFINITY).map(|(low, high)| Range::Uniform(low, high)),
        "log_uniform" => ends(0.0).map(|(low, high)| Range::LogUniform(low, high)),
        "integer" => whole(i64::MIN).map(|(low, high)| Range::Integer(low, high)),
        "log_integer" => whole(1).map(|(low, high)| Range::LogInteger(low, high)),
        "choice" => Some(Range::Choice(list.clone())),
        _ => return Err(given.refuse(FORM)),
    };
    range.ok_or_else(|| {
        given.refuse(match kind.as_str() {
            "log_uniform" => "expected two numbers, 0 < low < high",
            "integer" => "expected two whole numbers, low < high",
            "log_integer" => "expected two whole numbers, 1 <= low < high",
            _ => "expected two numbers, low < high",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(range: Range) -> Drawn {
        Drawn {
            key: "learner.inner_steps".to_owned(),
            origin: Origin::CommandLine,
            range,
        }
    }

    /// A range as wide as its type gives values of its type, and finds them again.
    #[test]
    fn ranges_may_be_as_wide_as_their_types() {
        let positions = [0.0, 1e-9, 0.25, 0.5, 0.999, 1.0];
        for range in [
            Range::Uniform(-1.7e308, 1.7e308),
            Range::Uniform(0.0, f64::MAX),
            Range::LogUniform(f64::MIN_POSITIVE, f64::MAX),
            Range::LogUniform(5e-324, 1.0),
        ] {
            let range = drawn(range);
            for position in positions {
                let value = range.value(position);
                assert!(value.is_f64(), "{range:?} at {position}: {value}");
                let found = range.position(&value).unwrap();
                assert!(
                    (found - position).abs() < 1e-3,
                    "{range:?} at {position}: {found}"
                );
            }
        }
        let integers = drawn(Range::Integer(i64::MIN, i64::MAX));
        assert_eq!(integers.value(0.0), json!(i64::MIN));
        assert_eq!(integers.value(1.0), json!(i64::MAX));
        assert_eq!(integers.position(&json!(0)), Some(0.5));
        let few = drawn(Range::Integer(-1, 1));
        assert_eq!(
            positions.map(|position| few.value(position)),
            [-1, -1, -1, 0, 1, 1].map(|v| json!(v))
        );
    }

    /// From 1 to 100, half of the draws are below 10; each number's share is that of the logarithms that are
    /// rounded to it.
    #[test]
    fn whole_numbers_have_a_log_scale() {
        let range = drawn(Range::LogInteger(1, 100));
        let values = (0..=10_000).map(|step| range.value(f64::from(step) / 10_000.0));
        let values: Vec<i64> = values.map(|value| value.as_i64().unwrap()).collect();
        assert!(values.is_sorted());
        assert_eq!((values[0], values[10_000]), (1, 100));
        let share = |number: i64| {
            let count = values.iter().filter(|value| **value == number).count();
            count as f64 / 10_001.0
        };
        for number in [1, 2, 10, 100] {
            let middle = number as f64;
            let expected = ((middle + 0.5) / (middle - 0.5)).ln() / (100.5f64 / 0.5).ln();
            assert!(
                (share(number) - expected).abs() < 2e-4,
                "{number}: {}",
                share(number)
            );
        }
        for number in 1..=100 {
            let position = range.position(&json!(number)).unwrap();
            assert_eq!(range.value(position), json!(number));
        }
        assert_eq!(range.position(&json!(0)), None);
        let widest = drawn(Range::LogInteger(1, i64::MAX));
        assert_eq!(widest.value(0.0), json!(1));
        assert!(widest.value(1.0).as_i64().unwrap() > i64::MAX / 1000 * 999);
    }
}
