//! Colours and fonts of all pictures.

use plotters::style::RGBColor;

/// Okabe and Ito's blue, orange, green and vermilion: told apart by colour-blind readers.
pub const LINES: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
];

/// The font family.
pub const FONT: &str = "sans-serif";

/// What drawing returns.
pub type DrawResult = std::result::Result<(), Box<dyn std::error::Error>>;
