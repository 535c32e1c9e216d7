//! What is wrong with a text of events: where, what was found, what would be right.

use core::error::Error;
use core::fmt;

/// A text that is no list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError<'a> {
    /// Where in the text, in bytes from its start.
    pub position_bytes: usize,
    /// What stands there; empty at the end of the text.
    pub found: &'a str,
    /// What is wrong with it.
    pub cause: Malformed,
}

/// What is wrong with a text of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There is no such event.
    UnknownEvent {
        /// The name that is like it.
        nearest: Option<&'static str>,
    },
    /// There is no such term between slashes.
    UnknownTerm {
        /// The name that is like it.
        nearest: Option<&'static str>,
    },
    /// There is no such modifier.
    UnknownModifier,
    /// perf has it and this profiler does not.
    Refused {
        /// What to do instead.
        instead: &'static str,
    },
    /// Something else has to stand here.
    Expected {
        /// What.
        what: &'static str,
    },
    /// The number is larger than its field.
    TooLarge {
        /// The largest number that fits.
        max: u64,
    },
    /// The list has more than [`EVENTS_MAX`](super::EVENTS_MAX) events.
    TooManyEvents,
}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {:?}: {:?}", self.position_bytes, self.found, self.cause)
    }
}

impl Error for ParseError<'_> {}
