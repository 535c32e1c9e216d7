//! Text in a fixed buffer: what does not fit is cut.

use core::fmt;
use core::str;

/// Text of at most `N` bytes.
pub struct FixedText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> FixedText<N> {
    /// Formats text, cut to what fits.
    pub fn format(text: fmt::Arguments<'_>) -> Self {
        let mut this = Self { bytes: [0; N], len: 0 };
        // An error means that the text was cut, or that a Display failed: what there is, is used.
        let _ = fmt::Write::write_fmt(&mut this, text);
        this
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Write for FixedText<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(N - self.len);
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
