//! How a picture, or a row of numbers, becomes an item: what training did to its data, kept with what was
//! trained, so that it cannot be done differently later.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::episode::ItemShape;
use super::features::FeaturesSettings;
use super::folder::FolderSettings;
use super::image_decode::{Background, Fit, ImageFilter, ImageFormat};
use super::image_set::unit_interval;
use super::omniglot::OmniglotSettings;
use super::pairs::Lexicon;
use super::source::SourceSettings;
use crate::error::{Error, Result};
use crate::settings::Settings;

/// What is done to what a person brings, before a network sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Preparation {
    /// Nothing: an item is a row of so many numbers.
    Vector {
        /// Numbers of a row.
        width: usize,
    },
    /// The words of a sentence become their numbers.
    Sentence {
        /// Words and symbols by name.
        lexicon: Lexicon,
        /// The most words.
        words: usize,
        /// The most symbols of what it stands for.
        length: usize,
    },
    /// A picture is turned upright, made a square, resized, and its bytes become numbers in \[0, 1\] or, with
    /// `mean` and `deviation`, `(x − mean) / deviation` by channel.
    Picture {
        /// Height and width in pixels.
        size: usize,
        /// 1 (grey) or 3 (RGB).
        channels: usize,
        /// How it is resized.
        filter: ImageFilter,
        /// Whether dark and light are exchanged.
        invert: bool,
        /// What shows through where it is transparent.
        background: Background,
        /// What becomes of one that is not square.
        fit: Fit,
        /// Mean of each channel; empty where channels are not normalised.
        mean: Vec<f64>,
        /// Standard deviation of each channel.
        deviation: Vec<f64>,
    },
}

impl Preparation {
    /// That of a run on `source` with its `settings`, from what it `described` of itself
    /// ([`Source::describe`](super::Source::describe)): the moments of channels that it measured are there.
    ///
    /// A source that reads no files (`glyphs`) takes pictures in its own shape, light strokes on dark where it
    /// has one channel; other items are rows of numbers.
    ///
    /// # Errors
    /// [`Error::Setting`] for settings that cannot be used.
    pub fn of_run(
        source: &str,
        settings: &Value,
        described: &Value,
        item: ItemShape,
    ) -> Result<Self> {
        let numbers = |key: &str| -> Vec<f64> {
            let list = described["channels"][key].as_array();
            list.into_iter()
                .flatten()
                .filter_map(Value::as_f64)
                .collect()
        };
        let plain = |filter, invert| Preparation::Picture {
            size: item.height,
            channels: item.channels,
            filter,
            invert,
            background: Background::White,
            fit: Fit::Squeeze,
            mean: Vec::new(),
            deviation: Vec::new(),
        };
        if source == FolderSettings::NAME {
            let own = FolderSettings::from_value("data", settings)?;
            let (mean, deviation) = (numbers("mean"), numbers("deviation"));
            if own.pictures.normalize
                && (mean.len(), deviation.len()) != (own.channels, own.channels)
            {
                let expected = "the record of the run does not say by which means and deviations its channels \
                                were normalised";
                return Err(Error::setting("data.normalize", true, expected));
            }
            return Ok(Preparation::Picture {
                size: own.image_size,
                channels: own.channels,
                filter: own.filter,
                invert: own.invert,
                background: own.background,
                fit: own.fit,
                mean,
                deviation,
            });
        }
        if source == OmniglotSettings::NAME {
            let own = OmniglotSettings::from_value("data", settings)?;
            return Ok(plain(own.filter, true));
        }
        if let Ok(lexicon) = serde_json::from_value(described["lexicon"].clone()) {
            let length = described["task"]["sequences"]["length"]
                .as_u64()
                .unwrap_or(0);
            return Ok(Preparation::Sentence {
                lexicon,
                words: item.features(),
                length: length as usize,
            });
        }
        let is_picture =
            item.height > 1 && item.height == item.width && [1, 3].contains(&item.channels);
        if is_picture && source != FeaturesSettings::NAME {
            return Ok(plain(ImageFilter::Triangle, item.channels == 1));
        }
        Ok(Preparation::Vector {
            width: item.features(),
        })
    }

    /// Numbers of an item.
    pub fn features(&self) -> usize {
        match self {
            Preparation::Vector { width } => *width,
            Preparation::Sentence { words, .. } => *words,
            Preparation::Picture { size, channels, .. } => size * size * channels,
        }
    }

    /// What words and symbols are called, where sentences are read.
    pub fn lexicon(&self) -> Option<&Lexicon> {
        match self {
            Preparation::Sentence { lexicon, .. } => Some(lexicon),
            _ => None,
        }
    }

    /// Whether pictures are read.
    pub fn is_picture(&self) -> bool {
        matches!(self, Preparation::Picture { .. })
    }

    /// The numbers of the picture in `file`, as training had them.
    ///
    /// # Errors
    /// A clause: what is wrong with the picture.
    pub fn picture(&self, file: &[u8]) -> Result<Vec<f32>, String> {
        let Preparation::Picture {
            size,
            channels,
            filter,
            invert,
            background,
            fit,
            mean,
            deviation,
        } = self
        else {
            return Err("is a picture, and the run was trained on rows of numbers".to_owned());
        };
        let format = ImageFormat {
            size: *size,
            channels: *channels,
            filter: *filter,
            invert: *invert,
            background: *background,
            fit: *fit,
        };
        format.check().map_err(|error| error.to_string())?;
        let mut bytes = vec![0; format.bytes()];
        format.decode(file, &mut bytes)?;
        let mut item: Vec<f32> = bytes.into_iter().map(unit_interval).collect();
        if !mean.is_empty() {
            for pixel in item.chunks_exact_mut(*channels) {
                for ((x, &mean), &deviation) in pixel.iter_mut().zip(mean).zip(deviation) {
                    *x = (*x - mean as f32) / deviation as f32;
                }
            }
        }
        Ok(item)
    }

    /// Puts the numbers of a picture back to what people see, in \[0, 1\].
    pub fn to_picture(&self, item: &mut [f32]) {
        let Preparation::Picture {
            channels,
            mean,
            deviation,
            ..
        } = self
        else {
            return;
        };
        for pixel in item.chunks_exact_mut(*channels) {
            for ((x, &mean), &deviation) in pixel.iter_mut().zip(mean).zip(deviation) {
                *x = *x * deviation as f32 + mean as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn gray(side: u32, values: &[u8]) -> Vec<u8> {
        let image = image::GrayImage::from_raw(side, side, values.to_vec()).expect("sizes fit");
        let mut file = std::io::Cursor::new(Vec::new());
        image
            .write_to(&mut file, image::ImageFormat::Png)
            .expect("encodes");
        file.into_inner()
    }

    /// Of a folder: by its settings, with the moments that its source measured. By hand: `(x − 0.5) / 0.25`
    /// of inverted bytes.
    #[test]
    fn pictures_are_prepared_as_in_training() {
        let settings = json!({
            "path": "x", "image_size": 2, "channels": 1, "invert": true, "normalize": true,
        });
        let described = json!({"channels": {"mean": [0.5], "deviation": [0.25]}});
        let item = ItemShape {
            height: 2,
            width: 2,
            channels: 1,
        };
        let prepared = Preparation::of_run("folder", &settings, &described, item).expect("known");
        assert_eq!(prepared.features(), 4);
        let mut found = prepared
            .picture(&gray(2, &[255, 0, 204, 51]))
            .expect("a picture");
        let expected = [-2.0, 2.0, -1.2, 1.2];
        let close = |found: &[f32], expected: [f32; 4]| {
            let mut pairs = found.iter().zip(expected);
            // Rounding of numbers of about 1 in single precision.
            assert!(pairs.all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
        };
        close(&found, expected);
        prepared.to_picture(&mut found);
        close(&found, [0.0, 1.0, 0.2, 0.8]);
        let again: Preparation =
            serde_json::from_value(serde_json::to_value(&prepared).expect("JSON")).expect("JSON");
        assert_eq!(again, prepared);
        let message = prepared.picture(b"no picture").expect_err("refused");
        assert!(!message.is_empty());
        let unknown = Preparation::of_run("folder", &settings, &json!({}), item);
        let message = unknown.expect_err("no moments").to_string();
        assert!(message.contains("data.normalize"), "{message}");
    }

    #[test]
    fn what_is_no_picture_is_a_row_of_numbers() {
        let item = |height, channels| ItemShape {
            height,
            width: height,
            channels,
        };
        let of = |source, item| {
            Preparation::of_run(source, &json!({}), &json!({}), item).expect("defaults")
        };
        assert_eq!(of("sinusoid", item(1, 1)), Preparation::Vector { width: 1 });
        assert_eq!(
            of("features", item(1, 64)),
            Preparation::Vector { width: 64 }
        );
        assert!(of("glyphs", item(28, 1)).is_picture());
        assert!(of("omniglot", item(28, 1)).is_picture());
        let message = of("features", item(1, 64))
            .picture(b"")
            .expect_err("no picture");
        assert!(message.contains("rows of numbers"), "{message}");
    }
}
