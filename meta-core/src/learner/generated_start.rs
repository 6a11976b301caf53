//! Starts of adaptation that are generated from the support: what learners that read a task before they
//! adapt to it share.

use super::{New, adapt::Adaptable, tokens};
use crate::{
    data::Task,
    nn::{Pass, encoder::Architecture},
    params::{FeatureLayer, Params},
    primitives::Primitives,
    task::TaskBatch,
};

/// The shapes of a generated start.
#[derive(Clone, Debug)]
pub struct GeneratedStart {
    /// What of `θ` can be modulated.
    pub layers: Vec<FeatureLayer>,
    /// Width of a support item with its target.
    pub token: usize,
    /// Whether the tasks are classification, and the head is made of prototypes.
    classes: bool,
    /// Whether inner steps follow.
    adapts: bool,
}

impl GeneratedStart {
    /// The start of a learner that takes `inner_steps` steps after it, and its `θ`: the network's, in
    /// classification without the head.
    pub fn new<A: Architecture, B: Primitives>(
        new: &New<'_, A, B>,
        network: &Adaptable<A, B::Device>,
        inner_steps: usize,
    ) -> (Self, Params<B>) {
        let classes = new.spec.task == Task::Classification;
        let theta = network.draw(new.seed);
        let theta = if classes {
            theta.outside("head")
        } else {
            theta
        };
        let width = new.architecture.width();
        let start = GeneratedStart {
            layers: theta.feature_layers(),
            token: tokens::width(width, classes, new.spec.outputs()),
            classes,
            adapts: inner_steps > 0,
        };
        (start, theta)
    }

    /// `θ⁰`: `generate` makes it of `θ` and the embedded support with its targets, `[t, s, …]`; what it
    /// does not change stays shared where no step follows.
    pub fn start<A: Architecture, L: Primitives>(
        &self,
        network: &Adaptable<A, L::Device>,
        theta: Params<L>,
        tasks: &TaskBatch<L>,
        pass: &Pass<L>,
        generate: impl FnOnce(burn::tensor::Tensor<L, 3>, Params<L>) -> Params<L>,
    ) -> Params<L> {
        let embedded = network.embed_support(&theta, tasks, pass);
        let way = tasks.shape.way.0;
        let read = tokens::with_targets(embedded, &tasks.support.targets, way);
        let theta = generate(read, theta);
        let start = if self.classes {
            network.with_prototypes(theta, tasks, pass)
        } else {
            theta
        };
        if self.adapts {
            start.fan_out(tasks.tasks())
        } else {
            start
        }
    }
}
