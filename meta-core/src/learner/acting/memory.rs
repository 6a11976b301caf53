//! What a policy remembers by.

use burn::{
    module::{Module, ModuleDisplay},
    tensor::Tensor,
};

use crate::{
    nn::{Pass, init::Initializer},
    primitives::Primitives,
};

/// How a policy remembers what it read.
pub trait Memory: Send + Sync + 'static {
    /// What is learned of it.
    type Model<L: Primitives>: Module<L> + ModuleDisplay;

    /// What it keeps from step to step, of `[t, b]` trials.
    type State<L: Primitives>;

    /// A model that reads steps of `inputs` numbers, in trials of at most `steps` steps.
    fn init<L: Primitives>(
        &self,
        inputs: usize,
        steps: usize,
        initializer: &mut Initializer,
        device: &L::Device,
    ) -> Self::Model<L>;

    /// Numbers of `m_t`, of steps of `inputs` numbers, in trials of at most `steps` steps.
    fn width(&self, inputs: usize, steps: usize) -> usize;

    /// `m_1 … m_l` of whole trials at once: `[t, b·l, inputs]` to `[t, b·l, width]`.
    fn read<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        steps: Tensor<L, 3>,
        length: usize,
        pass: &Pass<L>,
    ) -> Tensor<L, 3>;

    /// Nothing remembered.
    fn begin<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        trials: [usize; 2],
        device: &L::Device,
    ) -> Self::State<L>;

    /// Reads one step of every trial, `[t, b, inputs]`: `m_t`, `[t, b, width]`. Trials where `goes_on`, `[t,
    /// b, 1]`, is 0 stay as they are; `None`: all go on.
    fn step<L: Primitives>(
        &self,
        model: &Self::Model<L>,
        step: Tensor<L, 3>,
        goes_on: Option<Tensor<L, 3>>,
        state: &mut Self::State<L>,
    ) -> Tensor<L, 3>;
}
