//! The weights of a trained encoder by PyTorch's names and layouts, and an example of what it does.

use burn::tensor::{Tensor, TensorData};
use meta_core::{
    backend::{WithBackend, dispatch},
    nn::{
        Pass,
        encoder::{
            Architecture, Encoder,
            weights::{exported_name, foreign_layout},
        },
        norm::Statistics,
    },
    params::Params,
    primitives::Primitives,
    rng::Seed,
    toolkit::Toolkit,
};

use crate::{
    failure::{CommandError, Result},
    use_trained::{embed::encoder, trained::TrainedLearner},
};

/// Items of the example.
const ITEMS: usize = 4;

/// A tensor by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The numbers, row-major.
    pub numbers: Vec<f32>,
}

/// What is written of an encoder.
pub struct Exported {
    /// Its weights.
    pub weights: Vec<Named>,
    /// Items, `[b, c, h, w]` or `[b, f]`.
    pub input: Named,
    /// Their embeddings, `[b, d]`.
    pub output: Named,
}

/// The weights of a learner's encoder, and an example whose tensors have the names `input` and `output`.
///
/// # Errors
/// For a parameter that PyTorch has no counterpart of.
pub fn exported<T: Toolkit>(
    trained: &TrainedLearner<T>,
    input: &str,
    output: &str,
) -> Result<Exported> {
    let target = trained.manifest.run.target();
    let exporter = Exporter {
        trained,
        input,
        output,
    };
    dispatch(&target, exporter)?
}

struct Exporter<'a, T: Toolkit> {
    trained: &'a TrainedLearner<T>,
    input: &'a str,
    output: &'a str,
}

impl<T: Toolkit> WithBackend for Exporter<'_, T> {
    type Output = Result<Exported>;

    fn run<B: Primitives>(self, device: B::Device) -> Self::Output {
        let trained = self.trained;
        let model = encoder::<T, B>(trained, &device)?;
        let name = &trained.manifest.encoder.name;
        let is_plain = trained.architecture.statistics() == Statistics::None;
        let mut weights: Vec<Named> = Vec::new();
        for (own, data) in Params::of(&model).to_data() {
            let own = match is_plain {
                // Without a normalisation its shift is the bias of the convolution.
                true => own.replace(".norm.beta", ".conv.bias"),
                false => own,
            };
            let Some(exported) = exported_name(name, &own) else {
                return Err(CommandError::Usage(format!(
                    "{}: `{own}` of `{name}` has no counterpart in PyTorch",
                    trained.path.display()
                )));
            };
            let numbers: Vec<f32> = data.iter::<f32>().collect();
            let (mut shape, numbers) = foreign_layout(&data.shape.to_vec(), &numbers);
            if own.ends_with(".weight") && shape.len() == 1 {
                // A linear map of one input.
                shape.push(1);
            }
            weights.push(Named {
                name: exported,
                shape,
                numbers,
            });
        }
        let item = trained.item;
        let features = item.features();
        let mut stream = Seed(0).stream("export", 0, "example");
        let numbers: Vec<f32> = (0..ITEMS * features)
            .map(|_| stream.uniform() as f32)
            .collect();
        let input = TensorData::new(numbers.clone(), [1, ITEMS, features]);
        let input = Tensor::<B, 3>::from_data(input, &device);
        let output = model.forward(input, &Pass::evaluation()).into_data();
        meta_core::device::check();
        let (shape, numbers) = match is_image(name) {
            true => {
                let shape = vec![ITEMS, item.channels, item.height, item.width];
                (shape, channels_first(&numbers, features, item.channels))
            }
            false => (vec![ITEMS, features], numbers),
        };
        Ok(Exported {
            weights,
            input: Named {
                name: self.input.to_owned(),
                shape,
                numbers,
            },
            output: Named {
                name: self.output.to_owned(),
                shape: vec![ITEMS, trained.architecture.width()],
                numbers: output.iter::<f32>().collect(),
            },
        })
    }
}

/// Whether an encoder reads images.
fn is_image(encoder: &str) -> bool {
    encoder != "mlp"
}

/// Images with their channels first.
fn channels_first(numbers: &[f32], features: usize, channels: usize) -> Vec<f32> {
    let images = numbers.chunks(features);
    images
        .flat_map(|image| {
            (0..channels)
                .flat_map(move |channel| image.iter().skip(channel).step_by(channels).copied())
        })
        .collect()
}
