//! The letters after an event: where it is counted.
//!
//! `u` and `k` are kept. perf's others ask for what this profiler does not have or always does; each is refused by
//! a sentence that says which of the two, for to ignore one would give another profile than the one asked for.

use super::cursor::Word;
use super::{Malformed, ParseError, Privilege};

/// The privilege levels that modifiers name; without any, they leave the event as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Modifiers {
    user: bool,
    kernel: bool,
}

impl Modifiers {
    /// No letter.
    pub(super) const NONE: Self = Self { user: false, kernel: false };

    /// Returns the letters of both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self { user: self.user || other.user, kernel: self.kernel || other.kernel }
    }

    /// Returns what they let an event count: without a letter, everything.
    pub(super) const fn privilege(self) -> Privilege {
        match self {
            Self::NONE => Privilege::ALL,
            Self { user, kernel } => Privilege { user, kernel },
        }
    }
}

/// Parses the letters after an event or a group.
pub(super) fn parse_modifiers(word: Word<'_>) -> Result<Modifiers, ParseError<'_>> {
    if word.text.is_empty() {
        return Err(word.expected("a modifier: `u`, `k` or both"));
    }
    let mut modifiers = Modifiers::NONE;
    for (offset_bytes, letter) in word.text.char_indices() {
        let flag = match letter {
            'u' => &mut modifiers.user,
            'k' => &mut modifiers.kernel,
            _ => return Err(letter_at(word, offset_bytes, letter).is(refusal(letter))),
        };
        if core::mem::replace(flag, true) {
            return Err(letter_at(word, offset_bytes, letter).is(Malformed::Twice));
        }
    }
    Ok(modifiers)
}

/// Returns one letter of a word.
fn letter_at(word: Word<'_>, offset_bytes: usize, letter: char) -> Word<'_> {
    let text = word.text.get(offset_bytes..offset_bytes + letter.len_utf8()).unwrap_or_default();
    Word { text, position_bytes: word.position_bytes + offset_bytes }
}

/// Says why a letter is refused.
const fn refusal(letter: char) -> Malformed {
    let instead = match letter {
        'h' => "no hypervisor is counted: leave it out",
        'H' => "there are no guests, so all is host: leave it out",
        'G' => "there are no guests to count: leave it out",
        'p' | 'P' => "samples are not precise: leave it out, and mind the skid",
        'D' => "a counter that can't be had is an error: leave it out",
        'S' => "counts are read one by one: put the events into a group {..} and leave it out",
        'I' => "idle time is not left out: leave it out, and look at the idle loop's symbol",
        'W' | 'e' | 'b' | 'R' | 'X' => "groups are `{..}`, and stay as they are: leave it out",
        _ => return Malformed::UnknownModifier,
    };
    Malformed::Refused { instead }
}
