//! From an event to what a counter is programmed with.
//!
//! A code is found first (a generic event's in the tables, another is given), then checked against the register's
//! layout, then the counters that can count it are found. A raw code that happens to be that of a fixed counter's
//! event gets that counter as well: `r0c0` and `instructions` are the same.
//!
//! Constraints are kept for generic events, and on family 15h for all. Some of Intel's model-specific events are
//! bound to some counters as well, and as raw events get every general-purpose one here.

use super::tables::{amd, intel};
use super::{Event, EventKind, Fields, GenericEvent, NotOffered, Privilege};
use crate::capabilities::{Capabilities, Interface};
use crate::unit::{Encoding, select};

/// Bits that the driver sets: USR, OS, INT, EN.
const DRIVER_BITS: u64 = 1 << 16 | 1 << 17 | 1 << 20 | 1 << 22;

/// First family of AMD whose event codes have 12 bits.
const FAMILY_OF_WIDE_CODES: u16 = 0x10;

/// Finds what a counter of this CPU is programmed with for an event.
///
/// # Errors
/// [`NotOffered`] says why this CPU can't count it.
pub fn encode(event: &Event<'_>, capabilities: &Capabilities) -> Result<Encoding, NotOffered> {
    if let Some(wanted) = event.core_kind.filter(|&wanted| capabilities.core_kind != Some(wanted)) {
        return Err(NotOffered::OtherCore { wanted });
    }
    let select = match event.kind {
        EventKind::Generic(event) => code(event, capabilities)?,
        EventKind::Raw(select) => checked(select, capabilities)?,
        EventKind::Fields(fields) => checked(fields.select(), capabilities)?,
    };
    with_counters(select, event.privilege, capabilities)
}

/// Finds what a counter of this CPU is programmed with for a generic event, at every privilege level.
///
/// # Errors
/// [`NotOffered`] says why this CPU can't count it.
pub fn offer(event: GenericEvent, capabilities: &Capabilities) -> Result<Encoding, NotOffered> {
    with_counters(code(event, capabilities)?, Privilege::ALL, capabilities)
}

/// Finds the code of a generic event.
fn code(event: GenericEvent, capabilities: &Capabilities) -> Result<u64, NotOffered> {
    let &Capabilities { interface, family, model, .. } = capabilities;
    match interface {
        Interface::Intel { .. } => intel_code(event, capabilities),
        Interface::AmdLegacy | Interface::AmdCoreExtension | Interface::AmdPerfMonV2 => {
            amd::code(event, family, model).ok_or(no_such_event(event, capabilities))
        }
    }
}

/// Finds the code of a generic event on an Intel CPU.
fn intel_code(event: GenericEvent, capabilities: &Capabilities) -> Result<u64, NotOffered> {
    let &Capabilities { family, model, missing_events, .. } = capabilities;
    if let Some((_, select)) = intel::FIXED_ONLY.iter().find(|(it, _)| *it == event) {
        return Ok(*select);
    }
    match intel::ARCHITECTURAL.iter().find(|row| row.event == event) {
        Some(row) if missing_events >> row.missing_bit & 1 == 0 => Ok(row.select),
        Some(_) => intel::of_model(&intel::INSTEAD_OF_MISSING, event, family, model)
            .ok_or(NotOffered::Missing { event }),
        None => {
            intel::of_model(&intel::STALLED, event, family, model).ok_or(no_such_event(event, capabilities))
        }
    }
}

/// Says that a CPU of this kind has no such event.
const fn no_such_event(event: GenericEvent, capabilities: &Capabilities) -> NotOffered {
    let &Capabilities { interface, family, model, .. } = capabilities;
    NotOffered::NoSuchEvent { event, interface, family, model }
}

/// Checks that a code has only bits that this CPU's event-select register lets the user choose.
fn checked(select: u64, capabilities: &Capabilities) -> Result<u64, NotOffered> {
    let bits = select & DRIVER_BITS;
    if bits != 0 {
        return Err(NotOffered::DriverBits { bits });
    }
    let bits = select & !layout(capabilities);
    if bits != 0 {
        return Err(NotOffered::ReservedBits { bits, interface: capabilities.interface });
    }
    Ok(select)
}

/// Returns the bits that this CPU's event-select register lets the user choose.
const fn layout(capabilities: &Capabilities) -> u64 {
    let common = select::EVENT | select::UMASK | select::EDGE | select::INV | select::CMASK;
    match capabilities.interface {
        Interface::Intel { version: 3 | 4 } => common | select::ANY,
        Interface::Intel { .. } => common,
        _ if capabilities.family >= FAMILY_OF_WIDE_CODES => common | select::EVENT_HIGH,
        _ => common,
    }
}

/// Adds the counters that are there and can count a code.
fn with_counters(
    select: u64,
    privilege: Privilege,
    capabilities: &Capabilities,
) -> Result<Encoding, NotOffered> {
    let able = match capabilities.interface {
        Interface::Intel { .. } => intel::counters_of(select, capabilities.general),
        _ => amd::counters_of(select, capabilities.family),
    };
    let counters = able.intersection(capabilities.counters());
    if counters.is_empty() {
        return Err(NotOffered::NoCounter);
    }
    Ok(Encoding { select, counters, user: privilege.user, kernel: privilege.kernel })
}

impl Fields {
    /// Returns the fields at their positions in the event-select register, whether this CPU has them or not.
    #[must_use]
    pub const fn select(&self) -> u64 {
        let event = self.event as u64;
        (event & 0xff)
            | (event & 0xf00) << 24
            | (self.umask as u64) << 8
            | (self.cmask as u64) << 24
            | if self.edge { select::EDGE } else { 0 }
            | if self.any { select::ANY } else { 0 }
            | if self.inv { select::INV } else { 0 }
    }
}
