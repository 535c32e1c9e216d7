//! Why a CPU can't count an event.

use core::error::Error;
use core::fmt;

use super::GenericEvent;
use crate::capabilities::{CoreKind, Interface};
use crate::unit::select;

/// Why a CPU can't count an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOffered {
    /// CPUID.0AH:EBX says that the event is missing.
    Missing {
        /// The event.
        event: GenericEvent,
    },
    /// CPUs of this kind have no such event.
    NoSuchEvent {
        /// The event.
        event: GenericEvent,
        /// Interface of the CPU.
        interface: Interface,
        /// Family of the CPU.
        family: u16,
        /// Model of the CPU.
        model: u8,
    },
    /// No counter that is there can count it.
    NoCounter,
    /// The raw event has bits that the event-select register has not.
    ReservedBits {
        /// These.
        bits: u64,
        /// Interface of the CPU.
        interface: Interface,
    },
    /// The raw event has bits that are the driver's to set: USR, OS, INT, EN.
    DriverBits {
        /// These.
        bits: u64,
    },
    /// The event is for other cores than this one.
    OtherCore {
        /// The cores that it is for.
        wanted: CoreKind,
    },
}

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Missing { event } => {
                write!(f, "this CPU's CPUID.0AH:EBX says that the event is missing: {event}")
            }
            Self::NoSuchEvent { event, interface, family, model } => {
                let maker = if matches!(interface, Interface::Intel { .. }) { "Intel" } else { "AMD" };
                write!(f, "no such event on {maker} family {family:02x}h model {model:02x}h: {event}")
            }
            Self::NoCounter => f.write_str("this CPU has no counter that can count the event"),
            Self::ReservedBits { bits, interface } => {
                write!(f, "the event-select register of {interface} has no {}", Bits(bits))
            }
            Self::DriverBits { bits } => {
                write!(
                    f,
                    "leave out {}: `:u` and `:k` say where to count, the driver does the rest",
                    Bits(bits)
                )
            }
            Self::OtherCore { wanted } => {
                let kind = match wanted {
                    CoreKind::Core => "a performance core",
                    CoreKind::Atom => "an efficient core",
                };
                write!(f, "the event is for another core than this one: {kind} of a hybrid processor")
            }
        }
    }
}

impl Error for NotOffered {}

/// Bits of an event-select register, by number and name.
struct Bits(u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bit ")?;
        let numbers = (0..u64::BITS).filter(|number| self.0 >> number & 1 != 0);
        for (index, number) in numbers.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{number}{}", name_of(1 << number))?;
        }
        Ok(())
    }
}

/// Returns the name of a bit that has one, ready to follow its number.
const fn name_of(bit: u64) -> &'static str {
    match bit {
        0x1_0000 => " (USR)",
        0x2_0000 => " (OS)",
        0x8_0000 => " (PC)",
        0x10_0000 => " (INT)",
        select::ANY => " (any)",
        0x40_0000 => " (EN)",
        _ if bit & select::EVENT_HIGH != 0 => " (event)",
        _ => "",
    }
}
