//! A transformer over the elements of a set.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, TensorData, backend::Backend},
};
use serde_json::{Value, json};

use super::{Encoder, EncoderInfo, EncoderSettings, Operations, Steps, products};
use crate::{
    Error, Result,
    data::ItemShape,
    nn::{
        Pass,
        attention::{Block, BlockSettings, MapAxis, check_heads},
        init::Initializer,
        linear::Linear,
        norm::{Norm, Statistics},
    },
    primitives::{Primitives, broadcast_rows},
    settings,
};

settings! {
    /// Settings of [`SetTransformer`].
    pub struct SetTransformerSettings {
        /// Width of an element and of the embedding. The elements of an item are its rows.
        width: usize = 128, size(1);
        /// Attention heads; must divide the width.
        heads: usize = 4, size(0);
        /// Blocks before the set is pooled.
        layers: usize = 2, size(1);
        /// Width of the hidden feed-forward layer.
        hidden: usize = 128, size(1);
        /// Inducing points, through which the elements of a set attend to each other; 0 for none:
        /// each element then attends to every other.
        inducing: usize = 16, size(0);
        /// Whether an element carries its place in the item, from −1 to 1, as one more feature: for
        /// items whose rows have an order, such as images, and for vectors, whose features are then
        /// the elements. Without it, the order of the rows does not matter.
        index: bool = false;
        /// Whether rows of zeros are padding, and no elements: for items of unequal numbers of rows, such as
        /// texts and series.
        #[added("0.2")]
        padding: bool = false;
    }
}

impl SetTransformerSettings {
    fn block(&self) -> BlockSettings {
        BlockSettings {
            width: self.width,
            heads: self.heads,
            hidden: self.hidden,
        }
    }
}

impl EncoderSettings for SetTransformerSettings {
    const INFO: EncoderInfo = EncoderInfo {
        name: "set_transformer",
        input: "set",
        summary: "rows attend to each other as a set, through inducing points, and are pooled by attention",
        paper: "Lee et al., Set transformer: A framework for attention-based permutation-invariant neural networks, ICML 2019, section 3",
    };

    type Encoder<B: Primitives> = SetTransformer<B>;

    fn check(&self, item: ItemShape) -> Result<()> {
        check_heads("encoder.heads", self.heads, "encoder.width", self.width)?;
        Steps::check(Self::INFO.name, item)?;
        if !self.index && (item.height, item.width) == (1, 1) {
            return Err(Error::setting(
                "encoder.index",
                self.index,
                "the features of a vector are told apart by their place alone: must be true",
            ));
        }
        Ok(())
    }

    fn width(&self, _item: ItemShape) -> usize {
        self.width
    }

    fn activations(&self, item: ItemShape) -> usize {
        let (elements, block) = (Steps::of(item).length, self.block());
        let layer = match self.inducing {
            0 => block.activations(elements, elements),
            points => {
                let reads = block.activations(points, elements);
                reads.saturating_add(block.activations(elements, points))
            }
        };
        let layers = self.layers.saturating_mul(layer);
        layers.saturating_add(item.features() + block.activations(1, elements))
    }

    fn statistics(&self) -> Statistics {
        Statistics::Layer
    }

    fn operations(&self, item: ItemShape) -> Operations {
        let (steps, block) = (Steps::of(item), self.block());
        let elements = steps.length;
        let layer = match self.inducing {
            0 => block.operations(elements, elements),
            points => block.operations(points, elements) + block.operations(elements, points),
        };
        Operations {
            first: products(&[elements, steps.features, self.width]),
            rest: self.layers as f64 * layer + block.operations(1, elements),
        }
    }

    fn widen(&mut self, width: usize) {
        self.width = width;
    }

    fn small() -> Vec<Value> {
        vec![json!({"width": 4, "heads": 2, "layers": 1, "hidden": 5, "inducing": 2})]
    }

    fn build<B: Primitives>(
        &self,
        item: ItemShape,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> SetTransformer<B> {
        SetTransformer::new(item, self, initializer, device)
    }
}

/// Lets the elements of a set attend to each other, directly (SAB) or through inducing points (ISAB).
#[derive(Module, Debug)]
struct SetLayer<B: Backend> {
    /// The inducing points, `[1|t, 1, m·d]`, and the block in which they read the set.
    inducing: Option<Inducing<B>>,
    block: Block<B>,
}

#[derive(Module, Debug)]
struct Inducing<B: Backend> {
    points: Param<Tensor<B, 3>>,
    block: Block<B>,
}

/// The set transformer (Lee et al., ICML 2019): self-attention blocks, optionally through inducing
/// points (eq. 9 and 10), and pooling by attention of one learned seed (eq. 11).
///
/// ```text
/// SAB(X) = MAB(X, X),    ISAB(X) = MAB(X, MAB(I, X)),    PMA(X) = MAB(S, X)
/// ```
///
/// `MAB` is a [`Block`]; without `index`, the embedding does not depend on the order of the elements.
///
/// # Differences from the paper
/// * Normalisation comes before each part of a block instead of after it; the published code has none
///   by default.
/// * No feed-forward layer before the pooling, as in the published code; one seed, so that no block
///   follows it.
#[derive(Module, Debug)]
pub struct SetTransformer<B: Backend> {
    embedding: Linear<B>,
    layers: Vec<SetLayer<B>>,
    /// The seed `S`, `[1|t, 1, d]`.
    seed: Param<Tensor<B, 3>>,
    pool: Block<B>,
    norm: Norm<B>,
    #[module(skip)]
    elements: Steps,
    #[module(skip)]
    index: bool,
    #[module(skip)]
    padding: bool,
}

impl<B: Backend> SetTransformer<B> {
    pub(super) fn new(
        item: ItemShape,
        settings: &SetTransformerSettings,
        initializer: &mut Initializer,
        device: &B::Device,
    ) -> Self {
        let elements = Steps::of(item);
        let (d, m) = (settings.width, settings.inducing);
        let features = elements.features + usize::from(settings.index);
        let block =
            |initializer: &mut Initializer| Block::new(settings.block(), initializer, device);
        SetTransformer {
            embedding: Linear::glorot(features, d, initializer, device),
            layers: (0..settings.layers)
                .map(|_| SetLayer {
                    inducing: (m > 0).then(|| Inducing {
                        points: initializer.glorot([1, 1, m * d], m, d, device),
                        block: block(initializer),
                    }),
                    block: block(initializer),
                })
                .collect(),
            seed: initializer.glorot([1, 1, d], 1, d, device),
            pool: block(initializer),
            norm: Norm::new(d, Statistics::Layer, "", device),
            elements,
            index: settings.index,
            padding: settings.padding,
        }
    }
}

impl<B: Primitives> SetTransformer<B> {
    /// The embeddings `[t, b, d]` and the map of each block in order: with inducing points
    /// `[t·b, heads, m, l]` and `[t·b, heads, l, m]` of each layer, else `[t·b, heads, l, l]`; last that
    /// of the pooling, `[t·b, heads, 1, l]`.
    pub fn forward_with_maps(
        &self,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> (Tensor<B, 3>, Vec<Tensor<B, 4>>) {
        let [t, b, _] = x.dims();
        let length = self.elements.length;
        let absent = self.padding.then(|| self.elements.padding(&x));
        let absent = absent.as_ref();
        let rows = self.elements.rows(x);
        let rows = if self.index {
            with_index(rows, length)
        } else {
            rows
        };
        let mut elements = self.embedding.forward(rows);
        let mut maps = Vec::new();
        let d = elements.dims()[2];
        let (parts, points_axis) = (self.elements.axis(), MapAxis::Other("inducing point"));
        for (layer, SetLayer { inducing, block }) in self.layers.iter().enumerate() {
            let name = format!("encoder.block {}", layer + 1);
            let (seen, map) = match inducing {
                None => block.forward_masked(elements, length, absent, pass),
                Some(inducing) => {
                    let points = broadcast_rows(inducing.points.val(), t, b);
                    let m = points.dims()[2] / d;
                    let points = points.reshape([t, b * m, d]);
                    let read = elements.clone();
                    let (summary, map) =
                        inducing.block.attend_masked(points, read, b, absent, pass);
                    pass.record(
                        &format!("{name}, inducing"),
                        points_axis.clone(),
                        parts.clone(),
                        &map,
                    );
                    maps.push(map);
                    block.attend(elements, summary, b, pass)
                }
            };
            elements = seen;
            let read = match inducing {
                None => parts.clone(),
                Some(_) => points_axis.clone(),
            };
            pass.record(&name, parts.clone(), read, &map);
            maps.push(map);
        }
        let seeds = broadcast_rows(self.seed.val(), t, b);
        let (pooled, map) = self.pool.attend_masked(seeds, elements, b, absent, pass);
        pass.record("encoder.pool", MapAxis::Other("seed"), parts, &map);
        maps.push(map);
        (self.norm.forward(pooled, b, pass), maps)
    }
}

/// Rows `[t, b·l, f]` with their place among `length` as one more feature, from −1 to 1.
fn with_index<B: Backend>(rows: Tensor<B, 3>, length: usize) -> Tensor<B, 3> {
    let [t, count, _] = rows.dims();
    let place = |row: usize| 2.0 * (row % length) as f64 / (length - 1) as f64 - 1.0;
    let places = TensorData::new((0..count).map(place).collect(), [1, count, 1]);
    let places = Tensor::<B, 3>::from_data(places, &rows.device()).cast(rows.dtype());
    Tensor::cat(vec![rows, places.expand([t, count, 1])], 2)
}

impl<B: Primitives> Encoder<B> for SetTransformer<B> {
    fn forward(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        self.forward_with_maps(x, pass).0
    }
}
