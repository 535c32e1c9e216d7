//! Text appears where it should, and nothing is written beside the screen.
//!
//! Method: screens of many sizes, the smallest included, on memory that refuses what is not a pixel or a cell. What is
//! on a text screen is read back as text; on a framebuffer the shapes are compared with each other.

use std::collections::BTreeMap;

use nmiprof_boot::Screen;
use nmiprof_boot::screen::Memory;
use proptest::prelude::*;

struct Sheet {
    bytes: BTreeMap<u64, u8>,
    pitch: u64,
    /// Bytes of a row that are on the screen.
    row: u64,
    end: u64,
}

impl Sheet {
    fn new(screen: &Screen, pitch: u32, row: u32) -> Self {
        Self { bytes: BTreeMap::new(), pitch: pitch.into(), row: row.into(), end: screen.range().len() }
    }

    fn text(&self) -> String {
        let rows: Vec<String> = (0..self.end / self.pitch)
            .map(|row| {
                let cells = (0..self.row / 2).map(|cell| self.bytes[&(row * self.pitch + cell * 2)] as char);
                cells.collect::<String>().trim_end().to_owned()
            })
            .collect();
        rows.join("\n").trim_end().to_owned()
    }
}

impl Memory for Sheet {
    fn write(&mut self, offset: u64, byte: u8) {
        assert!(offset < self.end && offset % self.pitch < self.row, "{offset} is beside the screen");
        self.bytes.insert(offset, byte);
    }
}

fn shown(text: &str) -> String {
    let screen = Screen::VGA_TEXT;
    let mut sheet = Sheet::new(&screen, 160, 160);
    screen.show(text, &mut sheet);
    assert_eq!(sheet.bytes.len(), 80 * 25 * 2, "every cell is written");
    sheet.text()
}

#[test]
fn text_is_on_the_text_screen_as_it_is() {
    assert_eq!(shown("no serial port\nat 0x3f8"), "no serial port\nat 0x3f8");
    assert_eq!(shown("gr\u{fc}n\u{1b}\u{2014}"), "gr?n??", "what the screen has no character for");
    let long = "x".repeat(100);
    assert_eq!(shown(&long), format!("{}\n{}", &long[..80], &long[80..]));
    assert_eq!(shown(&"y".repeat(80 * 25 + 7)).len(), 81 * 25 - 1, "the rest is cut");
    assert_eq!(shown(&"z\n".repeat(40)), ["z"; 25].join("\n"));
}

/// Draws on 320 by 100 pixels and returns the bytes of the first glyph's place, row by row.
fn first_glyph(text: &str, bits: u8) -> Vec<u8> {
    let unit = u32::from(bits.div_ceil(8));
    let screen = Screen::pixels(0x1000, 320 * unit + 64, 320, 100, bits).expect("a sound screen");
    let mut sheet = Sheet::new(&screen, 320 * unit + 64, 320 * unit);
    screen.show(text, &mut sheet);
    let place = |offset: &u64| offset / sheet.pitch < 20 && offset % sheet.pitch < 10 * u64::from(unit);
    sheet.bytes.iter().filter(|(offset, _)| place(offset)).map(|(_, byte)| *byte).collect()
}

#[test]
fn every_printable_character_has_a_shape_of_its_own() {
    let shapes: BTreeMap<Vec<u8>, char> =
        (' '..='~').map(|character| (first_glyph(&character.to_string(), 32), character)).collect();
    assert_eq!(shapes.len(), usize::from(b'~' - b' ') + 1);
    assert!(first_glyph(" ", 32).iter().all(|byte| *byte == 0), "a space is black");
}

#[test]
fn a_pixel_has_as_many_bytes_as_the_screen_says() {
    let lit = |bits| first_glyph("#", bits).iter().filter(|byte| **byte != 0).count();
    assert_eq!(lit(24) * 4, lit(32) * 3);
    assert!(lit(16) > 0 && lit(15) > 0);
}

#[test]
fn senseless_screens_are_none() {
    assert_eq!(Screen::pixels(0, 10, 320, 100, 32), None, "rows overlap");
    assert_eq!(Screen::pixels(u64::MAX - 5, 1280, 320, 100, 32), None, "beyond all memory");
    assert_eq!(Screen::pixels(0, u32::MAX, u32::MAX, u32::MAX, 32), None);
    assert_eq!(Screen::pixels(0, 0, 0, 0, 32), None);
    assert_eq!(Screen::text(0xb_8000, 100, 80, 25), None);
}

proptest! {
    #[test]
    fn nothing_is_written_beside_a_screen(
        columns in 1_u32..90, rows in 1_u32..70, slack in 0_u32..9, bits in prop::sample::select(vec![0_u8, 15, 16, 24, 32]),
        text in "[a-z \n]{0,60}",
    ) {
        let unit = if bits == 0 { 2 } else { u32::from(bits.div_ceil(8)) };
        let pitch = columns * unit + slack;
        let screen = match bits {
            0 => Screen::text(0x1000, pitch, columns, rows),
            _ => Screen::pixels(0x1000, pitch, columns, rows, bits),
        };
        let screen = screen.expect("a sound screen");
        let mut sheet = Sheet::new(&screen, pitch, columns * unit);
        screen.show(&text, &mut sheet);
        prop_assert_eq!(sheet.bytes.len(), usize::try_from(columns * unit * rows).expect("small"), "all of it is cleared");
    }
}
