//! Why a CPU can't count an event.

use core::error::Error;
use core::fmt;

use super::GenericEvent;
use crate::capabilities::{CoreKind, Interface};

/// Why a CPU can't count an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOffered {
    /// CPUID.0AH:EBX says that the event is missing.
    Missing {
        /// The event.
        event: GenericEvent,
    },
    /// CPUs of this kind have no such event, or its code is not known.
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
    /// The raw event has bits that the event-select register does not.
    ReservedBits {
        /// These.
        bits: u64,
        /// Interface of the CPU.
        interface: Interface,
    },
    /// The raw event has bits that are the driver's to set: USR, OS, INT, EN, PC.
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
        fmt::Debug::fmt(self, f)
    }
}

impl Error for NotOffered {}
