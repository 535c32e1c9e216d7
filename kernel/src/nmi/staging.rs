//! What the self-test stages inside the NMI: one step for each run of the handler, and a source of its own.
//!
//! A situation that depends on what happens *while* a run of the handler looks around can't be made from
//! outside. So the thread writes down beforehand what is to happen at the start of the first run, of the
//! second, and so on, and reads afterwards what each of them interrupted.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nmiprof_pmu::CountdownTimer;

use super::PerCpu;
use crate::arch::apic::LocalApic;
use crate::arch::fallible;

/// Most runs of one situation.
pub const RUNS_MAX: usize = 4;

/// What happens at the start of a run, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step(u32);

impl Step {
    /// A fault, whose `iret` unmasks NMIs: what is sent next nests.
    pub const UNMASK: Self = Self(1 << 0);
    /// An NMI IPI to this CPU.
    pub const IPI: Self = Self(1 << 1);
    /// An event of the staged source, and its NMI.
    pub const EVENT: Self = Self(1 << 2);
    /// An event of the staged source whose NMI has merged with another one: none is sent for it.
    pub const MERGED_EVENT: Self = Self(1 << 3);
    /// An NMI that no source stands for.
    pub const STRAY: Self = Self(1 << 4);
    /// Such an NMI, [`LATER_TICKS`] from now, by the timer.
    pub const STRAY_LATER: Self = Self(1 << 5);

    /// Returns this and another one together.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Ticks of [`Step::STRAY_LATER`]: longer than a run takes.
pub const LATER_TICKS: u32 = 2000;

/// What is staged on one CPU.
///
/// Written by the thread while no NMI can arrive, and in between by runs of the handler, which are one at a
/// time; so every access is `Relaxed`.
#[derive(Debug, Default)]
pub struct Staging {
    /// A situation has begun.
    on: AtomicBool,
    steps: [AtomicU32; RUNS_MAX],
    /// What each run interrupted.
    rips: [AtomicU64; RUNS_MAX],
    /// Runs since the beginning.
    runs: AtomicU32,
    /// Events of the staged source that are not claimed.
    events: AtomicU32,
    claims_unknown: AtomicBool,
    claims_external: AtomicBool,
    /// Times that the handlers of the lists [`SERR`](super::handlers::SERR) and
    /// [`IO_CHECK`](super::handlers::IO_CHECK) were asked.
    asked: [AtomicU32; 2],
    /// Ticks after which each run has a further stray NMI sent; 0 for none.
    rain_ticks: AtomicU32,
}

impl Staging {
    /// Begins a situation: the first runs have these steps.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn begin(&self, steps: &[Step]) {
        for (index, slot) in self.steps.iter().enumerate() {
            slot.store(steps.get(index).copied().unwrap_or_default().0, Ordering::Relaxed);
        }
        self.rips.iter().for_each(|rip| rip.store(0, Ordering::Relaxed));
        self.asked.iter().for_each(|asked| asked.store(0, Ordering::Relaxed));
        self.runs.store(0, Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
    }

    /// Ends the last situation.
    pub fn end(&self) {
        self.on.store(false, Ordering::Relaxed);
    }

    /// Has the staged source one event more; its NMI is sent by the caller.
    pub fn raise_event(&self) {
        self.events.store(self.events.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Lets the staged source claim what nobody explains, or what the chipset reports.
    pub fn set_claims(&self, unknown: bool, external: bool) {
        self.claims_unknown.store(unknown, Ordering::Relaxed);
        self.claims_external.store(external, Ordering::Relaxed);
    }

    /// Lets it rain: each run from now on arms the timer for one more stray NMI; with 0 ticks no more.
    pub fn set_rain(&self, ticks: u32) {
        self.rain_ticks.store(ticks, Ordering::Relaxed);
    }

    /// Returns the runs since the beginning.
    pub fn runs(&self) -> u32 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Returns what the first runs interrupted; 0 where there was no run.
    pub fn rips(&self) -> [u64; RUNS_MAX] {
        self.rips.each_ref().map(|rip| rip.load(Ordering::Relaxed))
    }

    /// Returns how often the handlers for SERR and IOCHK were asked.
    pub fn asked(&self) -> [u32; 2] {
        self.asked.each_ref().map(|asked| asked.load(Ordering::Relaxed))
    }

    /// Does the step of a run that interrupted `rip`.
    ///
    /// # Context
    /// NMI, at the start of a run.
    #[inline]
    pub(super) fn act(&self, nmi: &PerCpu, apic: LocalApic, rip: u64) {
        if self.on.load(Ordering::Relaxed) {
            self.begin_run(nmi, apic, rip);
        }
    }

    #[cold]
    fn begin_run(&self, nmi: &PerCpu, apic: LocalApic, rip: u64) {
        let run = self.runs.load(Ordering::Relaxed);
        self.runs.store(run.wrapping_add(1), Ordering::Relaxed);
        let rain_ticks = self.rain_ticks.load(Ordering::Relaxed);
        if rain_ticks != 0 {
            apic.arm(rain_ticks);
        }
        let index = usize::try_from(run).unwrap_or(usize::MAX);
        if let (Some(slot), Some(step)) = (self.rips.get(index), self.steps.get(index)) {
            slot.store(rip, Ordering::Relaxed);
            self.perform(Step(step.load(Ordering::Relaxed)), nmi, apic);
        }
    }

    fn perform(&self, step: Step, nmi: &PerCpu, apic: LocalApic) {
        if step.has(Step::UNMASK) {
            // The #GP is the point; it always comes.
            let _ = fallible::touch_non_canonical();
        }
        if step.has(Step::EVENT) || step.has(Step::MERGED_EVENT) {
            self.raise_event();
        }
        if step.has(Step::EVENT) || step.has(Step::STRAY) {
            apic.send_self_nmi();
        }
        if step.has(Step::IPI) {
            nmi.send_self_nmi(apic);
        }
        if step.has(Step::STRAY_LATER) {
            apic.arm(LATER_TICKS);
        }
    }

    /// Claims the events of the staged source.
    pub(super) fn claim_events(&self) -> u32 {
        let events = self.events.load(Ordering::Relaxed);
        if events > 0 {
            self.events.store(0, Ordering::Relaxed);
        }
        events
    }

    pub(super) fn asked_unknown(&self) -> u32 {
        u32::from(self.claims_unknown.load(Ordering::Relaxed))
    }

    pub(super) fn asked_serr(&self) -> u32 {
        self.asked_external(&self.asked[0])
    }

    pub(super) fn asked_io_check(&self) -> u32 {
        self.asked_external(&self.asked[1])
    }

    fn asked_external(&self, asked: &AtomicU32) -> u32 {
        asked.store(asked.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        u32::from(self.claims_external.load(Ordering::Relaxed))
    }
}
