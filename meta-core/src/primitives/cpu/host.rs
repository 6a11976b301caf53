//! Between a backend's tensors and the slices that kernels work on.

use burn::tensor::{
    TensorData,
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

use super::kernels::Real;

/// A backend whose tensors lie in the host's memory.
pub(super) trait Host: Backend {
    /// The tensor with its elements in row-major order, copied only where it is not already so.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Positions as a tensor of the backend's integers.
    fn index(values: Vec<i32>, shape: Vec<usize>) -> IntTensor<Self>;

    /// Reads positions made by [`Host::index`].
    fn with_index<R>(index: &IntTensor<Self>, read: impl FnOnce(&[i32]) -> R) -> R;
}

/// An element type of the kernels on the backend `B`.
pub(super) trait Element<B: Host>: Real {
    /// The elements of a contiguous tensor of this type.
    ///
    /// # Panics
    /// When the tensor is of another type or not contiguous.
    fn slice(tensor: &FloatTensor<B>) -> &[Self];

    /// A tensor that takes over `values`.
    fn tensor(values: Vec<Self>, shape: Vec<usize>) -> FloatTensor<B>;
}

#[cfg(feature = "flex")]
mod flex {
    use burn_flex::{Flex, FlexTensor};

    use super::{Element, Host, TensorData};

    impl Host for Flex {
        fn contiguous(tensor: FlexTensor) -> FlexTensor {
            match tensor.is_contiguous() {
                true => tensor,
                false => tensor.to_contiguous(),
            }
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
}

#[cfg(feature = "ndarray")]
mod ndarray {
    use burn::tensor::ops::{FloatTensorOps, IntTensorOps};
    use burn_ndarray::{NdArray, NdArrayTensor};

    use super::{Element, Host, TensorData};

    type B = NdArray<f32>;

    impl Host for B {
        fn contiguous(tensor: NdArrayTensor) -> NdArrayTensor {
            let standard = match &tensor {
                NdArrayTensor::F32(storage) => storage.view().is_standard_layout(),
                NdArrayTensor::F64(storage) => storage.view().is_standard_layout(),
                _ => true,
            };
            match standard {
                true => tensor,
                // Reading the data back puts it in row-major order.
                false => {
                    let data = burn::tensor::read_sync(B::float_into_data(tensor))
                        .expect("host memory is readable");
                    B::float_from_data(data, &Default::default())
                }
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
}
