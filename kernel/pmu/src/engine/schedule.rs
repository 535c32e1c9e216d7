//! Which event is counted by which counter, and when.

use core::fmt;

use crate::counter::CounterSet;

/// Why requests can't be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The engine runs.
    Running,
    /// There are more events than an engine has room for.
    TooManyEvents {
        /// Number of events.
        count: usize,
    },
    /// The period or the frequency of an event is 0.
    NoRate {
        /// Index of the event.
        event: u8,
    },
    /// An event has the group number of events that it does not stand beside.
    ScatteredGroup {
        /// Index of the event.
        event: u8,
        /// Number of the group.
        group: u8,
    },
    /// No usable counter can count an event.
    NoCounter {
        /// Index of the event.
        event: u8,
        /// Counters that its encoding allows.
        wanted: CounterSet,
        /// Counters that can be used.
        usable: CounterSet,
    },
    /// The events of a group can't all be counted at the same time.
    GroupTooBig {
        /// Number of the group.
        group: u8,
        /// Index of the first event that finds no counter.
        event: u8,
        /// Counters that can be used.
        usable: CounterSet,
    },
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Running => f.write_str("events can't be changed while they are counted: stop first"),
            Self::TooManyEvents { count } => {
                write!(f, "{count} events, at most {} can be set", super::EVENTS_MAX)
            }
            Self::NoRate { event } => write!(f, "event {event}: its period or frequency is 0"),
            Self::ScatteredGroup { event, group } => {
                write!(f, "event {event}: the other events of group {group} do not stand beside it")
            }
            Self::NoCounter { event, wanted, usable } => {
                write!(f, "event {event}: needs one of counters {:#x}, usable are {:#x}", wanted.0, usable.0)
            }
            Self::GroupTooBig { group, event, usable } => write!(
                f,
                "group {group}: no counter is left for its event {event}, {} are usable ({:#x})",
                usable.count(),
                usable.0
            ),
        }
    }
}

impl core::error::Error for ScheduleError {}
