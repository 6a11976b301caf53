//! Draws all pictures of a map, with their captions.

use super::{
    episode_view::{EpisodeView, Shown, axis_name},
    heatmap::{Subject, over_parts},
    maps::{Map, Matrix, Of},
    sentences::over_examples,
    sequences::{over_steps, over_words},
};
use crate::output::drawing::Drawing;

/// What a picture of a map shows, in words.
pub fn caption(map: &Map, rows: &Shown, columns: &Shown) -> String {
    let some = |shown: &Shown, count: usize| match shown.places.len() {
        all if all == count => String::new(),
        some => format!(", {some} of {count} shown"),
    };
    let of = match map.of {
        Of::Episode => String::new(),
        Of::Support => "; mean over support items".to_owned(),
        Of::Query => "; mean over queries".to_owned(),
        Of::Item => "; mean over items".to_owned(),
        Of::Other(count) => format!("; mean over {count} of them"),
    };
    format!(
        "“{}”: each row ({}{}) attends to the columns ({}{}){of}",
        map.name,
        axis_name(&map.rows),
        some(rows, map.dims[2]),
        axis_name(&map.columns),
        some(columns, map.dims[3]),
    )
}

/// The pictures of a map: what is added to the name of its file, and the picture.
pub fn draw_map(view: &EpisodeView, map: &Map) -> Vec<(&'static str, Drawing)> {
    if let Some(grid) = map.over_parts() {
        // Rows one below the other: those of a text or a series, where it is one.
        if grid.1 == 1
            && let Some(drawing) = over_words(view, map).or_else(|| over_steps(view, map))
        {
            return vec![("", drawing)];
        }
        let line = format!(
            "“{}”: attention that each part of an item receives, mean over what attends ({})",
            map.name,
            axis_name(&map.rows)
        );
        let lines = [view.setting.as_str(), &line];
        if let Some(drawing) = over_parts(view, map, grid, &view.title, &lines) {
            return vec![("", drawing)];
        }
    }
    if let Some(drawing) = over_examples(view, map) {
        return vec![("", drawing)];
    }
    let rows = view.shown(&map.rows, map.dims[2]);
    let columns = view.shown(&map.columns, map.dims[3]);
    let lines = [view.setting.clone(), caption(map, &rows, &columns)];
    draw_matrices(&map.over_things(), &view.title, lines, &rows, &columns)
}

/// The mean over heads, and all heads where there are several: what is added to the name of
/// the file, and the picture.
pub fn draw_matrices(
    by_head: &[Matrix],
    title: &str,
    [setting, line]: [String; 2],
    rows: &Shown,
    columns: &Shown,
) -> Vec<(&'static str, Drawing)> {
    let drawn = |line: &str| {
        Subject {
            title,
            lines: &[&setting, line],
            rows,
            columns,
        }
        .one(&Matrix::mean(by_head))
    };
    match by_head.len() {
        1 => vec![("", drawn(&line))],
        heads => {
            let mean = drawn(&format!("{line}; mean of {heads} heads"));
            let all = Subject {
                title,
                lines: &[&setting, &format!("{line}; each of {heads} heads")],
                rows,
                columns,
            };
            vec![("", mean), ("-heads", all.heads(by_head))]
        }
    }
}
