//! Forecasts how long a run still takes: iterations, validations and the test have a pace of their own.

/// What a run still does, known before it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Iterations of the training.
    pub iterations: u64,
    /// Iterations from one validation to the next; 0 for none.
    pub validate_every: u64,
    /// Episodes of the test for each episode of a validation.
    pub tests: f64,
}

impl Work {
    /// Validations after iteration `done`.
    fn validations_after(&self, done: u64) -> u64 {
        match self.validate_every {
            0 => 0,
            every => self.iterations.div_ceil(every).saturating_sub(done / every),
        }
    }
}

/// A weighted sum of stretches of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    iterations: f64,
    seconds: f64,
}

impl Sum {
    fn add(&mut self, iterations: f64, seconds: f64) {
        self.iterations += iterations;
        self.seconds += seconds;
    }

    fn fade(&mut self, kept: f64) {
        self.iterations *= kept;
        self.seconds *= kept;
    }
}

/// How fast a run is, from when its iterations were done.
///
/// A stretch between two times either holds a validation, at its start, or does not. With p seconds an
/// iteration from those without, a validation takes the mean of what the others take beyond p for each of
/// their iterations. What is long ago counts less: the weight of a stretch is its place's share of the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pace {
    last: Option<(u64, f64)>,
    plain: Sum,
    validating: Sum,
    validations: f64,
    /// The iteration of the last validation that was counted.
    counted: Option<u64>,
}

impl Pace {
    /// `iteration` was done after so many `seconds` of training. An iteration that was done before, as after
    /// a kill, starts anew from there.
    pub fn push(&mut self, work: &Work, iteration: u64, seconds: f64) {
        let last = self.last.replace((iteration, seconds));
        let Some((before, then)) = last.filter(|last| last.0 <= iteration && last.1 <= seconds)
        else {
            return;
        };
        let done = (iteration - before) as f64;
        let kept = 1.0 - done / iteration.max(1) as f64;
        self.plain.fade(kept);
        self.validating.fade(kept);
        self.validations *= kept;
        let validated = before > 0 && work.validate_every > 0 && before % work.validate_every == 0;
        if !validated {
            self.plain.add(done, seconds - then);
            return;
        }
        self.validating.add(done, seconds - then);
        // A checkpoint after the validation parts its stretch: it is counted once.
        if self.counted.replace(before) != Some(before) {
            self.validations += 1.0;
        }
    }

    /// Iterations a second, validations included; none before two times are known.
    pub fn rate(&self) -> Option<f64> {
        let iterations = self.plain.iterations + self.validating.iterations;
        let seconds = self.plain.seconds + self.validating.seconds;
        (iterations > 0.0 && seconds > 0.0).then(|| iterations / seconds)
    }

    /// Seconds of an iteration, and of a validation.
    fn costs(&self) -> Option<(f64, f64)> {
        let slow = 1.0 / self.rate()?;
        if self.plain.iterations <= 0.0 {
            // Validations cannot be told from iterations.
            return Some((slow, 0.0));
        }
        let iteration = self.plain.seconds / self.plain.iterations;
        if self.validations <= 0.0 {
            return Some((iteration, 0.0));
        }
        let beyond = self.validating.seconds - iteration * self.validating.iterations;
        Some((iteration, beyond.max(0.0) / self.validations))
    }

    /// Seconds that the work after iteration `done` takes: its iterations, validations and the test.
    pub fn left(&self, work: &Work, done: u64) -> Option<f64> {
        let (iteration, validation) = self.costs()?;
        let iterations = work.iterations.saturating_sub(done) as f64;
        let validations = work.validations_after(done) as f64 + work.tests;
        Some(iterations * iteration + validations * validation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        iterations: 1000,
        validate_every: 50,
        tests: 3.0,
    };

    /// Of a run with a known cost, after a tenth: exact but for rounding.
    #[test]
    fn time_left_has_validations_and_the_test() {
        let (iteration, validation) = (0.02, 1.5);
        for log_every in [1, 10, 25] {
            let mut pace = Pace::default();
            let at = |done: u64| {
                let validated = done.saturating_sub(1) / WORK.validate_every;
                done as f64 * iteration + validated as f64 * validation
            };
            for done in (1..=100).filter(|done| done % log_every == 0) {
                pace.push(&WORK, done, at(done));
            }
            let left = pace.left(&WORK, 100).unwrap();
            let expected = 900.0 * iteration + (18.0 + 3.0) * validation;
            assert!((left / expected - 1.0).abs() < 1e-9, "{left} {expected}");
            let rate = pace.rate().unwrap();
            assert!(rate < 1.0 / iteration && rate > 10.0, "{rate}");
        }
    }

    #[test]
    fn checkpoints_after_validations_are_no_validations_of_their_own() {
        let mut pace = Pace::default();
        for (iteration, seconds) in [(25, 1.0), (50, 2.0), (50, 5.0), (75, 6.0), (100, 7.0)] {
            pace.push(&WORK, iteration, seconds);
        }
        let (iteration, validation) = pace.costs().unwrap();
        assert!((iteration - 0.04).abs() < 1e-12, "{iteration}");
        assert!((validation - 3.0).abs() < 0.8, "{validation}");
    }

    #[test]
    fn nothing_is_known_before_two_times_and_a_step_back_starts_anew() {
        let mut pace = Pace::default();
        assert_eq!((pace.rate(), pace.left(&WORK, 0)), (None, None));
        pace.push(&WORK, 100, 10.0);
        assert_eq!(pace.rate(), None);
        pace.push(&WORK, 10, 1.0);
        assert_eq!(pace.rate(), None);
        pace.push(&WORK, 20, 2.0);
        assert_eq!(pace.rate(), Some(10.0));
    }

    /// The pace of today counts more than that of another machine.
    #[test]
    fn what_is_long_ago_fades() {
        let work = Work {
            iterations: 1000,
            ..Work::default()
        };
        let mut pace = Pace::default();
        let mut seconds = 0.0;
        for done in 0..=200 {
            seconds += if done <= 100 { 1.0 } else { 0.1 };
            pace.push(&work, done, seconds);
        }
        let left = pace.left(&work, 200).unwrap();
        assert!(left < 0.5 * 800.0 * seconds / 200.0 * 1.4, "{left}");
        assert!(left > 80.0, "{left}");
    }
}
