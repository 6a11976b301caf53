//! The sizes of what a kernel computes.

/// Sizes of `y = x w`: `x [tasks, items, inputs]`, `w [weight_tasks, inputs, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearForm {
    /// Tasks `t`.
    pub tasks: usize,
    /// Tasks of the weight: 1 (shared) or `t`.
    pub weight_tasks: usize,
    /// Items of each task `b`.
    pub items: usize,
    /// Features in `i`.
    pub inputs: usize,
    /// Features out `o`.
    pub outputs: usize,
}

/// Sizes of a convolution: `x [tasks, items, height, width, in_channels]`,
/// `w [weight_tasks, kernel², in_channels, out_channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dForm {
    /// Tasks `t`.
    pub tasks: usize,
    /// Tasks of the weight: 1 (shared) or `t`.
    pub weight_tasks: usize,
    /// Images of each task `b`.
    pub items: usize,
    /// Height of the input.
    pub height: usize,
    /// Width of the input.
    pub width: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Rows and columns of zeros on each side.
    pub padding: usize,
}

impl Conv2dForm {
    /// Height of the output.
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Width of the output.
    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

/// Sizes of `a_ij = ⟨x_i, y_j⟩`, per sequence and head: `x [tasks, sequences/tasks · queries,
/// heads · width]` in the role of the input, `y [tasks, sequences/tasks · keys, heads · width]` in
/// that of the weight, `a [sequences, heads, queries, keys]` in that of the output.
///
/// The scores of attention are the output of queries and keys; what it reads is the input of values
/// and map, `x_i = Σ_j a_ij y_j`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairsForm {
    /// Tasks `t`, which divide the sequences.
    pub tasks: usize,
    /// Sequences of all tasks `n`.
    pub sequences: usize,
    /// Heads.
    pub heads: usize,
    /// Queries of a sequence `l`.
    pub queries: usize,
    /// Keys of a sequence `m`.
    pub keys: usize,
    /// Features of a head `d`.
    pub width: usize,
}

/// Sizes of a pooling over non-overlapping windows of `[items, height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pooling {
    /// Images, of all tasks.
    pub items: usize,
    /// Height of the input.
    pub height: usize,
    /// Width of the input.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Height and width of a window, and the step between windows.
    pub size: usize,
}

impl Pooling {
    /// Height of the output.
    pub fn out_height(&self) -> usize {
        self.height / self.size
    }

    /// Width of the output.
    pub fn out_width(&self) -> usize {
        self.width / self.size
    }
}
