//! IPIs of another CPU: case 49.
//!
//! The message and its NMI are two things. They may share an NMI with an overflow; or the message is found by an NMI that
//! was about something else, and then its own finds nothing: it is late, and no unknown one, once and for a while.

use nmiprof_wire::NmiCounters;

use super::{Seen, Source, Stage};
use crate::arch::cpu;
use crate::arch::hold::Place;
use crate::nmi::mailbox::LATE_TICKS;
use crate::session::Session;

/// Longer than an NMI may be late.
const EXPIRY_TICKS: u64 = LATE_TICKS + LATE_TICKS / 16;
/// Period of an overflow that is waited for with NMIs held.
const PERIOD_TICKS: u64 = 1_000_000;

const HANDLED: NmiCounters = NmiCounters { runs: 1, handled: 1, ..NONE };
const UNKNOWN: NmiCounters = NmiCounters { runs: 1, unknown: 1, ..NONE };
const NONE: NmiCounters = NmiCounters {
    entries: 0,
    runs: 0,
    nested: 0,
    rerun: 0,
    handled: 0,
    swallowed: 0,
    unknown: 0,
    external: 0,
    reason_busy: 0,
    back_to_back: 0,
    page_faults: 0,
    first_touches: 0,
    space_syncs: 0,
    other_faults: 0,
    halts: 0,
};

/// A real overflow together with another CPU's IPI.
pub(super) fn merged(stage: &mut Stage, session: &mut Session) {
    session.start();
    stage.stage(49, "an overflow and another CPU's IPI merged", &[], |stage| {
        let overflows = stage.cpu.nmi.counters.overflows.read();
        let seen = one(stage, &[Source::Overflow, Source::Afar], Place::Here, HANDLED);
        let both = stage.cpu.nmi.counters.overflows.read() == overflows + 1
            && stage.cpu.nmi.has_unclaimed_self_nmi() != stage.walks_all();
        Seen { hits: if both { seen.hits } else { 0 }, ..seen }
    });
    if !stage.walks_all() {
        stage.go_on(49, "a stray NMI gets its event", &[], |stage| {
            one(stage, &[Source::Stray], Place::There, HANDLED)
        });
    }
    session.stop();
}

/// IPIs whose messages are found before they come. Stop-early never finds a message beside an overflow.
pub(super) fn late(stage: &mut Stage, session: &mut Session) {
    // Nothing of what has been is late any more.
    wait();
    stage.stage(49, "an IPI", &[], |stage| one(stage, &[Source::Afar], Place::Here, HANDLED));
    stray(stage, "a stray NMI after it", UNKNOWN);
    if stage.walks_all() {
        found_early(stage, session);
        in_the_row(stage, session);
    }
    two_in_one(stage);
}

/// An overflow finds the message, and the NMI comes later.
fn found_early(stage: &mut Stage, session: &mut Session) {
    find(stage, session);
    come(stage, "its NMI, late", Place::There, HANDLED);
    stray(stage, "and a stray one", UNKNOWN);
    find(stage, session);
    stage.go_on(49, "an NMI of this CPU", &[], |stage| one(stage, &[Source::Ipi], Place::There, HANDLED));
    come(stage, "the IPI's NMI, after that", Place::Here, HANDLED);
    find(stage, session);
    wait();
    come(stage, "its NMI, far too late", Place::There, UNKNOWN);
}

/// The NMI comes at once, in the row of the overflow, which explains it. There is none to come then.
fn in_the_row(stage: &mut Stage, session: &mut Session) {
    find(stage, session);
    let wanted = NmiCounters { runs: 1, swallowed: 1, back_to_back: 1, ..NONE };
    come(stage, "its NMI at the same instruction", Place::Here, wanted);
    stray(stage, "and a stray one", UNKNOWN);
}

/// Two messages of one kind, and two NMIs that are apart.
fn two_in_one(stage: &mut Stage) {
    stage.stage(49, "an IPI that finds the message of the next one", &[], |stage| {
        one(stage, &[Source::Afar, Source::MessageFromAfar], Place::Here, HANDLED)
    });
    come(stage, "the next one, late", Place::There, HANDLED);
    stray(stage, "and a stray one after both", UNKNOWN);
}

/// Lets an overflow find the message of an IPI that has not come.
fn find(stage: &mut Stage, session: &mut Session) {
    session.sample(PERIOD_TICKS, || {
        stage.stage(49, "an overflow that finds the message of an IPI", &[], |stage| {
            let seen = one(stage, &[Source::MessageFromAfar, Source::Overflow], Place::Here, HANDLED);
            let is_found = !stage.cpu.nmi.has_unclaimed_self_nmi();
            Seen { hits: if is_found { seen.hits } else { 0 }, ..seen }
        });
    });
}

/// Lets an IPI come whose message is gone.
fn come(stage: &mut Stage, name: &str, place: Place, wanted: NmiCounters) {
    stage.go_on(49, name, &[], |stage| one(stage, &[Source::NmiFromAfar], place, wanted));
}

fn stray(stage: &mut Stage, name: &str, wanted: NmiCounters) {
    stage.stage(49, name, &[], |stage| one(stage, &[Source::Stray], Place::Here, wanted));
}

/// Raises one NMI at a place.
fn one(stage: &Stage, sources: &[Source], place: Place, wanted: NmiCounters) -> Seen {
    stage.raise(sources, place);
    Seen { wanted, hits: stage.ran_at(&[place.address()]) }
}

fn wait() {
    let begin = cpu::timestamp();
    while cpu::timestamp().wrapping_sub(begin) < EXPIRY_TICKS {
        cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
    }
}
