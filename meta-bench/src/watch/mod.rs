//! `meta watch`: a live view of runs in a terminal, from their folders alone.
//!
//! | file | what it does |
//! |---|---|
//! | `sources` | which runs there are, and their logs |
//! | `view` | what is shown, and what a key does with it |
//! | `screen` | draws it |
//! | `mod` | the terminal, and the time between two looks |
//!
//! What a run has written is followed by [`crate::run::follow`].

mod screen;
mod sources;
mod view;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use clap::Args;
use meta_core::{Error, toolkit::Toolkit};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};

use crate::{
    command::Execute,
    failure::{CommandError, Result},
    run::interrupt,
};
use sources::Sources;
use view::{Action, Mode, View};

/// Watch runs while they train, in this terminal: state, progress, time left, best validation, curves. Reads
/// run folders alone, so it works beside a run or a sweep, over ssh, and for runs of a cluster.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Run folders, folders of sweeps, or folders of run folders [default: runs].
    runs: Vec<PathBuf>,
}

/// Time between two looks at the folders.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Time after which the picture is drawn even where nothing is new: time left falls.
const DRAW_EVERY: Duration = Duration::from_secs(5);

/// Set by a signal.
static ENDED: AtomicBool = AtomicBool::new(false);

impl Execute for WatchArgs {
    /// Shows the runs until a key or a signal ends it.
    ///
    /// # Errors
    /// Without a terminal, and for a path that is neither a run, a sweep nor a folder of runs.
    fn execute<T: Toolkit>(self) -> Result<()> {
        if !(std::io::stdout().is_terminal() && std::io::stdin().is_terminal()) {
            return Err(CommandError::Usage(
                "meta watch needs a terminal; in a pipe or a file, use `meta runs list` or \
                 `meta sweep status`"
                    .to_owned(),
            ));
        }
        let sources = Sources::new(&self.runs)?;
        ctrlc::set_handler(|| ENDED.store(true, Ordering::Relaxed))
            .map_err(|error| CommandError::Usage(format!("cannot listen for signals: {error}")))?;
        // Its panic hook restores the terminal before a panic is told.
        let mut terminal = ratatui::try_init().map_err(of_terminal)?;
        let watched = watch(&mut terminal, sources);
        ratatui::restore();
        watched
    }
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
