//! From an event to what a counter is programmed with.

use super::{Event, EventKind, GenericEvent, NotOffered};
use crate::capabilities::Capabilities;
use crate::unit::Encoding;

/// Finds what a counter of this CPU is programmed with for an event.
///
/// # Errors
/// [`NotOffered`] says why this CPU can't count it.
pub fn encode(event: &Event<'_>, capabilities: &Capabilities) -> Result<Encoding, NotOffered> {
    let EventKind::Generic(generic) = event.kind else { return Err(NotOffered::NoCounter) };
    offer(generic, capabilities)
}

/// Finds what a counter of this CPU is programmed with for a generic event at every privilege level.
///
/// # Errors
/// [`NotOffered`] says why this CPU can't count it.
pub fn offer(event: GenericEvent, capabilities: &Capabilities) -> Result<Encoding, NotOffered> {
    let Capabilities { interface, family, model, .. } = *capabilities;
    Err(NotOffered::NoSuchEvent { event, interface, family, model })
}
