//! The primitives on Burn's CPU backend flex.

use burn::tensor::TensorData;
use burn_flex::{Flex, FlexTensor, Layout};

use super::{Compute, Precision};
use crate::{
    host_primitives,
    primitives::cpu::{Element, Host},
};

impl Host for Flex {
    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        }
    }

    fn one_of_copies(tensor: FlexTensor) -> FlexTensor {
        let layout = tensor.layout();
        let (shape, strides) = (layout.shape().to_vec(), layout.strides());
        if shape.len() < 2 || shape[0] < 2 || strides[0] != 0 {
            return tensor;
        }
        let mut one = shape;
        one[0] = 1;
        let mut strides = strides.to_vec();
        strides[0] = strides[1] * one[1] as isize;
        let layout = Layout::new(one.into(), strides, layout.start_offset());
        tensor.with_layout(layout)
    }

    fn index(values: Vec<i32>, shape: Vec<usize>) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, shape))
    }

    fn with_index<R>(index: &FlexTensor, read: impl FnOnce(&[i32]) -> R) -> R {
        read(
            index
                .to_contiguous()
                .as_slice::<i32>()
                .expect("contiguous positions"),
        )
    }
}

macro_rules! element {
    ($type:ty) => {
        impl Element<Flex> for $type {
            fn slice(tensor: &FlexTensor) -> &[$type] {
                tensor.as_slice().expect("contiguous, of this type")
            }

            fn tensor(values: Vec<$type>, shape: Vec<usize>) -> FlexTensor {
                FlexTensor::from_data(TensorData::new(values, shape))
            }
        }
    };
}
element!(f32);
element!(f64);

host_primitives!(Flex);

impl Compute for Flex {
    fn device(number: usize) -> Option<Self::Device> {
        (number == 0).then(Default::default)
    }

    /// The formats that the kernels are written for.
    fn computes(precision: Precision, _device: &Self::Device) -> bool {
        precision.trains()
    }
}
