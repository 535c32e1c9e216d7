//! System control port B, and the lists that are asked last. Case 50.

use nmiprof_wire::NmiCounters;

use super::{Seen, Source, Stage};
use crate::arch::hold::Place;
use crate::nmi::control_port::{Looking, staged};

const NONE: NmiCounters = NmiCounters {
    entries: 0,
    runs: 1,
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

/// SERR and IOCHK: acknowledged, and counted once whoever looks.
pub(super) fn reasons(stage: &mut Stage) {
    for (name, serr, io_check) in
        [("SERR", true, false), ("IOCHK", false, true), ("SERR and IOCHK", true, true)]
    {
        let asked = [u32::from(serr), u32::from(io_check)];
        stage.stage(50, name, &[], |stage| {
            staged::raise(serr, io_check);
            stray(stage, NmiCounters { external: 1, ..NONE }, asked)
        });
        stage.stage(50, "and then no more", &[], |stage| {
            stray(stage, NmiCounters { unknown: 1, ..NONE }, [0, 0])
        });
    }
    stage.stage(50, "SERR, claimed by its handler", &[], |stage| {
        staged::raise(true, false);
        stage.cpu.nmi.staging.set_claims(false, true);
        let seen = stray(stage, NmiCounters { handled: 1, ..NONE }, [1, 0]);
        stage.cpu.nmi.staging.set_claims(false, false);
        seen
    });
    busy(stage);
}

/// Somebody else looks at the port while the NMI comes.
fn busy(stage: &mut Stage) {
    stage.stage(50, "SERR, while somebody else looks", &[], |stage| {
        staged::raise(true, false);
        let looking = Looking::try_begin();
        stage.raise(&[Source::Stray], Place::Here);
        let is_held = looking.is_some() && !staged::is_acknowledged();
        drop(looking);
        let wanted = NmiCounters { reason_busy: 1, ..NONE };
        Seen { wanted, hits: if is_held { stage.ran_at(&[Place::Here.address()]) } else { 0 } }
    });
    stage
        .stage(50, "and then nobody", &[], |stage| stray(stage, NmiCounters { external: 1, ..NONE }, [1, 0]));
    stage
        .stage(50, "and then nothing", &[], |stage| stray(stage, NmiCounters { unknown: 1, ..NONE }, [0, 0]));
}

/// What nothing explains may still be claimed.
pub(super) fn unknown_list(stage: &mut Stage) {
    stage.stage(51, "an unknown NMI, claimed by a handler for those", &[], |stage| {
        stage.cpu.nmi.staging.set_claims(true, false);
        let seen = stray(stage, NmiCounters { handled: 1, ..NONE }, [0, 0]);
        stage.cpu.nmi.staging.set_claims(false, false);
        seen
    });
}

/// Raises an NMI that only the port may explain, after which it has to be acknowledged.
fn stray(stage: &Stage, wanted: NmiCounters, asked: [u32; 2]) -> Seen {
    stage.raise(&[Source::Stray], Place::Here);
    let is_right = staged::is_acknowledged() && stage.cpu.nmi.staging.asked() == asked;
    Seen { wanted, hits: if is_right { stage.ran_at(&[Place::Here.address()]) } else { 0 } }
}
