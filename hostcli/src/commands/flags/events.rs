//! The flag that names events, in perf's language.
//!
//! The host parses what the kernel will parse again, so that a typing error costs no boot. Which of the events its
//! CPU has, the kernel alone knows.

use nmiprof_pmu::event::{ParseError, parse_list};

use super::values::event_word;
use crate::commands::Error;

/// The flag that names events.
#[derive(Clone, Debug, clap::Args)]
pub struct EventArgs {
    /// Events by perf's names, separated by commas (repeatable): `cycles`, `instructions:u`, `{cycles,branches}`,
    /// `r1a8`, `cpu/event=0x3c,umask=1/`, `cycles/period=1000/`; `nmiprof list` shows them [default: instructions on
    /// a timer, else cycles]
    #[arg(short = 'e', long = "event", value_name = "EVENT", value_parser = event_word)]
    pub events: Vec<String>,
}

impl EventArgs {
    /// Returns all events as one word, which is empty where none is named.
    pub(in crate::commands) fn word(&self) -> String {
        self.events.join(",")
    }

    /// Refuses what is no list of events.
    ///
    /// # Errors
    /// [`Error::Usage`] says where it is wrong, and what would be right.
    pub(in crate::commands) fn check(&self) -> Result<(), Error> {
        let word = self.word();
        if self.events.is_empty() {
            return Ok(());
        }
        parse_list(&word).map(|_| ()).map_err(|error| Error::Usage(complaint(&word, &error)))
    }
}

/// Says what is wrong, and points at it.
fn complaint(text: &str, error: &ParseError<'_>) -> String {
    let before = text.get(..error.position_bytes).unwrap_or_default().chars().count();
    let marks = "^".repeat(error.found.chars().count().max(1));
    format!("-e {text}: {error}\n    {text}\n    {:before$}{marks}", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    fn args(words: &[&str]) -> EventArgs {
        parse(words).expect("sound flags")
    }

    #[test]
    fn events_may_be_repeated_separated_by_commas_or_grouped() {
        assert_eq!(args(&["-e", "cycles", "-e", "branches,r1c0"]).word(), "cycles,branches,r1c0");
        assert_eq!(args(&["-e", "{cycles,instructions}:u"]).word(), "{cycles,instructions}:u");
        args(&["-e", "{cycles,instructions}:u", "-e", "rC0"]).check().expect("sound events");
        args(&[]).check().expect("none is the default");
    }

    #[test]
    fn a_wrong_name_is_pointed_at_and_the_right_one_is_suggested() {
        let error =
            args(&["-e", "cycles", "-e", "intructions"]).check().expect_err("a typing error").to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert!(lines[0].starts_with("-e cycles,intructions: ") && error.contains("instructions"), "{error}");
        assert_eq!(lines[1..], ["    cycles,intructions", "           ^^^^^^^^^^^"], "{error}");
    }

    #[test]
    fn what_the_kernel_would_read_as_two_words_is_refused() {
        for words in [["-e", "cycles, branches"], ["-e", ""], ["-e", "cy\u{1b}cles"]] {
            assert!(parse::<EventArgs>(&words).is_err(), "{words:?}");
        }
    }
}
