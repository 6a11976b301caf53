//! Starts runs in worker processes on this machine, side by side.
//!
//! A worker is this program (`meta sweep-worker`). It saves its run and stops when its standard input
//! ends: when the launcher asks for that, or has died. A worker is in a process group of its own, so that
//! Ctrl-C reaches the launcher alone. What happens to a worker fails that run only.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use meta_core::{Error, files::write_atomically};

use super::{
    live::Live,
    task::{Outcome, Task},
};

use crate::{
    failure::{CommandError, Result},
    machine::{cores, peak_bytes_of},
    output::units::duration_text,
    run::{
        folder::{FAILURE, RunFolder, failure_bytes, is_busy},
        interrupt::PATIENCE,
        state::{State, iteration},
    },
};

/// Exit code of a worker whose run another process works on.
pub const BUSY: u8 = 75;
/// Exit code of a worker that was asked to stop, or came to the end of its part.
const STOPPED: i32 = 130;
/// Signals, by their numbers on every Unix.
const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// Time between two looks at the workers.
const TICK: Duration = Duration::from_millis(10);
/// Time until a run that another process works on is looked at again.
const LATER: Duration = Duration::from_millis(500);

/// How often Ctrl-C was pressed.
static INTERRUPTS: AtomicUsize = AtomicUsize::new(0);

/// Counts Ctrl-C instead of dying of it.
///
/// # Errors
/// When the system refuses.
pub fn listen() -> Result<()> {
    static LISTEN: Once = Once::new();
    let mut listening = Ok(());
    LISTEN.call_once(|| {
        listening = ctrlc::set_handler(|| {
            INTERRUPTS.fetch_add(1, Ordering::Relaxed);
        });
    });
    listening.map_err(|error| CommandError::Usage(format!("cannot listen for Ctrl-C: {error}")))
}

/// Starts workers.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The folder of the sweep, with its plan.
    pub sweep: PathBuf,
    /// Workers side by side.
    pub jobs: usize,
    /// Whether one failure stops all.
    pub fail_fast: bool,
    /// Whether nothing is said.
    pub quiet: bool,
    /// What starts a worker, as several processes: `srun` and its options. Empty: one process.
    pub by: Vec<String>,
}

struct Running {
    task: usize,
    child: Child,
    started: Instant,
    over_limit: bool,
    /// Where its part of the log begins.
    log_start: u64,
}

impl Running {
    /// Kills it where it takes more memory than its limit.
    fn keep_to(&mut self, limit: Option<u64>) {
        if let Some(limit) = limit
            && !self.over_limit
            && peak_bytes_of(self.child.id()).is_some_and(|peak| peak > limit)
        {
            self.over_limit = true;
            let _ = self.child.kill();
        }
    }
}

/// Kills all that run.
fn end<'a>(all: impl Iterator<Item = &'a mut Running>) -> CommandError {
    for running in all {
        // It may have ended by itself.
        let _ = running.child.kill();
        let _ = running.child.wait();
    }
    let kept = "stopped at once; what was saved is kept, and the same command resumes";
    CommandError::Interrupted(kept.to_owned())
}

impl Launcher {
    /// Works on all `tasks` and says what became of each. What happens to one of them, its folder or its
    /// worker ends no other.
    ///
    /// # Errors
    /// [`CommandError::Interrupted`] at a second Ctrl-C; in the end, a failure that cannot be recorded.
    pub fn run(&self, tasks: &[Task]) -> Result<Vec<Outcome>> {
        listen()?;
        let mut live = Live::new(self.quiet, tasks.len(), self.jobs);
        let mut outcomes = vec![Outcome::Stopped; tasks.len()];
        let mut queue: VecDeque<(usize, Instant)> = (0..tasks.len())
            .map(|task| (task, Instant::now()))
            .collect();
        let slots = self.jobs.clamp(1, tasks.len().max(1));
        let mut slots: Vec<Option<Running>> = (0..slots).map(|_| None).collect();
        let mut done = 0;
        let mut stopping = false;
        let mut interrupted: Option<Instant> = None;
        let mut unrecorded = None;
        loop {
            let interrupts = INTERRUPTS.load(Ordering::Relaxed);
            if interrupts >= 2 || interrupted.is_some_and(|since| since.elapsed() > PATIENCE) {
                return Err(end(slots.iter_mut().flatten()));
            }
            for slot in &mut slots {
                let Some(running) = slot else { continue };
                let task = &tasks[running.task];
                running.keep_to(task.memory);
                let ended = running.child.try_wait();
                let ended =
                    ended.map_err(|error| Error::io(&self.sweep, "wait for a run of", error))?;
                let Some(status) = ended else { continue };
                if status.code() == Some(i32::from(BUSY)) {
                    queue.push_back((running.task, Instant::now() + LATER));
                } else {
                    let outcome = self.outcome(task, running, status, stopping);
                    done += usize::from(outcome != Outcome::Stopped);
                    let seconds = running.started.elapsed().as_secs_f64();
                    live.ended(&outcome, seconds);
                    live.say(&ending(task, &outcome, done, tasks.len(), seconds));
                    if let Outcome::Failed(error) = &outcome {
                        unrecorded = unrecorded.or(record_failure(&task.folder, error).err());
                    }
                    outcomes[running.task] = outcome;
                }
                *slot = None;
            }
            let failed = || {
                outcomes
                    .iter()
                    .any(|outcome| matches!(outcome, Outcome::Failed(_)))
            };
            if !stopping && (interrupts == 1 || self.fail_fast && failed()) {
                stopping = true;
                if interrupts == 1 {
                    interrupted = Some(Instant::now());
                    live.say("stopping: every run saves itself; Ctrl-C again stops at once");
                }
                for running in slots.iter_mut().flatten() {
                    drop(running.child.stdin.take());
                }
            }
            for (slot, running) in slots.iter_mut().enumerate() {
                let due = |(_, at): &(usize, Instant)| *at <= Instant::now();
                if running.is_some() || stopping || !queue.front().is_some_and(due) {
                    continue;
                }
                let (index, _) = queue.pop_front().expect("there is one in front");
                let task = &tasks[index];
                if is_busy(&task.folder) {
                    queue.push_back((index, Instant::now() + LATER));
                    continue;
                }
                match self.start(index, task, slot) {
                    Ok(started) => *running = Some(started),
                    Err(error) => {
                        let error = error.to_string();
                        unrecorded = unrecorded.or(record_failure(&task.folder, &error).err());
                        outcomes[index] = Outcome::Failed(error);
                        done += 1;
                        live.ended(&outcomes[index], 0.0);
                        live.say(&ending(task, &outcomes[index], done, tasks.len(), 0.0));
                    }
                }
            }
            let idle = slots.iter().all(Option::is_none);
            if idle && (queue.is_empty() || stopping) {
                return match unrecorded {
                    None => Ok(outcomes),
                    Some(error) => Err(error),
                };
            }
            let running = slots.iter().flatten();
            live.draw(
                running.map(|running| (&tasks[running.task], running.started)),
                done,
            );
            std::thread::sleep(TICK);
        }
    }

    fn start(&self, index: usize, task: &Task, slot: usize) -> Result<Running> {
        let program = std::env::current_exe()
            .map_err(|error| CommandError::Usage(format!("cannot find this program: {error}")))?;
        let log = self.log(task);
        // Another launcher may have a worker of the same run, which writes here, too.
        let file = fs::File::options().append(true).create(true).open(&log);
        let file = file.map_err(|error| Error::io(&log, "write", error))?;
        let log_start = file.metadata().map_or(0, |metadata| metadata.len());
        let mut command = match self.by.split_first() {
            Some((by, options)) => {
                let mut command = Command::new(by);
                command.args(options).arg(&program);
                command
            }
            None => Command::new(&program),
        };
        command
            .arg("sweep-worker")
            .arg(&self.sweep)
            .arg(task.index.to_string())
            .args(["--threads", &self.threads(task, slot).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(file);
        if let Some(until) = task.until {
            command.args(["--until", &until.to_string()]);
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .spawn()
            .map_err(|error| Error::io(&program, "start a worker of", error))?;
        Ok(Running {
            task: index,
            child,
            started: Instant::now(),
            over_limit: false,
            log_start,
        })
    }

    /// The share of the worker in `slot`: cores are dealt out evenly, the first slots get the rest.
    fn threads(&self, task: &Task, slot: usize) -> usize {
        match task.threads {
            0 => {
                let cores = cores();
                (cores / self.jobs + usize::from(slot < cores % self.jobs)).max(1)
            }
            threads => threads,
        }
    }

    fn log(&self, task: &Task) -> PathBuf {
        self.sweep.join("logs").join(format!("{}.log", task.short))
    }

    fn outcome(
        &self,
        task: &Task,
        running: &Running,
        status: ExitStatus,
        stopping: bool,
    ) -> Outcome {
        if running.over_limit {
            let limit = task.memory.unwrap_or(0) as f64 / 1e6;
            let message = format!("killed: it used more memory than its limit of {limit} MB");
            return Outcome::Failed(message);
        }
        match status.code() {
            Some(0) => Outcome::Finished,
            Some(STOPPED)
                if !stopping && task.until.is_some() && iteration(&task.folder) >= task.until =>
            {
                Outcome::Paused
            }
            Some(STOPPED) => Outcome::Stopped,
            // Asked to stop before it listened: nothing of its run is lost.
            None if matches!(signal(status), Some(SIGINT | SIGTERM)) => Outcome::Stopped,
            code => {
                let log = fs::read(self.log(task)).unwrap_or_default();
                let own = log.get(running.log_start as usize..).unwrap_or_default();
                let log = String::from_utf8_lossy(own);
                let error = log
                    .lines()
                    .rev()
                    .find_map(|line| line.strip_prefix("error: "));
                let panic = log.lines().find(|line| line.contains("panicked at"));
                Outcome::Failed(match (error, panic, code) {
                    (Some(error), ..) => error.to_owned(),
                    (_, Some(panic), _) => format!("{panic} (see {})", self.log(task).display()),
                    (.., Some(code)) => format!("its process ended with code {code}"),
                    _ => killed(status),
                })
            }
        }
    }

    /// A sentence on stderr.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// What became of a task, in a line.
fn ending(task: &Task, outcome: &Outcome, done: usize, all: usize, seconds: f64) -> String {
    let what = match outcome {
        Outcome::Finished => "finished".to_owned(),
        Outcome::Paused => format!("paused at iteration {}", task.until.unwrap_or(0)),
        Outcome::Failed(error) => format!("failed: {error}"),
        Outcome::Stopped => "stopped and saved".to_owned(),
    };
    let seconds = duration_text(seconds);
    format!(
        "[{done}/{all}] {} {} · {what} · {seconds}",
        task.short, task.title
    )
}

/// The signal that ended a process, where the system has them.
fn signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    return status.code().and(None);
}

/// How a process without an exit code ended.
fn killed(status: ExitStatus) -> String {
    match signal(status) {
        Some(SIGKILL) => {
            format!(
                "its process was killed by signal {SIGKILL}, as the system does when memory is short"
            )
        }
        Some(signal) => format!("its process was killed by signal {signal}"),
        None => format!("its process ended with {status}"),
    }
}

/// Writes why the run in `folder` failed, making the folder where the run came to none. Where somebody else
/// finished the run or works on it, or something else is in its place, nothing is written.
fn record_failure(folder: &Path, error: &str) -> Result<()> {
    let bytes = failure_bytes(error);
    let recorded = match State::of(folder) {
        State::Finished | State::Running | State::Foreign(_) => Ok(()),
        State::New => RunFolder::create(folder, &[(FAILURE, bytes)]).map(drop),
        State::Unfinished | State::Failed(_) => {
            write_atomically(&folder.join(FAILURE), &bytes).map_err(CommandError::from)
        }
    };
    match recorded {
        Err(CommandError::Busy(_)) => Ok(()),
        other => other,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_worker_that_is_asked_to_stop_before_it_listens_did_not_fail() {
        let launcher = Launcher {
            sweep: PathBuf::new(),
            jobs: 1,
            fail_fast: false,
            quiet: true,
            by: Vec::new(),
        };
        let task = Task {
            index: 0,
            short: String::new(),
            folder: PathBuf::new(),
            title: String::new(),
            threads: 1,
            memory: None,
            until: None,
        };
        let running = Running {
            task: 0,
            child: Command::new("true").spawn().unwrap(),
            started: Instant::now(),
            over_limit: false,
            log_start: 0,
        };
        let outcome =
            |signal| launcher.outcome(&task, &running, ExitStatus::from_raw(signal), false);
        for signal in [SIGINT, SIGTERM] {
            assert_eq!(outcome(signal), Outcome::Stopped);
        }
        for signal in [6, SIGKILL, 11] {
            let Outcome::Failed(why) = outcome(signal) else {
                panic!("signal {signal}")
            };
            assert!(why.contains(&format!("killed by signal {signal}")), "{why}");
        }
    }
}
