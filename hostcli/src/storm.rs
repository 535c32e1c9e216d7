//! The storm, seen from the host: random nestings in one machine for each form of an NMI entry.
//!
//! The kernel provokes, checks and counts; this boots it, adds up its reports, and judges whether what was to be
//! provoked did arise. The JSON form of an [`Outcome`] is a contract: add names, never rename.

use std::collections::BTreeMap;
use std::time::Duration;

use nmiprof_wire::{CaseReport, Failure, FatalCause, FaultReturn, Line, Options, Placement, Unmask};
use serde::Serialize;

use crate::capture::Record;
use crate::machine::{Boot, Ending, MachineConfig, Observer, Program, Progress, boot};
use crate::sweep::Combination;
use crate::sweep::placer::PlaceError;

/// Nestings of a storm unless the user says otherwise.
pub const NESTINGS: u32 = 1_000_000;
/// Wall time of a machine that has nothing to do, or nothing but the exits with an NMI pending.
const LIMIT_BASE: Duration = Duration::from_secs(60);
/// Wall time of a thousand nestings: ten times what they take on a busy host.
const LIMIT_PER_THOUSAND: Duration = Duration::from_millis(200);

/// Numbers of the reports, as `tests/CASES.md` has them.
const PENDING_AT_EXIT: u16 = 11;
const RANDOM_NESTINGS: u16 = 15;
const NMI_IN_BREAKPOINT: u16 = 25;
const TWO_SOURCES_MERGED: u16 = 49;

/// A storm to be run on each of some combinations.
#[derive(Clone, Copy, Debug)]
pub struct Storm<'a> {
    /// The QEMU to use.
    pub program: &'a Program,
    /// The image to boot.
    pub image: &'static [u8],
    /// The same one gives the same storm.
    pub seed: u32,
    /// Nested arrivals after which it ends.
    pub nestings: u32,
}

/// What came of the storm on one combination.
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
    /// Whether NMIs can nest in this form.
    pub nests: bool,
    /// The seed.
    pub seed: u32,
    /// Nested arrivals that were asked for.
    pub nestings_asked: u32,
    /// Nested arrivals.
    pub nestings: u64,
    /// Arrivals.
    pub arrivals: u64,
    /// Runs of the handler.
    pub runs: u64,
    /// Bursts, and runs with an NMI pending at every exit, that failed in any way.
    pub failures: u64,
    /// The same by kind.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// Deepest use of an NMI stack, in bytes from its top to the deepest word written.
    pub stack_bytes_max: u32,
    /// Breakpoints in whose handler an NMI arrived: at least so many.
    pub breakpoints_hit: u64,
    /// Runs that found the events of two sources in one NMI.
    pub merged_runs: u64,
    /// Runs with an NMI pending at every exit.
    pub pending: Vec<Pending>,
    /// Why there is no result, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_result: Option<String>,
}

/// A run with an NMI pending at every exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pending {
    /// Exits of the handler.
    pub exits: u64,
    /// Those after which the interrupted code got nowhere, because the next NMI was there.
    pub back_to_back: u64,
    /// Deepest use of an NMI stack, in bytes.
    pub stack_bytes: u32,
}

impl Storm<'_> {
    /// Boots a machine, and tells `on_progress` the nestings so far as they come.
    ///
    /// # Errors
    /// [`PlaceError`] where there was no machine to judge by: that is the host's fault.
    pub fn run(&self, combination: &Combination, on_progress: &dyn Fn(u32)) -> Result<Outcome, PlaceError> {
        let directory = tempfile::tempdir()?;
        let config = MachineConfig {
            kernel_command_line: self.options(combination).to_string(),
            limit: LIMIT_BASE + LIMIT_PER_THOUSAND * self.nestings.div_ceil(1000),
            ..MachineConfig::new(self.image, directory.path().join("line"))
        };
        let boot = boot(self.program, &config, &mut Reporter(on_progress))?;
        Ok(Outcome { no_result: no_result(&boot)?, ..self.outcome(combination, &boot.record) })
    }

    fn options(&self, combination: &Combination) -> Options<'static> {
        let Combination { entry: nmi_entry, fault_return, nested_return, unmask } = *combination;
        Options {
            nmi_entry,
            fault_return,
            nested_return,
            unmask,
            line: Line::File,
            sweep_first: self.seed,
            sweep_last: self.nestings,
            selftest: "storm",
            ..Options::default()
        }
    }

    fn outcome(&self, combination: &Combination, record: &Record) -> Outcome {
        let messages = record.messages();
        let of = |number: u16| messages.cases().iter().filter(move |case| case.case == number);
        let hits = |number: u16| of(number).map(|case| case.hits).sum();
        let storm = of(RANDOM_NESTINGS).next().copied().unwrap_or_default();
        let failures = failures(messages.placements(), of(PENDING_AT_EXIT));
        Outcome {
            entry: combination.entry.name(),
            fault_return: combination.fault_return.name(),
            nested_return: combination.nested_return.name(),
            unmask: combination.unmask.name(),
            nests: nests(combination),
            seed: self.seed,
            nestings_asked: self.nestings,
            nestings: storm.nested,
            arrivals: storm.arrivals,
            runs: storm.runs,
            failures: failures.iter().filter(|bits| **bits != 0).count() as u64,
            failures_by_kind: by_kind(&failures),
            stack_bytes_max: messages.cases().iter().map(|case| case.stack_bytes).max().unwrap_or_default(),
            breakpoints_hit: hits(NMI_IN_BREAKPOINT),
            merged_runs: hits(TWO_SOURCES_MERGED),
            pending: of(PENDING_AT_EXIT).map(Pending::from).collect(),
            no_result: None,
        }
    }
}

impl Outcome {
    /// Tells whether nothing failed, and everything that was to be provoked did arise.
    #[must_use]
    pub fn is_as_claimed(&self) -> bool {
        let is_clean = self.no_result.is_none() && self.failures == 0 && self.runs > 0;
        is_clean && self.arose() && self.pending_is_bounded()
    }

    fn arose(&self) -> bool {
        if self.nests {
            let enough = self.nestings >= u64::from(self.nestings_asked);
            return enough && self.breakpoints_hit > 0 && self.merged_runs > 0;
        }
        self.nestings == 0 && self.merged_runs > 0
    }

    /// Tells whether NMIs were pending at every exit, and many use no more stack than a few.
    fn pending_is_bounded(&self) -> bool {
        let [few, .., many] = self.pending[..] else { return false };
        let all_pending = self.pending.iter().all(|run| run.back_to_back + 1 >= run.exits);
        all_pending && few.exits < many.exits && few.stack_bytes == many.stack_bytes
    }
}

impl From<&CaseReport> for Pending {
    fn from(report: &CaseReport) -> Self {
        Self { exits: report.runs, back_to_back: report.hits, stack_bytes: report.stack_bytes }
    }
}

/// Tells whether anything unmasks NMIs inside an NMI.
fn nests(combination: &Combination) -> bool {
    combination.fault_return == FaultReturn::Iret || combination.unmask == Unmask::Early
}

/// Returns what each report said that did not hold.
fn failures<'a>(placements: &[Placement], pending: impl Iterator<Item = &'a CaseReport>) -> Vec<u32> {
    let bursts = placements.iter().map(|placement| placement.failures);
    bursts.chain(pending.map(|run| run.failures)).collect()
}

fn by_kind(failures: &[u32]) -> BTreeMap<&'static str, u64> {
    let count = |kind: Failure| failures.iter().filter(|bits| **bits & kind.bit() != 0).count() as u64;
    let kinds = Failure::ALL.into_iter().map(|(kind, name)| (name, count(kind)));
    kinds.filter(|(_, count)| *count > 0).collect()
}

/// Says why a machine has no result; an error where that is the host's fault.
fn no_result(boot: &Boot) -> Result<Option<String>, PlaceError> {
    let says = boot.ending.to_string();
    match &boot.ending {
        Ending::Completed => Ok(None),
        Ending::Fatal(report) if report.cause == FatalCause::Configuration => {
            Ok(Some(format!("not built: {says}")))
        }
        Ending::Fatal(_)
        | Ending::Speechless(_)
        | Ending::Unfinished
        | Ending::Reset
        | Ending::Hang { .. } => Ok(Some(format!("the machine died: {says}"))),
        Ending::NoExitDevice | Ending::Interrupted | Ending::QemuFailed(_) => Err(PlaceError::Machine {
            says,
            stderr: boot.stderr.clone(),
            command: boot.command_line.to_string(),
        }),
    }
}

/// Tells the nestings so far.
struct Reporter<'a>(&'a dyn Fn(u32));

impl Observer for Reporter<'_> {
    fn progress(&mut self, progress: &Progress<'_>) {
        // A report's `ticks` are the nestings so far.
        self.0(progress.record.messages().placements().last().map_or(0, |report| report.ticks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(exits: u64, stack_bytes: u32) -> Pending {
        Pending { exits, back_to_back: exits - 1, stack_bytes }
    }

    fn clean() -> Outcome {
        Outcome {
            entry: "rostedt",
            fault_return: "iret",
            nested_return: "iret",
            unmask: "fault",
            nests: true,
            seed: 1,
            nestings_asked: 10,
            nestings: 10,
            arrivals: 30,
            runs: 12,
            failures: 0,
            failures_by_kind: BTreeMap::new(),
            stack_bytes_max: 600,
            breakpoints_hit: 1,
            merged_runs: 1,
            pending: vec![pending(101, 560), pending(100_001, 560)],
            no_result: None,
        }
    }

    #[test]
    fn a_storm_is_good_only_if_everything_arose_and_nothing_failed() {
        assert!(clean().is_as_claimed());
        let calm = Outcome { nests: false, nestings: 0, breakpoints_hit: 0, ..clean() };
        assert!(calm.is_as_claimed());
        for bad in [
            Outcome { nestings: 9, ..clean() },
            Outcome { breakpoints_hit: 0, ..clean() },
            Outcome { merged_runs: 0, ..clean() },
            Outcome { failures: 1, ..clean() },
            Outcome { runs: 0, ..clean() },
            Outcome { no_result: Some("so".to_owned()), ..clean() },
            Outcome { nestings: 1, ..calm },
        ] {
            assert!(!bad.is_as_claimed(), "{bad:?}");
        }
    }

    #[test]
    fn exits_without_a_pending_nmi_and_a_growing_stack_are_found() {
        let idle = Pending { back_to_back: 99_999, ..pending(100_001, 560) };
        for runs in [
            vec![],
            vec![pending(101, 560)],
            vec![pending(101, 560), pending(100_001, 568)],
            vec![pending(101, 560), idle],
            vec![pending(101, 560), pending(101, 560)],
        ] {
            assert!(!Outcome { pending: runs, ..clean() }.is_as_claimed());
        }
    }

    #[test]
    fn failures_are_counted_by_kind() {
        let bits = [0, Failure::Once.bit(), Failure::Once.bit() | Failure::Cr2.bit()];
        assert_eq!(by_kind(&bits), BTreeMap::from([("NMI-once", 2), ("CR2", 1)]));
    }
}
