//! The queue to the one thread that has the model: what waits there is answered in one pass.

use std::sync::mpsc::Receiver;

use meta_core::train::answer::{LEVELS, Predictions};
use tokio::sync::oneshot;

use super::counts::Counts;
use crate::use_trained::answer::Answer;

/// Items after which no further request joins a pass.
const PASS: usize = 256;

/// A request of the queue.
pub struct Job {
    /// Names of the items.
    pub names: Vec<String>,
    /// Their numbers, `[items, f]` row-major.
    pub rows: Vec<f32>,
    /// Classes that an answer names.
    pub top: usize,
    /// Where the answers go.
    pub reply: oneshot::Sender<Vec<Answer>>,
}

/// Answers the jobs until nobody can send any more. What is sent before that is answered.
///
/// `predict` takes the items of several jobs at once, and answers each as if it were alone; `word` makes
/// answers of the predictions for some names, with so many classes each.
pub fn work(
    jobs: &Receiver<Job>,
    counts: &Counts,
    predict: impl Fn(&[f32]) -> Predictions,
    word: impl Fn(Vec<String>, usize, &Predictions) -> Vec<Answer>,
) {
    while let Ok(first) = jobs.recv() {
        counts.taken();
        let mut pass = Vec::new();
        let mut next = Some(first);
        let mut items = 0;
        while let Some(job) = next {
            // Who asked may have gone.
            if !job.reply.is_closed() {
                items += job.names.len();
                pass.push(job);
            }
            next = match items < PASS {
                true => jobs.try_recv().ok().inspect(|_| counts.taken()),
                false => None,
            };
        }
        if items == 0 {
            continue;
        }
        let rows: Vec<&[f32]> = pass.iter().map(|job| job.rows.as_slice()).collect();
        let found = predict(&rows.concat());
        let mut start = 0;
        let mut rejected = 0;
        for job in pass {
            let end = start + job.names.len();
            let answers = word(job.names, job.top, &part(&found, start, end));
            start = end;
            rejected += answers
                .iter()
                .filter(|answer| answer.rejected == Some(true))
                .count();
            // Who asked may have gone meanwhile.
            let _ = job.reply.send(answers);
        }
        counts.pass(items, rejected);
    }
}

/// The predictions of the items `start..end`.
fn part(all: &Predictions, start: usize, end: usize) -> Predictions {
    let numbers = start * all.outputs..end * all.outputs;
    Predictions {
        values: all.values[numbers.clone()].to_vec(),
        deviations: all.deviations.as_ref().map(|own| own[numbers].to_vec()),
        quantiles: all.quantiles.as_ref().map(|own| {
            let width = all.outputs * LEVELS.len();
            own[start * width..end * width].to_vec()
        }),
        outputs: all.outputs,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// Each job gets the answers of its own items, whatever shares its pass; who has gone gets none.
    #[test]
    fn jobs_share_a_pass_and_nothing_else() {
        let (sender, jobs) = sync_channel(8);
        let mut replies = Vec::new();
        for (first, items) in [(0, 2), (2, 1), (3, 300), (303, 1)] {
            let (reply, answers) = oneshot::channel();
            let job = Job {
                names: (first..first + items)
                    .map(|item: usize| item.to_string())
                    .collect(),
                rows: (first..first + items).map(|item| item as f32).collect(),
                top: 1,
                reply,
            };
            sender.send(job).unwrap();
            if first == 2 {
                drop(answers);
            } else {
                replies.push((first, answers));
            }
        }
        drop(sender);
        let counts = Counts::default();
        let twice = |rows: &[f32]| Predictions {
            values: rows.iter().map(|&number| 2.0 * f64::from(number)).collect(),
            deviations: None,
            quantiles: None,
            outputs: 1,
        };
        let word = |names: Vec<String>, _, found: &Predictions| {
            let named = names.into_iter().zip(&found.values);
            let answer = |(item, &score): (String, &f64)| Answer {
                item,
                score: Some(score),
                ..Answer::default()
            };
            named.map(answer).collect()
        };
        work(&jobs, &counts, twice, word);
        for (first, mut reply) in replies {
            let answers = reply.try_recv().unwrap();
            for (item, answer) in (first..).zip(&answers) {
                assert_eq!(answer.item, item.to_string());
                assert_eq!(answer.score, Some(2.0 * item as f64));
            }
        }
        let text = counts.text();
        assert!(text.contains("\nmeta_passes_total 2\n"), "{text}");
        assert!(text.contains("\nmeta_items_total 303\n"), "{text}");
    }
}
