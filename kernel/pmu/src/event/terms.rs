//! What stands between slashes: `event=0x3c,umask=1,cmask=1,inv,period=1000,name=X`.
//!
//! After `cpu` the terms say which event, by fields, by the whole register (`config=`), or by a generic name; after
//! a name that already says so they only add `period=`, `freq=` and `name=`.

use super::cursor::{Cursor, Word};
use super::refused::instead_of_term;
use super::suggest::nearest;
use super::{EventKind, Fields, GenericEvent, Malformed, ParseError, Rate};

/// What ends a term, or its value.
const TERM_ENDS: &[char] = &[',', '/', '=', '{', '}'];

/// What terms said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms<'a> {
    /// Which event, if they said so.
    pub(super) kind: Option<EventKind>,
    pub(super) rate: Option<Rate>,
    pub(super) name: Option<&'a str>,
    /// The terms that were there: a bit for each position in [`TERMS`].
    seen: u32,
}

/// A term that has a value, or is a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    Config,
    Event,
    Umask,
    Cmask,
    Inv,
    Edge,
    Any,
    Period,
    Freq,
    Name,
}

/// All terms, by name.
const TERMS: [(&str, Term); 10] = [
    ("config", Term::Config),
    ("event", Term::Event),
    ("umask", Term::Umask),
    ("cmask", Term::Cmask),
    ("inv", Term::Inv),
    ("edge", Term::Edge),
    ("any", Term::Any),
    ("period", Term::Period),
    ("freq", Term::Freq),
    ("name", Term::Name),
];

/// Parses terms up to the closing slash and past it. `takes_fields`: they may say which event.
pub(super) fn parse_terms<'a>(
    cursor: &mut Cursor<'a>,
    takes_fields: bool,
) -> Result<Terms<'a>, ParseError<'a>> {
    let mut terms = Terms::default();
    if cursor.take('/') {
        return Ok(terms);
    }
    loop {
        // Bounded: no term can stand twice, and every other word is an error.
        parse_term(cursor, &mut terms, takes_fields)?;
        if cursor.take('/') {
            return Ok(terms);
        }
        if !cursor.take(',') {
            return Err(cursor.expected("`,` or `/`"));
        }
    }
}

/// Parses one term, with its value.
fn parse_term<'a>(
    cursor: &mut Cursor<'a>,
    terms: &mut Terms<'a>,
    takes_fields: bool,
) -> Result<(), ParseError<'a>> {
    let word = cursor.word(TERM_ENDS);
    let value = cursor.take('=').then(|| cursor.word(TERM_ENDS));
    if word.text.is_empty() {
        return Err(word.expected("a term, as in `event=0x3c`"));
    }
    let Some((index, &(_, term))) = TERMS.iter().enumerate().find(|(_, (name, _))| *name == word.text) else {
        return terms.take_generic(word, value.is_some(), takes_fields);
    };
    let seen = 1 << index;
    if terms.seen & seen != 0 {
        return Err(word.is(Malformed::Twice));
    }
    terms.seen |= seen;
    if term.says_event() && !takes_fields {
        return Err(word.is(Malformed::Refused { instead: "the name says which event: write cpu/event=../" }));
    }
    terms.take(term, word, value)
}

impl<'a> Terms<'a> {
    /// Takes a known term.
    fn take(&mut self, term: Term, word: Word<'a>, value: Option<Word<'a>>) -> Result<(), ParseError<'a>> {
        match term {
            Term::Name => self.name = Some(printable(word, value)?),
            Term::Period => self.take_rate(word, Rate::Period(positive(word, value)?))?,
            Term::Freq => self.take_rate(word, Rate::Frequency(positive(word, value)?))?,
            Term::Config => {
                let select = number(word, value, u64::MAX)?;
                self.take_kind(word, EventKind::Raw(select))?;
            }
            _ => self.take_field(term, word, value)?,
        }
        Ok(())
    }

    /// Takes a field of the register.
    fn take_field(
        &mut self,
        term: Term,
        word: Word<'a>,
        value: Option<Word<'a>>,
    ) -> Result<(), ParseError<'a>> {
        let mut fields = match self.kind {
            None => Fields::default(),
            Some(EventKind::Fields(fields)) => fields,
            Some(_) => return Err(word.is(CONTRADICTION)),
        };
        match term {
            Term::Event => fields.event = field(word, value, EVENT_MAX)?,
            Term::Umask => fields.umask = field(word, value, u8::MAX)?,
            Term::Cmask => fields.cmask = field(word, value, u8::MAX)?,
            Term::Inv => fields.inv = switch(word, value)?,
            Term::Edge => fields.edge = switch(word, value)?,
            _ => fields.any = switch(word, value)?,
        }
        self.kind = Some(EventKind::Fields(fields));
        Ok(())
    }

    /// Takes a word that is no term: after `cpu`, the name of a generic event.
    fn take_generic(
        &mut self,
        word: Word<'a>,
        has_value: bool,
        takes_fields: bool,
    ) -> Result<(), ParseError<'a>> {
        match GenericEvent::from_name(word.text) {
            Some(event) if takes_fields && !has_value => self.take_kind(word, EventKind::Generic(event)),
            _ => Err(word.is(match instead_of_term(word.text) {
                Some(instead) => Malformed::Refused { instead },
                None => Malformed::UnknownTerm { nearest: nearest(word.text, TERMS.map(|(name, _)| name)) },
            })),
        }
    }

    fn take_kind(&mut self, word: Word<'a>, kind: EventKind) -> Result<(), ParseError<'a>> {
        match self.kind.replace(kind) {
            None => Ok(()),
            Some(_) => Err(word.is(CONTRADICTION)),
        }
    }

    fn take_rate(&mut self, word: Word<'a>, rate: Rate) -> Result<(), ParseError<'a>> {
        match self.rate.replace(rate) {
            None => Ok(()),
            Some(_) => Err(word.is(Malformed::Refused { instead: "give `period` or `freq`, not both" })),
        }
    }
}

impl Term {
    /// Tells whether it says which event.
    const fn says_event(self) -> bool {
        !matches!(self, Self::Period | Self::Freq | Self::Name)
    }
}

/// Two terms that each say which event.
const CONTRADICTION: Malformed =
    Malformed::Refused { instead: "give fields, or `config`, or a name, not two of them" };

/// Largest event code, AMD's.
const EVENT_MAX: u16 = 0xfff;

/// Parses the value of a field.
fn field<'a, T>(word: Word<'a>, value: Option<Word<'a>>, max: T) -> Result<T, ParseError<'a>>
where
    T: Copy + Into<u64> + TryFrom<u64>,
{
    let number = number(word, value, max.into())?;
    Ok(T::try_from(number).unwrap_or(max))
}

/// Parses a switch: without a value it is on, as in perf.
fn switch<'a>(word: Word<'a>, value: Option<Word<'a>>) -> Result<bool, ParseError<'a>> {
    if value.is_none() { Ok(true) } else { Ok(number(word, value, 1)? == 1) }
}

/// Parses a number above 0.
fn positive<'a>(word: Word<'a>, value: Option<Word<'a>>) -> Result<u64, ParseError<'a>> {
    match number(word, value, u64::MAX)? {
        0 => Err(value.unwrap_or(word).expected("a number above 0")),
        number => Ok(number),
    }
}

/// Parses a number, decimal or with `0x` hexadecimal.
fn number<'a>(word: Word<'a>, value: Option<Word<'a>>, max: u64) -> Result<u64, ParseError<'a>> {
    let Some(value) = value else {
        return Err(word.expected("`=` and a number after this term"));
    };
    let (digits, radix) = match value.text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (value.text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(value.expected("a number, decimal or as 0x3c"));
    }
    // All digits are digits, so what can't be parsed is too large.
    match u64::from_str_radix(digits, radix) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(value.is(Malformed::TooLarge { max })),
    }
}

/// Takes a name that can be shown on a terminal as it is.
fn printable<'a>(word: Word<'a>, value: Option<Word<'a>>) -> Result<&'a str, ParseError<'a>> {
    let value = value.ok_or_else(|| word.expected("`=` and a name after this term"))?;
    let is_printable = !value.text.is_empty() && value.text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_printable { Ok(value.text) } else { Err(value.expected("a name of printable ASCII characters")) }
}
