//! Accuracy by instance: how well an item is recognised when its class is presented for the first time, the second
//! time, … , by a learner that reads the support as a sequence and hears the label of an item one step after it
//! (Santoro et al., ICML 2016, section 4.2, figure 2).

use burn::tensor::Tensor;

use crate::{learner::support_order::SupportOrder, primitives::Primitives, task::TaskBatch};

/// How often a class has been presented when an item of the support is, counted from 1, item by item
/// in the order of the batch, for each task.
pub fn instances<B: Primitives>(tasks: &TaskBatch<B>) -> Vec<Vec<usize>> {
    let labels = tasks.support.targets.labels().into_data();
    let labels: Vec<i64> = labels.iter().collect();
    let presentation = SupportOrder::of(&tasks.support);
    let [_, s] = tasks.support.dims();
    let of_task = |(order, labels): (&Vec<usize>, &[i64])| {
        let mut instances = vec![0; s];
        let mut seen = vec![0; tasks.shape.way.0];
        for &item in order {
            let count = &mut seen[labels[item] as usize];
            *count += 1;
            instances[item] = *count;
        }
        instances
    };
    let orders = presentation.order().iter();
    orders.zip(labels.chunks(s)).map(of_task).collect()
}

/// Accuracy of each task at the first presentation of its classes, the second, …, from the answers that were given
/// for the items of the support at their presentation, `[t, s, n]`.
pub fn accuracy_by_instance<B: Primitives>(
    answers: Tensor<B, 3>,
    tasks: &TaskBatch<B>,
) -> Vec<Vec<f64>> {
    let [t, s, _] = answers.dims();
    let given = answers.argmax(2).reshape([t, s]);
    let right = given.equal(tasks.support.targets.labels()).into_data();
    let right: Vec<bool> = right.iter().collect();
    let of_task = |(instances, right): (Vec<usize>, &[bool])| {
        let (way, shot) = (tasks.shape.way.0, tasks.shape.shot.0);
        let mut hits = vec![0usize; shot];
        for (instance, right) in instances.into_iter().zip(right) {
            hits[instance - 1] += usize::from(*right);
        }
        let share = |hits: usize| hits as f64 / way as f64;
        hits.into_iter().map(share).collect()
    };
    let tasks = instances(tasks).into_iter().zip(right.chunks(s));
    tasks.map(of_task).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        data::{Episode, EpisodeShape},
        gradcheck::toy,
    };

    fn tasks() -> TaskBatch<Cpu> {
        let spec = toy::vectors(3, EpisodeShape::new(3, 4, 1));
        let episodes: Vec<Episode> = (0..2).map(|index| toy::clouds(&spec, index)).collect();
        TaskBatch::new(&episodes, &spec, &Default::default())
    }

    /// The first presentations of a class are numbered 1, its last ones as the shot is.
    #[test]
    fn instances_count_presentations() {
        let instances = instances(&tasks());
        assert_eq!(instances.len(), 2);
        for instances in instances {
            for class in instances.chunks(4) {
                let mut sorted = class.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, [1, 2, 3, 4]);
            }
        }
    }

    /// Who knows a class from its third presentation on, and always says the first class before, is right then for
    /// one class of three.
    #[test]
    fn accuracies_are_those_of_each_presentation() {
        let tasks = tasks();
        let labels: Vec<i64> = tasks.support.targets.labels().into_data().iter().collect();
        let told = instances(&tasks).concat();
        let mut answers = vec![0.0f32; 2 * 12 * 3];
        for (item, (label, instance)) in labels.into_iter().zip(told).enumerate() {
            let said = if instance >= 3 { label as usize } else { 0 };
            answers[item * 3 + said] = 1.0;
        }
        let data = burn::tensor::TensorData::new(answers, [2, 12, 3]);
        let answers = Tensor::<Cpu, 3>::from_data(data, &Default::default());
        let third = 1.0 / 3.0;
        assert_eq!(
            accuracy_by_instance(answers, &tasks),
            vec![vec![third, third, 1.0, 1.0]; 2]
        );
    }
}
