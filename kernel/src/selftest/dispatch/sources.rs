//! Two sources and one NMI: what is handled, swallowed, unknown and lost.

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::NmiCounters;

use super::{Seen, Source, Stage};
use crate::arch::hold::Place;
use crate::arch::idle;
use crate::nmi::staging::Step;
use crate::session::Session;

/// Ticks of a timer that wakes a waiting CPU.
const WAKE_TICKS: u32 = 300;
/// Turns of a loop that outlasts three timers of [`Step::STRAY_LATER`].
const TURNS: u64 = 20_000;

/// A real overflow together with an IPI.
pub(super) fn sampled(stage: &mut Stage, session: &mut Session) {
    let here = Place::Here.address();
    session.start();
    // Case 49.
    stage.stage(49, "overflow and IPI merged", &[], |stage| {
        let overflows = stage.cpu.nmi.counters.overflows.read();
        stage.raise(&[Source::Overflow, Source::Ipi], Place::Here);
        let both = stage.cpu.nmi.counters.overflows.read() == overflows + 1
            && stage.cpu.nmi.has_unclaimed_self_nmi() != stage.walks_all();
        let wanted = NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() };
        Seen { wanted, hits: if both { stage.ran_at(&[here]) } else { 0 } }
    });
    if !stage.walks_all() {
        unclaimed(stage);
    }
    // Case 44.
    stage.stage(44, "an IPI during an overflow's NMI", &[Step::UNMASK.and(Step::IPI)], |stage| {
        stage.raise(&[Source::Overflow], Place::Here);
        let wanted = if stage.walks_all() {
            NmiCounters { runs: 2, handled: 1, swallowed: 1, back_to_back: 1, ..NmiCounters::default() }
        } else {
            NmiCounters { runs: 2, handled: 2, back_to_back: 1, ..NmiCounters::default() }
        };
        Seen { wanted, hits: stage.ran_at(&[here, here]) }
    });
    session.stop();
}

/// The IPI that stop-early did not look at stays where it is until an NMI has nothing else, or is back-to-back.
fn unclaimed(stage: &mut Stage) {
    let wanted = NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() };
    stage.go_on(49, "the next overflow, elsewhere", &[], |stage| {
        stage.raise(&[Source::Overflow], Place::There);
        let is_left = stage.cpu.nmi.has_unclaimed_self_nmi();
        Seen { wanted, hits: if is_left { stage.ran_at(&[Place::There.address()]) } else { 0 } }
    });
    stage.go_on(49, "a stray NMI gets the IPI's event", &[], |stage| {
        stage.raise(&[Source::Stray], Place::Here);
        let is_left = stage.cpu.nmi.has_unclaimed_self_nmi();
        Seen { wanted, hits: if is_left { 0 } else { stage.ran_at(&[Place::Here.address()]) } }
    });
}

/// Rows of NMIs at one instruction, and what ends them.
pub(super) fn back_to_back(stage: &mut Stage) {
    let (here, there) = (Place::Here.address(), Place::There.address());
    // Case 44. Either mode has one run with two events: the first run, or the second, which asks everybody.
    stage.stage(44, "a row of three", &[Step::UNMASK.and(Step::IPI), Step::EVENT], |stage| {
        stage.raise(&[Source::Deadline], Place::Here);
        let wanted =
            NmiCounters { runs: 3, handled: 2, swallowed: 1, back_to_back: 2, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[here, here, here]) }
    });
    // Case 45: the flag is set, and not used up.
    arm_swallow(stage, 45);
    let strays = [
        ("an empty NMI elsewhere", Place::There, 0),
        ("another one there", Place::There, 1),
        ("and one at the first place", Place::Here, 0),
    ];
    for (name, place, back_to_back) in strays {
        stage.go_on(45, name, &[], |stage| {
            stage.raise(&[Source::Stray], place);
            let wanted = NmiCounters { runs: 1, unknown: 1, back_to_back, ..NmiCounters::default() };
            Seen { wanted, hits: stage.ran_at(&[if place == Place::Here { here } else { there }]) }
        });
    }
    // Case 46.
    stage.stage(46, "an empty NMI after one event", &[Step::UNMASK.and(Step::STRAY)], |stage| {
        stage.raise(&[Source::Deadline], Place::Here);
        let wanted =
            NmiCounters { runs: 2, handled: 1, unknown: 1, back_to_back: 1, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[here, here]) }
    });
}

/// Has two events handled by one run that no further NMI follows: the swallow flag stays set.
fn arm_swallow(stage: &mut Stage, case: u16) {
    let here = Place::Here.address();
    if stage.walks_all() {
        return stage.stage(case, "two events in one NMI", &[], |stage| {
            stage.raise(&[Source::Deadline, Source::Ipi], Place::Here);
            let wanted = NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() };
            Seen { wanted, hits: stage.ran_at(&[here]) }
        });
    }
    // The first run stops at the IPI; the second one, for the IPI's NMI, finds the other two events.
    stage.stage(case, "two events in a back-to-back NMI", &[Step::IPI.and(Step::MERGED_EVENT)], |stage| {
        stage.raise(&[Source::Deadline], Place::Here);
        let wanted = NmiCounters { runs: 2, handled: 2, back_to_back: 1, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[here, here]) }
    });
}

/// Unrelated NMIs at one instruction, where the code stays: case 47.
pub(super) fn waiting(stage: &mut Stage) {
    let here = Place::Here.address();
    // Each NMI comes long after the one before. The first stray one is mistaken, and no other.
    stage.stage(47, "a one-instruction loop", &[Step::STRAY_LATER; 3], |stage| {
        stage.raise_and_stay(&[Source::Ipi, Source::Event], Place::Here, TURNS);
        let wanted = if stage.walks_all() {
            NmiCounters {
                runs: 4,
                handled: 1,
                swallowed: 1,
                unknown: 2,
                back_to_back: 3,
                ..NmiCounters::default()
            }
        } else {
            NmiCounters { runs: 4, handled: 2, unknown: 2, back_to_back: 3, ..NmiCounters::default() }
        };
        Seen { wanted, hits: stage.ran_at(&[here; 4]) }
    });
    let woken = idle::woken_address();
    let step = if stage.walks_all() { Step::MERGED_EVENT } else { Step::IPI.and(Step::MERGED_EVENT) };
    stage.stage(47, "two events wake an idle CPU", &[step], |stage| {
        stage.cpu.nmi.deadline.set(stage.cpu.apic, WAKE_TICKS);
        idle::wait();
        let wanted = if stage.walks_all() {
            NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() }
        } else {
            NmiCounters { runs: 2, handled: 2, back_to_back: 1, ..NmiCounters::default() }
        };
        Seen { wanted, hits: stage.ran_at(&[woken; 2][..usize::from(!stage.walks_all()) + 1]) }
    });
    // The idle loop forgets: else this one would be swallowed.
    stage.stage(47, "a stray NMI wakes it again", &[], |stage| {
        stage.cpu.apic.arm(WAKE_TICKS);
        idle::wait();
        let wanted = NmiCounters { runs: 1, unknown: 1, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[woken]) }
    });
}

/// Unknown NMIs that are lost: the CPU latches one. Case 48.
pub(super) fn lost(stage: &mut Stage) {
    let here = Place::Here.address();
    stage.stage(48, "an unknown NMI merged with a known one", &[], |stage| {
        stage.raise(&[Source::Deadline, Source::Stray], Place::Here);
        let wanted = NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[here]) }
    });
    stage.stage(48, "an unknown NMI after two events", &[Step::STRAY], |stage| {
        stage.raise(&[Source::Ipi, Source::Event], Place::Here);
        let wanted = if stage.walks_all() {
            NmiCounters { runs: 2, handled: 1, swallowed: 1, back_to_back: 1, ..NmiCounters::default() }
        } else {
            NmiCounters { runs: 2, handled: 2, back_to_back: 1, ..NmiCounters::default() }
        };
        Seen { wanted, hits: stage.ran_at(&[here, here]) }
    });
}
