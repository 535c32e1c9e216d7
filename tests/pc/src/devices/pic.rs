//! The legacy interrupt controllers (8259): two of them, the secondary one at line 2 of the primary.
//!
//! Source: "8259A Programmable Interrupt Controller" (Intel).

const INITIALIZE: u8 = 1 << 4;
const END_OF_INTERRUPT: u8 = 0x20;
/// Of the fourth initialization word: what is taken is over.
const AUTOMATIC_END: u8 = 1 << 1;
const CASCADE: u8 = 2;
const LINES: u8 = 8;

/// One controller.
#[derive(Clone, Debug, Default)]
struct Controller {
    vector_base: u8,
    mask: u8,
    requests: u8,
    in_service: u8,
    /// Initialization words that are still to come.
    words_left: u8,
    ends_by_itself: bool,
}

/// Both controllers.
#[derive(Clone, Debug, Default)]
pub struct Pic {
    primary: Controller,
    secondary: Controller,
}

/// Which controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The primary one, which asks the CPU.
    Primary,
    /// The secondary one, which asks the primary one.
    Secondary,
}

impl Pic {
    /// Raises a line for a moment: 0 to 7 of the primary one, 8 to 15 of the secondary one.
    pub fn pulse(&mut self, line: u8) {
        let controller = if line < LINES { &mut self.primary } else { &mut self.secondary };
        controller.requests |= 1 << (line % LINES);
    }

    /// Returns whether an interrupt is asked for.
    #[must_use]
    pub const fn is_asking(&self) -> bool {
        self.primary.next(self.cascaded()).is_some()
    }

    /// Accepts the interrupt of the highest priority, and returns its vector.
    pub fn accept(&mut self) -> u8 {
        let cascaded = self.cascaded();
        match self.primary.accept(cascaded) {
            CASCADE if cascaded != 0 => self.secondary.vector_base | self.secondary.accept(0),
            line => self.primary.vector_base | line,
        }
    }

    /// Writes a command port.
    pub fn command(&mut self, which: Which, value: u8) {
        self.controller(which).command(value);
    }

    /// Writes a data port.
    pub fn data(&mut self, which: Which, value: u8) {
        self.controller(which).data(value);
    }

    /// Reads a data port.
    #[must_use]
    pub const fn mask(&self, which: Which) -> u8 {
        match which {
            Which::Primary => self.primary.mask,
            Which::Secondary => self.secondary.mask,
        }
    }

    /// Returns what the secondary one asks of the primary one, as a set of its lines.
    const fn cascaded(&self) -> u8 {
        if self.secondary.next(0).is_some() { 1 << CASCADE } else { 0 }
    }

    const fn controller(&mut self, which: Which) -> &mut Controller {
        match which {
            Which::Primary => &mut self.primary,
            Which::Secondary => &mut self.secondary,
        }
    }
}

impl Controller {
    /// Returns the line to be taken next: that of the highest priority, if none of its own or a higher one is in service.
    const fn next(&self, cascaded: u8) -> Option<u32> {
        let line = ((self.requests | cascaded) & !self.mask).trailing_zeros();
        let is_next = line < self.in_service.trailing_zeros() && self.words_left == 0;
        if is_next { Some(line) } else { None }
    }

    fn accept(&mut self, cascaded: u8) -> u8 {
        let line = self.next(cascaded).unwrap_or(0);
        self.requests &= !(1 << line);
        if !self.ends_by_itself {
            self.in_service |= 1 << line;
        }
        line.to_le_bytes()[0]
    }

    fn command(&mut self, value: u8) {
        if value & INITIALIZE != 0 {
            *self = Self { words_left: 3, ..Self::default() };
        } else if value == END_OF_INTERRUPT {
            self.in_service &= self.in_service.wrapping_sub(1);
        }
    }

    fn data(&mut self, value: u8) {
        match self.words_left {
            0 => self.mask = value,
            3 => {
                self.vector_base = value & 0xf8;
                self.words_left = 2;
            }
            left => {
                self.words_left -= 1;
                self.ends_by_itself = left == 1 && value & AUTOMATIC_END != 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{END_OF_INTERRUPT, Pic, Which};

    /// Both initialized as on a PC, nothing masked; the last word of the primary one is given.
    fn initialized(last_word: u8) -> Pic {
        let mut pic = Pic::default();
        for (which, words) in [(Which::Primary, [0x20, 4, last_word, 0]), (Which::Secondary, [0x28, 2, 1, 0])]
        {
            pic.command(which, 0x11);
            words.into_iter().for_each(|word| pic.data(which, word));
        }
        pic
    }

    #[test]
    fn a_line_of_the_secondary_one_comes_through_the_primary_one() {
        let mut pic = initialized(1);
        pic.pulse(8);
        assert!(pic.is_asking());
        assert_eq!(pic.accept(), 0x28);
        pic.pulse(8);
        pic.pulse(3);
        assert!(!pic.is_asking(), "both are below what is in service");
        pic.pulse(0);
        assert_eq!(pic.accept(), 0x20, "the interval timer is above");
        (0..2).for_each(|_| pic.command(Which::Primary, END_OF_INTERRUPT));
        assert_eq!(pic.accept(), 0x23, "the secondary one waits for its own end");
        pic.command(Which::Primary, END_OF_INTERRUPT);
        pic.command(Which::Secondary, END_OF_INTERRUPT);
        assert_eq!(pic.accept(), 0x28);
    }

    #[test]
    fn an_automatic_end_lets_the_next_one_come_at_once() {
        for (last_word, asks) in [(1, false), (3, true)] {
            let mut pic = initialized(last_word);
            pic.pulse(0);
            pic.accept();
            pic.pulse(0);
            assert_eq!(pic.is_asking(), asks);
        }
    }

    #[test]
    fn a_masked_line_waits() {
        let mut pic = initialized(1);
        pic.data(Which::Primary, 1 << 2);
        pic.pulse(8);
        assert!(!pic.is_asking(), "the cascade's line is masked");
        pic.data(Which::Primary, 0);
        assert!(pic.is_asking());
        assert_eq!((pic.mask(Which::Primary), pic.mask(Which::Secondary)), (0, 0));
    }
}
