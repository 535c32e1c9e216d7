//! The name of an event in a report, as perf writes it.
//!
//! A generic event has its first name, whatever alias was written, without terms; a code stands as it was written; a
//! `name=` stands alone. Letters follow where the event does not count everywhere, the group's included.
//! (Linux 6.1, `tools/perf/util/evsel.c`, `evsel__name`.)

use core::fmt;

use super::{Event, EventKind, GenericEvent, Privilege};

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name {
            return f.write_str(name);
        }
        let base = self.base();
        f.write_str(base)?;
        let letters = self.privilege.letters();
        if !letters.is_empty() && !base.ends_with('/') {
            f.write_str(":")?;
        }
        f.write_str(letters)
    }
}

impl<'a> Event<'a> {
    /// Returns the name without letters.
    fn base(&self) -> &'a str {
        let word = self.text.split(['/', ':']).next().unwrap_or_default();
        match (self.kind, GenericEvent::from_name(word)) {
            (_, Some(event)) => event.name(),
            (EventKind::Raw(_), _) if word.starts_with('r') => word,
            // A unit: it is the terms that tell events apart.
            _ => self
                .text
                .rsplit_once('/')
                .map_or(word, |(_, letters)| self.text.strip_suffix(letters).unwrap_or(self.text)),
        }
    }
}

impl Privilege {
    /// Returns the letters that say it; none for every level.
    const fn letters(self) -> &'static str {
        match (self.user, self.kernel) {
            (true, false) => "u",
            (false, true) => "k",
            _ => "",
        }
    }
}
