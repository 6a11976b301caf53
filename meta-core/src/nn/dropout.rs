//! Dropping values at random: single ones, and blocks of a feature map.
//!
//! Both take their numbers from the [`Pass`] and are the identity where it draws none: in evaluation,
//! and in training without a seed.

use burn::tensor::{Tensor, backend::Backend};

use super::Pass;

/// `x ⊙ m / (1 − rate)`, each entry of `m` 0 with probability `rate`, else 1 (Srivastava et al., JMLR
/// 2014, scaled at training): the first axis of `x` is that of the tasks of the pass, or a multiple of it.
///
/// # Panics
/// When the number of tasks does not divide the entries of `x`.
pub fn dropout<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    rate: f64,
    pass: &Pass<B>,
) -> Tensor<B, D> {
    if rate == 0.0 {
        return x;
    }
    let shape = x.shape();
    let per_task = |tasks: usize| shape.num_elements() / tasks;
    let uniform = pass
        .tasks()
        .and_then(|tasks| pass.uniform(per_task(tasks), &x.device()));
    match uniform {
        None => x,
        Some(uniform) => {
            let kept = uniform.greater_equal_elem(rate).float().cast(x.dtype());
            x * kept.mul_scalar(1.0 / (1.0 - rate)).reshape(shape)
        }
    }
}

/// DropBlock (Ghiasi, Lin and Le, NeurIPS 2018, algorithm 1): squares of `block × block` positions of
/// a channel are set to 0, and what stays is scaled so that a task keeps its sum of ones:
///
/// ```text
/// γ = rate / block² · h w / ((h − block + 1) (w − block + 1))     (eq. 1)
/// m = 0 on the squares of seeds drawn with probability γ, else 1
/// y = x ⊙ m · count(m) / Σ m
/// ```
///
/// `x [t, b, h, w, c]`, every channel with seeds of its own; a block larger than the map is cut to it.
pub fn drop_block<B: Backend>(
    x: Tensor<B, 5>,
    rate: f64,
    block: usize,
    pass: &Pass<B>,
) -> Tensor<B, 5> {
    if rate == 0.0 {
        return x;
    }
    let [t, b, h, w, c] = x.dims();
    let block = block.min(h).min(w);
    let [rows, columns] = [h - block + 1, w - block + 1];
    let Some(uniform) = pass.uniform(b * rows * columns * c, &x.device()) else {
        return x;
    };
    let area = |height: usize, width: usize| (height * width) as f64;
    let gamma = rate / area(block, block) * area(h, w) / area(rows, columns);
    let seeds = uniform.lower_elem(gamma).float().cast(x.dtype());
    let covered = spread(seeds.reshape([t * b, rows, columns * c]), block);
    let covered = spread(covered.reshape([t * b * h, columns, c]), block);
    let kept = covered
        .equal_elem(0.0)
        .float()
        .cast(x.dtype())
        .reshape([t, b * h * w * c]);
    let share = kept.clone().mean_dim(1);
    // A task of which nothing stays is 0, whatever it is divided by.
    let nothing = share.clone().equal_elem(0.0);
    let kept = kept / share.mask_fill(nothing, 1.0);
    x * kept.reshape([t, b, h, w, c])
}

/// Each row of `x [n, r, c]` added to the `block` rows from its own on: `[n, r + block − 1, c]`.
fn spread<B: Backend>(x: Tensor<B, 3>, block: usize) -> Tensor<B, 3> {
    let [n, _, c] = x.dims();
    // CUDA refuses to fill a tensor of no numbers.
    let zeros =
        |rows| (rows > 0).then(|| Tensor::<B, 3>::zeros([n, rows, c], &x.device()).cast(x.dtype()));
    (0..block)
        .map(|shift| {
            let parts = [zeros(shift), Some(x.clone()), zeros(block - 1 - shift)];
            Tensor::cat(parts.into_iter().flatten().collect(), 1)
        })
        .reduce(|sum, shifted| sum + shifted)
        .expect("a block of at least one row")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Cpu,
        nn::{Mode, Noise},
        rng::Seed,
    };

    fn pass() -> Pass<Cpu> {
        let noise = Noise::new(Seed(3), [4, 9].into(), "support", 0);
        Pass::new(Mode::training(Some(noise)))
    }

    fn values<const D: usize>(x: Tensor<Cpu, D>) -> Vec<f32> {
        x.into_data().to_vec().unwrap()
    }

    /// What stays is scaled by `1 / (1 − rate)`; how much goes is binomial, here within 5 standard
    /// deviations (a false alarm in two million).
    #[test]
    fn dropout_drops_its_share() {
        let (n, rate) = (20_000.0, 0.3);
        let ones = Tensor::<Cpu, 3>::ones([2, 100, 100], &Default::default());
        let dropped = values(dropout(ones.clone(), rate, &pass()));
        let kept = 1.0 / 0.7;
        assert!(dropped.iter().all(|&v| v == 0.0 || v == kept as f32));
        let gone = dropped.iter().filter(|&&v| v == 0.0).count() as f64;
        assert!((gone - rate * n).abs() < 5.0 * (n * rate * (1.0 - rate)).sqrt());
        assert_eq!(
            values(dropout(ones, rate, &Pass::training())),
            [1.0; 20_000]
        );
    }

    /// Of tasks with several rows each, the rows of a task come from its stream.
    #[test]
    fn rows_of_a_task_are_beside_each_other() {
        let ones = Tensor::<Cpu, 2>::ones([6, 50], &Default::default());
        let rows = values(dropout(ones.clone(), 0.5, &pass()));
        let whole = values(dropout(ones.reshape([2, 150]), 0.5, &pass()));
        assert_eq!(rows, whole);
    }

    /// Zeros come in whole squares, and every task keeps its sum.
    #[test]
    fn drop_block_drops_squares() {
        let (h, w, block) = (7, 6, 3);
        let ones = Tensor::<Cpu, 5>::ones([2, 3, h, w, 4], &Default::default());
        let dropped = drop_block(ones.clone(), 0.2, block, &pass());
        for sum in values(dropped.clone().reshape([2, 504]).sum_dim(1)) {
            assert!((sum - 504.0).abs() < 1e-2, "{sum}");
        }
        let planes = values(dropped.permute([0, 1, 4, 2, 3]).reshape([24, h * w]));
        let mut gone = 0;
        for plane in planes.chunks(h * w) {
            let zero = |row: usize, column: usize| plane[row * w + column] == 0.0;
            let square = |row: usize, column: usize| {
                (row..row + block).all(|r| (column..column + block).all(|c| zero(r, c)))
            };
            for (row, column) in (0..h * w).map(|position| (position / w, position % w)) {
                if !zero(row, column) {
                    continue;
                }
                gone += 1;
                let tops = row.saturating_sub(block - 1)..=row.min(h - block);
                let covered = tops.into_iter().any(|top| {
                    (column.saturating_sub(block - 1)..=column.min(w - block))
                        .any(|left| square(top, left))
                });
                assert!(covered, "a zero outside of every square");
            }
        }
        assert!(gone > 0);
        assert_eq!(
            values(drop_block(ones, 0.2, block, &Pass::training())),
            [1.0; 1008]
        );
    }
}
