//! What is wrong with a text of events: where, what was found, what would be right.

use core::error::Error;
use core::fmt;

use super::EVENTS_MAX;

/// Most characters of the text that a message repeats.
const FOUND_MAX_CHARS: usize = 40;

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
    /// It makes sense, to perf at least, but can't be had here.
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
    /// The term or modifier has been given before.
    Twice,
    /// The list has more than [`EVENTS_MAX`] events.
    TooManyEvents,
}

impl fmt::Display for ParseError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.position_bytes)?;
        match self.cause {
            Malformed::Expected { what } if self.found.is_empty() => {
                write!(f, "{what} expected, nothing found")
            }
            Malformed::Expected { what } => write!(f, "{what} expected, {} found", Quoted(self.found)),
            cause => write!(f, "{} {cause}", Quoted(self.found)),
        }
    }
}

impl fmt::Display for Malformed {
    /// Formats a predicate: the text that was found is its subject.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEvent { nearest: Some(name) } => write!(f, "is no event; did you mean `{name}`?"),
            Self::UnknownEvent { nearest: None } => f.write_str(
                "is no event: take a name such as `cycles`, or a code: `r1c0`, `cpu/event=0xc0,umask=1/`",
            ),
            Self::UnknownTerm { nearest: Some(name) } => write!(f, "is no term; did you mean `{name}`?"),
            Self::UnknownTerm { nearest: None } => f.write_str(
                "is no term: there are event, umask, cmask, inv, edge, any, config, period, freq, name",
            ),
            Self::UnknownModifier => f.write_str("is no modifier: `u` counts user code, `k` the kernel"),
            Self::Refused { instead } => write!(f, "can't be had: {instead}"),
            Self::Expected { what } => write!(f, "is not what is expected here: {what}"),
            Self::TooLarge { max } => write!(f, "is too large: at most {max:#x} fits"),
            Self::Twice => f.write_str("stands twice"),
            Self::TooManyEvents => write!(f, "is one too many: there can be {EVENTS_MAX} events"),
        }
    }
}

impl Error for ParseError<'_> {}

/// A piece of text from outside, made fit for a terminal: bounded, control characters escaped.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(FOUND_MAX_CHARS).map_or(self.0.len(), |(at, _)| at);
        let (shown, left) = self.0.split_at_checked(end).unwrap_or_default();
        write!(f, "`{}{}`", shown.escape_debug(), if left.is_empty() { "" } else { ".." })
    }
}
