//! Staged situations for the dispatcher: each NMI is raised at a known instruction, and has one right outcome.
//!
//! Method: NMIs are [held](crate::arch::hold) until everything that is to share one is pending, and let go at a known
//! instruction. What is to happen while a run of the handler looks around is [staged](crate::nmi::staging) before. Then
//! the counters are compared with what the situation allows, and the addresses that the runs interrupted with those
//! that were meant: a situation that did not arise is a failure.
//!
//! One [`Frame::Case`] for each situation; the log has its name and counters. `hits` are the NMIs that came where
//! they were meant to.

mod afar;
mod entry;
mod late;
mod port;
mod sources;

use alloc::boxed::Box;
use core::hint::spin_loop;

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::{CaseReport, Dispatch, Failure, Frame, NmiCounters, NmiEntry, Options, PmuChoice};

use crate::arch::hold::{Hold, Place};
use crate::arch::percpu::{self, PerCpu};
use crate::nmi::mailbox::Message;
use crate::nmi::staging::{RUNS_MAX, Step};
use crate::session::Session;
use crate::{info, report, smp, stream};

/// The CPU that sends IPIs.
const OTHER_CPU: u16 = 1;
/// Ticks of a second, about: for how long it may take to wake it.
const TICKS_PER_SECOND: u64 = 1 << 30;
/// Ticks of a deadline that passes while NMIs are held.
const SOON_TICKS: u32 = 20;
/// Polls after which a timer is taken for stopped: more than the longest period here.
const POLLS_MAX: u32 = 1 << 24;

/// Stages every situation, and sends what came of each.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu, session: &mut Session) {
    let mut stage = Stage { cpu, mode: options.dispatch, entry: options.nmi_entry, staged: 0, failed: 0 };
    sources::sampled(&mut stage, session);
    stage.take_timer();
    sources::back_to_back(&mut stage);
    sources::waiting(&mut stage);
    sources::lost(&mut stage);
    port::reasons(&mut stage);
    port::unknown_list(&mut stage);
    entry::waking(&mut stage);
    entry::reloading(&mut stage);
    entry::software_nmi(&mut stage);
    entry::sending(&mut stage);
    cpu.apic.mask_timer();
    cpu.nmi.staging.end();
    info!("dispatch: {} situations, {} with failures", stage.staged, stage.failed);
}

/// Stages NMIs that come late, or seem to, and sends what came of each.
pub fn run_late(options: &Options<'_>, cpu: &'static PerCpu, session: &mut Session) {
    let mut stage = Stage { cpu, mode: options.dispatch, entry: options.nmi_entry, staged: 0, failed: 0 };
    late::claims(&mut stage, session, options.pmu == PmuChoice::ModelAmd);
    cpu.nmi.staging.end();
    info!("late NMIs: {} situations, {} with failures", stage.staged, stage.failed);
}

/// Stages IPIs of another CPU, and sends what came of each.
pub fn run_afar(options: &Options<'_>, cpu: &'static PerCpu, session: &mut Session) {
    let mut stage = Stage { cpu, mode: options.dispatch, entry: options.nmi_entry, staged: 0, failed: 0 };
    if percpu::of(OTHER_CPU).is_none() {
        report::configuration(format_args!("this self-test needs two CPUs: run QEMU with -smp 2"));
    }
    afar::merged(&mut stage, session);
    afar::late(&mut stage, session);
    cpu.apic.mask_timer();
    cpu.nmi.staging.end();
    info!("IPIs: {} situations, {} with failures", stage.staged, stage.failed);
}

/// What raises an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The PMU that samples: waited for.
    Overflow,
    /// An IPI to this CPU.
    Ipi,
    /// A deadline of the timer; sampling is off.
    Deadline,
    /// The staged source.
    Event,
    /// Nobody.
    Stray,
    /// An IPI of another CPU.
    Afar,
    /// Its message only: the other CPU is between that and the NMI.
    MessageFromAfar,
    /// Its NMI only.
    NmiFromAfar,
}

/// One CPU, and what was staged on it.
struct Stage {
    cpu: &'static PerCpu,
    mode: Dispatch,
    entry: NmiEntry,
    staged: u32,
    failed: u32,
}

/// What came of a situation.
struct Seen {
    /// The outcomes that it allows; what the entries count is not looked at.
    wanted: NmiCounters,
    /// NMIs that came where they were meant to; 0 if it did not arise.
    hits: u64,
}

impl Stage {
    /// Has the timer raise NMIs for deadlines.
    fn take_timer(&self) {
        if self.cpu.apic.route_timer_to_nmi().is_err() {
            report::configuration(format_args!("this needs an APIC timer that raises NMIs; run QEMU's TCG"));
        }
    }

    const fn walks_all(&self) -> bool {
        matches!(self.mode, Dispatch::WalkAll)
    }

    /// Stages a situation that no NMI came before: the first run is not back-to-back.
    fn stage(&mut self, case: u16, name: &str, steps: &[Step], act: impl FnOnce(&Self) -> Seen) {
        self.cpu.nmi.forget_last_rip();
        self.go_on(case, name, steps, act);
    }

    /// Stages a situation that continues the one before.
    fn go_on(&mut self, case: u16, name: &str, steps: &[Step], act: impl FnOnce(&Self) -> Seen) {
        let cpu = self.cpu;
        let before = cpu.nmi.snapshot();
        cpu.nmi.staging.begin(steps);
        let seen = act(self);
        let counts = since(&before, &cpu.nmi.snapshot());
        let mut failures = 0;
        let mut check = |failure: Failure, holds: bool| failures |= if holds { 0 } else { failure.bit() };
        check(Failure::Dispatch, seen.hits > 0 && outcomes(&counts) == seen.wanted);
        check(Failure::Latch, counts.are_consistent());
        self.send(case, name, seen.hits, &counts, failures);
    }

    fn send(&mut self, case: u16, name: &str, hits: u64, counts: &NmiCounters, failures: u32) {
        self.staged += 1;
        self.failed += u32::from(failures != 0);
        let NmiCounters { entries, runs, nested, handled, swallowed, unknown, external, reason_busy, .. } =
            *counts;
        info!(
            "case {case}, {name}: {entries} NMIs, {nested} nested, {runs} runs: {handled} handled, {swallowed} \
             swallowed, {unknown} unknown, {external} external, {reason_busy} busy, {} back-to-back; failures \
             {failures:#x}",
            counts.back_to_back,
        );
        let arrivals = entries;
        let report = CaseReport { case, hits, arrivals, runs, nested, stack_bytes: 0, failures };
        stream::send(&Frame::Case(report));
    }

    /// Raises all sources while NMIs are held, and lets the one NMI that is left go.
    fn raise(&self, sources: &[Source], place: Place) {
        self.raise_and_stay(sources, place, 1);
    }

    /// Does that at an instruction that takes so many turns.
    fn raise_and_stay(&self, sources: &[Source], place: Place, turns: u64) {
        let hold = Hold::begin().unwrap_or_else(|| {
            report::configuration(format_args!(
                "selftest=dispatch needs a CPU with a global interrupt flag (SVM); run QEMU with -cpu qemu64"
            ))
        });
        sources.iter().for_each(|source| self.raise_one(*source));
        hold.release(place, turns);
    }

    fn raise_one(&self, source: Source) {
        let (nmi, apic) = (&self.cpu.nmi, self.cpu.apic);
        match source {
            Source::Overflow => self.wait_for_timer(),
            Source::Ipi => nmi.send_self_nmi(apic),
            Source::Deadline => {
                nmi.deadline.set(apic, SOON_TICKS);
                self.wait_for_timer();
            }
            Source::Event => {
                nmi.staging.raise_event();
                apic.send_self_nmi();
            }
            Source::Stray => apic.send_self_nmi(),
            Source::Afar => self.ask_other(|cpu| cpu.send_nmi(Message::Nudge)),
            Source::MessageFromAfar => {
                self.ask_other(|cpu| cpu.nmi.mailbox.leave_from_afar(Message::Nudge));
            }
            Source::NmiFromAfar => self.ask_other(|cpu| cpu.apic.send_nmi(cpu.apic_id)),
        }
    }

    /// Lets another CPU do something to this one, and returns when it has.
    fn ask_other(&self, act: fn(&'static PerCpu)) {
        let (here, other) = (self.cpu, percpu::of(OTHER_CPU).expect("there is one"));
        smp::assign(other, TICKS_PER_SECOND, Box::new(move |_| act(here)));
        while !smp::is_parked(OTHER_CPU) {
            spin_loop();
        }
    }

    /// Waits until the timer has run out.
    fn wait_for_timer(&self) {
        (0..POLLS_MAX).find(|_| self.cpu.apic.remaining() == 0);
    }

    /// Returns the number of runs if they are these, each of which interrupted what it should have; else 0.
    fn ran_at(&self, rips: &[u64]) -> u64 {
        let mut expected = [0; RUNS_MAX];
        expected[..rips.len()].copy_from_slice(rips);
        let staging = &self.cpu.nmi.staging;
        let is_so = staging.runs() as usize == rips.len() && staging.rips() == expected;
        if is_so { rips.len() as u64 } else { 0 }
    }
}

fn since(before: &NmiCounters, after: &NmiCounters) -> NmiCounters {
    NmiCounters {
        entries: after.entries.wrapping_sub(before.entries),
        runs: after.runs.wrapping_sub(before.runs),
        nested: after.nested.wrapping_sub(before.nested),
        rerun: after.rerun.wrapping_sub(before.rerun),
        handled: after.handled.wrapping_sub(before.handled),
        swallowed: after.swallowed.wrapping_sub(before.swallowed),
        unknown: after.unknown.wrapping_sub(before.unknown),
        external: after.external.wrapping_sub(before.external),
        reason_busy: after.reason_busy.wrapping_sub(before.reason_busy),
        back_to_back: after.back_to_back.wrapping_sub(before.back_to_back),
        ..NmiCounters::default()
    }
}

/// Leaves out what depends on whether an NMI nested or was latched.
const fn outcomes(counts: &NmiCounters) -> NmiCounters {
    NmiCounters { entries: 0, nested: 0, rerun: 0, page_faults: 0, ..*counts }
}
