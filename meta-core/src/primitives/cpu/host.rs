//! Between a backend's tensors and the slices that kernels work on.

use burn::tensor::{
    backend::Backend,
    ops::{FloatTensor, IntTensor},
};

use meta_kernels::Kernels;

/// A backend whose tensors lie in the host's memory.
pub trait Host: Backend {
    /// The tensor with its elements in row-major order, copied only where it is not already so.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;

    /// One copy of a tensor whose copies along the first axis share their memory, as a fan-out over
    /// tasks makes them; any other tensor as it is.
    fn one_of_copies(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        tensor
    }

    /// Positions as a tensor of the backend's integers.
    fn index(values: Vec<i32>, shape: Vec<usize>) -> IntTensor<Self>;

    /// Reads positions made by [`Host::index`].
    fn with_index<R>(index: &IntTensor<Self>, read: impl FnOnce(&[i32]) -> R) -> R;
}

/// An element type of the kernels on the backend `B`.
pub trait Element<B: Host>: Kernels {
    /// The elements of a contiguous tensor of this type.
    ///
    /// # Panics
    /// When the tensor is of another type or not contiguous.
    fn slice(tensor: &FloatTensor<B>) -> &[Self];

    /// A tensor that takes over `values`.
    fn tensor(values: Vec<Self>, shape: Vec<usize>) -> FloatTensor<B>;
}
