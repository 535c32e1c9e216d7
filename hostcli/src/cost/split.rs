//! Splits the trace of an NMI into phases.

use std::collections::BTreeMap;
use std::ops::Range;

use nmiprof_wire::NmiEntry;

use super::{Cost, Phase, Scenario};
use crate::sweep::trace::Seen;
use crate::sweep::{Code, CodeError};
use crate::symbols::{Symbolizer, UNKNOWN};

/// Labels at which an entry begins anew for a nested NMI's run, by their ends.
const RUN_AGAIN: [&str; 4] = ["repeat", "again", "restart", "return_fault"];

/// Knows the code of one entry.
pub(super) struct Splitter<'a> {
    symbolizer: Symbolizer<'a>,
    /// The entry's assembly.
    entry: Range<u64>,
    /// Where it begins anew.
    again: Vec<u64>,
    /// Where the CPU goes by itself: an instruction before one of these has not retired.
    vectors: Vec<u64>,
    /// The exceptions' assembly.
    exceptions: Range<u64>,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(code: &Code, symbolizer: Symbolizer<'a>, entry: NmiEntry) -> Result<Self, CodeError> {
        let label = format!("nmi_{entry}");
        let range = code.entry(&label)?;
        let labelled = |name: &str| code.address(&format!("{label}_{name}"));
        let stubs: Vec<u64> = code.addresses("exception_stub_").collect();
        let no_label = || CodeError::NoLabel("exception_stub_".to_owned());
        let exceptions_start = stubs.iter().copied().min().ok_or_else(no_label)?;
        let exceptions_end = code.addresses("exception_").max().ok_or_else(no_label)?;
        let poisoned = labelled("return_fault");
        Ok(Self {
            symbolizer,
            vectors: stubs.into_iter().chain(poisoned).chain([range.start]).collect(),
            again: RUN_AGAIN.into_iter().filter_map(labelled).collect(),
            entry: range,
            exceptions: exceptions_start..exceptions_end,
        })
    }

    /// Adds up the instructions that have retired. The last stop is the interrupted instruction: not the NMI's.
    pub(super) fn split(&mut self, stops: &[Seen], entry: NmiEntry, scenario: Scenario) -> Cost {
        let mut phases = BTreeMap::new();
        let mut unattributed = Vec::new();
        let mut place = Place::default();
        for pair in stops.windows(2) {
            let [stop, next] = [pair[0].rip, pair[1].rip];
            let phase = self.phase(&mut place, stop);
            if self.vectors.contains(&next) {
                continue;
            }
            *phases.entry(phase).or_insert(0) += 1;
            if phase == Phase::Other {
                unattributed.push(self.name(stop));
            }
        }
        unattributed.sort_unstable();
        unattributed.dedup();
        let total = phases.values().sum();
        Cost { entry, scenario, phases, total, unattributed }
    }

    fn phase(&mut self, place: &mut Place, address: u64) -> Phase {
        if self.entry.contains(&address) {
            place.arrive(address == self.entry.start, self.again.contains(&address));
            return place.phase();
        }
        place.is_in_entry = false;
        if self.exceptions.contains(&address) {
            return Phase::Fault;
        }
        Phase::of(&self.symbolizer.instruction(address))
    }

    fn name(&mut self, address: u64) -> String {
        let resolved = self.symbolizer.instruction(address);
        resolved.frames.first().map_or(UNKNOWN, |frame| &*frame.function).to_owned()
    }
}

/// Where in its entry's assembly an NMI is.
#[derive(Debug, Default)]
struct Place {
    /// The outermost NMI has begun.
    has_begun: bool,
    /// The instruction before was in the entry, too.
    is_in_entry: bool,
    phase: Option<Phase>,
}

impl Place {
    /// Moves to an instruction of the entry: its first, one that begins it anew, or another.
    fn arrive(&mut self, is_first: bool, is_again: bool) {
        self.phase = match self.phase {
            _ if is_first && self.has_begun => Some(Phase::Nested),
            _ if is_first || is_again => Some(Phase::Entry),
            // The handler has returned.
            _ if !self.is_in_entry => Some(Phase::Exit),
            phase => phase,
        };
        self.has_begun = true;
        self.is_in_entry = true;
    }

    fn phase(&self) -> Phase {
        self.phase.unwrap_or(Phase::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The phases of instructions of the entry: first, begins anew, other; `None` is one elsewhere.
    fn phases(places: &[Option<(bool, bool)>]) -> Vec<Phase> {
        let mut place = Place::default();
        let mut phases = Vec::new();
        for one in places {
            match one {
                Some((is_first, is_again)) => {
                    place.arrive(*is_first, *is_again);
                    phases.push(place.phase());
                }
                None => place.is_in_entry = false,
            }
        }
        phases
    }

    #[test]
    fn what_comes_before_the_handler_is_entry_and_what_comes_after_is_exit() {
        let [first, other] = [Some((true, false)), Some((false, false))];
        let wanted = [Phase::Entry, Phase::Entry, Phase::Exit, Phase::Exit];
        assert_eq!(phases(&[first, other, None, None, other, other]), wanted);
    }

    #[test]
    fn a_second_arrival_is_nested_until_it_returns_and_the_run_for_it_is_one_more_entry() {
        let [first, again, other] = [Some((true, false)), Some((false, true)), Some((false, false))];
        let trace = [first, None, first, other, None, other, again, other, None, other];
        use Phase::{Entry, Exit, Nested};
        assert_eq!(phases(&trace), [Entry, Nested, Nested, Exit, Entry, Entry, Exit]);
    }
}
