//! One counter: its value, and what its control register says.

use super::Model;
use super::counting::Privilege;
use super::signal::Signal;
use crate::counter::Counter;

/// General counters that a model can have.
const GENERAL_MAX: usize = 16;

/// Counters that a model can have, fixed ones included.
pub(super) const SLOTS: usize = GENERAL_MAX + 8;

/// How much of a write reaches a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The low 32 bits, with the sign extended.
    Legacy,
    /// All; a bit above the width is reserved.
    Full,
    /// The low bits, as many as it has.
    Truncated,
}

/// One counter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Bits that the counter has.
    pub width_mask: u64,
    pub value: u64,
    /// The event select, as it reads; 0 for a fixed counter.
    pub select: u64,
    pub signal: Signal,
    pub user: bool,
    pub kernel: bool,
    /// Whether its overflow asks for a PMI.
    pub interrupts: bool,
}

impl Slot {
    /// A counter that was never programmed.
    pub(super) const STOPPED: Self = Self {
        width_mask: 0,
        value: 0,
        select: 0,
        signal: Signal::Other(0),
        user: false,
        kernel: false,
        interrupts: false,
    };

    /// Returns how many events it takes to overflow: from all ones to 0.
    pub(super) const fn room(&self) -> u64 {
        (self.width_mask - self.value).saturating_add(1)
    }

    /// Counts events, less than a counter holds; tells whether it overflowed.
    pub(super) const fn add(&mut self, events: u64) -> bool {
        let overflowed = events >= self.room();
        self.value = self.value.wrapping_add(events) & self.width_mask;
        overflowed
    }

    /// Tells whether it counts at some privilege level.
    pub(super) const fn counts_somewhere(&self) -> bool {
        self.user || self.kernel
    }

    /// Tells whether it counts this event at this privilege level.
    pub(super) fn counts(&self, signal: Signal, privilege: Privilege) -> bool {
        let level = match privilege {
            Privilege::User => self.user,
            Privilege::Kernel => self.kernel,
        };
        level && self.signal == signal
    }
}

/// What there is in place of a counter that there is not.
static ABSENT: Slot = Slot::STOPPED;

impl Model {
    /// Returns a counter.
    pub(super) fn slot(&self, counter: Counter) -> &Slot {
        self.slots.get(position(counter)).unwrap_or(&ABSENT)
    }

    /// Changes a counter.
    pub(super) fn with_slot<R>(
        &mut self,
        counter: Counter,
        change: impl FnOnce(&mut Slot) -> R,
    ) -> Option<R> {
        self.slots.get_mut(position(counter)).map(change)
    }
}

const fn position(counter: Counter) -> usize {
    let index = counter.index() as usize;
    if counter.is_fixed() {
        GENERAL_MAX + index
    } else if index < GENERAL_MAX {
        index
    } else {
        SLOTS
    }
}
