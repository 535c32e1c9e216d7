//! Events by perf's names: what the user asks for, and what a counter is programmed with for it.
//!
//! Text becomes [`Event`]s in [`parse_list`], which knows the language and no CPU; an [`Event`] becomes an
//! [`Encoding`](crate::Encoding) in [`encode`], which knows the CPU and no language. So the host can refuse a typing
//! error before a machine is started, and the kernel, which alone knows its CPU, says which events it lacks.
//!
//! [`generic_events`] lists the names, [`offer`] says of each what this CPU makes of it. Nothing here allocates, and
//! no loop is longer than the text times the tables.

mod cursor;
mod display;
mod encode;
mod error;
mod generic;
mod list;
mod modifiers;
mod not_offered;
mod parse;
mod refused;
mod suggest;
mod tables;
mod terms;

use crate::capabilities::CoreKind;

pub use encode::{encode, offer};
pub use error::{Malformed, ParseError};
pub use generic::{GenericEvent, generic_events};
pub use list::{EVENTS_MAX, EventList};
pub use not_offered::NotOffered;
pub use parse::parse_list;

/// One event, as it was asked for. Displayed as perf names it in a report.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `text` | str | | as written, its own modifiers included, the group's not |
/// | `name` | option | | what `name=` says; reports show it instead of the event |
/// | `kind` | [`EventKind`] | | what is counted |
/// | `core_kind` | option | | the cores of a hybrid processor that it is for (`cpu_core/../`, `cpu_atom/../`) |
/// | `privilege` | [`Privilege`] | | where it is counted |
/// | `rate` | option | | how often it is sampled; `None`: as the command says for all events |
/// | `group` | u8 | | events of one number are counted together or not at all |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The event as it was written.
    pub text: &'a str,
    /// The name that reports show instead.
    pub name: Option<&'a str>,
    /// What is counted.
    pub kind: EventKind,
    /// The only cores that it is for.
    pub core_kind: Option<CoreKind>,
    /// Where it is counted.
    pub privilege: Privilege,
    /// How often it is sampled.
    pub rate: Option<Rate>,
    /// Number of its group, from 0 in the order of the text; an event outside of braces is a group of its own.
    pub group: u8,
}

/// What an event counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An event that has a name on every CPU, and on each its own code.
    Generic(GenericEvent),
    /// Bits of the event-select register (`rNNN`, `cpu/config=N/`).
    Raw(u64),
    /// Fields of the event-select register (`cpu/event=..,umask=../`).
    Fields(Fields),
}

/// Fields of an event-select register, by the names that perf gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Event code: 8 bits on Intel, 12 on AMD.
    pub event: u16,
    /// Unit mask.
    pub umask: u8,
    /// Counter mask: cycles with at least so many events are counted, unless 0.
    pub cmask: u8,
    /// Turns the comparison with the counter mask round.
    pub inv: bool,
    /// Counts rising edges.
    pub edge: bool,
    /// Counts on any thread of the core.
    pub any: bool,
}

/// The privilege levels at which an event is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// Above CPL 0.
    pub user: bool,
    /// At CPL 0.
    pub kernel: bool,
}

/// How often an event is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// After so many events; never 0.
    Period(u64),
    /// So many times per second; never 0.
    Frequency(u64),
}

impl Privilege {
    /// Every level: without a modifier.
    pub const ALL: Self = Self { user: true, kernel: true };
}
