//! Lines on a terminal that are drawn again and again, and stay what they are when the terminal gets narrower.
//!
//! A terminal that gets narrower breaks the lines that it shows. A line is never longer than the terminal
//! when it is drawn, and before it is drawn again, all rows that it then takes are cleared.

use std::{io, sync::Mutex};

use indicatif::TermLike;

/// The line, on a terminal of which it is the last one.
#[derive(Debug)]
pub struct StatusLine<T> {
    terminal: T,
    /// Columns of what was drawn last.
    drawn: Mutex<usize>,
}

impl<T: TermLike> StatusLine<T> {
    /// A line at the end of `terminal`.
    pub fn new(terminal: T) -> Self {
        StatusLine {
            terminal,
            drawn: Mutex::new(0),
        }
    }

    /// How many columns were drawn since the line was cleared; sets them to `columns`.
    fn replace(&self, columns: usize) -> usize {
        let mut drawn = self.drawn.lock().expect("nobody panics while drawing");
        std::mem::replace(&mut drawn, columns)
    }
}

/// What is drawn is cut here, so that the caller need not know the width.
const ANY_WIDTH: u16 = 1000;

impl<T: TermLike> TermLike for StatusLine<T> {
    fn width(&self) -> u16 {
        ANY_WIDTH
    }

    fn height(&self) -> u16 {
        self.terminal.height()
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.terminal.move_cursor_up(lines)
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.terminal.move_cursor_down(lines)
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.terminal.move_cursor_right(columns)
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.terminal.move_cursor_left(columns)
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.replace(0);
        self.terminal.write_line(text)
    }

    /// Writes a line: spaces alone fill up the one before, which is not needed.
    fn write_str(&self, text: &str) -> io::Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let width = usize::from(self.terminal.width()).saturating_sub(1).max(1);
        let text: String = text.trim_end().chars().take(width).collect();
        if self.replace(text.chars().count()) > 0 {
            self.terminal.write_line("")?;
        }
        self.terminal.write_str(&text)
    }

    fn clear_line(&self) -> io::Result<()> {
        let width = usize::from(self.terminal.width()).max(1);
        for _ in 1..self.replace(0).div_ceil(width) {
            self.terminal.clear_line()?;
            self.terminal.move_cursor_up(1)?;
        }
        self.terminal.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.terminal.flush()
    }
}

/// Several lines, on a terminal of which they are the last ones.
#[derive(Debug)]
pub struct StatusLines<T> {
    terminal: T,
    /// Columns of each line that is drawn.
    drawn: Vec<usize>,
}

impl<T: TermLike> StatusLines<T> {
    /// No lines yet, at the end of `terminal`.
    pub fn new(terminal: T) -> Self {
        StatusLines {
            terminal,
            drawn: Vec::new(),
        }
    }

    /// Lines that fit on the terminal.
    pub fn height(&self) -> usize {
        usize::from(self.terminal.height())
    }

    /// Draws `lines` in the place of those before.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        self.clear()?;
        let width = usize::from(self.terminal.width()).saturating_sub(1).max(1);
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                self.terminal.write_line("")?;
            }
            let line: String = line.chars().take(width).collect();
            self.drawn.push(line.chars().count());
            self.terminal.write_str(&line)?;
        }
        self.terminal.flush()
    }

    /// Removes the lines.
    ///
    /// # Errors
    /// When the terminal has gone.
    pub fn clear(&mut self) -> io::Result<()> {
        let width = usize::from(self.terminal.width()).max(1);
        let rows = |columns: usize| columns.div_ceil(width).max(1);
        let rows: usize = self.drawn.drain(..).map(rows).sum();
        for row in 0..rows {
            if row > 0 {
                self.terminal.move_cursor_up(1)?;
            }
            self.terminal.clear_line()?;
        }
        self.terminal.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A terminal that breaks lines anew when its width changes, as most do; the cursor is at the end of
    /// the last line.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<(usize, Vec<String>)>>);

    impl Screen {
        fn resize(&self, width: usize) {
            let mut screen = self.0.lock().unwrap();
            screen.0 = width;
            let lines = std::mem::take(&mut screen.1);
            for line in lines {
                let letters: Vec<char> = line.chars().collect();
                let rows = letters.chunks(width).map(|row| row.iter().collect());
                // An empty line is a row, too.
                let rows: Vec<String> = rows.collect();
                screen
                    .1
                    .extend(if rows.is_empty() { vec![line] } else { rows });
            }
        }

        fn rows(&self) -> Vec<String> {
            self.0.lock().unwrap().1.clone()
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            self.0.lock().unwrap().0 as u16
        }
        fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
            let mut screen = self.0.lock().unwrap();
            let left = screen.1.len() - lines;
            let below: Vec<String> = screen.1.drain(left..).collect();
            assert!(
                below.iter().all(String::is_empty),
                "what is below is cleared"
            );
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            unreachable!()
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            unreachable!()
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            unreachable!()
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)?;
            self.0.lock().unwrap().1.push(String::new());
            Ok(())
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().1.last_mut().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.0.lock().unwrap().1.last_mut().unwrap().clear();
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Draws as a progress bar does.
    fn draw(line: &StatusLine<Screen>, text: &str) {
        line.move_cursor_up(0).unwrap();
        line.clear_line().unwrap();
        line.write_str(text).unwrap();
        line.write_str(&" ".repeat(usize::from(ANY_WIDTH) - text.len()))
            .unwrap();
    }

    #[test]
    fn a_narrower_terminal_keeps_nothing_of_the_old_line() {
        let screen = Screen(Arc::new(Mutex::new((
            40,
            vec!["before".into(), String::new()],
        ))));
        let line = StatusLine::new(screen.clone());
        let text = "0123456789".repeat(3);
        for width in [40, 25, 12, 7, 7, 60, 10] {
            screen.resize(width);
            draw(&line, &text);
            let shown = text[..text.len().min(width - 1)].to_owned();
            assert_eq!(screen.rows(), ["before".to_owned(), shown], "{width}");
        }
        screen.resize(40);
        line.clear_line().unwrap();
        line.write_str("a sentence").unwrap();
        line.write_str("    ").unwrap();
        line.write_str("0123").unwrap();
        assert_eq!(screen.rows(), ["before", "a sentence", "0123"]);
    }

    #[test]
    fn several_lines_stay_the_last_ones() {
        let screen = Screen(Arc::new(Mutex::new((
            40,
            vec!["before".into(), String::new()],
        ))));
        let mut lines = StatusLines::new(screen.clone());
        let texts = ["a".repeat(35), String::new(), "b".repeat(12)];
        for width in [40, 20, 9, 50] {
            screen.resize(width);
            lines.draw(&texts).unwrap();
            let shown = texts
                .clone()
                .map(|text| text[..text.len().min(width - 1)].to_owned());
            let mut expected = vec!["before".to_owned()];
            expected.extend(shown);
            assert_eq!(screen.rows(), expected, "{width}");
        }
        lines.draw(&texts[2..]).unwrap();
        assert_eq!(screen.rows(), ["before".to_owned(), texts[2].clone()]);
        lines.clear().unwrap();
        lines.clear().unwrap();
        assert_eq!(screen.rows(), ["before", ""]);
    }
}
