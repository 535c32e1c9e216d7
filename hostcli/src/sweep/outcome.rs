//! What came of one combination: its reference trace, its sweep, its mutants. The JSON form is a contract:
//! add names, never rename.

use std::collections::BTreeMap;
use std::fmt;

use nmiprof_wire::Dispatch;
use serde::{Serialize, Serializer};

use super::boundary::{Boundaries, Boundary, Class};
use super::code::{Code, Window};
use super::combination::Combination;
use super::dispatch::{FailedCase, Staged};
use super::fate::Site;
use super::judge::{FailedPlacement, Judgement};
use super::pairs::Pairs;

/// What a failure of the storm is counted as.
const STORM: &str = "storm";

/// An address, in JSON as a string: a number of 64 bits would lose digits in many readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What came of one combination.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Entry strategy.
    pub entry: &'static str,
    /// How a fault inside an NMI returned.
    pub fault_return: &'static str,
    /// How a nested NMI returned.
    pub nested_return: &'static str,
    /// When NMIs were unmasked.
    pub unmask: &'static str,
    /// Whether every invariant is claimed to hold.
    pub sound: bool,
    /// Boundaries where no NMI can arrive.
    pub masked: usize,
    /// Boundaries where one can, early unmasking or not.
    pub reachable: usize,
    /// Boundaries where one can because of early unmasking.
    pub early: usize,
    /// Reachable and early boundaries at which one arrived.
    pub hit: usize,
    /// Addresses of those at which none did, in the order of the trace.
    pub missed: Vec<Address>,
    /// The same, one by one.
    pub missed_boundaries: Vec<Missed>,
    /// Labelled stretches of the entry.
    pub window: Vec<WindowRange>,
    /// Placements done.
    pub runs: u64,
    /// Placements that failed in any way.
    pub failures: u64,
    /// The same by kind.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub first_failures: Vec<Failed>,
    /// Situations staged for the dispatcher. Those that failed are among the failures.
    pub situations: u64,
    /// The ones that failed.
    pub failed_situations: Vec<FailedSituation>,
    /// Whether every placement was done. An unsound combination is left alone once it has failed enough.
    pub complete: bool,
    /// What a third NMI showed, where every invariant is claimed to hold.
    pub pairs: Pairs,
    /// Its known defects.
    pub mutants: Mutants,
    /// What an NMI at each boundary did, in the order of the trace. It is for the window map, not in the JSON.
    #[serde(skip)]
    pub sites: Vec<Site>,
    /// Why there is no result, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_result: Option<String>,
}

/// A boundary at which no NMI arrived although one can.
#[derive(Clone, Debug, Serialize)]
pub struct Missed {
    /// Address of the instruction after it.
    pub address: Address,
    /// How often that address stood in the trace before.
    pub occurrence: u32,
    /// The nearest label, and the distance.
    pub place: String,
}

/// A labelled stretch of an entry.
#[derive(Clone, Debug, Serialize)]
pub struct WindowRange {
    /// The label at its start.
    pub symbol: String,
    /// Its first address.
    pub start: Address,
    /// The address after its last one.
    pub end: Address,
}

/// A placement that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// What the timer was armed with.
    pub ticks: u32,
    /// Where the last NMI landed.
    pub last_rip: Option<Address>,
    /// The nearest label, and the distance.
    pub place: Option<String>,
    /// What failed.
    pub kinds: Vec<&'static str>,
    /// How the machine ended, if it died.
    pub reason: Option<String>,
}

/// A situation of the dispatcher that failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailedSituation {
    /// How the dispatcher asked its handlers.
    pub dispatch: &'static str,
    /// The situation's number; `None` where the machine itself failed.
    pub case: Option<u16>,
    /// What failed.
    pub kinds: Vec<&'static str>,
    /// How the machine ended, if that is what failed.
    pub reason: Option<String>,
}

/// What came of the known defects of a combination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mutants {
    /// How many there are.
    pub total: usize,
    /// How many the sweep caught.
    pub caught: usize,
    /// Those among them that took a third NMI.
    pub caught_by_pairs: Vec<&'static str>,
    /// Those that ran without a failure.
    pub survived: Vec<&'static str>,
    /// Those that the kernel does not know.
    pub not_built: Vec<&'static str>,
}

impl Outcome {
    /// Creates the outcome of a combination of which nothing is known.
    #[must_use]
    pub fn new(combination: &Combination) -> Self {
        Self {
            entry: combination.entry.name(),
            fault_return: combination.fault_return.name(),
            nested_return: combination.nested_return.name(),
            unmask: combination.unmask.name(),
            sound: combination.is_sound(),
            masked: 0,
            reachable: 0,
            early: 0,
            hit: 0,
            missed: Vec::new(),
            missed_boundaries: Vec::new(),
            window: Vec::new(),
            runs: 0,
            failures: 0,
            failures_by_kind: BTreeMap::new(),
            first_failures: Vec::new(),
            situations: 0,
            failed_situations: Vec::new(),
            complete: false,
            pairs: Pairs::default(),
            mutants: Mutants::default(),
            sites: Vec::new(),
            no_result: None,
        }
    }

    /// Takes the classes of the boundaries in.
    pub fn take_boundaries(&mut self, boundaries: &Boundaries, windows: &[Window]) {
        self.masked = boundaries.count(Class::Masked);
        self.reachable = boundaries.count(Class::Reachable);
        self.early = boundaries.count(Class::Early);
        self.window = windows.iter().map(WindowRange::from).collect();
    }

    /// Takes what a sweep showed in.
    pub fn take_judgement(&mut self, judgement: &Judgement, code: &Code) {
        self.hit = judgement.hit;
        self.missed = judgement.missed.iter().map(|boundary| Address(boundary.address)).collect();
        self.missed_boundaries =
            judgement.missed.iter().map(|boundary| Missed::new(boundary, code)).collect();
        self.runs = judgement.runs;
        self.failures = judgement.failures;
        self.failures_by_kind.clone_from(&judgement.failures_by_kind);
        self.first_failures =
            judgement.first_failures.iter().map(|failed| Failed::new(failed, code)).collect();
    }

    /// Takes the failures of a storm in.
    pub fn take_storm(&mut self, failures: u64) {
        if failures > 0 {
            self.failures += failures;
            *self.failures_by_kind.entry(STORM).or_default() += failures;
        }
    }

    /// Takes what staging showed in.
    pub fn take_staged(&mut self, dispatch: Dispatch, staged: &Staged) {
        self.situations += staged.cases.len() as u64;
        for FailedCase { case, kinds, reason } in staged.failures() {
            self.failures += 1;
            for kind in &kinds {
                *self.failures_by_kind.entry(kind).or_default() += 1;
            }
            let dispatch = dispatch.name();
            self.failed_situations.push(FailedSituation { dispatch, case, kinds, reason });
        }
    }

    /// Tells whether this is what was claimed: a sound combination has nothing missed and no failure, an
    /// unsound one fails, and every known defect is caught.
    #[must_use]
    pub fn is_as_claimed(&self) -> bool {
        let all_caught = self.mutants.caught == self.mutants.total;
        let is_clean =
            self.complete && self.missed.is_empty() && self.failures == 0 && self.pairs.are_clean();
        let has_been_swept = self.no_result.is_none() && self.runs > 0;
        has_been_swept && all_caught && if self.sound { is_clean } else { self.failures > 0 }
    }
}

impl Missed {
    fn new(boundary: &Boundary, code: &Code) -> Self {
        let Boundary { address, occurrence, .. } = *boundary;
        Self { address: Address(address), occurrence, place: code.describe(address) }
    }
}

impl From<&Window> for WindowRange {
    fn from(window: &Window) -> Self {
        Self { symbol: window.symbol.clone(), start: Address(window.start), end: Address(window.end) }
    }
}

impl Failed {
    fn new(failed: &FailedPlacement, code: &Code) -> Self {
        Self {
            ticks: failed.ticks,
            last_rip: failed.last_rip.map(Address),
            place: failed.last_rip.map(|address| code.describe(address)),
            kinds: failed.kinds.clone(),
            reason: failed.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::dispatch::CASES;
    use crate::sweep::placer::ChunkEnd;

    fn outcome(sound: bool) -> Outcome {
        let combination = Combination::all().into_iter().find(|one| one.is_sound() == sound);
        let mut outcome = Outcome::new(&combination.expect("there are both"));
        outcome.runs = 400;
        outcome.complete = true;
        outcome.pairs.complete = true;
        outcome
    }

    #[test]
    fn a_sound_combination_has_to_be_clean_and_an_unsound_one_has_to_fail() {
        assert!(outcome(true).is_as_claimed());
        assert!(!outcome(false).is_as_claimed());
        assert!(!Outcome { failures: 1, ..outcome(true) }.is_as_claimed());
        assert!(Outcome { failures: 1, complete: false, ..outcome(false) }.is_as_claimed());
        assert!(!Outcome { complete: false, ..outcome(true) }.is_as_claimed());
        assert!(!Outcome { missed: vec![Address(1)], ..outcome(true) }.is_as_claimed());
    }

    #[test]
    fn a_sound_combination_needs_its_pairs_and_an_unsound_one_does_not() {
        let with = |pairs| Outcome { pairs, ..outcome(true) }.is_as_claimed();
        assert!(with(Pairs { total: 5, hit: 5, complete: true, ..Pairs::default() }));
        assert!(!with(Pairs { total: 5, hit: 4, complete: true, ..Pairs::default() }));
        assert!(!with(Pairs { total: 5, hit: 5, ..Pairs::default() }));
        assert!(!with(Pairs { total: 5, hit: 5, complete: true, failures: 1, ..Pairs::default() }));
        let unsound = Outcome { failures: 1, pairs: Pairs::default(), ..outcome(false) };
        assert!(unsound.is_as_claimed());
    }

    #[test]
    fn nothing_done_and_a_defect_not_caught_are_never_as_claimed() {
        assert!(!Outcome { runs: 0, ..outcome(true) }.is_as_claimed());
        assert!(!Outcome { no_result: Some("so".to_owned()), ..outcome(true) }.is_as_claimed());
        let mutants = Mutants { total: 2, caught: 1, ..Mutants::default() };
        assert!(!Outcome { mutants, ..outcome(true) }.is_as_claimed());
    }

    #[test]
    fn a_situation_that_failed_is_a_failure_of_the_combination() {
        let mut outcome = outcome(true);
        let end = ChunkEnd::Died("a reset".to_owned());
        outcome.take_staged(Dispatch::StopEarly, &Staged { cases: Vec::new(), end });
        assert_eq!(outcome.failures, CASES.len() as u64 + 1, "none was reported, and the machine died");
        assert_eq!(outcome.failures_by_kind["died"], 1);
        assert!(outcome.failed_situations.iter().all(|failed| failed.dispatch == "stop-early"));
        assert!(!outcome.is_as_claimed());
    }

    #[test]
    fn the_json_form_has_the_names_of_the_contract() {
        let mut outcome = outcome(true);
        outcome.missed = vec![Address(0xffff_ffff_8010_3340)];
        outcome.window = vec![WindowRange { symbol: "a".to_owned(), start: Address(1), end: Address(2) }];
        let json = serde_json::to_value([outcome]).expect("plain data");
        let object = json[0].as_object().expect("one object for each combination");
        for (name, is_right) in [
            ("entry", object["entry"].is_string()),
            ("fault_return", object["fault_return"].is_string()),
            ("nested_return", object["nested_return"].is_string()),
            ("unmask", object["unmask"].is_string()),
            ("masked", object["masked"].is_u64()),
            ("reachable", object["reachable"].is_u64()),
            ("hit", object["hit"].is_u64()),
            ("missed", object["missed"] == serde_json::json!(["0xffffffff80103340"])),
            ("runs", object["runs"].is_u64()),
            ("failures", object["failures"].is_u64()),
            ("sound", object["sound"].is_boolean()),
            ("pairs.total", object["pairs"]["total"].is_u64()),
            ("pairs.hit", object["pairs"]["hit"].is_u64()),
            ("pairs.missed", object["pairs"]["missed"].is_array()),
            ("pairs.runs", object["pairs"]["runs"].is_u64()),
            ("pairs.failures", object["pairs"]["failures"].is_u64()),
            ("situations", object["situations"].is_u64()),
            ("failed_situations", object["failed_situations"].is_array()),
        ] {
            assert!(is_right, "{name}");
        }
        assert_eq!(object["window"][0]["symbol"], "a");
        assert_eq!(object["window"][0]["end"], "0x0000000000000002");
        assert_eq!((&object["mutants"]["total"], &object["mutants"]["caught"]), (&0.into(), &0.into()));
        assert!(!object.contains_key("no_result"), "only where there is no result");
    }
}
