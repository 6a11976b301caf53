//! A support as a sequence, for learners that read one item after the other.

use burn::tensor::{Tensor, TensorData, backend::Backend};

use crate::primitives::{MatrixProduct, Primitives};
use crate::task::{ItemBatch, TargetBatch};

/// The order in which the items of each task are presented: shuffled, and a function of the set.
///
/// Items are sorted by a hash of what they are, so the order mixes the classes, has nothing to do with
/// the order of the batch, and is the same whenever and wherever the task is presented. Changing an
/// item moves that item alone.
pub struct SupportOrder<B: Backend> {
    order: Vec<Vec<usize>>,
    /// 1 at (place, item), `[t, s, s]`.
    matrix: Tensor<B, 3>,
}

impl<B: Primitives> SupportOrder<B> {
    /// The order of these items. Reads their inputs back to the host.
    pub fn of(items: &ItemBatch<B>) -> Self {
        let [t, s] = items.dims();
        let inputs: Vec<f32> = items.inputs.clone().into_data().iter().collect();
        let targets: Vec<f32> = match &items.targets {
            TargetBatch::Classes(labels) => labels.clone().into_data().iter().collect(),
            TargetBatch::Values(values) => values.clone().into_data().iter().collect(),
            TargetBatch::Sequences(symbols) => symbols.clone().into_data().iter().collect(),
        };
        let (features, outputs) = (inputs.len() / (t * s), targets.len() / (t * s));
        // Targets only tell equal inputs apart.
        let key = |row: usize| {
            let inputs = &inputs[row * features..(row + 1) * features];
            (
                hash(inputs),
                hash(&targets[row * outputs..(row + 1) * outputs]),
            )
        };
        let order: Vec<Vec<usize>> = (0..t)
            .map(|task| {
                let mut order: Vec<usize> = (0..s).collect();
                order.sort_by_cached_key(|item| key(task * s + item));
                order
            })
            .collect();
        let mut matrix = vec![0.0f32; t * s * s];
        for (place, &item) in order.iter().flatten().enumerate() {
            matrix[place * s + item] = 1.0;
        }
        let device = items.inputs.device();
        let matrix = Tensor::<B, 3>::from_data(TensorData::new(matrix, [t, s, s]), &device);
        SupportOrder {
            order,
            matrix: matrix.cast(items.inputs.dtype()),
        }
    }

    /// The items of each task, first to last.
    pub fn order(&self) -> &[Vec<usize>] {
        &self.order
    }

    /// Rows of items, `[t, s, d]`, to their places in the sequence.
    pub fn present(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.matrix.clone().product(x)
    }

    /// The inverse of [`SupportOrder::present`].
    pub fn restore(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.matrix.clone().swap_dims(1, 2).product(x)
    }
}

/// FNV-1a over the bits of the numbers, mixed by the finaliser of SplitMix64.
fn hash(numbers: &[f32]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for number in numbers {
        hash = (hash ^ u64::from(number.to_bits())).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend::Cpu, rng::Seed};
    use burn::tensor::Int;

    const ITEMS: usize = 6;

    /// Tasks of six items, two of each of three classes, in this order of the batch.
    fn items(tasks: usize, order: [usize; ITEMS]) -> ItemBatch<Cpu> {
        let device = Default::default();
        let (mut inputs, mut labels) = (Vec::new(), Vec::new());
        for task in 0..tasks as u64 {
            for item in order {
                let mut stream = Seed(task).stream("presentation", item as u64, "item");
                inputs.extend([stream.normal() as f32, stream.normal() as f32]);
                labels.push((item / 2) as i32);
            }
        }
        let labels = TensorData::new(labels, [tasks, ITEMS]);
        let inputs = Tensor::from_data(TensorData::new(inputs, [tasks, ITEMS, 2]), &device);
        let labels = Tensor::<Cpu, 2, Int>::from_data(labels, &device);
        ItemBatch::new(inputs, TargetBatch::Classes(labels))
    }

    fn values(x: Tensor<Cpu, 3>) -> Vec<f32> {
        x.into_data().to_vec().expect("f32")
    }

    /// The sequence is that of the set, whatever the order of the batch, and goes back to it.
    #[test]
    fn the_order_belongs_to_the_set() {
        let plain = items(4, [0, 1, 2, 3, 4, 5]);
        let permuted = items(4, [4, 1, 5, 0, 3, 2]);
        let present =
            |items: &ItemBatch<Cpu>| values(SupportOrder::of(items).present(items.inputs.clone()));
        assert_eq!(present(&plain), present(&permuted));
        assert_ne!(present(&plain), values(plain.inputs.clone()));
        let presentation = SupportOrder::of(&plain);
        let there = presentation.present(plain.inputs.clone());
        assert_eq!(values(presentation.restore(there)), values(plain.inputs));
    }

    /// Every item is as often first as any other: 600 tasks, 100 expected of each, standard deviation
    /// 9.1; outside of 50 to 150 with a probability below 1e-6.
    #[test]
    fn the_order_is_shuffled() {
        let presentation = SupportOrder::of(&items(600, [0, 1, 2, 3, 4, 5]));
        for place in 0..ITEMS {
            for item in 0..ITEMS {
                let order = presentation.order().iter();
                let count = order.filter(|order| order[place] == item).count();
                assert!((50..150).contains(&count), "{place}, {item}: {count}");
            }
        }
    }
}
