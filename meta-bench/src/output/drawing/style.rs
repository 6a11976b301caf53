//! Names the colours of all pictures and the sizes of their text.

use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

/// Red, green and blue; and the same with an opacity from 0 to 1.
pub use plotters::style::{RGBAColor as Paint, RGBColor as Colour};

/// Text and lines.
pub const INK: Colour = Colour(34, 34, 34);
/// What is said beside the point.
pub const GREY: Colour = Colour(105, 105, 105);
/// What is marked: vermilion, told from every colour of the map.
pub const MARK: Colour = LINES[3];

/// Okabe and Ito's colours, told apart by colour-blind readers, but yellow, which is too light for a line.
pub const LINES: [Colour; 7] = [
    Colour(0, 114, 178),
    Colour(230, 159, 0),
    Colour(0, 158, 115),
    Colour(213, 94, 0),
    Colour(204, 121, 167),
    Colour(86, 180, 233),
    Colour(60, 60, 60),
];

/// Size of a title.
pub const TITLE: f64 = 17.0;
/// Size of what is said below a title, and of the names of axes.
pub const TEXT: f64 = 13.0;
/// Size of labels and legends.
pub const SMALL: f64 = 11.0;
/// Space around a picture.
pub const MARGIN: f64 = 18.0;

/// The colour of `share`, in [0, 1]: viridis, whose lightness rises evenly.
pub fn viridis(share: f64) -> Colour {
    ViridisRGB.get_color(share.clamp(0.0, 1.0) as f32)
}

/// Black or white, whichever can be read on a colour.
pub fn readable_on(Colour(red, green, blue): Colour) -> Colour {
    let lightness = 0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue);
    if lightness > 140.0 {
        Colour(0, 0, 0)
    } else {
        Colour(255, 255, 255)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_gets_lighter() {
        let lightness = |share| {
            let Colour(red, green, blue) = viridis(share);
            u32::from(red) + u32::from(green) + u32::from(blue)
        };
        assert!(lightness(0.0) < lightness(0.5) && lightness(0.5) < lightness(1.0));
        assert_eq!(readable_on(viridis(0.0)), Colour(255, 255, 255));
        assert_eq!(readable_on(viridis(1.0)), Colour(0, 0, 0));
    }
}
