//! Expands axes into points: the values that every run of a sweep lays over its manifest.

use meta_core::rng::Seed;
use serde_json::Value;

use super::{
    ranges::{Drawn, Range},
    sourced::{Axis, layers},
    spec::{Method, Search, Spec},
};
use crate::{
    failure::{CommandError, Result},
    manifest::{layer::Layer, text::toml},
};

/// One run of a sweep: what lies on its manifest.
#[derive(Clone, Debug)]
pub struct Point {
    /// Values for its manifest.
    pub layers: Vec<Layer>,
    /// What tells it from the other runs: key and value, for people.
    pub label: Vec<(String, String)>,
    /// The trial of the search that it belongs to.
    pub trial: usize,
}

impl Point {
    fn with(&self, axis: &Axis, index: usize) -> Point {
        let mut point = self.clone();
        point.layers.extend(layers(axis, index));
        point.label.push(label(axis, index));
        point
    }
}

/// A value for people: TOML without the quotation marks.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => toml(other).unwrap_or_else(|| "–".to_owned()),
    }
}

/// What tells the value at `index` from the others of its axis. Tables with names of their own are
/// told apart by these.
fn label(axis: &Axis, index: usize) -> (String, String) {
    let name_key = match axis.key.as_str() {
        "data" => "source",
        _ => "name",
    };
    let names: Vec<&str> = axis
        .values
        .iter()
        .filter_map(|value| value.get(name_key)?.as_str())
        .collect();
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() == axis.values.len() {
        (format!("{}.{name_key}", axis.key), names[index].to_owned())
    } else {
        (axis.key.clone(), shown(&axis.values[index]))
    }
}

impl Spec {
    /// How many runs the sweep has.
    pub fn count(&self) -> usize {
        let grid = self
            .grid
            .iter()
            .chain(&self.seed)
            .map(|axis| axis.values.len());
        let zip = self.zip.first().map_or(1, |axis| axis.values.len());
        let search = self.search.as_ref().map_or(1, |search| search.trials);
        grid.chain([zip, search, self.trials.len().max(1)])
            .fold(1, usize::saturating_mul)
    }

    /// Refuses more runs than the cap.
    ///
    /// # Errors
    /// Naming the cap and where it was given.
    pub fn check_cap(&self) -> Result<()> {
        let count = self.count();
        if count <= self.max_runs {
            return Ok(());
        }
        let cap = match &self.max_runs_origin {
            Some(origin) => format!("{origin}: `sweep.max_runs = {}`", self.max_runs),
            None => format!(
                "without `sweep.max_runs`, at most {} are started",
                self.max_runs
            ),
        };
        Err(CommandError::Usage(format!(
            "the sweep has {count} runs; {cap}"
        )))
    }

    /// Everything but the search and the seeds.
    fn combinations(&self) -> Vec<Point> {
        let mut points = vec![Point {
            layers: self.fixed.clone(),
            label: Vec::new(),
            trial: 0,
        }];
        if !self.trials.is_empty() {
            points = self
                .trials
                .iter()
                .map(|row| {
                    let mut point = points[0].clone();
                    let shown = row.iter().map(|layer| (layer.path(), shown(layer.value())));
                    point.label.extend(shown);
                    point.layers.extend(row.iter().cloned());
                    point
                })
                .collect();
        }
        for axis in &self.grid {
            points = product(&points, axis);
        }
        if let Some(first) = self.zip.first() {
            let step = |point: &Point, index: usize| {
                self.zip
                    .iter()
                    .fold(point.clone(), |point, axis| point.with(axis, index))
            };
            points = points
                .iter()
                .flat_map(|point| (0..first.values.len()).map(move |index| step(point, index)))
                .collect();
        }
        points
    }

    /// The runs of trial number `trial`, whose values are `drawn`: one for each seed.
    pub fn trial(&self, trial: usize, drawn: &[Layer]) -> Vec<Point> {
        self.seeds(
            self.combinations()
                .iter()
                .map(|point| point.drawn(trial, drawn))
                .collect(),
        )
    }

    fn seeds(&self, points: Vec<Point>) -> Vec<Point> {
        match &self.seed {
            Some(axis) => product(&points, axis),
            None => points,
        }
    }

    /// All runs, in order. A search that looks at results starts with none.
    pub fn points(&self) -> Vec<Point> {
        let points = match &self.search {
            Some(search) if search.method == Method::Random => {
                let draws: Vec<Vec<Layer>> = (0..search.trials)
                    .map(|trial| search.draw(self.search_seed, trial))
                    .collect();
                self.combinations()
                    .iter()
                    .flat_map(|point| {
                        let drawn =
                            |(trial, layers): (usize, &Vec<Layer>)| point.drawn(trial, layers);
                        draws.iter().enumerate().map(drawn).collect::<Vec<_>>()
                    })
                    .collect()
            }
            Some(_) => return Vec::new(),
            None => self.combinations(),
        };
        self.seeds(points)
    }
}

impl Point {
    fn drawn(&self, trial: usize, layers: &[Layer]) -> Point {
        let mut point = self.clone();
        point.trial = trial;
        for layer in layers {
            point.label.push((layer.path(), shown(layer.value())));
            point.layers.push(layer.clone());
        }
        point
    }
}

fn product(points: &[Point], axis: &Axis) -> Vec<Point> {
    points
        .iter()
        .flat_map(|point| (0..axis.values.len()).map(move |index| point.with(axis, index)))
        .collect()
}

impl Search {
    /// Random values of trial number `trial`; each key draws from a stream of its own, so that
    /// another key more or less changes nothing.
    pub fn draw(&self, seed: u64, trial: usize) -> Vec<Layer> {
        self.axes
            .iter()
            .map(|drawn| {
                let mut stream = Seed(seed).stream("sweep", trial as u64, &drawn.key);
                drawn.layer(stream.uniform())
            })
            .collect()
    }

    /// The ends of all ranges: if they can run, so can what lies between.
    pub fn corners(&self) -> Vec<Vec<Layer>> {
        let most = self.axes.iter().map(|drawn| match &drawn.range {
            Range::Choice(values) => values.len(),
            _ => 2,
        });
        let most = most.max().unwrap_or(1);
        (0..most)
            .map(|corner| {
                let position = |drawn: &Drawn| match &drawn.range {
                    Range::Choice(values) => {
                        (corner.min(values.len() - 1) as f64 + 0.5) / values.len() as f64
                    }
                    _ => f64::from(u8::from(corner > 0)),
                };
                self.axes
                    .iter()
                    .map(|drawn| drawn.layer(position(drawn)))
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    use crate::manifest::base::Document;

    fn read(text: &str) -> Result<Spec> {
        let document = Document {
            path: "m.toml".into(),
            text: text.to_owned(),
        };
        Spec::read(&[document], &[], None)
    }

    fn spec(text: &str) -> Spec {
        read(text).unwrap()
    }

    fn labels(spec: &Spec) -> Vec<String> {
        let join = |point: &Point| {
            let pairs: Vec<String> = point
                .label
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            pairs.join(" ")
        };
        spec.points().iter().map(join).collect()
    }

    #[test]
    fn a_grid_is_every_combination_and_seeds_are_the_fastest() {
        let spec = spec(
            "[sweep]\nseed = [0, 1]\n[sweep.grid]\nlearner = [{ name = 'maml', inner_lr = 1 }, \
             { name = 'anil' }]\n[sweep.zip]\ndata.way = [2, 5]\ndata.shot = [1, 3]\n",
        );
        let labels = labels(&spec);
        assert_eq!((labels.len(), spec.count()), (8, 8));
        assert_eq!(labels[1], "learner.name=maml data.way=2 data.shot=1 seed=1");
        assert_eq!(labels[6], "learner.name=anil data.way=5 data.shot=3 seed=0");
        assert_eq!(spec.points()[0].layers.len(), 5);
    }

    #[test]
    fn draws_are_in_their_ranges_and_the_same_again() {
        let text = "[sweep.random]\ntrials = 200\ntrain.lr = { log_uniform = [1e-4, 1] }\n\
                    data.way = { integer = [2, 4] }\nlearner.order = { choice = ['a', 'b'] }\n\
                    train.momentum = { uniform = [0.2, 0.3] }\n";
        let search = spec(text).search.unwrap();
        let mut ways = [0; 3];
        let mut small = 0;
        for trial in 0..200 {
            let layers = search.draw(3, trial);
            let value = |key: &str| {
                let layer = layers.iter().find(|layer| layer.path() == key);
                layer.unwrap().value().clone()
            };
            let number = |key: &str| value(key).as_f64().unwrap();
            assert!((1e-4..=1.0).contains(&number("train.lr")));
            assert!((0.2..=0.3).contains(&number("train.momentum")));
            ways[number("data.way") as usize - 2] += 1;
            small += usize::from(number("train.lr") < 1e-2);
            assert!(["a", "b"].contains(&value("learner.order").as_str().unwrap()));
            for (drawn, layer) in search.axes.iter().zip(&layers) {
                let position = drawn.position(layer.value()).unwrap();
                assert_eq!(drawn.value(position), *layer.value());
            }
        }
        // Of 200 fair draws: a third of 200, and half; 99.99 % of draws are within four deviations.
        assert!(
            ways.iter().all(|count| (40..94).contains(count)),
            "{ways:?}"
        );
        assert!((72..128).contains(&small), "{small}");
        let paths = |seed| {
            search
                .draw(seed, 0)
                .iter()
                .map(|layer| layer.value().clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(paths(3), paths(3));
        assert_ne!(paths(3), paths(4));
        // Keys of a section stand together.
        let corners = search.corners();
        assert_eq!(corners[0][0].value(), &json!(1e-4));
        assert_eq!(corners[1][2].value(), &json!(4));
    }

    #[test]
    fn the_cap_is_kept() {
        let text = "[sweep]\nmax_runs = 3\nseed = [0, 1]\n[sweep.grid]\ndata.way = [2, 5]\n";
        let message = read(text).unwrap_err().to_string();
        assert_eq!(
            message,
            "the sweep has 4 runs; m.toml:2: `sweep.max_runs = 3`"
        );
        let more = read("[sweep]\nmax_runs = 100000000\n")
            .unwrap_err()
            .to_string();
        assert!(
            more.contains("m.toml:2") && more.contains("at most 10000000"),
            "{more}"
        );
    }

    /// Values are counted and compared in a time that grows as their number.
    #[test]
    fn an_axis_may_be_long() {
        let seeds: Vec<String> = (0..400_000).map(|seed| seed.to_string()).collect();
        let seeds = seeds.join(", ");
        let message = read(&format!("[sweep]\nseed = [{seeds}]\n"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("400000 runs"), "{message}");
        let text = format!("[sweep]\nmax_runs = 400001\nseed = [{seeds}, 399999]\n");
        let message = read(&text).unwrap_err().to_string();
        assert!(
            message.contains("`seed = 399999`: the axis has this value twice"),
            "{message}"
        );
        let both = format!("[sweep.zip]\nseed = [{seeds}]\ntest.seed = [{seeds}]\n");
        let message = read(&format!("[sweep]\nmax_runs = 400000\n{both}")).map(|spec| spec.count());
        assert_eq!(message.unwrap(), 400_000);
    }
}
