//! The events of one run: at most [`EVENTS_MAX`], in the order of the text.

use core::ops::Deref;

use super::{Event, EventKind, GenericEvent, Privilege};

/// Most events in a list.
pub const EVENTS_MAX: usize = 16;

/// Events, in the order of the text; a slice of them by [`Deref`].
#[derive(Clone, Copy, Debug)]
pub struct EventList<'a> {
    events: [Event<'a>; EVENTS_MAX],
    len: usize,
}

impl<'a> EventList<'a> {
    /// Creates an empty list.
    pub(super) const fn new() -> Self {
        Self { events: [UNUSED; EVENTS_MAX], len: 0 }
    }

    /// Adds an event; gives it back where the list is full.
    pub(super) fn push(&mut self, event: Event<'a>) -> Result<(), Event<'a>> {
        let slot = self.events.get_mut(self.len).ok_or(event)?;
        *slot = event;
        self.len += 1;
        Ok(())
    }
}

impl<'a> Deref for EventList<'a> {
    type Target = [Event<'a>];

    fn deref(&self) -> &[Event<'a>] {
        self.events.get(..self.len).unwrap_or_default()
    }
}

impl PartialEq for EventList<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for EventList<'_> {}

/// What the slots beyond the last event hold.
const UNUSED: Event<'static> = Event {
    text: "",
    name: None,
    kind: EventKind::Generic(GenericEvent::Cycles),
    core_kind: None,
    privilege: Privilege::ALL,
    rate: None,
    group: 0,
};
