//! A place in a text, and what can be taken from there.
//!
//! All delimiters are ASCII, so every cut between two of them is a cut between two characters, whatever stands there
//! otherwise.

use super::{Malformed, ParseError};

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    position_bytes: usize,
}

/// A piece of the text, and where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) position_bytes: usize,
}

impl<'a> Cursor<'a> {
    /// Points to the start of a text.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, position_bytes: 0 }
    }

    /// Returns what is left.
    pub(super) fn rest(self) -> &'a str {
        self.text.get(self.position_bytes..).unwrap_or_default()
    }

    /// Tells whether nothing is left.
    pub(super) fn is_at_end(self) -> bool {
        self.rest().is_empty()
    }

    /// Returns the text from an earlier place to this one.
    pub(super) fn since(self, start: Self) -> &'a str {
        self.text.get(start.position_bytes..self.position_bytes).unwrap_or_default()
    }

    /// Returns the next character, and stays before it.
    pub(super) fn peek(self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Passes a delimiter if it comes next.
    pub(super) fn take(&mut self, delimiter: char) -> bool {
        let is_next = self.peek() == Some(delimiter);
        if is_next {
            self.position_bytes += delimiter.len_utf8();
        }
        is_next
    }

    /// Takes what comes before the next of these delimiters, or all that is left.
    pub(super) fn word(&mut self, delimiters: &[char]) -> Word<'a> {
        let rest = self.rest();
        let len_bytes = rest.find(delimiters).unwrap_or(rest.len());
        let word =
            Word { text: rest.get(..len_bytes).unwrap_or_default(), position_bytes: self.position_bytes };
        self.position_bytes += len_bytes;
        word
    }

    /// Says that something else has to stand here than the next character.
    pub(super) fn expected(self, what: &'static str) -> ParseError<'a> {
        let found = self.rest();
        let len_bytes = self.peek().map_or(0, char::len_utf8);
        let found = found.get(..len_bytes).unwrap_or_default();
        ParseError { position_bytes: self.position_bytes, found, cause: Malformed::Expected { what } }
    }
}

impl<'a> Word<'a> {
    /// Says what is wrong with this word.
    pub(super) const fn is(self, cause: Malformed) -> ParseError<'a> {
        ParseError { position_bytes: self.position_bytes, found: self.text, cause }
    }

    /// Says that something else has to stand here.
    pub(super) const fn expected(self, what: &'static str) -> ParseError<'a> {
        self.is(Malformed::Expected { what })
    }
}
