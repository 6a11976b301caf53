//! The terminal: draws what is new, and gives the keys to the view.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use meta_core::Error;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};

use super::{
    screen,
    sources::Sources,
    view::{Action, Mode, View},
};
use crate::{
    failure::{CommandError, Result},
    run::interrupt,
};

/// Time between two looks at the folders.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time after which the picture is drawn even where nothing is new: time left falls.
const DRAW_EVERY: Duration = Duration::from_secs(5);

/// Set by a signal.
static ENDED: AtomicBool = AtomicBool::new(false);

/// Shows the runs in `paths` until a key or a signal ends it.
///
/// # Errors
/// For a path that is neither a run, a sweep nor a folder of runs, and when the terminal cannot be used.
pub fn show(paths: &[PathBuf]) -> Result<()> {
    let sources = Sources::new(paths)?;
    ctrlc::set_handler(|| ENDED.store(true, Ordering::Relaxed))
        .map_err(|error| CommandError::Usage(format!("cannot listen for signals: {error}")))?;
    // Its panic hook restores the terminal before a panic is told.
    let mut terminal = ratatui::try_init().map_err(of_terminal)?;
    let watched = watch(&mut terminal, sources);
    ratatui::restore();
    watched
}

fn of_terminal(error: std::io::Error) -> CommandError {
    Error::io(Path::new("terminal"), "use", error).into()
}

fn watch(terminal: &mut DefaultTerminal, mut sources: Sources) -> Result<()> {
    let mut view = View::new(sources.text());
    let mut looked: Option<Instant> = None;
    let mut drawn: Option<Instant> = None;
    let mut changed = true;
    let is_due = |since: Option<Instant>, every| since.is_none_or(|it| it.elapsed() >= every);
    while !ENDED.load(Ordering::Relaxed) {
        if is_due(looked, LOOK_EVERY) {
            match sources.look(&mut view.rows) {
                Ok(found) => changed |= found,
                // A folder that is gone may come back.
                Err(error) => {
                    view.message = error.to_string();
                    changed = true;
                }
            }
            looked = Some(Instant::now());
        }
        if changed || is_due(drawn, DRAW_EVERY) {
            terminal
                .draw(|frame| screen::draw(frame, &view))
                .map_err(of_terminal)?;
            drawn = Some(Instant::now());
            changed = false;
        }
        let wait = LOOK_EVERY.saturating_sub(looked.map_or(LOOK_EVERY, |it| it.elapsed()));
        if !event::poll(wait).map_err(of_terminal)? {
            continue;
        }
        changed = true;
        let key = match event::read().map_err(of_terminal)? {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            _ => continue,
        };
        match view.key(key) {
            Action::Draw => {}
            Action::Quit => break,
            Action::OpenLog(folder) => {
                let lines = sources.log(&folder);
                // Its end is what one looks for; some lines before it are in view.
                let first = lines.len().saturating_sub(8);
                view.mode = Mode::Log(lines, first);
            }
            Action::Stop(folder) => {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                view.message = match interrupt::ask(&folder) {
                    Ok(()) => {
                        format!("{name} is asked to stop; it saves itself after its iteration")
                    }
                    Err(error) => error.to_string(),
                };
                looked = None;
            }
        }
    }
    Ok(())
}
