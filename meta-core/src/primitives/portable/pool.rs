//! Max pooling by index.

use burn::tensor::{
    Int, Tensor, TensorPrimitive,
    ops::{FloatTensor, IntTensor},
};

use super::super::{Pooling, Primitives};
use crate::primitives::primitive;

pub(super) fn planes(pooling: &Pooling) -> [usize; 3] {
    [
        pooling.items,
        pooling.height * pooling.width,
        pooling.channels,
    ]
}

pub(super) fn pooled(pooling: &Pooling) -> [usize; 4] {
    [
        pooling.items,
        pooling.out_height(),
        pooling.out_width(),
        pooling.channels,
    ]
}

pub(super) fn winners<B: Primitives>(pooling: &Pooling, index: &IntTensor<B>) -> Tensor<B, 3, Int> {
    let [items, height, width, channels] = pooled(pooling);
    Tensor::<B, 4, Int>::from_primitive(index.clone()).reshape([items, height * width, channels])
}

/// See [`Primitives::max_pool`].
pub fn max_pool<B: Primitives>(
    pooling: &Pooling,
    x: FloatTensor<B>,
) -> (FloatTensor<B>, IntTensor<B>) {
    let x: Tensor<B, 4> = Tensor::from_primitive(TensorPrimitive::Float(x));
    let (size, device) = (pooling.size, x.device());
    let [items, height, width, channels] = pooled(pooling);
    // One candidate per position in the window; a later one wins only where it is larger.
    let rows: Tensor<B, 5> = x.unfold(1, size, size);
    let windows: Tensor<B, 6> = rows.unfold(2, size, size);
    let candidates =
        windows
            .permute([4, 5, 0, 1, 2, 3])
            .reshape([size * size, items, height, width, channels]);
    let candidate = |tap: usize| {
        let value = candidates.clone().narrow(0, tap, 1);
        value.reshape([items, height, width, channels])
    };
    let corner = {
        let rows = Tensor::<B, 1, Int>::arange(0..height as i64, &device)
            .mul_scalar((size * pooling.width) as i64)
            .reshape([1, height, 1, 1]);
        let columns = Tensor::<B, 1, Int>::arange(0..width as i64, &device)
            .mul_scalar(size as i64)
            .reshape([1, 1, width, 1]);
        (rows.expand([items, height, width, channels]))
            + columns.expand([items, height, width, channels])
    };
    let mut maxima = candidate(0);
    let mut index = corner.clone();
    for tap in 1..size * size {
        let value = candidate(tap);
        let wins = value.clone().greater(maxima.clone());
        let position = (tap / size * pooling.width + tap % size) as i64;
        maxima = maxima.mask_where(wins.clone(), value);
        index = index.mask_where(wins, corner.clone().add_scalar(position));
    }
    (primitive(maxima), index.into_primitive())
}
