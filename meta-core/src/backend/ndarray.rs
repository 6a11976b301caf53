//! The primitives on the backend ndarray.

use burn::tensor::{
    TensorData,
    ops::{FloatTensorOps, IntTensorOps},
};
use burn_ndarray::{NdArray, NdArrayTensor};

use super::{Compute, Precision};
use crate::{
    host_primitives,
    primitives::cpu::{Element, Host},
};

type B = NdArray<f32>;

impl Host for B {
    fn contiguous(tensor: NdArrayTensor) -> NdArrayTensor {
        let standard = match &tensor {
            NdArrayTensor::F32(storage) => storage.view().is_standard_layout(),
            NdArrayTensor::F64(storage) => storage.view().is_standard_layout(),
            _ => true,
        };
        if standard {
            tensor
        } else {
            // Reading the data back puts it in row-major order.
            let data = burn::tensor::read_sync(B::float_into_data(tensor))
                .expect("host memory is readable");
            B::float_from_data(data, &Default::default())
        }
    }

    fn index(values: Vec<i32>, shape: Vec<usize>) -> NdArrayTensor {
        B::int_from_data(TensorData::new(values, shape), &Default::default())
    }

    fn with_index<R>(index: &NdArrayTensor, read: impl FnOnce(&[i32]) -> R) -> R {
        let NdArrayTensor::I32(storage) = index else {
            unreachable!("positions are made as i32")
        };
        read(
            storage
                .view()
                .as_slice()
                .expect("positions are never permuted"),
        )
    }
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element<B> for $type {
            fn slice(tensor: &NdArrayTensor) -> &[$type] {
                let NdArrayTensor::$variant(storage) = tensor else {
                    panic!("a tensor of this type")
                };
                storage.view().to_slice().expect("contiguous")
            }

            fn tensor(values: Vec<$type>, shape: Vec<usize>) -> NdArrayTensor {
                B::float_from_data(TensorData::new(values, shape), &Default::default())
            }
        }
    };
}
element!(f32, F32);
element!(f64, F64);

host_primitives!(B);

impl Compute for B {
    fn device(number: usize) -> Option<Self::Device> {
        (number == 0).then(Default::default)
    }

    /// The formats that the kernels are written for.
    fn computes(precision: Precision, _device: &Self::Device) -> bool {
        precision.trains()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};
    use burn_ndarray::NdArray;

    /// With its feature `simd`, ndarray computes reciprocals to 12 or 14 bits, and which of them depends on
    /// where the allocator puts a tensor (decision 54). Gradients of divisions are made of them.
    #[test]
    fn reciprocals_are_those_of_ieee() {
        let device = Default::default();
        for length in 1..200 {
            let values: Vec<f32> = (0..length).map(|i| 0.37 + i as f32 * 0.11).collect();
            let data = TensorData::new(values.clone(), [length]);
            let found = Tensor::<NdArray<f32>, 1>::from_data(data, &device).recip();
            let expected: Vec<f32> = values.into_iter().map(|value| 1.0 / value).collect();
            let found: Vec<f32> = found.into_data().convert::<f32>().to_vec().expect("f32");
            assert_eq!(found, expected, "{length} numbers");
        }
    }
}
