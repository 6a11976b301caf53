//! From pixels to the numbers that a network sees: augmentation of training tasks, and channels that are
//! centred and scaled.

use serde_json::{Value, json};

use super::episode::ItemShape;
use crate::error::{Error, Result};
use crate::rng::Stream;
use crate::settings;
use crate::settings::Settings;

settings! {
    /// How pixels become numbers, and what is done to images of training tasks.
    pub struct PictureSettings {
        /// Whether each channel is centred and scaled, `(x − mean) / deviation` with x in \[0, 1\]: by `mean`
        /// and `deviation`, or where these are empty by those of all images of the training classes.
        #[added("0.2")]
        normalize: bool = false;
        /// Mean of each channel; with `normalize`.
        #[added("0.2")]
        mean: Vec<f64> = Vec::new();
        /// Standard deviation of each channel, above 0; with `normalize`.
        #[added("0.2")]
        deviation: Vec<f64> = Vec::new();
        /// Training tasks: each image is moved by up to this many pixels along each axis, at random; what it
        /// leaves is black (0).
        #[added("0.2")]
        random_crop: usize = 0, between(0, 512);
        /// Training tasks: each image is mirrored left to right, every second time.
        #[added("0.2")]
        random_flip: bool = false;
        /// Training tasks: brightness, contrast and saturation of each image are multiplied by random numbers
        /// in `1 − jitter ..= 1 + jitter`, in this order.
        #[added("0.2")]
        jitter: f64 = 0.0, below_one();
    }
}

/// Mean and standard deviation of each channel.
pub(crate) type Moments = (Vec<f64>, Vec<f64>);

impl PictureSettings {
    /// The settings that change training tasks alone.
    pub(crate) const OF_TRAINING: [&'static str; 3] = ["random_crop", "random_flip", "jitter"];

    /// Checks the settings against each other and the number of channels.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key.
    pub(crate) fn check(&self, channels: usize) -> Result<()> {
        self.check_ranges("data")?;
        for (key, list) in [
            ("data.mean", &self.mean),
            ("data.deviation", &self.deviation),
        ] {
            let refuse = |expected: String| Err(Error::setting(key, json!(list), expected));
            if list.is_empty() && self.mean.is_empty() == self.deviation.is_empty() {
                continue;
            }
            if !self.normalize {
                return refuse("is used with `data.normalize = true` alone".to_owned());
            }
            if list.len() != channels {
                return refuse(format!(
                    "must have {channels} numbers, one for each channel"
                ));
            }
            let low = if key == "data.deviation" {
                0.0
            } else {
                f64::NEG_INFINITY
            };
            if list
                .iter()
                .any(|&number| !number.is_finite() || number <= low)
            {
                return refuse("must be finite, and deviations above 0".to_owned());
            }
        }
        Ok(())
    }

    /// The settings that are not at their defaults: what is not asked for is no part of an identity.
    pub(crate) fn changed(&self) -> Vec<(&'static str, Value)> {
        let defaults = PictureSettings::default().entries();
        let both = self.entries().into_iter().zip(defaults);
        both.filter(|(own, default)| own != default)
            .map(|(own, _)| own)
            .collect()
    }

    /// What is done to images; `measured` gives the moments of the training classes.
    pub(crate) fn pictures(&self, measured: impl FnOnce() -> Moments) -> Pictures {
        let moments = self.normalize.then(|| {
            if self.mean.is_empty() {
                measured()
            } else {
                (self.mean.clone(), self.deviation.clone())
            }
        });
        Pictures {
            settings: self.clone(),
            moments,
        }
    }
}

/// What is done to images.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    settings: PictureSettings,
    moments: Option<Moments>,
}

impl Pictures {
    /// Nothing.
    pub fn plain() -> Self {
        PictureSettings::default().pictures(Moments::default)
    }

    /// The moments that channels are normalised by.
    pub fn moments(&self) -> Option<&Moments> {
        self.moments.as_ref()
    }

    /// Whether images of training tasks are changed.
    pub fn augments(&self) -> bool {
        let PictureSettings {
            random_crop,
            random_flip,
            jitter,
            ..
        } = self.settings;
        random_crop > 0 || random_flip || jitter > 0.0
    }

    /// Changes an image at random, with numbers in \[0, 1\].
    pub fn augment(&self, image: &mut [f32], shape: ItemShape, stream: &mut Stream) {
        let most = self.settings.random_crop;
        if most > 0 {
            let mut shift = || stream.below(2 * most + 1) as isize - most as isize;
            let (down, right) = (shift(), shift());
            shifted(image, shape, down, right);
        }
        if self.settings.random_flip && stream.below(2) == 1 {
            mirrored(image, shape);
        }
        let jitter = self.settings.jitter;
        if jitter > 0.0 {
            let mut factor = || stream.uniform_in(1.0 - jitter, 1.0 + jitter) as f32;
            let (brightness, contrast, saturation) = (factor(), factor(), factor());
            coloured(image, shape.channels, brightness, contrast, saturation);
        }
    }

    /// Centres and scales the channels.
    pub fn normalize(&self, image: &mut [f32]) {
        self.each(image, |x, mean, deviation| (x - mean) / deviation);
    }

    /// Undoes [`Pictures::normalize`].
    pub fn restore(&self, image: &mut [f32]) {
        self.each(image, |x, mean, deviation| x * deviation + mean);
    }

    fn each(&self, image: &mut [f32], change: impl Fn(f32, f32, f32) -> f32) {
        if let Some((means, deviations)) = &self.moments {
            for pixel in image.chunks_exact_mut(means.len()) {
                for ((x, &mean), &deviation) in pixel.iter_mut().zip(means).zip(deviations) {
                    *x = change(*x, mean as f32, deviation as f32);
                }
            }
        }
    }
}

/// Moves an image; what it leaves is 0.
fn shifted(image: &mut [f32], shape: ItemShape, down: isize, right: isize) {
    let old = image.to_vec();
    let (height, width) = (shape.height as isize, shape.width as isize);
    for (pixel, place) in image.chunks_exact_mut(shape.channels).enumerate() {
        let (row, column) = (
            pixel as isize / width - down,
            pixel as isize % width - right,
        );
        if (0..height).contains(&row) && (0..width).contains(&column) {
            let start = (row * width + column) as usize * shape.channels;
            place.copy_from_slice(&old[start..start + shape.channels]);
        } else {
            place.fill(0.0);
        }
    }
}

fn mirrored(image: &mut [f32], shape: ItemShape) {
    for row in image.chunks_exact_mut(shape.width * shape.channels) {
        let old = row.to_vec();
        let pixels = old.chunks_exact(shape.channels).rev();
        for (place, pixel) in row.chunks_exact_mut(shape.channels).zip(pixels) {
            place.copy_from_slice(pixel);
        }
    }
}

/// `clamp(b x)`, then `clamp(m + c (x − m))` with m the mean grey of the image, then
/// `clamp(g + s (x − g))` with g the grey of the pixel: ITU-R BT.601 luma, as in Pillow and torchvision.
fn coloured(image: &mut [f32], channels: usize, brightness: f32, contrast: f32, saturation: f32) {
    let grey = |pixel: &[f32]| match pixel {
        [r, g, b] => 0.299 * r + 0.587 * g + 0.114 * b,
        _ => pixel[0],
    };
    for x in image.iter_mut() {
        *x = (brightness * *x).clamp(0.0, 1.0);
    }
    let pixels = (image.len() / channels).max(1) as f32;
    let mean = image.chunks_exact(channels).map(grey).sum::<f32>() / pixels;
    for x in image.iter_mut() {
        *x = (mean + contrast * (*x - mean)).clamp(0.0, 1.0);
    }
    for pixel in image.chunks_exact_mut(channels) {
        let own = grey(pixel);
        for x in pixel {
            *x = (own + saturation * (*x - own)).clamp(0.0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    const SHAPE: ItemShape = ItemShape {
        height: 2,
        width: 3,
        channels: 1,
    };

    #[test]
    fn images_are_moved_and_mirrored() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let moved = |down, right| {
            let mut image = image;
            shifted(&mut image, SHAPE, down, right);
            image
        };
        assert_eq!(moved(0, 0), image);
        assert_eq!(moved(1, 0), [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(moved(0, -1), [2.0, 3.0, 0.0, 5.0, 6.0, 0.0]);
        assert_eq!(moved(-1, 2), [0.0, 0.0, 4.0, 0.0, 0.0, 0.0]);
        assert_eq!(moved(9, 9), [0.0; 6]);
        let mut colour = image;
        mirrored(
            &mut colour,
            ItemShape {
                height: 1,
                width: 2,
                channels: 3,
            },
        );
        assert_eq!(colour, [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
    }

    /// By hand: a pixel of pure red and one of grey.
    #[test]
    fn colours_change_by_their_factors() {
        let image = [1.0, 0.0, 0.0, 0.5, 0.5, 0.5];
        let changed = |brightness, contrast, saturation| {
            let mut image = image;
            coloured(&mut image, 3, brightness, contrast, saturation);
            image
        };
        let close = |found: [f32; 6], expected: [f32; 6]| {
            let pairs = found.iter().zip(expected);
            // Rounding of numbers below 1 in single precision.
            assert!(
                pairs.into_iter().all(|(f, e)| (f - e).abs() < 1e-6),
                "{found:?}"
            );
        };
        close(changed(1.0, 1.0, 1.0), image);
        close(changed(0.5, 1.0, 1.0), [0.5, 0.0, 0.0, 0.25, 0.25, 0.25]);
        close(changed(2.0, 1.0, 1.0), [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        close(changed(1.0, 0.0, 1.0), [(0.299 + 0.5) / 2.0; 6]);
        close(changed(1.0, 1.0, 0.0), [0.299, 0.299, 0.299, 0.5, 0.5, 0.5]);
    }

    /// Every shift within bounds comes, about as often as the others; half of the images are mirrored.
    #[test]
    fn augmentation_is_uniform_and_belongs_to_its_stream() {
        let settings = PictureSettings {
            random_crop: 1,
            random_flip: true,
            ..PictureSettings::default()
        };
        let pictures = settings.pictures(Moments::default);
        let shape = ItemShape {
            height: 3,
            width: 4,
            channels: 1,
        };
        let draw = |index| {
            let mut image = [0.0; 12];
            (image[5], image[6]) = (1.0, 0.5);
            let mut stream = Seed(1).stream("pictures", index, "test");
            pictures.augment(&mut image, shape, &mut stream);
            image.map(|x| (2.0 * x) as u8)
        };
        assert_eq!(draw(3), draw(3));
        let mut counts = std::collections::HashMap::new();
        for index in 0..1800 {
            *counts.entry(draw(index)).or_insert(0) += 1;
        }
        // 9 shifts, mirrored or not: 100 of each on average, with a standard deviation below 10.
        assert_eq!(counts.len(), 18);
        assert!(
            counts.values().all(|count| (50..150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn normalising_is_undone() {
        let settings = PictureSettings {
            normalize: true,
            ..PictureSettings::default()
        };
        let pictures = settings.pictures(|| (vec![0.5, 0.25, 0.0], vec![0.5, 0.25, 2.0]));
        let mut image = [1.0, 0.5, 1.0, 0.0, 0.25, 0.5];
        pictures.normalize(&mut image);
        assert_eq!(image, [1.0, 1.0, 0.5, -1.0, 0.0, 0.25]);
        pictures.restore(&mut image);
        assert_eq!(image, [1.0, 0.5, 1.0, 0.0, 0.25, 0.5]);
    }

    #[test]
    fn settings_that_do_not_fit_are_refused_by_name() {
        let message = |settings: PictureSettings| match settings.check(3) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        let plain = PictureSettings::default;
        assert_eq!(message(plain()), "");
        assert_eq!(
            message(PictureSettings {
                normalize: true,
                ..plain()
            }),
            ""
        );
        let given = |mean: Vec<f64>, deviation: Vec<f64>, normalize| PictureSettings {
            mean,
            deviation,
            normalize,
            ..plain()
        };
        assert_eq!(message(given(vec![0.5; 3], vec![0.2; 3], true)), "");
        for (settings, expected) in [
            (
                given(vec![0.5; 3], vec![0.2; 3], false),
                "`data.mean = [0.5,0.5,0.5]`: is used with",
            ),
            (
                given(vec![0.5; 1], vec![0.2; 3], true),
                "`data.mean = [0.5]`: must have 3",
            ),
            (
                given(vec![0.5; 3], vec![], true),
                "`data.deviation = []`: must have 3",
            ),
            (
                given(vec![0.5; 3], vec![0.2, 0.2, 0.0], true),
                "`data.deviation = ",
            ),
            (
                PictureSettings {
                    jitter: 1.0,
                    ..plain()
                },
                "`data.jitter = 1`",
            ),
        ] {
            assert!(
                message(settings.clone()).starts_with(expected),
                "{}",
                message(settings)
            );
        }
    }
}
