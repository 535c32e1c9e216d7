//! The I/O APIC: here, what turns a line of the machine into an NMI.
//!
//! All inputs are masked when one is opened. The legacy controllers do not go through it: on a PC they have a pin of
//! the local APIC.
//!
//! Source: "82093AA I/O Advanced Programmable Interrupt Controller (IOAPIC)" datasheet.

#![expect(unsafe_code, reason = "reads and writes I/O APIC registers")]

use core::{fmt, ptr};

use nmiprof_boot::acpi::madt::Signal;

use super::apic::LocalApic;
use super::layout::{PAGE_BYTES, direct};
use super::paging::MapError;
use super::percpu;
use crate::memory::space;

/// Offset of the register that selects another one.
const SELECT: u64 = 0x00;
/// Offset of the register through which that is accessed.
const WINDOW: u64 = 0x10;
/// Numbers of the registers behind the window.
const VERSION: u32 = 0x01;
const REDIRECTIONS: u32 = 0x10;
const LAST_INPUT_SHIFT: u32 = 16;
const LAST_INPUT_MASK: u32 = 0xff;
const DELIVERY_NMI: u32 = 0b100 << 8;
const ACTIVE_LOW: u32 = 1 << 13;
const MASKED: u32 = 1 << 16;
/// Position of the destination in the upper half of an entry.
const DESTINATION_SHIFT: u32 = 24;

/// Who gets an NMI. Always by physical IDs: there is no logical mode in which every local APIC answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The CPU with this ID.
    One(u8),
    /// Every CPU.
    All,
}

/// Why CPUs can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDestination {
    /// The CPU's ID does not fit into an entry, or means everybody there.
    Id(u32),
    /// In x2APIC mode the ID that means every CPU has 32 bits, and an entry has room for 8.
    All,
}

impl Destination {
    const EVERYBODY: u8 = 0xff;

    /// Names the CPUs that run, of which this is one.
    ///
    /// # Errors
    /// [`NoDestination`].
    pub fn of_running(apic: LocalApic) -> Result<Self, NoDestination> {
        match (percpu::installed(), apic) {
            (0 | 1, _) => {
                let id = apic.id();
                let fitting = u8::try_from(id).ok().filter(|id| *id != Self::EVERYBODY);
                fitting.map(Self::One).ok_or(NoDestination::Id(id))
            }
            (_, LocalApic::XApic) => Ok(Self::All),
            (_, LocalApic::X2Apic) => Err(NoDestination::All),
        }
    }

    const fn id(self) -> u8 {
        match self {
            Self::One(id) => id,
            Self::All => Self::EVERYBODY,
        }
    }
}

impl fmt::Display for NoDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "an I/O APIC can't address APIC {id}"),
            Self::All => f.write_str("in x2APIC mode an I/O APIC can't address all CPUs"),
        }
    }
}

/// An I/O APIC, mapped.
///
/// # Context
/// Thread: its registers are reached in two steps, and nothing else selects one.
#[derive(Clone, Copy, Debug)]
pub struct IoApic {
    physical: u64,
    inputs: u32,
}

impl IoApic {
    /// Maps the registers, and masks all inputs.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn open(physical: u32) -> Result<Self, MapError> {
        let physical = u64::from(physical);
        space::map_device(physical / PAGE_BYTES * PAGE_BYTES)?;
        let mut io_apic = Self { physical, inputs: 0 };
        io_apic.inputs = (io_apic.read(VERSION) >> LAST_INPUT_SHIFT & LAST_INPUT_MASK) + 1;
        (0..io_apic.inputs).for_each(|input| io_apic.mask(input));
        Ok(io_apic)
    }

    /// Returns the number of inputs.
    pub const fn inputs(&self) -> u32 {
        self.inputs
    }

    /// Makes each edge of an input an NMI.
    pub fn route_to_nmi(&self, input: u32, signal: Signal, destination: Destination) {
        let polarity = if signal.is_active_low() { ACTIVE_LOW } else { 0 };
        let entry = REDIRECTIONS + 2 * input;
        self.mask(input);
        self.write(entry + 1, u32::from(destination.id()) << DESTINATION_SHIFT);
        self.write(entry, DELIVERY_NMI | polarity);
    }

    /// Masks an input.
    pub fn mask(&self, input: u32) {
        self.write(REDIRECTIONS + 2 * input, MASKED);
    }

    fn read(&self, number: u32) -> u32 {
        self.select(number);
        // SAFETY: the page is mapped uncached for the life of the kernel, and reading has no effect.
        unsafe { ptr::read_volatile(direct::<u32>(self.physical + WINDOW)) }
    }

    fn write(&self, number: u32, value: u32) {
        self.select(number);
        // SAFETY: (1) as above; (2) what an input raises is an NMI, which has a handler, or nothing.
        unsafe { ptr::write_volatile(direct::<u32>(self.physical + WINDOW), value) };
    }

    fn select(&self, number: u32) {
        // SAFETY: the page is mapped uncached for the life of the kernel; selecting does nothing else.
        unsafe { ptr::write_volatile(direct::<u32>(self.physical + SELECT), number) };
    }
}
