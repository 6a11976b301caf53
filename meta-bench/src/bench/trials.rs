//! Writes what happened in environments as tensors, for peers.

use burn::tensor::TensorData;
use meta_core::rl::Trial;

/// The trials of a batch of tasks, of each task as many, as tensors for each stage of adaptation: rows of tasks by
/// their numbers, trials that end sooner with zeros behind.
pub fn trial_tensors(mut trials: Vec<Trial>) -> Vec<(String, TensorData)> {
    trials.sort_by_key(|trial| (trial.stage, trial.task));
    let stages = trials.chunk_by(|one, other| one.stage == other.stage);
    stages.flat_map(stage_tensors).collect()
}

fn stage_tensors(trials: &[Trial]) -> Vec<(String, TensorData)> {
    let tasks = trials.chunk_by(|one, other| one.task == other.task).count();
    let (t, b) = (tasks, trials.len() / tasks.max(1));
    let length = trials.iter().map(Trial::len).max().unwrap_or(0);
    let tensor = |name: &str, of: &dyn Fn(&Trial) -> Vec<f64>| {
        let rows: Vec<Vec<f64>> = trials.iter().map(of).collect();
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = longest / length.max(1);
        let mut values = Vec::with_capacity(rows.len() * longest);
        for row in rows {
            let filled = values.len() + longest;
            values.extend(row);
            values.resize(filled, 0.0);
        }
        let name = format!("trials.{}.{name}", trials[0].stage);
        let shape = [t, b, length, width];
        let shape = if width == 1 && !name.ends_with("actions") {
            shape[..3].to_vec()
        } else {
            shape.to_vec()
        };
        (name, TensorData::new(values, shape))
    };
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    let steps: Vec<f64> = trials.iter().map(|trial| trial.len() as f64).collect();
    vec![
        tensor("inputs", &|trial| wide(&trial.inputs)),
        tensor("actions", &|trial| wide(&trial.actions)),
        tensor("rewards", &|trial| trial.rewards.clone()),
        tensor("log_probabilities", &|trial| {
            trial.log_probabilities.clone()
        }),
        tensor("values", &|trial| trial.values.clone()),
        (
            format!("trials.{}.steps", trials[0].stage),
            TensorData::new(steps, [t, b]),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(task: u64, stage: usize, steps: usize) -> Trial {
        Trial {
            task,
            stage,
            inputs: vec![task as f32; 3 * steps],
            actions: vec![1.0; 2 * steps],
            rewards: vec![stage as f64; steps],
            ends: vec![false; steps],
            log_probabilities: vec![-1.0; steps],
            values: vec![0.5; steps],
        }
    }

    #[test]
    fn shorter_trials_end_in_zeros() {
        let trials = vec![
            trial(1, 1, 4),
            trial(1, 0, 2),
            trial(0, 0, 3),
            trial(0, 1, 1),
        ];
        let tensors = trial_tensors(trials);
        let of = |name: &str| {
            let (_, data) = tensors.iter().find(|(found, _)| found == name).unwrap();
            let values: Vec<f64> = data.iter::<f64>().collect();
            (data.shape.to_vec(), values)
        };
        assert_eq!(of("trials.0.inputs").0, [2, 1, 3, 3]);
        assert_eq!(of("trials.1.actions").0, [2, 1, 4, 2]);
        assert_eq!(
            of("trials.0.inputs").1[9..],
            [1., 1., 1., 1., 1., 1., 0., 0., 0.]
        );
        assert_eq!(
            of("trials.1.rewards"),
            (vec![2, 1, 4], vec![1., 0., 0., 0., 1., 1., 1., 1.])
        );
        assert_eq!(of("trials.1.steps").1, [1.0, 4.0]);
    }
}
