//! From a place to the functions that were active there.

use std::rc::Rc;

use crate::capture::{ChainId, ChainTree, Histogram, Place, Processes, Record};
use crate::symbols::{Resolved, SourceFrame, Symbols, UNKNOWN};

/// Which inlined functions are told apart from those that they were inlined into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Inlines {
    /// All of them
    All,
    /// All but those of Rust's standard library: they count as whoever used them
    #[default]
    Own,
    /// None, as perf does with --no-inline
    None,
}

/// The choice among [`Inlines`], as flags.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct InlineArgs {
    /// Which inlined functions to tell apart from those that they were inlined into
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    inline: Inlines,
    /// The same as --inline none
    #[arg(long, conflicts_with = "inline")]
    no_inline: bool,
}

impl InlineArgs {
    /// Returns the choice.
    pub(super) const fn inlines(self) -> Inlines {
        if self.no_inline { Inlines::None } else { self.inline }
    }
}

/// Name of what runs where no process does.
const KERNEL: &str = "[kernel]";

/// Expands places to functions.
pub(super) struct Paths<'a, 'elf> {
    symbols: &'a mut Symbols<'elf>,
    chains: &'a ChainTree,
    processes: &'a Processes,
    inlines: Inlines,
}

impl<'a, 'elf> Paths<'a, 'elf> {
    pub(super) fn new(symbols: &'a mut Symbols<'elf>, record: &'a Record, inlines: Inlines) -> Self {
        Self { symbols, chains: record.chains(), processes: record.processes(), inlines }
    }

    /// Returns the functions active at `place`, innermost first; never empty.
    pub(super) fn of(&mut self, place: &Place) -> Vec<SourceFrame> {
        let mut path = Vec::new();
        let here = self.symbols.instruction(self.processes.owner(place.process, place.ip), place.ip);
        self.expand(&here, &mut path);
        for ip in self.chains.callers(place.chain) {
            let call = self.symbols.call(self.processes.owner(place.process, ip), ip);
            self.expand(&call, &mut path);
        }
        path
    }

    /// Returns the name of a place's process.
    pub(super) fn process_name(&self, place: &Place) -> Rc<str> {
        match place.process {
            0 => KERNEL.into(),
            number => self.processes.find(number).map_or(UNKNOWN, |process| &process.name).into(),
        }
    }

    /// Returns what stands in for callers that are not known, if any are not.
    pub(super) fn missing_callers(&self, place: &Place) -> Option<&'static str> {
        match self.chains.root(place.chain) {
            ChainId::TRUNCATED => Some("[truncated]"),
            ChainId::UNKNOWN => Some("[lost callers]"),
            _ => None,
        }
    }

    fn expand(&self, resolved: &Resolved, path: &mut Vec<SourceFrame>) {
        if resolved.is_unknown() {
            path.push(unknown_frame());
        }
        path.extend(resolved.frames.iter().filter(|frame| self.shows(frame)).cloned());
    }

    /// Tells whether a frame stands for itself. The outermost one at an address always does: it is not
    /// inlined.
    fn shows(&self, frame: &SourceFrame) -> bool {
        match self.inlines {
            Inlines::All => true,
            Inlines::Own => !(frame.is_inlined && frame.is_standard_library()),
            Inlines::None => !frame.is_inlined,
        }
    }
}

fn unknown_frame() -> SourceFrame {
    SourceFrame { function: Rc::from(UNKNOWN), file: None, line: 0, is_inlined: false }
}

/// Returns the share of samples whose address has no symbol; `None` without samples.
pub(super) fn unresolved_pct(
    histogram: &Histogram,
    record: &Record,
    symbols: &mut Symbols<'_>,
) -> Option<f64> {
    let (mut samples, mut unresolved) = (0_u64, 0_u64);
    for (place, count) in histogram.sorted() {
        samples += count;
        let owner = record.processes().owner(place.process, place.ip);
        if symbols.instruction(owner, place.ip).is_unknown() {
            unresolved += count;
        }
    }
    (samples > 0).then(|| 100.0 * unresolved as f64 / samples as f64)
}
