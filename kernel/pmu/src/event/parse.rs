//! From text to events: perf's event language.
//!
//! ```text
//! list     = item { "," item }
//! item     = event | "{" event { "," event } "}" [ ":" modifiers ]
//! event    = name [ "/" [ terms ] "/" [ ":" ] [ modifiers ] ]
//!          | name ":" modifiers
//! name     = a generic event | "r" hexadecimal digits | "cpu" | "cpu_core" | "cpu_atom"
//! ```
//!
//! Terms are in `terms.rs`, modifiers in `modifiers.rs`. As in perf, case counts, blanks are not skipped, and the
//! modifiers of a group add to those of its events.
//!
//! Stricter than perf, which lets the last one win: a term that stands twice, or two that contradict each other, are
//! errors. A profile under the wrong heading is worse than one more error.

use super::cursor::{Cursor, Word};
use super::modifiers::{Modifiers, parse_modifiers};
use super::refused::instead_of_event;
use super::suggest::nearest;
use super::terms::{Terms, parse_terms};
use super::{Event, EventKind, EventList, GenericEvent, Malformed, ParseError, Privilege, generic_events};
use crate::capabilities::CoreKind;

/// What ends the name of an event.
const NAME_ENDS: &[char] = &[',', '{', '}', '/', ':'];

/// What a name stands for, before its terms are known.
#[derive(Clone, Copy)]
enum Named {
    Whole(EventKind),
    /// The registers of a core: the terms say which event.
    Unit(Option<CoreKind>),
}

/// Parses a list of events: `cycles,{instructions:u,branches}:k,r1c0,cpu/event=0x3c,umask=1/`.
///
/// # Errors
/// [`ParseError`] says where the text is wrong, and what would be right.
///
/// # Examples
/// ```
/// use nmiprof_pmu::event::parse_list;
///
/// let events = parse_list("cycles,{instructions:u,branches}")?;
/// assert_eq!(events.len(), 3);
/// assert_eq!(events[1].to_string(), "instructions:u");
///
/// let error = parse_list("cycles,intructions").unwrap_err();
/// assert_eq!(error.position_bytes, 7);
/// # Ok::<(), nmiprof_pmu::event::ParseError<'static>>(())
/// ```
pub fn parse_list(text: &str) -> Result<EventList<'_>, ParseError<'_>> {
    let mut cursor = Cursor::new(text);
    let mut events = EventList::new();
    // There are no more groups than events, and of those a list takes few.
    for group in 0..=u8::MAX {
        parse_item(&mut cursor, &mut events, group)?;
        if cursor.is_at_end() {
            break;
        }
        if !cursor.take(',') {
            return Err(cursor.expected("`,` or the end"));
        }
    }
    Ok(events)
}

/// Parses an event or a group of them.
fn parse_item<'a>(
    cursor: &mut Cursor<'a>,
    events: &mut EventList<'a>,
    group: u8,
) -> Result<(), ParseError<'a>> {
    if !cursor.take('{') {
        return parse_event(cursor, events, group);
    }
    loop {
        // Bounded: each event is pushed to a list of few, or is an error.
        parse_event(cursor, events, group)?;
        if cursor.take('}') {
            break;
        }
        if !cursor.take(',') {
            return Err(cursor.expected("`,` or `}`"));
        }
    }
    if cursor.take(':') {
        let modifiers = parse_modifiers(cursor.word(NAME_ENDS))?;
        events.add_modifiers(group, modifiers);
    }
    Ok(())
}

/// Parses an event with its terms and modifiers.
fn parse_event<'a>(
    cursor: &mut Cursor<'a>,
    events: &mut EventList<'a>,
    group: u8,
) -> Result<(), ParseError<'a>> {
    let start = *cursor;
    let name = cursor.word(NAME_ENDS);
    let named = parse_name(name, *cursor)?;
    let terms = if cursor.take('/') { Some(parse_terms(cursor, named.takes_fields())?) } else { None };
    let has_modifiers =
        cursor.take(':') || (terms.is_some() && cursor.peek().is_some_and(char::is_alphanumeric));
    let modifiers = if has_modifiers { parse_modifiers(cursor.word(NAME_ENDS))? } else { Modifiers::NONE };

    let terms = terms.unwrap_or_default();
    let event = Event {
        text: cursor.since(start),
        name: terms.name,
        kind: named.kind(&terms).ok_or_else(|| name.expected(UNIT_NEEDS))?,
        core_kind: named.core_kind(),
        privilege: Privilege::ALL,
        rate: terms.rate,
        group,
    };
    if events.push(event, modifiers) { Ok(()) } else { Err(name.is(Malformed::TooManyEvents)) }
}

/// What has to follow the name of a unit.
const UNIT_NEEDS: &str = "terms that say which event, as in `cpu/event=0x3c/`";

/// Finds what a name stands for; `after` is where it ends.
fn parse_name<'a>(name: Word<'a>, after: Cursor<'a>) -> Result<Named, ParseError<'a>> {
    if name.text.is_empty() {
        return Err(after.expected("an event"));
    }
    if let Some(core_kind) = unit_of(name.text) {
        return if after.peek() == Some('/') {
            Ok(Named::Unit(core_kind))
        } else {
            Err(name.expected(UNIT_NEEDS))
        };
    }
    if let Some(event) = GenericEvent::from_name(name.text) {
        return Ok(Named::Whole(EventKind::Generic(event)));
    }
    if let Some(digits) = raw_digits(name.text) {
        let too_large = Malformed::TooLarge { max: u64::MAX };
        return match u64::from_str_radix(digits, 16) {
            Ok(select) => Ok(Named::Whole(EventKind::Raw(select))),
            Err(_) => Err(name.is(too_large)),
        };
    }
    if after.peek() == Some('{') {
        return Err(name.is(Malformed::Refused { instead: "groups have no names here: write `{..}`" }));
    }
    Err(name.is(match instead_of_event(name.text) {
        Some(instead) => Malformed::Refused { instead },
        None => Malformed::UnknownEvent { nearest: nearest(name.text, event_names()) },
    }))
}

/// Returns the kind of core whose registers a name stands for: any, or one of a hybrid processor.
fn unit_of(name: &str) -> Option<Option<CoreKind>> {
    match name {
        "cpu" => Some(None),
        "cpu_core" => Some(Some(CoreKind::Core)),
        "cpu_atom" => Some(Some(CoreKind::Atom)),
        _ => None,
    }
}

/// Returns the digits of a raw event: `r1a8`, `r0x1a8`.
fn raw_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix('r')?;
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_number.then_some(digits)
}

/// Returns every name and alias of the generic events.
fn event_names() -> impl Iterator<Item = &'static str> {
    let names = |event: &GenericEvent| [event.name()].into_iter().chain(event.aliases().iter().copied());
    generic_events().iter().flat_map(names)
}

impl Named {
    /// Tells whether its terms may say which event it is.
    const fn takes_fields(self) -> bool {
        matches!(self, Self::Unit(_))
    }

    const fn core_kind(self) -> Option<CoreKind> {
        match self {
            Self::Whole(_) => None,
            Self::Unit(core_kind) => core_kind,
        }
    }

    fn kind(self, terms: &Terms<'_>) -> Option<EventKind> {
        match self {
            Self::Whole(kind) => Some(kind),
            Self::Unit(_) => terms.kind,
        }
    }
}
