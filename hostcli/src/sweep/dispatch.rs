//! The dispatcher under one combination: staged situations, and its known defects.
//!
//! The self-test image raises NMIs at known instructions and compares what the dispatcher counted with what the
//! situation allows (`selftest=dispatch`). What an entry does to nested NMIs decides what the dispatcher sees: so
//! every sound combination goes through all situations, with either way to ask the handlers.

use std::collections::BTreeSet;

use nmiprof_wire::{
    CaseReport, Dispatch, Failure, FaultReturn, Line, NestedReturn, NmiEntry, Options, Unmask,
};

use super::combination::Combination;
use super::judge::DIED;
use super::placer::ChunkEnd;

/// Numbers of the situations that every machine has to report.
pub const CASES: [u16; 11] = [40, 41, 42, 44, 45, 46, 47, 48, 49, 50, 51];
/// What a situation is counted as that was not reported.
pub const SILENT: &str = "not reported";

/// Known defects of the dispatcher.
const MUTANTS: &[&str] = &["dispatch-keep-swallow", "dispatch-wrong-rip", "dispatch-always-b2b"];

/// Returns the defects of the dispatcher that a combination has to show: one shows them all, and it is the one
/// whose nested NMIs give runs of their own.
#[must_use]
pub fn mutants(combination: &Combination) -> &'static [&'static str] {
    let Combination { entry, fault_return, nested_return, unmask } = *combination;
    match (entry, fault_return, nested_return, unmask) {
        (NmiEntry::Rostedt, FaultReturn::Iret, NestedReturn::Iret, Unmask::Early) => MUTANTS,
        _ => &[],
    }
}

/// Situations to be staged in one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staging<'a> {
    /// How the dispatcher asks its handlers.
    pub dispatch: Dispatch,
    /// Known defect of the dispatcher; empty for none.
    pub mutant: &'a str,
}

impl Staging<'_> {
    /// Returns the kernel command line.
    #[must_use]
    pub fn command_line(&self, combination: &Combination) -> String {
        let options = Options {
            nmi_entry: combination.entry,
            fault_return: combination.fault_return,
            nested_return: combination.nested_return,
            unmask: combination.unmask,
            dispatch: self.dispatch,
            line: Line::File,
            mutant: self.mutant,
            selftest: "dispatch",
            ..Options::default()
        };
        options.to_string()
    }
}

/// What came of staging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The situations that were reported.
    pub cases: Vec<CaseReport>,
    /// How the machine ended.
    pub end: ChunkEnd,
}

/// A situation that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCase {
    /// Its number; `None` where the machine itself failed.
    pub case: Option<u16>,
    /// What failed.
    pub kinds: Vec<&'static str>,
    /// How the machine ended, if that is what failed.
    pub reason: Option<String>,
}

impl Staged {
    /// Returns what failed: situations by their own account, those that did not arise or were not reported, and
    /// the machine.
    #[must_use]
    pub fn failures(&self) -> Vec<FailedCase> {
        let mut failed: Vec<_> = self.cases.iter().filter_map(failure_of).collect();
        let reported: BTreeSet<u16> = self.cases.iter().map(|report| report.case).collect();
        let silent = CASES.iter().filter(|case| !reported.contains(case));
        failed.extend(silent.map(|case| FailedCase { case: Some(*case), kinds: vec![SILENT], reason: None }));
        if let ChunkEnd::Died(reason) | ChunkEnd::Refused(reason) = &self.end {
            failed.push(FailedCase { case: None, kinds: vec![DIED], reason: Some(reason.clone()) });
        }
        failed
    }
}

fn failure_of(report: &CaseReport) -> Option<FailedCase> {
    let named = Failure::ALL.iter().filter(|(failure, _)| report.failures & failure.bit() != 0);
    let mut kinds: Vec<_> = named.map(|(_, name)| *name).collect();
    let known = Failure::ALL.iter().fold(0, |bits, (failure, _)| bits | failure.bit());
    if report.failures & !known != 0 || (report.hits == 0 && kinds.is_empty()) {
        kinds.push("unknown");
    }
    (!kinds.is_empty()).then_some(FailedCase { case: Some(report.case), kinds, reason: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(change: impl Fn(&mut Vec<CaseReport>), end: ChunkEnd) -> Staged {
        let mut cases: Vec<_> =
            CASES.iter().map(|case| CaseReport { case: *case, hits: 1, ..CaseReport::default() }).collect();
        change(&mut cases);
        Staged { cases, end }
    }

    #[test]
    fn everything_reported_and_right_has_no_failure() {
        assert_eq!(staged(|_| {}, ChunkEnd::Complete).failures(), []);
    }

    #[test]
    fn what_failed_did_not_arise_or_was_not_reported_is_a_failure() {
        let wrong =
            staged(|cases| cases[4].failures = Failure::Dispatch.bit(), ChunkEnd::Complete).failures();
        assert_eq!(wrong, [FailedCase { case: Some(45), kinds: vec!["dispatch"], reason: None }]);
        let idle = staged(|cases| cases[0].hits = 0, ChunkEnd::Complete).failures();
        assert_eq!(idle, [FailedCase { case: Some(40), kinds: vec!["unknown"], reason: None }]);
        let foreign = staged(|cases| cases[0].failures = 1 << 31, ChunkEnd::Complete).failures();
        assert_eq!(foreign[0].kinds, ["unknown"]);
        let silent = staged(|cases| cases.retain(|report| report.case != 41), ChunkEnd::Complete).failures();
        assert_eq!(silent, [FailedCase { case: Some(41), kinds: vec![SILENT], reason: None }]);
    }

    #[test]
    fn a_machine_that_dies_or_refuses_is_a_failure_too() {
        for end in [ChunkEnd::Died("a reset".to_owned()), ChunkEnd::Refused("no".to_owned())] {
            let failed = staged(|_| {}, end).failures();
            assert_eq!((failed.len(), failed[0].case), (1, None));
        }
    }

    #[test]
    fn one_combination_shows_the_defects_and_the_command_line_names_one() {
        let all = Combination::all();
        let showing: Vec<_> = all.iter().filter(|one| !mutants(one).is_empty()).collect();
        assert_eq!(showing.len(), 1);
        let staging = Staging { dispatch: Dispatch::StopEarly, mutant: mutants(showing[0])[0] };
        let text = staging.command_line(showing[0]);
        let options = Options::parse(&text).expect("our own words");
        assert_eq!((options.selftest, options.mutant), ("dispatch", "dispatch-keep-swallow"));
        assert_eq!((options.dispatch, options.unmask), (Dispatch::StopEarly, Unmask::Early));
    }
}
