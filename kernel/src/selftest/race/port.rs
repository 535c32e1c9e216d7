//! Case 50: two CPUs with an NMI that nobody explains, while the chipset reports one SERR.
//!
//! One of them reads and acknowledges it. The other one finds the port busy, or comes after that and finds nothing.

use nmiprof_wire::{Failure, NmiCounters};

use super::{Arena, say, send};
use crate::nmi::control_port::staged;
use crate::selftest::turnstile::{self, Gate, Orders};

/// Races in every order.
pub(super) fn run(arena: &Arena) {
    let mut orders = Orders::new();
    let (mut busy, mut unknown, mut wrong) = (0, 0, 0_u64);
    loop {
        let seen = race(arena, &mut orders);
        busy += seen.reason_busy;
        unknown += seen.unknown;
        wrong += u64::from(
            !staged::is_acknowledged()
                || (seen.runs, seen.external, seen.reason_busy + seen.unknown) != (2, 1, 1),
        );
        if !orders.advance() {
            break;
        }
    }
    let holds = wrong == 0 && busy > 0 && unknown > 0;
    let failures = if holds { 0 } else { Failure::Dispatch.bit() };
    let text = format_args!("handled once in all but {wrong}; {busy} found it busy, {unknown} found nothing");
    say(50, "SERR, by two CPUs", orders.races(), text, failures);
    send(50, orders.races(), failures);
}

/// Returns what both CPUs have counted.
fn race(arena: &Arena, orders: &mut Orders) -> NmiCounters {
    staged::raise(true, false);
    let before = arena.counts();
    turnstile::close(Gate::Port);
    for cpu in arena.cpus {
        cpu.nmi.forget_last_rip();
        turnstile::begin(cpu, |cpu| {
            turnstile::touch_in_next_nmi(cpu.index, 0, 0, 0, true);
            cpu.apic.send_nmi(cpu.apic_id);
        });
    }
    orders.lead();
    turnstile::open();
    let mut sum = NmiCounters::default();
    for (after, before) in arena.counts().iter().zip(&before) {
        sum.runs += after.runs - before.runs;
        sum.external += after.external - before.external;
        sum.reason_busy += after.reason_busy - before.reason_busy;
        sum.unknown += after.unknown - before.unknown;
    }
    sum
}
