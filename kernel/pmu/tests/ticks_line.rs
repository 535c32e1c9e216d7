//! A line that ticks for all CPUs gives each of them one overflow for each of its periods, whatever else raises NMIs.
//!
//! Method: a CPU is simulated on which the line's NMIs arrive with some latency, others arrive at any time, the handler
//! takes its time, and NMIs that arrive meanwhile are latched, once. The dispatcher does what the kernel's does: a
//! handled NMI, a swallowed one, a late one, or an unknown one. What the line really did is known and compared. proptest
//! prints the seed of a failure.

use std::cell::Cell;

use nmiprof_pmu::ticks::{Phase, Rhythm};
use nmiprof_pmu::timer::Overflow;
use nmiprof_pmu::{TickClock, TickPmu};
use proptest::prelude::*;

const PERIOD: u64 = 10_000;
/// Longest way of the line's NMI to the CPU.
const LATENCY_MAX: u64 = 150;
/// So long a late NMI is expected: as long as that way, and some runs of the handler that mask it.
const LATE_MAX: u64 = 400;
/// Longest run of the handler beside others.
const HANDLER_MAX: u64 = 40;

/// The time of the simulation.
struct Clock(Cell<u64>);

impl TickClock for &Clock {
    fn bits(&self) -> u32 {
        u64::BITS
    }
    fn now(&self) -> u64 {
        self.0.get()
    }
}

/// Who raises an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raised {
    Line,
    /// Somebody who has a handler.
    Known,
    /// Somebody who has none.
    Unknown,
}

/// What a run came to.
#[derive(Debug, Default)]
struct Outcome {
    overflows: u64,
    missed: u64,
    unknown: u64,
}

/// Delivers NMIs, sorted by time, to a CPU whose handler takes so long.
fn run(phase: Phase, nmis: &[(u64, Raised)], handler: u64) -> Outcome {
    let clock = Clock(Cell::new(0));
    let rhythm = Rhythm { period: PERIOD, phase, late_max: LATE_MAX, ticks_per_overflow: 1 };
    let mut pmu = TickPmu::new(&clock, rhythm, PERIOD);
    let (mut outcome, mut swallow, mut rest) = (Outcome::default(), false, nmis);
    let mut free_at = 0;
    while let Some((time, _)) = rest.first() {
        let is_latched = *time < free_at;
        clock.0.set((*time).max(free_at));
        // All that came while NMIs were masked is one NMI.
        let merged = rest.iter().take_while(|(time, _)| *time <= clock.0.get()).count();
        let (raised, later) = rest.split_at(merged);
        swallow &= is_latched;
        let is_tick = pmu.poll() == Overflow::Complete;
        outcome.overflows += u64::from(is_tick);
        let handled = u32::from(is_tick) + u32::from(raised.iter().any(|nmi| nmi.1 == Raised::Known));
        if handled > 1 {
            swallow = true;
        } else if handled == 0 && swallow {
            swallow = false;
            pmu.late_was_explained();
        } else if handled == 0 && !pmu.claims_late() {
            outcome.unknown += 1;
        }
        (free_at, rest) = (clock.0.get() + handler, later);
    }
    outcome.missed = pmu.missed();
    outcome
}

/// Places the ticks of a line whose period is that of another clock, some parts in ten thousand off, and other NMIs.
fn nmis(ticks: u64, off_per_myriad: i64, latencies: &[u64], others: &[(u64, Raised)]) -> Vec<(u64, Raised)> {
    let period = PERIOD.checked_add_signed(PERIOD.cast_signed() * off_per_myriad / 10_000).expect("near");
    let line = (1..=ticks).zip(latencies.iter().cycle());
    let line = line.map(|(tick, latency)| (tick * period + latency, Raised::Line));
    let mut all: Vec<_> = line.chain(others.iter().copied()).collect();
    all.sort_by_key(|nmi| nmi.0);
    all
}

const TICKS: u64 = 300;

fn others(raised: Vec<Raised>) -> impl Strategy<Value = Vec<(u64, Raised)>> {
    prop::collection::vec((0..TICKS * PERIOD, prop::sample::select(raised)), 0..400)
}

fn phases() -> impl Strategy<Value = (Phase, i64)> {
    // The clock of an exact phase is the line's own.
    prop_oneof![Just((Phase::Exact, 0)), (-2..=2_i64).prop_map(|off| (Phase::Followed, off))]
}

fn latencies() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0..LATENCY_MAX, 1..50)
}

proptest! {
    #[test]
    fn without_others_each_tick_is_an_overflow_and_each_nmi_has_an_owner(
        (phase, off) in phases(), latencies in latencies(), handler in 1..PERIOD * 2 / 5,
    ) {
        let outcome = run(phase, &nmis(TICKS, off, &latencies, &[]), handler);
        prop_assert_eq!((outcome.overflows, outcome.missed, outcome.unknown), (TICKS, 0, 0));
    }

    #[test]
    fn known_others_change_no_number_of_overflows_and_leave_no_nmi_unexplained(
        (phase, off) in phases(), latencies in latencies(), handler in 1..HANDLER_MAX,
        others in others(vec![Raised::Known]),
    ) {
        let outcome = run(phase, &nmis(TICKS, off, &latencies, &others), handler);
        let periods = outcome.overflows + outcome.missed;
        prop_assert!(periods.abs_diff(TICKS) <= 1, "{outcome:?}");
        prop_assert_eq!(outcome.missed, 0);
        prop_assert_eq!(outcome.unknown, 0);
    }

    #[test]
    fn unknown_others_change_no_number_of_overflows(
        (phase, off) in phases(), latencies in latencies(), handler in 1..HANDLER_MAX,
        others in others(vec![Raised::Known, Raised::Unknown]),
    ) {
        let outcome = run(phase, &nmis(TICKS, off, &latencies, &others), handler);
        prop_assert!((outcome.overflows + outcome.missed).abs_diff(TICKS) <= 1, "{outcome:?}");
        prop_assert!(outcome.unknown <= others.len() as u64, "{outcome:?}");
    }

    #[test]
    fn a_handler_longer_than_the_period_lets_ticks_merge_and_counts_them(
        latencies in latencies(), handler in PERIOD..PERIOD * 20,
    ) {
        let outcome = run(Phase::Exact, &nmis(TICKS, 0, &latencies, &[]), handler);
        let periods = outcome.overflows + outcome.missed;
        // After the last NMI of the line nobody looks at the clock.
        prop_assert!(periods >= TICKS && periods <= TICKS + handler / PERIOD + 1, "{outcome:?}");
        prop_assert!(outcome.missed > 0 || handler < 2 * PERIOD, "{outcome:?}");
    }
}
