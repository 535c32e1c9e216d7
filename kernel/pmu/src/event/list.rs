//! The events of one run: at most [`EVENTS_MAX`], in the order of the text.

use core::ops::Deref;

use super::modifiers::Modifiers;
use super::{Event, EventKind, GenericEvent, Privilege};

/// Most events in a list.
pub const EVENTS_MAX: usize = 16;

/// Events, in the order of the text; a slice of them by [`Deref`].
#[derive(Clone, Copy, Debug)]
pub struct EventList<'a> {
    events: [Event<'a>; EVENTS_MAX],
    /// What each event's privilege was made of: an event that was asked for at every level by letters is not the
    /// same to its group's letters as one without letters.
    modifiers: [Modifiers; EVENTS_MAX],
    len: usize,
}

impl<'a> EventList<'a> {
    /// Creates an empty list.
    pub(super) const fn new() -> Self {
        Self { events: [UNUSED; EVENTS_MAX], modifiers: [Modifiers::NONE; EVENTS_MAX], len: 0 }
    }

    /// Adds an event, with the privilege that its letters say; tells whether there was room.
    pub(super) fn push(&mut self, event: Event<'a>, modifiers: Modifiers) -> bool {
        let (Some(slot), Some(own)) = (self.events.get_mut(self.len), self.modifiers.get_mut(self.len))
        else {
            return false;
        };
        *slot = Event { privilege: modifiers.privilege(), ..event };
        *own = modifiers;
        self.len += 1;
        true
    }

    /// Adds a group's letters to those of its events.
    pub(super) fn add_modifiers(&mut self, group: u8, modifiers: Modifiers) {
        let used = self.events.iter_mut().zip(&mut self.modifiers).take(self.len);
        for (event, own) in used.filter(|(event, _)| event.group == group) {
            *own = own.and(modifiers);
            event.privilege = own.privilege();
        }
    }
}

impl<'a> Deref for EventList<'a> {
    type Target = [Event<'a>];

    fn deref(&self) -> &[Event<'a>] {
        self.events.get(..self.len).unwrap_or_default()
    }
}

impl<'a, 'b> IntoIterator for &'b EventList<'a> {
    type Item = &'b Event<'a>;
    type IntoIter = core::slice::Iter<'b, Event<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
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
