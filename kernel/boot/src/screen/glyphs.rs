//! Pixels of characters, from the "Noto Sans Mono" font.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

const WEIGHT: FontWeight = FontWeight::Regular;
const HEIGHT: RasterHeight = RasterHeight::Size20;

/// The pixels of one character.
pub(super) struct Glyph(Option<RasterizedChar>);

impl Glyph {
    /// Width of every character, in pixels.
    pub(super) const COLUMNS: u32 = narrowed(get_raster_width(WEIGHT, HEIGHT));
    /// Height of every character, in pixels.
    pub(super) const ROWS: u32 = narrowed(HEIGHT.val());

    /// Finds a character; one that the font does not have becomes a question mark.
    pub(super) fn of(character: char) -> Self {
        Self(get_raster(character, WEIGHT, HEIGHT).or_else(|| get_raster('?', WEIGHT, HEIGHT)))
    }

    /// Calls `draw` with column, row and brightness of each pixel.
    pub(super) fn for_each_pixel(&self, mut draw: impl FnMut(u32, u32, u8)) {
        let Some(raster) = &self.0 else { return };
        for (y, row) in (0..Self::ROWS).zip(raster.rows()) {
            for (x, level) in (0..Self::COLUMNS).zip(row) {
                draw(x, y, *level);
            }
        }
    }
}

/// Returns the size of a glyph's side, which is checked to be small when this is compiled.
const fn narrowed(pixels: usize) -> u32 {
    assert!(pixels > 0 && pixels <= 64, "a glyph is small");
    #[expect(clippy::cast_possible_truncation, reason = "at most 64 (checked above)")]
    let narrow = pixels as u32;
    narrow
}
