//! From the bytes of an image file to pixels of one size, as people see the picture.
//!
//! It is turned as its camera says (EXIF), what is transparent shows the background, and an animation is
//! its first picture. A file that ends before its picture does is damaged, whatever a lenient decoder
//! makes of it.

use std::io::Cursor;

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, Luma, Rgb, RgbImage};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What decides the pixels: these rules and the decoders. It is part of the key of a cache, so that pixels
/// of other rules are not served; a test compares it with `Cargo.lock`.
pub(crate) const DECODER: &str =
    "rules 2, image 0.25.10, png 0.18.1, zune-jpeg 0.5.15, gif 0.14.2, image-webp 0.2.4";
/// Endings of the names of files that are read, in small letters.
pub(crate) const EXTENSIONS: [&str; 8] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "gif", "webp", "bmp"];
/// Pixels of a side, and pixels in all, of the largest image that is read.
const MAXIMUM_SIDE: u32 = 1 << 15;
const MAXIMUM_PIXELS: u64 = 1 << 26;
/// Memory for one image while it is decoded.
const MAXIMUM_BYTES: u64 = 1 << 30;

/// How an image is resized, by the `image` crate's names. Each but `nearest` widens its support when
/// shrinking, so thin strokes survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFilter {
    /// The nearest pixel.
    Nearest,
    /// Linear; also read as `bilinear`.
    #[serde(alias = "bilinear")]
    Triangle,
    /// Cubic; also read as `bicubic`.
    #[serde(alias = "bicubic")]
    CatmullRom,
    /// Gaussian.
    Gaussian,
    /// Windowed sinc of three lobes: the filter of most published Omniglot pipelines.
    Lanczos3,
}

impl From<ImageFilter> for FilterType {
    fn from(filter: ImageFilter) -> Self {
        match filter {
            ImageFilter::Nearest => FilterType::Nearest,
            ImageFilter::Triangle => FilterType::Triangle,
            ImageFilter::CatmullRom => FilterType::CatmullRom,
            ImageFilter::Gaussian => FilterType::Gaussian,
            ImageFilter::Lanczos3 => FilterType::Lanczos3,
        }
    }
}

/// What shows through where an image is transparent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// White, as on paper.
    White,
    /// Black.
    Black,
}

impl Background {
    fn value(self) -> u8 {
        match self {
            Background::White => 255,
            Background::Black => 0,
        }
    }
}

/// What becomes of an image that is not square.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// It is squeezed into a square.
    Squeeze,
    /// The square in its middle is taken.
    Crop,
    /// It becomes a square by a border of the background.
    Pad,
}

impl Fit {
    fn is_squeeze(&self) -> bool {
        *self == Fit::Squeeze
    }
}

/// What decoded images look like.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ImageFormat {
    /// Height and width in pixels.
    pub size: usize,
    /// 1 (luma) or 3 (RGB).
    pub channels: usize,
    pub filter: ImageFilter,
    /// Whether to store 255 − v.
    pub invert: bool,
    pub background: Background,
    /// Left out of the key of a cache where it is as it always was.
    #[serde(skip_serializing_if = "Fit::is_squeeze")]
    pub fit: Fit,
}

/// Identity of a picture: a hash of its pixels before they are resized.
pub(crate) type Digest = [u8; 16];

impl ImageFormat {
    /// Checks the settings that every image source has.
    pub fn check(&self) -> Result<()> {
        if !(1..=1024).contains(&self.size) {
            return Err(Error::setting(
                "data.image_size",
                self.size,
                "must be in 1..=1024 pixels",
            ));
        }
        if ![1, 3].contains(&self.channels) {
            return Err(Error::setting(
                "data.channels",
                self.channels,
                "must be 1 (grey) or 3 (RGB)",
            ));
        }
        Ok(())
    }

    /// Bytes of one decoded image.
    pub fn bytes(&self) -> usize {
        self.size * self.size * self.channels
    }

    /// Decodes `file` into `place`. An error is a clause: what is wrong with the image.
    pub fn decode(&self, file: &[u8], place: &mut [u8]) -> Result<Digest, String> {
        let picture = open(file)?;
        let picture = match self.channels {
            1 => DynamicImage::ImageLuma8(self.opaque(picture).into_luma8()),
            _ => DynamicImage::ImageRgb8(self.opaque(picture).into_rgb8()),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&picture.width().to_le_bytes());
        hasher.update(&picture.height().to_le_bytes());
        hasher.update(picture.as_bytes());
        let size = self.size as u32;
        let resized = if picture.width() == size && picture.height() == size {
            picture
        } else {
            match self.fit {
                Fit::Squeeze => picture.resize_exact(size, size, self.filter.into()),
                Fit::Crop => picture.resize_to_fill(size, size, self.filter.into()),
                Fit::Pad => self.padded(&picture),
            }
        };
        let flip = if self.invert { 255 } else { 0 };
        for (place, value) in place.iter_mut().zip(resized.into_bytes()) {
            *place = value ^ flip;
        }
        let mut digest = Digest::default();
        hasher.finalize_xof().fill(&mut digest);
        Ok(digest)
    }

    /// The whole picture in the middle of a square of the background.
    fn padded(&self, picture: &DynamicImage) -> DynamicImage {
        let size = self.size as u32;
        let inside = picture.resize(size, size, self.filter.into());
        let border = self.background.value();
        let mut square = match self.channels {
            1 => DynamicImage::ImageLuma8(GrayImage::from_pixel(size, size, Luma([border]))),
            _ => DynamicImage::ImageRgb8(RgbImage::from_pixel(size, size, Rgb([border; 3]))),
        };
        let middle = |side: u32| i64::from((size - side.min(size)) / 2);
        let (left, top) = (middle(inside.width()), middle(inside.height()));
        image::imageops::replace(&mut square, &inside, left, top);
        match self.channels {
            1 => DynamicImage::ImageLuma8(square.into_luma8()),
            _ => DynamicImage::ImageRgb8(square.into_rgb8()),
        }
    }

    /// The picture over the background, where it has an alpha channel: `α v + (1 − α) background`.
    fn opaque(&self, picture: DynamicImage) -> DynamicImage {
        if !picture.color().has_alpha() {
            return picture;
        }
        let background = u32::from(self.background.value());
        let picture = picture.into_rgba8();
        let mut opaque = RgbImage::new(picture.width(), picture.height());
        for (place, pixel) in opaque.pixels_mut().zip(picture.pixels()) {
            let alpha = u32::from(pixel.0[3]);
            for (place, &value) in place.0.iter_mut().zip(&pixel.0) {
                let sum = alpha * u32::from(value) + (255 - alpha) * background;
                *place = ((sum + 127) / 255) as u8;
            }
        }
        DynamicImage::ImageRgb8(opaque)
    }
}

/// Width and height of the picture in `file`, as they lie in it, by its head alone.
///
/// # Errors
/// A clause: what is wrong with the picture.
pub fn picture_size(file: &[u8]) -> Result<(u32, u32), String> {
    let reader = ImageReader::new(Cursor::new(file)).with_guessed_format();
    let unreadable = |error: ImageError| format!("cannot be decoded: {error}");
    let reader = reader.map_err(|error| unreadable(error.into()))?;
    reader.into_dimensions().map_err(unreadable)
}

/// The picture in `file`, upright.
fn open(file: &[u8]) -> Result<DynamicImage, String> {
    let unreadable = |error: ImageError| format!("cannot be decoded: {error}");
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| unreadable(error.into()))?;
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAXIMUM_BYTES);
    reader.limits(limits);
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) > MAXIMUM_SIDE || pixels > MAXIMUM_PIXELS {
        return Err(format!(
            "has {width}×{height} pixels; at most {MAXIMUM_SIDE} a side and {MAXIMUM_PIXELS} in all \
             are read"
        ));
    }
    if format == Some(image::ImageFormat::Jpeg) && !jpeg_ends(file) {
        return Err("is cut short: the file ends before the picture does".to_owned());
    }
    // Without a sound EXIF block, as it lies in the file.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether the segments and scans of a JPEG file lead to its end marker (ITU-T T.81, annex B).
fn jpeg_ends(file: &[u8]) -> bool {
    const END: u8 = 0xd9;
    // Markers without a length: restarts, start of image, and one for arithmetic coding.
    let alone = |marker: u8| matches!(marker, 0x01 | 0xd0..=0xd8);
    let mut rest = file;
    loop {
        // To the next marker; between segments and inside a scan 0xff 0x00 is a byte of data.
        let Some(start) = rest.iter().position(|&byte| byte == 0xff) else {
            return false;
        };
        rest = &rest[start + 1..];
        match rest.first() {
            None => return false,
            Some(&END) => return true,
            Some(0xff | 0x00) => {}
            Some(&marker) if alone(marker) => rest = &rest[1..],
            Some(_) => {
                let length = rest
                    .get(1..3)
                    .map(|l| usize::from(l[0]) << 8 | usize::from(l[1]));
                let Some(after) = length.and_then(|length| rest.get(1 + length..)) else {
                    return false;
                };
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache is read by the version that wrote it: a new decoder must change the key.
    #[test]
    fn the_decoders_are_those_of_the_lock_file() {
        let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock");
        let Ok(lock) = std::fs::read_to_string(lock) else {
            return;
        };
        for decoder in DECODER.split(", ").skip(1) {
            let (name, version) = decoder.split_once(' ').expect("name and version");
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(
                lock.contains(&entry),
                "`{decoder}` is not the one in Cargo.lock"
            );
        }
    }

    #[test]
    fn the_end_of_a_jpeg_file_is_found_behind_its_segments() {
        // A segment that contains an end marker, as a preview does, and a scan with a stuffed byte.
        let whole =
            b"\xff\xd8\xff\xe1\x00\x06\xff\xd9ab\xff\xda\x00\x02\x01\xff\x00\xff\xd0\x02\xff\xd9";
        assert!(jpeg_ends(whole));
        for length in 0..whole.len() {
            assert!(!jpeg_ends(&whole[..length]), "{length}");
        }
    }
}
