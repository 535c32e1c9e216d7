//! The screen as the loader left it, and how text gets on it: for a message that has no other way out.
//!
//! Two kinds: a text screen, of cells with a character and its colours each, as a PC starts with; and a framebuffer of
//! pixels, as UEFI leaves. Nothing scrolls: a message starts at the top of an empty screen, and what does not fit is
//! cut. So nothing is ever read back from a screen, which is slow and may be impossible.
//!
//! What is drawn goes through [`Memory`], byte by byte: the kernel's is the real one, and that of tests checks that
//! nothing is written beside the screen.

mod glyphs;

use crate::MemoryRange;
use glyphs::Glyph;

/// Where a screen's bytes are written.
pub trait Memory {
    /// Writes one byte, `offset` bytes from the screen's start.
    fn write(&mut self, offset: u64, byte: u8);
}

/// A screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    kind: Kind,
    address: u64,
    /// Bytes from one row to the next: of cells or of pixels.
    pitch_bytes: u32,
    /// Columns of cells or of pixels.
    columns: u32,
    /// Rows of cells or of pixels.
    rows: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Pixels { bytes_per_pixel: u8 },
}

impl Screen {
    /// The text screen of a PC, for a loader that says nothing: 80 columns, 25 rows.
    pub const VGA_TEXT: Self =
        Self { kind: Kind::Text, address: 0xb_8000, pitch_bytes: 160, columns: 80, rows: 25 };

    const CELL_BYTES: u32 = 2;
    /// Columns and rows of the largest screen that is believed.
    const SIDE_MAX: u32 = 1 << 14;

    /// Describes a screen of cells; `None` where the numbers don't fit together.
    #[must_use]
    pub fn text(address: u64, pitch_bytes: u32, columns: u32, rows: u32) -> Option<Self> {
        Self { kind: Kind::Text, address, pitch_bytes, columns, rows }.if_sound(Self::CELL_BYTES)
    }

    /// Describes a screen of pixels; `None` where the numbers don't fit together, or a pixel is not whole bytes.
    #[must_use]
    pub fn pixels(address: u64, pitch_bytes: u32, columns: u32, rows: u32, bits: u8) -> Option<Self> {
        let bytes_per_pixel = match bits {
            15 | 16 => 2,
            24 => 3,
            32 => 4,
            _ => return None,
        };
        let kind = Kind::Pixels { bytes_per_pixel };
        Self { kind, address, pitch_bytes, columns, rows }.if_sound(bytes_per_pixel.into())
    }

    /// Returns where the screen's bytes are in physical memory.
    #[must_use]
    pub const fn range(&self) -> MemoryRange {
        MemoryRange::with_len(self.address, self.pitch_bytes as u64 * self.rows as u64)
    }

    /// Clears the screen and writes `text` from its top; lines are broken where they have to be.
    pub fn show(&self, text: &str, memory: &mut impl Memory) {
        self.clear(memory);
        let (columns, rows) = (self.columns / self.cell_width(), self.rows / self.cell_height());
        let (mut column, mut row) = (0, 0);
        for character in text.chars() {
            if column == columns || character == '\n' {
                (column, row) = (0, row + 1);
            }
            if row >= rows || columns == 0 {
                return;
            }
            if character != '\n' {
                self.put(column, row, character, memory);
                column += 1;
            }
        }
    }

    fn if_sound(self, unit_bytes: u32) -> Option<Self> {
        let side_is_sound = |side: u32| (1..=Self::SIDE_MAX).contains(&side);
        let fits = u64::from(self.columns) * u64::from(unit_bytes) <= u64::from(self.pitch_bytes);
        let is_there = self.range().end < crate::memory_map::PHYSICAL_END;
        let sound = side_is_sound(self.columns) && side_is_sound(self.rows) && fits && is_there;
        sound.then_some(self)
    }

    const fn cell_width(&self) -> u32 {
        match self.kind {
            Kind::Text => 1,
            Kind::Pixels { .. } => Glyph::COLUMNS,
        }
    }

    const fn cell_height(&self) -> u32 {
        match self.kind {
            Kind::Text => 1,
            Kind::Pixels { .. } => Glyph::ROWS,
        }
    }

    fn clear(&self, memory: &mut impl Memory) {
        match self.kind {
            Kind::Text => (0..self.rows).for_each(|row| {
                (0..self.columns).for_each(|column| self.put(column, row, ' ', memory));
            }),
            Kind::Pixels { bytes_per_pixel } => (0..self.rows).for_each(|row| {
                let start = self.offset(0, row, 0);
                let len = u64::from(self.columns) * u64::from(bytes_per_pixel);
                (0..len).for_each(|byte| memory.write(start + byte, 0));
            }),
        }
    }

    /// Draws one character at a place that is on the screen.
    fn put(&self, column: u32, row: u32, character: char, memory: &mut impl Memory) {
        match self.kind {
            Kind::Text => self.put_cell(column, row, character, memory),
            Kind::Pixels { bytes_per_pixel } => {
                let corner = self.offset(column * Glyph::COLUMNS, row * Glyph::ROWS, bytes_per_pixel.into());
                Glyph::of(character).for_each_pixel(|x, y, level| {
                    let pixel = corner
                        + u64::from(y) * u64::from(self.pitch_bytes)
                        + u64::from(x) * u64::from(bytes_per_pixel);
                    for (byte, value) in (pixel..).zip(shade(level, bytes_per_pixel)) {
                        memory.write(byte, value);
                    }
                });
            }
        }
    }

    fn put_cell(&self, column: u32, row: u32, character: char, memory: &mut impl Memory) {
        const LIGHT_GREY_ON_BLACK: u8 = 0x07;
        let at = self.offset(column, row, Self::CELL_BYTES);
        memory.write(at, printable(character));
        memory.write(at + 1, LIGHT_GREY_ON_BLACK);
    }

    fn offset(&self, column: u32, row: u32, unit_bytes: u32) -> u64 {
        u64::from(row) * u64::from(self.pitch_bytes) + u64::from(column) * u64::from(unit_bytes)
    }
}

/// Returns the code of a character that every screen has.
fn printable(character: char) -> u8 {
    u8::try_from(character).ok().filter(|code| matches!(code, b' '..=b'~')).unwrap_or(b'?')
}

/// Returns the bytes of a grey pixel. Of 16 bits, 5 are of each colour, or 6 of green: the same grey either way, but
/// for a tint that nobody minds in a last message.
fn shade(level: u8, bytes_per_pixel: u8) -> impl Iterator<Item = u8> {
    let five = u16::from(level >> 3);
    let low_and_high = (five << 11 | five << 6 | five).to_le_bytes();
    let of_two = bytes_per_pixel == 2;
    (0..bytes_per_pixel).map(move |byte| match (of_two, byte) {
        (true, 0) => low_and_high[0],
        (true, _) => low_and_high[1],
        (false, _) => level,
    })
}
