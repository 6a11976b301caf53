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

/// What a recurrent layer does at a step, from `z`, what it reads multiplied by a weight, the state
/// before and `u`, the weight of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentCell {
    /// Long short-term memory, `u [h, 4h]`:
    ///
    /// ```text
    /// [i f o g] = z + h U,   c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g),   h' = σ(o) ⊙ tanh(c')
    /// ```
    Lstm,
    /// Gated recurrent unit, `u [h + 1, 3h]`, whose last row is a bias:
    ///
    /// ```text
    /// [p_r p_z p_n] = [h 1] U,   r = σ(z_r + p_r),   s = σ(z_z + p_z)
    /// n = tanh(z_n + r ⊙ p_n),   h' = (1 − s) ⊙ n + s ⊙ h
    /// ```
    Gru,
}

impl RecurrentCell {
    /// Blocks of `z` and `u`, as wide as the state each.
    pub fn gates(self) -> usize {
        match self {
            RecurrentCell::Lstm => 4,
            RecurrentCell::Gru => 3,
        }
    }

    /// Vectors of a state: hidden state and cell, or the hidden state alone.
    pub fn states(self) -> usize {
        match self {
            RecurrentCell::Lstm => 2,
            RecurrentCell::Gru => 1,
        }
    }
}

/// What a recurrence gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The hidden state at every step.
    Hidden,
    /// The hidden state at the step that is read last.
    Last,
    /// The hidden state at every step; after those of an item, the cell at the step that is read last.
    Trace,
}

/// Sizes of a recurrence over the steps of items: `z [tasks, items · steps, gates · width]`, `u
/// [weight_tasks, width, gates · width]` (a row more for a gated unit), the state before the first step
/// `[tasks, items, states · width]`, and what is shown, `[tasks, items · slots, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recurrence {
    /// What is done at a step.
    pub cell: RecurrentCell,
    /// Tasks `t`.
    pub tasks: usize,
    /// Tasks of the weight: 1 (shared) or `t`.
    pub weight_tasks: usize,
    /// Items of each task `b`.
    pub items: usize,
    /// Steps of each item `l`.
    pub steps: usize,
    /// Width of the hidden state `h`.
    pub width: usize,
    /// Whether the last step is read first.
    pub reverse: bool,
    /// What is shown.
    pub shown: Shown,
}

impl Recurrence {
    /// Width of `z` and `u`.
    pub fn gates_width(&self) -> usize {
        self.cell.gates() * self.width
    }

    /// Width of a state.
    pub fn state_width(&self) -> usize {
        self.cell.states() * self.width
    }

    /// Rows of the weight.
    pub fn weight_rows(&self) -> usize {
        self.width + usize::from(self.cell == RecurrentCell::Gru)
    }

    /// Vectors shown of an item.
    pub fn slots(&self) -> usize {
        match self.shown {
            Shown::Hidden => self.steps,
            Shown::Last => 1,
            Shown::Trace => self.steps + self.cell.states() - 1,
        }
    }

    /// The same recurrence, with the hidden state of every step among what is shown.
    pub fn whole(self) -> Self {
        let shown = match self.shown {
            Shown::Last => Shown::Hidden,
            shown => shown,
        };
        Recurrence { shown, ..self }
    }

    /// The step that is read at `turn`, counted from 0.
    pub fn step_at(&self, turn: usize) -> usize {
        match self.reverse {
            false => turn,
            true => self.steps - 1 - turn,
        }
    }
}
