//! NMIs that come when no counter has overflowed: cases 52 and 55.
//!
//! On AMD such an NMI may be that of an overflow which was handled together with another one: it is claimed, once for
//! each overflow and for 100 ms. A PMU of Intel's has no late NMIs, and claims none. The command line gives the first
//! event a period of [`PERIOD_TICKS`], and a second event, which makes late NMIs possible, one that never ends.

use nmiprof_wire::NmiCounters;

use super::{Seen, Source, Stage};
use crate::arch::cpu;
use crate::arch::hold::Place;
use crate::session::Session;

/// Period of the event that overflows: longer than [`EXPIRY_TICKS`].
const PERIOD_TICKS: u64 = 200_000_000;
/// Longer than a claim lasts, on a clock of 1 GHz.
const EXPIRY_TICKS: u64 = 130_000_000;

/// The part of a period in which NMIs are held.
const HELD_TICKS: u64 = 2_000_000;

const HANDLED: NmiCounters = outcome(1, 0);
const UNKNOWN: NmiCounters = outcome(0, 1);

/// Raises stray NMIs soon and late after overflows.
pub(super) fn claims(stage: &mut Stage, session: &mut Session, is_amd: bool) {
    session.start();
    let late = if is_amd { HANDLED } else { UNKNOWN };
    // What the tests of the counters may have been late with has expired by then.
    wait(EXPIRY_TICKS);
    stage.stage(55, "an NMI before any overflow", &[], |stage| stray(stage, Place::There, UNKNOWN));
    overflow(stage, PERIOD_TICKS - EXPIRY_TICKS);
    stage.go_on(52, "an empty NMI soon after it", &[], |stage| stray(stage, Place::There, late));
    stage.go_on(52, "and one more", &[], |stage| stray(stage, Place::Here, UNKNOWN));
    overflow(stage, PERIOD_TICKS);
    wait(EXPIRY_TICKS);
    stage.go_on(52, "an empty NMI long after it", &[], |stage| stray(stage, Place::There, UNKNOWN));
    session.stop();
}

/// Waits for the end of a period, of which so much is left, with NMIs held for the last part of it.
fn overflow(stage: &mut Stage, left_ticks: u64) {
    wait(left_ticks - HELD_TICKS);
    stage.stage(52, "an overflow", &[], |stage| {
        stage.raise(&[Source::Overflow], Place::Here);
        Seen { wanted: HANDLED, hits: stage.ran_at(&[Place::Here.address()]) }
    });
}

fn stray(stage: &Stage, place: Place, wanted: NmiCounters) -> Seen {
    stage.raise(&[Source::Stray], place);
    Seen { wanted, hits: stage.ran_at(&[place.address()]) }
}

fn wait(ticks: u64) {
    let begin = cpu::timestamp();
    while cpu::timestamp().wrapping_sub(begin) < ticks {
        // A look at the clock costs an emulator far more than these instructions.
        cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
    }
}

const fn outcome(handled: u64, unknown: u64) -> NmiCounters {
    NmiCounters {
        entries: 0,
        runs: 1,
        nested: 0,
        rerun: 0,
        handled,
        swallowed: 0,
        unknown,
        external: 0,
        reason_busy: 0,
        back_to_back: 0,
        page_faults: 0,
        first_touches: 0,
        space_syncs: 0,
        other_faults: 0,
        halts: 0,
    }
}
