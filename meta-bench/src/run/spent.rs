//! Where the time of a run went.

use serde::{Deserialize, Serialize};

/// Seconds of training in which the learner did not compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Beside {
    /// Waiting for episodes that a thread had not made yet.
    pub episodes: f64,
    /// Validations.
    pub validation: f64,
    /// Metrics and checkpoints.
    pub saving: f64,
}

/// Seconds of a run up to its result; those of training are of all sessions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// From the start of the program to the first iteration: manifest, data, first parameters; of the session
    /// that ended the run.
    pub start: f64,
    /// Meta-gradients and updates: what is left of training.
    pub learner: f64,
    /// The other parts of training.
    #[serde(flatten)]
    pub beside: Beside,
    /// The test, that of the untrained learner included.
    pub test: f64,
}

impl Spent {
    /// Of `training` seconds, with these before, beside and behind them.
    pub fn of(training: f64, start: f64, beside: Beside, test: f64) -> Self {
        let others = beside.episodes + beside.validation + beside.saving;
        Spent {
            start,
            learner: (training - others).max(0.0),
            beside,
            test,
        }
    }

    /// The share of each part, in words.
    pub fn shares(&self) -> String {
        let parts = [
            ("learner", self.learner),
            ("episodes", self.beside.episodes),
            ("validation", self.beside.validation),
            ("saving", self.beside.saving),
            ("test", self.test),
            ("start", self.start),
        ];
        let all: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
        let share = |seconds: f64| 100.0 * seconds / all.max(f64::MIN_POSITIVE);
        parts
            .map(|(part, seconds)| format!("{part} {:.1} %", share(seconds)))
            .join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_all_the_time() {
        let beside = Beside {
            episodes: 1.0,
            validation: 2.0,
            saving: 0.5,
        };
        let spent = Spent::of(8.5, 0.5, beside, 1.0);
        assert_eq!(
            spent.shares(),
            "learner 50.0 %, episodes 10.0 %, validation 20.0 %, saving 5.0 %, test 10.0 %, start 5.0 %"
        );
    }
}
