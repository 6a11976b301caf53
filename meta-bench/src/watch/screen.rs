//! Draws what is shown onto a screen.

use std::time::Duration;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::Marker,
    text::{Line, Span},
    widgets::{
        Axis, Block, Cell, Chart, Clear, Dataset, GraphType, Paragraph, Table, TableState, Wrap,
    },
};

use meta_core::train::eval::Metric;

use super::view::{Column, Mode, Row, Shown, View};
use crate::{
    output::{text::visible, units::duration_text},
    run::state::State,
};

/// The narrowest and lowest screen on which something can be shown.
const LEAST: (u16, u16) = (40, 10);
/// From this width on, a run has a bar and its test.
const WIDE: u16 = 120;
/// A run at work that writes nothing for so long is said to be silent.
const SILENT: Duration = Duration::from_secs(120);

const QUIET: Style = Style::new().fg(Color::DarkGray);
const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);

/// The keys, and what they do.
const KEYS: [(&str, &str); 11] = [
    ("↑ ↓ j k", "select a run; PgUp, PgDn, g and G go further"),
    ("s", "sort by the next column"),
    ("r", "reverse the order"),
    (
        "/",
        "show only runs with a text in their row; Esc shows all",
    ),
    ("l, Enter", "open the log of the selected run"),
    ("c", "curves of the score, or of the loss"),
    (
        "x",
        "stop the selected run: it saves itself, and can be resumed",
    ),
    ("?", "these keys"),
    ("q, Ctrl-C", "leave; runs go on"),
    ("", ""),
    ("", "any key goes back"),
];

/// Draws all of it.
pub fn draw(frame: &mut Frame, view: &View) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("expected a terminal of at least {} × {}", LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let rows = view.shown_rows();
    let below = area.height - 2;
    let table = (rows.len() as u16).saturating_add(1).clamp(3, below / 2);
    let [head, table, lower, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(table),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(heading(view, &rows, head.width), head);
    draw_table(frame, view, &rows, table);
    let selected = view.place(&rows).map(|place| rows[place]);
    match (&view.mode, selected) {
        (Mode::Log(lines, first), Some(row)) => draw_log(frame, row, lines, *first, lower),
        (_, Some(row)) => draw_curves(frame, view, row, lower),
        (_, None) => {
            let text = match view.rows.is_empty() {
                true => format!(
                    "no run in {} yet; it appears here when it starts",
                    view.from
                ),
                false => format!("no run has `{}` in its row; Esc shows all", view.filter),
            };
            let text = Paragraph::new(visible(&text)).wrap(Wrap { trim: true });
            frame.render_widget(text.block(Block::bordered()), lower);
        }
    }
    frame.render_widget(footer(view), foot);
    if view.mode == Mode::Help {
        draw_help(frame, area);
    }
}

/// Where the runs are from, and how many are in which state.
fn heading<'a>(view: &View, rows: &[&Row], width: u16) -> Line<'a> {
    let states = [
        "running",
        "testing",
        "stopping",
        "waiting",
        "unfinished",
        "failed",
        "finished",
    ];
    let count = |state: &str| rows.iter().filter(|row| row.state() == state).count();
    let counts: Vec<String> = states
        .into_iter()
        .map(|state| (count(state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let mut said = counts.join(", ");
    if !view.filter.is_empty() {
        said.push_str(&format!(" · with `{}`", visible(&view.filter)));
    }
    // In columns, not in bytes.
    let room = usize::from(width).saturating_sub(said.chars().count() + 14);
    let from = shortened(&visible(&view.from), room.max(8));
    Line::from(vec![
        Span::styled("meta watch ", STRONG),
        Span::raw(from),
        Span::raw("  "),
        Span::styled(said, QUIET),
    ])
}

fn draw_table(frame: &mut Frame, view: &View, rows: &[&Row], area: Rect) {
    let wide = area.width >= WIDE;
    let columns: Vec<Column> = Column::ALL
        .into_iter()
        .filter(|column| wide || *column != Column::Test)
        .collect();
    let width = |column: &Column| match (column, wide) {
        (Column::Run, _) => Constraint::Min(12),
        (Column::State, _) => Constraint::Length(10),
        (Column::Progress, true) => Constraint::Length(34),
        (Column::Progress, false) => Constraint::Length(11),
        (Column::Rate, _) => Constraint::Length(10),
        (Column::Left, _) => Constraint::Length(11),
        (Column::Best | Column::Test, _) => Constraint::Length(15),
    };
    let widths: Vec<Constraint> = columns.iter().map(width).collect();
    let fixed: u16 = widths
        .iter()
        .map(|width| match width {
            Constraint::Length(width) => width + 1,
            _ => 0,
        })
        .sum();
    let room = usize::from(area.width.saturating_sub(fixed)).max(12);
    let heads = columns.iter().map(|column| {
        let arrow = match (*column == view.sort, view.reverse) {
            (false, _) => "",
            (true, false) => " ▾",
            (true, true) => " ▴",
        };
        Cell::from(format!("{}{arrow}", column.name()))
    });
    let lines = rows.iter().map(|row| {
        let cells = columns.iter().map(|column| cell(row, *column, wide, room));
        ratatui::widgets::Row::new(cells)
    });
    let table = Table::new(lines, widths)
        .header(ratatui::widgets::Row::new(heads).style(STRONG))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(view.place(rows));
    frame.render_stateful_widget(table, area, &mut state);
}

fn cell(row: &Row, column: Column, wide: bool, room: usize) -> Cell<'static> {
    let text = match column {
        Column::Run => shortened(&row.title(), room),
        Column::State => return Cell::from(Span::styled(row.state(), state_style(row))),
        Column::Progress => progress(row, wide),
        Column::Rate => row.rate(),
        Column::Left => row.run.left().map(duration_text).unwrap_or_default(),
        Column::Best => Row::score(row.run.best().map(|(_, score)| score)),
        Column::Test => Row::score(row.run.test),
    };
    Cell::from(text)
}

fn state_style(row: &Row) -> Style {
    let colour = match row.run.state {
        State::Running => Color::Green,
        State::Failed(_) | State::Foreign(_) => Color::Red,
        State::Unfinished => Color::Yellow,
        State::New => Color::DarkGray,
        State::Finished => Color::Blue,
    };
    Style::new().fg(colour)
}

fn progress(row: &Row, wide: bool) -> String {
    let (done, all) = (row.run.iteration(), row.run.iterations());
    if all == 0 {
        return String::new();
    }
    let share = row.share();
    if !wide {
        return format!("{:>4} {:>3.0} %", short(done), (100.0 * share).floor());
    }
    let bar = (12.0 * share).floor() as usize;
    let bar = format!("{}{}", "━".repeat(bar), "╌".repeat(12 - bar));
    format!("{bar} {:>3.0} %  {done}/{all}", (100.0 * share).floor())
}

/// A number in at most five letters: `12.3k`.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

/// A text in at most `room` columns: its beginning, and its end, which tells runs apart.
fn shortened(text: &str, room: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= room {
        return text.to_owned();
    }
    let end = (room.saturating_sub(1)) / 2;
    let start = room.saturating_sub(1) - end;
    let first: String = letters[..start].iter().collect();
    let last: String = letters[letters.len() - end..].iter().collect();
    format!("{first}…{last}")
}

/// What is said of the selected run above its curves.
fn about(row: &Row) -> String {
    let facts = row.run.facts.as_ref();
    let what = facts.map_or(String::new(), |facts| visible(&facts.what));
    let mut parts = vec![row.name(), what];
    if let State::Failed(why) | State::Foreign(why) = &row.run.state {
        parts.push(visible(why));
    }
    if let Some((at, score)) = row.run.best() {
        parts.push(format!("best {} at {at}", Row::score(Some(score))));
    }
    if let Some(test) = row.run.test {
        parts.push(format!("test {}", Row::score(Some(test))));
    }
    if let Some(loss) = row.run.loss() {
        parts.push(format!("loss {loss:.4}"));
    }
    if row.run.state == State::Running
        && let Some(silent) = row.run.silent().filter(|silent| *silent > SILENT)
    {
        parts.push(format!(
            "nothing written for {}",
            duration_text(silent.as_secs_f64())
        ));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

fn draw_curves(frame: &mut Frame, view: &View, row: &Row, area: Rect) {
    let about = about(row);
    let room = usize::from(area.width).max(1);
    let lines = (about.chars().count().div_ceil(room) as u16).clamp(1, 3);
    let [said, below] =
        Layout::vertical([Constraint::Length(lines), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new(about).wrap(Wrap { trim: true }), said);
    let (factor, name) = match (view.shown, row.run.metric()) {
        (Shown::Loss, _) => (1.0, "loss"),
        // Which one it is stands in the first validation.
        (Shown::Score, None) => (1.0, "score"),
        (Shown::Score, Some(Metric::Accuracy)) => (100.0, "accuracy (%)"),
        (Shown::Score, Some(Metric::MeanSquaredError)) => (1.0, "mean squared error"),
        (Shown::Score, Some(Metric::Return)) => (1.0, "return"),
    };
    let scaled = |points: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        let scaled = points.into_iter().map(|(x, value)| (x, factor * value));
        scaled.collect()
    };
    let curves = view.curves(row);
    let (train, validation) = (
        scaled(curves.train.points()),
        scaled(curves.validation.points()),
    );
    let tasks = row.run.facts.as_ref().map(|facts| facts.tasks.clone());
    let tasks = tasks.unwrap_or_else(|| ("training".to_owned(), "validation".to_owned()));
    let title = Line::from(vec![
        Span::raw(format!(" {name}: ")),
        Span::styled(format!("─ {} ", tasks.0), Style::new().fg(Color::Blue)),
        Span::styled(format!("● {} ", tasks.1), Style::new().fg(Color::Yellow)),
    ]);
    let block = Block::bordered().title(title).border_style(QUIET);
    if train.is_empty() && validation.is_empty() {
        let text = match row.run.state {
            State::New => "this run has not started",
            _ => "nothing is logged yet",
        };
        frame.render_widget(Paragraph::new(text).block(block), below);
        return;
    }
    let last = train
        .iter()
        .chain(&validation)
        .map(|point| point.0)
        .fold(1.0, f64::max);
    let last = last.max(row.run.iterations() as f64);
    let values = || train.iter().chain(&validation).map(|point| point.1);
    let (low, high) = bounds(values());
    let digits = digits(high - low);
    let y_labels = [low, 0.5 * (low + high), high].map(|value| format!("{value:.digits$}"));
    let x_labels = [
        "0".to_owned(),
        format!("{:.0}", last / 2.0),
        format!("{last:.0}"),
    ];
    let line = |points| Dataset::default().data(points).graph_type(GraphType::Line);
    let chart = Chart::new(vec![
        line(train.as_slice())
            .marker(Marker::Braille)
            .style(Style::new().fg(Color::Blue)),
        line(validation.as_slice())
            .marker(Marker::Braille)
            .style(Style::new().fg(Color::Yellow)),
        Dataset::default()
            .data(validation.as_slice())
            .marker(Marker::Dot)
            .graph_type(GraphType::Scatter)
            .style(Style::new().fg(Color::Yellow)),
    ])
    .block(block)
    .legend_position(None)
    .x_axis(
        Axis::default()
            .bounds([0.0, last])
            .labels(x_labels)
            .style(QUIET),
    )
    .y_axis(
        Axis::default()
            .bounds([low, high])
            .labels(y_labels)
            .style(QUIET),
    );
    frame.render_widget(chart, below);
}

/// A range that holds all values.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if high - low > 1e-9 * high.abs() {
        (low, high)
    } else {
        let air = (0.01 * high.abs()).max(1e-6);
        (low - air, high + air)
    }
}

/// Decimals that tell the labels of an axis of this length apart.
fn digits(length: f64) -> usize {
    (2.0 - length.log10().floor()).clamp(0.0, 8.0) as usize
}

fn draw_log(frame: &mut Frame, row: &Row, lines: &[String], first: usize, area: Rect) {
    let title = format!(
        " log of {} ",
        shortened(&row.name(), usize::from(area.width) / 2)
    );
    let shown = lines.iter().skip(first).map(|line| Line::raw(line.clone()));
    let shown: Vec<Line> = shown.take(usize::from(area.height)).collect();
    let block = Block::bordered().title(title).border_style(QUIET);
    frame.render_widget(Paragraph::new(shown).block(block), area);
}

fn footer(view: &View) -> Line<'static> {
    match &view.mode {
        _ if !view.message.is_empty() => Line::styled(visible(&view.message), STRONG),
        Mode::Filter => Line::from(vec![
            Span::styled("show runs with: ", STRONG),
            Span::raw(visible(&view.filter)),
            Span::styled("▏  Enter keeps it, Esc shows all", QUIET),
        ]),
        Mode::Stop(folder) => {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let text = format!(
                "stop {}? It saves itself, and can be resumed. [y/n]",
                shortened(&visible(&name), 24)
            );
            Line::styled(
                text,
                Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
            )
        }
        Mode::Log(..) => Line::styled("↑ ↓ PgUp PgDn  any other key goes back", QUIET),
        Mode::Table | Mode::Help => Line::styled(
            "↑↓ select  s sort  r reverse  / filter  l log  c curve  x stop  ? keys  q leave",
            QUIET,
        ),
    }
}

fn draw_help(frame: &mut Frame, area: Rect) {
    let lines: Vec<Line> = KEYS
        .iter()
        .map(|(key, what)| {
            let key = Span::styled(format!(" {key:<11}"), STRONG);
            Line::from(vec![key, Span::raw(*what)])
        })
        .collect();
    let width = 76.min(area.width);
    let height = (lines.len() as u16 + 2).min(area.height);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(" keys ");
    frame.render_widget(Paragraph::new(lines).block(block), place);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    use super::*;
    use crate::{
        run::{
            folder::{METRICS, RECORD, RESULT, TIMING},
            follow::Follower,
        },
        watch::view::tests::row,
    };

    /// A run folder with a given part of a training; what it measures follows from its number.
    fn run(root: &std::path::Path, number: u64, name: &str, done: u64, finished: bool) -> Row {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        let manifest = json!({
            "learner": {"name": "maml"}, "encoder": {"name": "conv4"},
            "data": {"source": "glyphs", "way": 5, "shot": 1, "train_way": if number.is_multiple_of(2) { 20 } else { 0 }},
            "train": {"iterations": 2000, "validate_every": 100, "validation_episodes": 100},
            "test": {"episodes": 600},
        });
        let record = json!({"hash": "0".repeat(64), "manifest": manifest});
        fs::write(folder.join(RECORD), record.to_string()).unwrap();
        let (mut metrics, mut timing) = (String::new(), String::new());
        for iteration in (10..=done).step_by(10) {
            let x = iteration as f64 / 400.0;
            let score = 0.9 - 0.7 * (-x).exp() + 0.02 * (iteration as f64).sin();
            let line = json!({"kind": "train", "iteration": iteration, "loss": 1.6 * (-x).exp() + 0.2,
                "score": {"mean": score, "half_width": 0.05, "n": 4}});
            metrics.push_str(&format!("{line}\n"));
            if iteration % 100 == 0 {
                let score = 0.85 - 0.65 * (-x).exp();
                let line = json!({"kind": "validation", "iteration": iteration, "metric": "accuracy",
                    "score": {"mean": score, "half_width": 0.01, "n": 100}, "loss": {"mean": 0.5}, "best": true});
                metrics.push_str(&format!("{line}\n"));
            }
            let seconds = iteration as f64 / (10.0 + number as f64);
            timing.push_str(&json!({"iteration": iteration, "train_seconds": seconds}).to_string());
            timing.push('\n');
        }
        fs::write(folder.join(METRICS), metrics).unwrap();
        fs::write(folder.join(TIMING), timing).unwrap();
        // Time left falls from when this was written on, which is not yet.
        let file = fs::File::options()
            .append(true)
            .open(folder.join(TIMING))
            .unwrap();
        let later = std::time::SystemTime::now() + Duration::from_secs(3600);
        file.set_modified(later).unwrap();
        if finished {
            let result =
                json!({"metric": "accuracy", "mean": 0.8375, "ci95": 0.004, "episodes": 600});
            fs::write(folder.join(RESULT), result.to_string()).unwrap();
        }
        let mut run = Follower::new(folder);
        run.look(&mut { 1 << 24 });
        Row { run, label: None }
    }

    fn view(root: &std::path::Path) -> View {
        let mut view = View::new("runs".to_owned());
        let long = "a-manifest-with-quite-a-long-name-that-goes-on-and-on-123456789abc";
        view.rows = vec![
            run(root, 1, "quickstart-07fb621dfeb6", 1200, false),
            run(root, 2, long, 2000, true),
            run(root, 3, "start-0913b502a60b", 0, false),
            row(
                "early-2123757b988a",
                State::Failed("no memory \u{1b}[31m for 3 GB".to_owned()),
            ),
            row("new-24120c275b1e", State::New),
        ];
        view.rows[4].label = Some("learner.name=anil seed=3".to_owned());
        // As if a process worked on it.
        view.rows[0].run.state = State::Running;
        view
    }

    /// The screen as text.
    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        let text = terminal.backend().to_string();
        let lines = text.lines().map(|line| line.trim_matches('"').trim_end());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_table_and_the_curves_are_drawn() {
        let root = tempfile::tempdir().unwrap();
        let mut view = view(root.path());
        insta::assert_snapshot!("table_80x24", screen(&view, 80, 24));
        insta::assert_snapshot!("table_200x50", screen(&view, 200, 50));
        view.selected = Some(view.rows[1].run.folder.clone());
        view.shown = Shown::Loss;
        view.sort = Column::Best;
        view.reverse = true;
        insta::assert_snapshot!("finished_80x24", screen(&view, 80, 24));
        view.selected = Some(view.rows[3].run.folder.clone());
        insta::assert_snapshot!("failed_80x24", screen(&view, 80, 24));
    }

    #[test]
    fn what_is_in_front_is_drawn() {
        let root = tempfile::tempdir().unwrap();
        let mut view = view(root.path());
        view.mode = Mode::Help;
        insta::assert_snapshot!("help_80x24", screen(&view, 80, 24));
        view.mode = Mode::Log((0..40).map(|line| format!("line {line}")).collect(), 30);
        let log = screen(&view, 80, 24);
        assert!(log.contains("line 30") && !log.contains("line 29"), "{log}");
        view.mode = Mode::Stop(view.rows[0].run.folder.clone());
        assert!(screen(&view, 80, 24).contains("stop quickstart-07fb621dfeb6? It saves itself"));
        view.mode = Mode::Filter;
        view.filter = "anil".to_owned();
        let filtered = screen(&view, 80, 24);
        assert!(filtered.contains("show runs with: anil▏"), "{filtered}");
        assert!(filtered.contains("1 waiting · with `anil`") && !filtered.contains("quickstart"));
        view.filter = "nothing".to_owned();
        assert!(screen(&view, 80, 24).contains("no run has `nothing`"));
    }

    /// Nothing panics on any screen, with any number of runs; and no letter is obeyed.
    #[test]
    fn every_size_is_drawn() {
        let root = tempfile::tempdir().unwrap();
        let mut view = view(root.path());
        for number in 0..40 {
            view.rows
                .push(row(&format!("x\u{202e}\n{number}"), State::Unfinished));
        }
        for (width, height) in [
            (1, 1),
            (40, 10),
            (41, 11),
            (80, 24),
            (119, 12),
            (120, 40),
            (400, 3),
        ] {
            for mode in [
                Mode::Table,
                Mode::Help,
                Mode::Filter,
                Mode::Log(vec!["x".into()], 5),
            ] {
                view.mode = mode;
                let text = screen(&view, width, height);
                assert!(!text.contains('\u{202e}') && !text.contains('\u{1b}'));
            }
        }
    }

    #[test]
    fn names_keep_both_ends() {
        assert_eq!(shortened("features-07fb621dfeb6", 11), "featu…dfeb6");
        assert_eq!(shortened("short", 5), "short");
        assert_eq!(
            [short(9999), short(12_300), short(5_000_000)],
            ["9999", "12k", "5M"]
        );
        assert_eq!(bounds([1.0].into_iter()), (0.99, 1.01));
        assert_eq!((digits(0.5), digits(100.0)), (3, 0));
    }
}
