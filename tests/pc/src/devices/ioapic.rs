//! The I/O APIC (82093AA): what an edge at one of its inputs sends to the CPU.
//!
//! Modelled are fixed interrupts and NMIs, by edges, to a physical destination: an entry that says anything else sends
//! nothing. An edge at a masked input is forgotten, as the datasheet has it. Lines are pulses here, both edges of one at
//! once, so polarity is kept and changes nothing.
//!
//! Source: "82093AA I/O Advanced Programmable Interrupt Controller (IOAPIC)" (Intel).

use super::lapic::Sent;

/// Physical address of its registers.
pub const IO_APIC_BASE: u64 = 0xfec0_0000;
const LAST_INPUT: u32 = 23;
const INPUTS: usize = LAST_INPUT as usize + 1;

const SELECT: u32 = 0x00;
const WINDOW: u32 = 0x10;
const ID: u8 = 0x00;
const VERSION: u8 = 0x01;
const REDIRECTIONS: u8 = 0x10;
/// The last input, and the version of the 82093AA.
const VERSION_VALUE: u32 = LAST_INPUT << 16 | 0x11;
const ID_WRITABLE: u32 = 0xf << 24;

const MODE: u32 = 7 << 8;
const MODE_FIXED: u32 = 0;
const MODE_NMI: u32 = 4 << 8;
const LOGICAL: u32 = 1 << 11;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
/// All but the two bits of status.
const LOW_WRITABLE: u32 = 0x1_afff;
const HIGH_WRITABLE: u32 = 0xff << 24;
/// The CPU's ID, and the one that means every CPU.
const DESTINATIONS: [u32; 2] = [0, 0xff];

/// An input's entry: lower half, upper half.
type Entry = [u32; 2];

/// The I/O APIC.
#[derive(Clone, Debug)]
pub struct IoApic {
    select: u8,
    id: u32,
    entries: [Entry; INPUTS],
}

impl Default for IoApic {
    fn default() -> Self {
        Self { select: 0, id: 0, entries: [[MASKED, 0]; INPUTS] }
    }
}

impl IoApic {
    /// Reads a register in memory.
    #[must_use]
    pub fn read(&self, offset: u32) -> u32 {
        match offset {
            SELECT => self.select.into(),
            WINDOW => self.selected(),
            _ => 0,
        }
    }

    /// Writes a register in memory.
    pub fn write(&mut self, offset: u32, value: u32) {
        match offset {
            SELECT => self.select = value.to_le_bytes()[0],
            WINDOW => self.write_selected(value),
            _ => (),
        }
    }

    /// Returns what an edge at this input sends.
    #[must_use]
    pub fn edge(&self, input: usize) -> Sent {
        let Some([low, high]) = self.entries.get(input) else { return Sent::Nothing };
        if low & (MASKED | LEVEL | LOGICAL) != 0 || !DESTINATIONS.contains(&(high >> 24)) {
            return Sent::Nothing;
        }
        match low & MODE {
            MODE_FIXED => Sent::Vector(low.to_le_bytes()[0]),
            MODE_NMI => Sent::Nmi,
            _ => Sent::Nothing,
        }
    }

    fn selected(&self) -> u32 {
        match self.select {
            ID => self.id,
            VERSION => VERSION_VALUE,
            number => half_of(number).map_or(0, |(input, half)| self.entries[input][half]),
        }
    }

    fn write_selected(&mut self, value: u32) {
        if self.select == ID {
            self.id = value & ID_WRITABLE;
        } else if let Some((input, half)) = half_of(self.select) {
            self.entries[input][half] = value & [LOW_WRITABLE, HIGH_WRITABLE][half];
        }
    }
}

/// Returns the input, and which half of its entry, that a register's number means.
fn half_of(number: u8) -> Option<(usize, usize)> {
    let index = usize::from(number.checked_sub(REDIRECTIONS)?);
    (index < 2 * INPUTS).then_some((index / 2, index % 2))
}

#[cfg(test)]
mod tests {
    use super::{INPUTS, IoApic, MASKED, MODE_NMI, SELECT, WINDOW};
    use crate::devices::lapic::Sent;

    fn with_entry(input: u32, low: u32, high: u32) -> IoApic {
        let mut io_apic = IoApic::default();
        for (number, value) in [(0x11 + 2 * input, high), (0x10 + 2 * input, low)] {
            io_apic.write(SELECT, number);
            io_apic.write(WINDOW, value);
        }
        io_apic
    }

    #[test]
    fn it_says_which_version_it_is_and_how_many_inputs_it_has() {
        let mut io_apic = IoApic::default();
        io_apic.write(SELECT, 1);
        assert_eq!(io_apic.read(WINDOW), 0x0017_0011);
        assert!((0..=INPUTS).all(|input| io_apic.edge(input) == Sent::Nothing), "all are masked");
    }

    #[test]
    fn an_edge_is_an_nmi_or_an_interrupt_as_its_entry_says() {
        assert_eq!(with_entry(2, MODE_NMI, 0).edge(2), Sent::Nmi);
        assert_eq!(with_entry(2, MODE_NMI, 0xff << 24).edge(2), Sent::Nmi, "every CPU");
        assert_eq!(with_entry(23, 0x41, 0).edge(23), Sent::Vector(0x41));
        assert_eq!(with_entry(2, MODE_NMI, 0).edge(3), Sent::Nothing, "another input");
    }

    #[test]
    fn what_is_masked_or_for_another_cpu_or_not_modelled_sends_nothing() {
        for (low, high) in [
            (MODE_NMI | MASKED, 0),
            (MODE_NMI, 1 << 24),
            (MODE_NMI | 1 << 15, 0),
            (MODE_NMI | 1 << 11, 0),
            (2 << 8, 0),
        ] {
            assert_eq!(with_entry(5, low, high).edge(5), Sent::Nothing, "{low:#x} {high:#x}");
        }
    }

    #[test]
    fn status_can_not_be_written() {
        assert_eq!(with_entry(0, u32::MAX, u32::MAX).entries[0], [0x1_afff, 0xff00_0000]);
    }
}
