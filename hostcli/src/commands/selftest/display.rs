//! What a user sees while combinations are examined: one live line on a terminal, else a line for each.

use std::io::{self, IsTerminal as _, Write};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::workers::News;
use crate::sweep::Combination;

/// Display of a self-test that goes on.
pub(super) struct Display<'a> {
    is_quiet: bool,
    bar: Option<ProgressBar>,
    notes: &'a mut dyn Write,
    placements: u64,
}

impl<'a> Display<'a> {
    pub(super) fn new(is_quiet: bool, combinations: usize, notes: &'a mut dyn Write) -> Self {
        let has_bar = !is_quiet && io::stderr().is_terminal();
        Self { is_quiet, bar: has_bar.then(|| new_bar(combinations as u64)), notes, placements: 0 }
    }

    /// Shows what a worker told. A display that can't be written to is no reason to end a test.
    pub(super) fn show(&mut self, news: &News<u64>, combinations: &[Combination]) {
        let name = |index: &usize| combinations.get(*index).map(ToString::to_string).unwrap_or_default();
        match news {
            News::Progress(_, placements) => self.placements = self.placements.saturating_add(*placements),
            News::Done(index) if self.bar.is_none() && !self.is_quiet => {
                drop(writeln!(self.notes, "nmiprof: done: {}", name(index)));
            }
            _ => {}
        }
        let Some(bar) = &self.bar else { return };
        match news {
            News::Started(index) => bar.set_prefix(name(index)),
            News::Done(_) => bar.inc(1),
            News::Progress(..) => {}
        }
        bar.set_message(format!("{} placements", HumanCount(self.placements)));
    }

    /// Takes the live line away.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:16}] {pos}/{len} {msg}, {prefix}");
    let bar = ProgressBar::new(steps);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
