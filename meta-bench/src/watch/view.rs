//! What is shown, and what a key does with it.

use std::{cmp::Ordering, path::PathBuf};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    output::{text::visible, units::score_text},
    run::{
        follow::{Curves, Follower, Score},
        state::State,
    },
};

/// A column of the table, in the order in which they stand and are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// The run.
    Run,
    /// Its state.
    State,
    /// Iterations done.
    Progress,
    /// Iterations a second.
    Rate,
    /// Time left.
    Left,
    /// The best validation.
    Best,
    /// The test.
    Test,
}

impl Column {
    /// All of them.
    pub const ALL: [Column; 7] = [
        Column::Run,
        Column::State,
        Column::Progress,
        Column::Rate,
        Column::Left,
        Column::Best,
        Column::Test,
    ];

    /// Its heading.
    pub fn name(self) -> &'static str {
        match self {
            Column::Run => "run",
            Column::State => "state",
            Column::Progress => "progress",
            Column::Rate => "rate",
            Column::Left => "left",
            Column::Best => "best validation",
            Column::Test => "test",
        }
    }
}

/// Which curves are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Of the score.
    Score,
    /// Of the loss.
    Loss,
}

/// A run as a row.
#[derive(Clone, Debug)]
pub struct Row {
    /// The run.
    pub run: Follower,
    /// What tells it from the others, where a sweep says so.
    pub label: Option<String>,
}

impl Row {
    /// What it is called.
    pub fn name(&self) -> String {
        let folder = self.run.folder.file_name().unwrap_or_default();
        visible(&folder.to_string_lossy())
    }

    /// Its state in a word.
    pub fn state(&self) -> &'static str {
        let done = self.run.iterations() > 0 && self.run.iteration() >= self.run.iterations();
        match self.run.state {
            State::Running if self.run.stopping => "stopping",
            State::Running if done => "testing",
            State::New => "waiting",
            ref other => other.name(),
        }
    }

    /// Share of the training that is done.
    pub fn share(&self) -> f64 {
        match self.run.iterations() {
            0 => f64::from(u8::from(self.run.state == State::Finished)),
            all => (self.run.iteration() as f64 / all as f64).min(1.0),
        }
    }

    /// Iterations a second, or seconds an iteration.
    pub fn rate(&self) -> String {
        match self.run.rate() {
            Some(rate) if rate >= 1.0 => format!("{rate:.1} it/s"),
            Some(rate) => format!("{:.1} s/it", 1.0 / rate),
            None => String::new(),
        }
    }

    /// A score in words.
    pub fn score(score: Option<Score>) -> String {
        match score {
            Some(Score { metric, interval }) if interval.half_width.is_finite() => {
                score_text(metric, interval)
            }
            Some(Score { metric, interval }) => {
                let text = score_text(metric, interval);
                let (mean, unit) = text.split_once(" ± ").unwrap_or((&text, ""));
                let unit = if unit.ends_with('%') { " %" } else { "" };
                format!("{mean}{unit}")
            }
            None => String::new(),
        }
    }

    /// Where it stands before or after another one.
    fn order(&self, other: &Row, column: Column) -> Ordering {
        // What is at work first; then what is not done, and what is.
        let rank = |row: &Row| match row.run.state {
            State::Running => 0,
            State::Failed(_) | State::Foreign(_) => 1,
            State::Unfinished => 2,
            State::New => 3,
            State::Finished => 4,
        };
        let score = |score: Option<Score>| score.map_or(f64::NEG_INFINITY, |it| it.interval.mean);
        match column {
            Column::Run => self.title().cmp(&other.title()),
            Column::State => rank(self).cmp(&rank(other)),
            // The furthest, the fastest, the best first; the shortest time first.
            Column::Progress => other.share().total_cmp(&self.share()),
            Column::Rate => {
                let rate = |row: &Row| row.run.rate().unwrap_or(0.0);
                rate(other).total_cmp(&rate(self))
            }
            Column::Left => {
                let left = |row: &Row| row.run.left().unwrap_or(f64::INFINITY);
                left(self).total_cmp(&left(other))
            }
            Column::Best => {
                let best = |row: &Row| score(row.run.best().map(|(_, score)| score));
                best(other).total_cmp(&best(self))
            }
            Column::Test => score(other.run.test).total_cmp(&score(self.run.test)),
        }
    }

    /// What is written in its first column.
    pub fn title(&self) -> String {
        match &self.label {
            Some(label) if !label.is_empty() => visible(label),
            _ => self.name(),
        }
    }

    /// Whether it has a text in what is shown of it.
    fn has(&self, text: &str) -> bool {
        let what = self.run.facts.as_ref().map_or("", |facts| &facts.what);
        let all = format!("{} {} {} {what}", self.title(), self.name(), self.state());
        all.to_lowercase().contains(text)
    }
}

/// What is in the lower part of the screen, or in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Runs and a curve.
    Table,
    /// Letters go into the filter.
    Filter,
    /// The log of the selected run, from this line on.
    Log(Vec<String>, usize),
    /// Whether this run is to stop.
    Stop(PathBuf),
    /// The keys.
    Help,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing but another picture.
    Draw,
    /// Read the log of this run.
    OpenLog(PathBuf),
    /// Ask this run to stop.
    Stop(PathBuf),
    /// The end.
    Quit,
}

/// What is shown.
#[derive(Clone, Debug)]
pub struct View {
    /// Where the runs come from.
    pub from: String,
    /// All runs.
    pub rows: Vec<Row>,
    /// The column that they are sorted by.
    pub sort: Column,
    /// Whether the order is the other way round.
    pub reverse: bool,
    /// What a run must have in its row.
    pub filter: String,
    /// The selected run.
    pub selected: Option<PathBuf>,
    /// What is in front.
    pub mode: Mode,
    /// Which curves are shown.
    pub shown: Shown,
    /// What was said last.
    pub message: String,
}

impl View {
    /// Runs from somewhere, in the order of their states.
    pub fn new(from: String) -> Self {
        View {
            from,
            rows: Vec::new(),
            sort: Column::State,
            reverse: false,
            filter: String::new(),
            selected: None,
            mode: Mode::Table,
            shown: Shown::Score,
            message: String::new(),
        }
    }

    /// The rows that are shown, in order. The first is selected where none of them is.
    pub fn shown_rows(&self) -> Vec<&Row> {
        let filter = self.filter.to_lowercase();
        let mut rows: Vec<&Row> = self.rows.iter().filter(|row| row.has(&filter)).collect();
        rows.sort_by(|one, other| {
            let order = one.order(other, self.sort);
            let order = if self.reverse { order.reverse() } else { order };
            order.then_with(|| one.run.folder.cmp(&other.run.folder))
        });
        rows
    }

    /// The place of the selected run among those that are shown.
    pub fn place(&self, rows: &[&Row]) -> Option<usize> {
        let selected = self.selected.as_ref();
        let place = rows
            .iter()
            .position(|row| Some(&row.run.folder) == selected);
        place.or((!rows.is_empty()).then_some(0))
    }

    /// The curves of a run that are shown.
    pub fn curves<'a>(&self, row: &'a Row) -> &'a Curves {
        match self.shown {
            Shown::Score => row.run.scores(),
            Shown::Loss => row.run.losses(),
        }
    }

    fn move_by(&mut self, rows: isize) {
        let shown = self.shown_rows();
        let Some(place) = self.place(&shown) else {
            return;
        };
        let place = place.saturating_add_signed(rows).min(shown.len() - 1);
        self.selected = Some(shown[place].run.folder.clone());
    }

    fn selected_row(&self) -> Option<&Row> {
        let shown = self.shown_rows();
        self.place(&shown).map(|place| shown[place])
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Action {
        self.message.clear();
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Action::Quit,
                _ => Action::Draw,
            };
        }
        match &mut self.mode {
            Mode::Table => self.key_in_table(key.code),
            Mode::Filter => {
                match key.code {
                    KeyCode::Char(letter) if self.filter.chars().count() < 60 => {
                        self.filter.push(letter);
                    }
                    KeyCode::Backspace => {
                        self.filter.pop();
                    }
                    KeyCode::Esc => {
                        self.filter.clear();
                        self.mode = Mode::Table;
                    }
                    KeyCode::Enter => self.mode = Mode::Table,
                    _ => {}
                }
                Action::Draw
            }
            Mode::Log(lines, first) => {
                let last = lines.len().saturating_sub(1);
                let by = |rows| first.saturating_add_signed(rows).min(last);
                *first = match key.code {
                    KeyCode::Up | KeyCode::Char('k') => by(-1),
                    KeyCode::Down | KeyCode::Char('j') => by(1),
                    KeyCode::PageUp => by(-10),
                    KeyCode::PageDown | KeyCode::Char(' ') => by(10),
                    KeyCode::Home => 0,
                    KeyCode::End => last,
                    _ => {
                        self.mode = Mode::Table;
                        return Action::Draw;
                    }
                };
                Action::Draw
            }
            Mode::Stop(folder) => {
                let folder = folder.clone();
                self.mode = Mode::Table;
                match key.code {
                    KeyCode::Char('y' | 'Y') => Action::Stop(folder),
                    _ => Action::Draw,
                }
            }
            Mode::Help => {
                self.mode = Mode::Table;
                Action::Draw
            }
        }
    }

    fn key_in_table(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::PageUp => self.move_by(-10),
            KeyCode::PageDown => self.move_by(10),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX),
            KeyCode::Char('s') => {
                let place = Column::ALL.iter().position(|column| *column == self.sort);
                let next = place.map_or(0, |place| (place + 1) % Column::ALL.len());
                self.sort = Column::ALL[next];
                self.reverse = false;
            }
            KeyCode::Char('r') => self.reverse = !self.reverse,
            KeyCode::Char('c') => {
                self.shown = match self.shown {
                    Shown::Score => Shown::Loss,
                    Shown::Loss => Shown::Score,
                };
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('l') | KeyCode::Enter => {
                if let Some(row) = self.selected_row() {
                    return Action::OpenLog(row.run.folder.clone());
                }
            }
            KeyCode::Char('x') => match self.selected_row() {
                Some(row) if row.run.state == State::Running => {
                    self.mode = Mode::Stop(row.run.folder.clone());
                }
                Some(row) => {
                    self.message = format!("{} is {}: nothing to stop", row.name(), row.state());
                }
                None => {}
            },
            _ => {}
        }
        Action::Draw
    }
}

#[cfg(test)]
pub mod tests {
    use meta_core::{
        stats::{Interval, IntervalMethod},
        train::eval::Metric,
    };

    use super::*;

    pub fn score(metric: Metric, mean: f64, half_width: f64) -> Score {
        Score {
            metric,
            interval: Interval {
                mean,
                half_width,
                level: 0.95,
                method: IntervalMethod::StudentT,
                n: 4,
            },
        }
    }

    pub fn row(name: &str, state: State) -> Row {
        let mut run = Follower::new(PathBuf::from("runs").join(name));
        run.state = state;
        Row { run, label: None }
    }

    fn press(view: &mut View, keys: &str) -> Action {
        let mut action = Action::Draw;
        for letter in keys.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '<' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            action = view.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        action
    }

    fn view() -> View {
        let mut view = View::new("runs".to_owned());
        view.rows = vec![
            row("a", State::Finished),
            row("b", State::Running),
            row("c", State::Failed("no memory".to_owned())),
            row("d", State::Running),
        ];
        view
    }

    fn names(view: &View) -> Vec<String> {
        view.shown_rows().iter().map(|row| row.name()).collect()
    }

    #[test]
    fn rows_are_sorted_filtered_and_selected() {
        let mut view = view();
        assert_eq!(names(&view), ["b", "d", "c", "a"]);
        press(&mut view, "r");
        assert_eq!(names(&view), ["a", "c", "b", "d"]);
        press(&mut view, "jj");
        assert_eq!(view.selected, Some(PathBuf::from("runs/b")));
        // The selection stays with its run.
        press(&mut view, "rkkkkjjjjjjj");
        assert_eq!(view.selected, Some(PathBuf::from("runs/a")));
        press(&mut view, "g/FAILx<\n");
        assert_eq!(names(&view), ["c"]);
        assert_eq!(
            press(&mut view, "l"),
            Action::OpenLog(PathBuf::from("runs/c"))
        );
        press(&mut view, "\u{1b}");
        assert_eq!(names(&view).len(), 4);
        press(&mut view, "/nothing\n");
        assert_eq!(
            (names(&view).len(), press(&mut view, "jl")),
            (0, Action::Draw)
        );
    }

    #[test]
    fn only_what_runs_is_stopped_and_only_after_a_yes() {
        let mut view = view();
        assert_eq!(press(&mut view, "x"), Action::Draw);
        assert!(matches!(view.mode, Mode::Stop(_)));
        assert_eq!(press(&mut view, "n"), Action::Draw);
        assert_eq!(
            press(&mut view, "xy"),
            Action::Stop(PathBuf::from("runs/b"))
        );
        press(&mut view, "Gx");
        assert_eq!(view.mode, Mode::Table);
        assert!(view.message.contains("a is finished"), "{}", view.message);
        assert_eq!(press(&mut view, "?q"), Action::Draw);
        assert_eq!(press(&mut view, "q"), Action::Quit);
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.key(key), Action::Quit);
    }

    #[test]
    fn scores_without_an_interval_have_none() {
        let text = |metric, half| Row::score(Some(score(metric, 0.5, half)));
        assert_eq!(text(Metric::Accuracy, 0.01), "50.00 ± 1.00 %");
        assert_eq!(text(Metric::Accuracy, f64::INFINITY), "50.00 %");
        assert_eq!(text(Metric::MeanSquaredError, f64::INFINITY), "0.5000");
        assert_eq!(Row::score(None), "");
    }
}
