//! NMIs where a kernel is vulnerable: waiting, loading its tables, sending; and an NMI that is none.

use alloc::collections::BTreeSet;

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::{NmiCounters, NmiEntry};

use super::{Seen, Stage};
use crate::arch::reload::{self, Tables};
use crate::arch::{idle, raise};
use crate::info;
use crate::nmi::staging::Step;

/// Ticks up to which a timer lands before, in or just after the code that it is aimed at.
const WAIT_TICKS_MAX: u32 = 30;
const RELOAD_TICKS_MAX: u32 = 250;
/// Ticks between NMIs while a frame is sent: no longer than a few bytes take.
const RAIN_TICKS: u32 = 701;
/// Frames sent meanwhile.
const RAIN_FRAMES: u32 = 16;
/// NMIs meanwhile, at least.
const RAIN_NMIS_MIN: u64 = 64;

/// `sti; hlt`: case 40.
pub(super) fn waking(stage: &mut Stage) {
    let woken = idle::woken_address();
    stage.stage(40, "an NMI wakes an idle CPU", &[], |stage| {
        stage.cpu.nmi.deadline.set(stage.cpu.apic, 1000);
        idle::wait();
        let wanted = NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[woken]) }
    });
    stage.stage(40, "an NMI around `sti; hlt`", &[], |stage| {
        let hits = (1..=WAIT_TICKS_MAX).map(|ticks| wait_around(stage, ticks)).sum::<Option<u64>>();
        let runs = 2 * u64::from(WAIT_TICKS_MAX);
        let wanted = NmiCounters { runs, unknown: runs, ..NmiCounters::default() };
        Seen { wanted, hits: hits.unwrap_or_default() }
    });
}

/// Waits with an NMI so many ticks later, and a second one that wakes the CPU if that one was too early.
///
/// Returns 1 if it came right at the `hlt`, 0 if it came elsewhere, and nothing if the wrong one woke the CPU.
fn wait_around(stage: &Stage, ticks: u32) -> Option<u64> {
    let cpu = stage.cpu;
    cpu.nmi.forget_last_rip();
    cpu.nmi.staging.begin(&[Step::STRAY_LATER]);
    cpu.apic.arm(ticks);
    idle::wait();
    stage.wait_for_timer();
    let [first, second, ..] = cpu.nmi.staging.rips();
    let (hlt, woken) = (idle::hlt_address(), idle::woken_address());
    let is_early = first != woken;
    (is_early == (second == woken)).then_some(u64::from(first == hlt))
}

/// GDT, segments, task register and IDT: case 41.
pub(super) fn reloading(stage: &mut Stage) {
    let mut tables = Tables::copy();
    stage.stage(41, "an NMI while the descriptor tables are loaded", &[], |stage| {
        let mut places = BTreeSet::new();
        for ticks in 1..=RELOAD_TICKS_MAX {
            let cpu = stage.cpu;
            cpu.nmi.forget_last_rip();
            cpu.nmi.staging.begin(&[]);
            cpu.nmi.deadline.set(cpu.apic, ticks);
            tables.reload();
            stage.wait_for_timer();
            places.insert(cpu.nmi.staging.rips()[0]);
        }
        let inside = places.range(Tables::code()).count() as u64;
        let runs = u64::from(RELOAD_TICKS_MAX);
        let wanted = NmiCounters { runs, handled: runs, ..NmiCounters::default() };
        Seen { wanted, hits: if inside == reload::INSTRUCTIONS { inside } else { 0 } }
    });
}

/// `int $2`: case 42.
///
/// Its gate is for the kernel only, and the kernel does this nowhere else: the first instructions of the entries rely
/// on the mask that the CPU sets for a real NMI, so one that came right there would not be survived.
pub(super) fn software_nmi(stage: &mut Stage) {
    stage.stage(42, "`int $2` has no event", &[], |stage| {
        let next = raise::software_nmi();
        let wanted = NmiCounters { runs: 1, unknown: 1, ..NmiCounters::default() };
        Seen { wanted, hits: stage.ran_at(&[next]) }
    });
    stage.stage(42, "an NMI right after it", &[], |stage| {
        stage.cpu.nmi.send_self_nmi(stage.cpu.apic);
        let wanted = NmiCounters { runs: 1, handled: 1, ..NmiCounters::default() };
        Seen { wanted, hits: u64::from(stage.cpu.nmi.staging.runs()) }
    });
    if stage.entry == NmiEntry::Naive {
        return info!("case 42: an NMI inside `int $2` nests, which the naive entry can't bear: left out");
    }
    // It is not masked: the NMI nests at once, whatever the combination, and its run follows.
    stage.stage(42, "an NMI inside `int $2`", &[Step::IPI], |stage| {
        let nested = stage.cpu.nmi.snapshot().nested;
        let next = raise::software_nmi();
        let is_nested = stage.cpu.nmi.snapshot().nested == nested + 1;
        let wanted =
            NmiCounters { runs: 2, handled: 1, unknown: 1, back_to_back: 1, ..NmiCounters::default() };
        Seen { wanted, hits: if is_nested { stage.ran_at(&[next, next]) } else { 0 } }
    });
}

/// NMIs while a frame is encoded and sent, with the line's lock held: case 41.
pub(super) fn sending(stage: &mut Stage) {
    stage.stage(41, "NMIs while a frame is sent", &[], |stage| {
        let nmi = &stage.cpu.nmi;
        let back_to_back = nmi.counters.back_to_back.read();
        (1..=RAIN_FRAMES).for_each(|frame| send_in_rain(stage, frame));
        let runs = u64::from(nmi.staging.runs());
        // Polling the UART is a loop: some of them find the same instruction.
        let back_to_back = nmi.counters.back_to_back.read() - back_to_back;
        let wanted = NmiCounters { runs, unknown: runs, back_to_back, ..NmiCounters::default() };
        Seen { wanted, hits: if runs >= RAIN_NMIS_MIN { runs } else { 0 } }
    });
}

/// Sends a line while NMIs come; the first one a little later each time.
fn send_in_rain(stage: &Stage, frame: u32) {
    let (staging, apic) = (&stage.cpu.nmi.staging, stage.cpu.apic);
    staging.set_rain(RAIN_TICKS);
    apic.arm(RAIN_TICKS / RAIN_FRAMES * frame);
    info!("case 41: line {frame} of {RAIN_FRAMES} that are sent while NMIs come, and are whole all the same");
    staging.set_rain(0);
    stage.wait_for_timer();
}
