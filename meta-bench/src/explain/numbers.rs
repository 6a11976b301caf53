//! Writes the numbers behind the pictures as JSON.

use meta_core::{
    data::{Items, Targets},
    nn::attention::MapAxis,
};
use serde_json::{Value, json};

use super::{
    episode_pictures::probabilities,
    episode_view::EpisodeView,
    explained::ExplainedEpisode,
    maps::{Map, Matrix},
    space::Space,
};
use crate::run::predictions::Predictions;

/// Six decimals: what single precision holds of a weight.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn matrix_numbers(matrix: &Matrix) -> Value {
    let rows = matrix.values.chunks(matrix.columns.max(1));
    rows.map(|row| {
        row.iter()
            .map(|&value| rounded(value))
            .collect::<Vec<f64>>()
    })
    .collect()
}

fn axis_numbers(axis: &MapAxis, count: usize) -> Value {
    match axis {
        MapAxis::Part(rows, columns) => {
            json!({ "of": "part", "count": count, "grid": [rows, columns] })
        }
        MapAxis::Other(name) => json!({ "of": "other", "name": name, "count": count }),
        MapAxis::Query => json!({ "of": "query", "count": count }),
        MapAxis::Support => json!({ "of": "support", "count": count }),
        MapAxis::Item => json!({ "of": "item", "count": count }),
        MapAxis::Class => json!({ "of": "class", "count": count }),
        MapAxis::Task => json!({ "of": "task", "count": count }),
    }
}

/// The numbers of a map: its matrices by head, or what the parts of each item receive.
pub fn map_numbers(map: &Map, pictures: &[String]) -> Value {
    let [things, heads, rows, columns] = map.dims;
    let mut numbers = json!({
        "name": map.name,
        "rows": axis_numbers(&map.rows, rows),
        "columns": axis_numbers(&map.columns, columns),
        "of": map.of.name(),
        "heads": heads,
        "evenness": map.evenness().into_iter().map(|found| found.map(rounded)).collect::<Vec<_>>(),
        "pictures": pictures,
    });
    if map.over_parts().is_some() {
        let received = |thing: usize| -> Vec<Vec<f64>> {
            let by_head = map.by_head(thing);
            by_head
                .iter()
                .map(|matrix| matrix.received().into_iter().map(rounded).collect())
                .collect()
        };
        numbers["received"] = json!((0..things).map(received).collect::<Vec<_>>());
    } else {
        let by_head = map.over_things();
        numbers["weights"] = by_head.iter().map(matrix_numbers).collect();
        numbers["mean"] = matrix_numbers(&Matrix::mean(&by_head));
    }
    numbers
}

/// The numbers of an episode, with those of its maps and the names of its pictures.
pub fn episode_numbers(
    explained: &ExplainedEpisode,
    maps: Vec<Value>,
    pictures: &[String],
) -> Value {
    let view = &explained.view;
    let episode = &view.episode;
    let items = |items: &Items| {
        let mut numbers = json!({ "ids": items.ids });
        match &items.targets {
            Targets::Classes(classes) => numbers["classes"] = json!(classes),
            Targets::Values(values) => {
                numbers["inputs"] = json!(items.inputs);
                numbers["values"] = json!(values);
            }
            Targets::Sequences(symbols) => {
                numbers["inputs"] = json!(items.inputs);
                numbers["symbols"] = json!(symbols);
            }
        }
        numbers
    };
    let mut query = items(&episode.query);
    if matches!(episode.query.targets, Targets::Classes(_)) {
        let predicted: Vec<Option<usize>> = (0..view.queries())
            .map(|query| view.predicted(query))
            .collect();
        let probability = |query: usize| {
            let scores = probabilities(view.answers.get(query)?);
            scores.get(predicted[query]?).copied().map(rounded)
        };
        let probability: Vec<Option<f64>> = (0..view.queries()).map(probability).collect();
        query["predicted"] = json!(predicted);
        query["probability"] = json!(probability);
    }
    let answers = explained.answers.last().map(|step| -> Vec<Vec<f64>> {
        step.iter()
            .map(|scores| scores.iter().map(|&score| rounded(score)).collect())
            .collect()
    });
    let steps: Vec<Value> = explained
        .steps
        .iter()
        .enumerate()
        .map(|(step, (score, loss))| json!({ "step": step, "loss": loss, "score": score }))
        .collect();
    let movement: Vec<Value> = explained
        .movement
        .iter()
        .map(|(layer, by_step)| json!({ "layer": layer, "distance": by_step }))
        .collect();
    json!({
        "episode": episode.index,
        "classes": episode.classes,
        "class_names": view.class_names,
        "support": items(&episode.support),
        "query": query,
        "answers": answers,
        "steps": steps,
        "movement": movement,
        "maps": maps,
        "pictures": pictures,
    })
}

/// Where the items of an episode are: its classes in the order of the distance of their prototypes from each
/// query, and the projection to two dimensions.
pub fn space_numbers(view: &EpisodeView, space: &Space) -> Value {
    let episode = &view.episode;
    let (places, shares) = space.projected();
    let places: Vec<[f64; 2]> = places
        .into_iter()
        .map(|(x, y)| [rounded(x), rounded(y)])
        .collect();
    let (support, query) = places.split_at(space.support.len());
    let mut numbers = json!({
        "of": space.of,
        "support": support,
        "query": query,
        "shares_of_variance": shares.map(rounded),
    });
    if matches!(episode.support.targets, Targets::Classes(_)) {
        let prototypes = space.prototypes(&episode.support, episode.shape.way.0);
        let nearest = space.nearest(&prototypes).into_iter().map(|classes| {
            let classes = classes.into_iter();
            classes
                .map(|(class, distance)| json!({ "class": class, "distance": rounded(distance) }))
                .collect::<Vec<Value>>()
        });
        numbers["nearest_prototypes"] = nearest.collect();
    }
    numbers
}

/// How often each class was recognised, and what it was taken for.
pub fn confusion_numbers(predictions: &Predictions) -> Value {
    let name = |class: usize| predictions.classes[class].as_str();
    let classes: Vec<Value> = predictions
        .hardest()
        .iter()
        .map(|one| json!({ "class": name(one.class), "queries": one.queries, "right": one.right }))
        .collect();
    let wrong = predictions.confusions().into_iter();
    let wrong: Vec<Value> = wrong
        .filter(|one| one.class != one.taken_for)
        .map(|one| {
            let (class, taken_for) = (name(one.class), name(one.taken_for));
            json!({ "class": class, "taken_for": taken_for, "queries": one.count, "of": one.of })
        })
        .collect();
    json!({
        "episodes": predictions.episodes.len(),
        "queries": predictions.all.len(),
        "accuracy": rounded(predictions.accuracy()),
        "calibration_error": rounded(predictions.calibration_error()),
        "classes": classes,
        "confusions": wrong,
    })
}
