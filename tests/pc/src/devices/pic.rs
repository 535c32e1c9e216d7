//! The legacy interrupt controllers (8259): the primary one, with the interval timer at its line 0.
//!
//! Source: "8259A Programmable Interrupt Controller" (Intel).

const INITIALIZE: u8 = 1 << 4;
const END_OF_INTERRUPT: u8 = 0x20;

/// The primary controller; the secondary one takes what is written and raises nothing.
#[derive(Clone, Debug, Default)]
pub struct Pic {
    vector_base: u8,
    mask: u8,
    requests: u8,
    in_service: u8,
    /// Initialization words that are still to come.
    words_left: u8,
}

impl Pic {
    /// Raises a line for a moment.
    pub fn pulse(&mut self, line: u8) {
        self.requests |= 1 << line;
    }

    /// Returns whether an interrupt is asked for.
    #[must_use]
    pub const fn is_asking(&self) -> bool {
        self.requests & !self.mask != 0 && self.in_service == 0 && self.words_left == 0
    }

    /// Accepts the interrupt of the highest priority, and returns its vector.
    pub fn accept(&mut self) -> u8 {
        let line = (self.requests & !self.mask).trailing_zeros() & 7;
        self.requests &= !(1 << line);
        self.in_service |= 1 << line;
        self.vector_base | line.to_le_bytes()[0]
    }

    /// Writes the command port.
    pub fn command(&mut self, value: u8) {
        if value & INITIALIZE != 0 {
            *self = Self { words_left: 3, ..Self::default() };
        } else if value == END_OF_INTERRUPT {
            self.in_service &= self.in_service.wrapping_sub(1);
        }
    }

    /// Writes the data port.
    pub fn data(&mut self, value: u8) {
        match self.words_left {
            0 => self.mask = value,
            3 => {
                self.vector_base = value & 0xf8;
                self.words_left = 2;
            }
            _ => self.words_left -= 1,
        }
    }

    /// Reads the data port.
    #[must_use]
    pub const fn mask(&self) -> u8 {
        self.mask
    }
}
