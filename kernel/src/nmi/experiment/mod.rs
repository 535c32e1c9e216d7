//! The part that sweep and storm have in the handler: one more source of events, which checks what it sees.
//!
//! An experiment interrupts the code of [`arch::experiment`](crate::arch::experiment) by a self-NMI and by
//! the timer. The handler claims each of the two once and touches an absent page on its first run, so that a
//! page fault's `iret` unmasks NMIs inside. What breaks NMI-once or NMI-latch is noted; what would then run
//! on a destroyed stack is abandoned, and so is an entry that only the [watchdog] ends. In a storm each run
//! [provokes](provoker) one more NMI.
//!
//! NMI-latch is checked without help of the entry's own accounts, from its count of arrivals alone: every
//! arrival is followed by the start of a run, and no run starts without an arrival of its own.

#![expect(unsafe_code, reason = "touches a page that is not there, and abandons NMIs")]

mod provoker;
mod watchdog;

use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::Failure;

use crate::arch::experiment::{abandon, was_sent};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{fallible, percpu};
pub use provoker::TICKS_MAX as PROVOKED_TICKS_MAX;
use provoker::{Provocation, Provoker};
use watchdog::Watchdog;

/// Runs of one experiment, beyond those that its plan asks for, after which it is clear that they never end.
const EXTRA_RUNS_MAX: u32 = 16;

/// What one CPU knows of the experiment that is on.
///
/// All fields are written by the thread while no NMI can arrive, and in between by runs of the handler, which
/// are one at a time; so every access is `Relaxed`.
#[derive(Default)]
pub struct Experiment {
    on: AtomicBool,
    /// The self-NMI is still to be claimed.
    self_nmi: AtomicBool,
    /// The timer's NMI is still to be claimed.
    timer: AtomicBool,
    watchdog: Watchdog,
    provoker: Provoker,
    /// Address of the page that the next run touches.
    page: AtomicU64,
    /// End of the pages to touch.
    pages_end: AtomicU64,
    /// The touch failed.
    touch_failed: AtomicBool,
    /// Arrivals on this CPU before the experiment.
    arrivals_before: AtomicU64,
    /// Arrivals on this CPU when the last run started.
    arrivals_seen: AtomicU64,
    /// Runs started.
    runs: AtomicU32,
    /// Runs after which the experiment is given up.
    runs_max: AtomicU32,
    /// Bits of [`Failure`].
    failures: AtomicU32,
}

/// What an experiment expects of the handler.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pages to touch, one on each run.
    pub pages: Range<u64>,
    /// Whether the timer is armed.
    pub timer: bool,
    /// Further NMIs that the handler provokes, one on each run.
    pub provoke: u32,
    /// Seed of the choice between a self-NMI and the timer, before and after the touch.
    pub seed: u64,
}

/// What came of an experiment, as its handler saw it.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Bits of [`Failure`].
    pub failures: u32,
    /// The page could not be mapped.
    pub touch_failed: bool,
    /// The address that the last arrival interrupted before the watchdog's, if that came.
    pub watchdog_rip: Option<u64>,
}

impl Experiment {
    /// Starts an experiment, `arrivals` NMIs after the CPU's first.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn begin(&self, plan: &Plan, arrivals: u64) {
        self.self_nmi.store(true, Ordering::Relaxed);
        self.timer.store(plan.timer, Ordering::Relaxed);
        self.watchdog.reset();
        self.provoker.reset(plan.provoke, plan.seed);
        self.page.store(plan.pages.start, Ordering::Relaxed);
        self.pages_end.store(plan.pages.end, Ordering::Relaxed);
        self.runs_max.store(plan.provoke.saturating_add(EXTRA_RUNS_MAX), Ordering::Relaxed);
        self.touch_failed.store(false, Ordering::Relaxed);
        self.arrivals_before.store(arrivals, Ordering::Relaxed);
        self.arrivals_seen.store(arrivals, Ordering::Relaxed);
        self.runs.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.on.store(true, Ordering::Relaxed);
    }

    /// Ends the experiment: `arrivals` is the CPU's count now.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn end(&self, arrivals: u64) -> Outcome {
        self.on.store(false, Ordering::Relaxed);
        let unclaimed = self.self_nmi.load(Ordering::Relaxed) || self.timer.load(Ordering::Relaxed);
        if unclaimed || self.arrivals_seen.load(Ordering::Relaxed) != arrivals {
            self.fail(Failure::Latch);
        }
        Outcome {
            failures: self.failures.load(Ordering::Relaxed),
            touch_failed: self.touch_failed.load(Ordering::Relaxed),
            watchdog_rip: self.watchdog.last_rip(),
        }
    }

    /// Reacts to an entry of the handler while it runs, which breaks NMI-once: does not return if an
    /// experiment is on.
    ///
    /// # Context
    /// NMI.
    pub fn reentered(&self) {
        if self.on.load(Ordering::Relaxed) {
            self.fail(Failure::Once);
            Self::give_up();
        }
    }

    /// Notes the start of a run.
    ///
    /// # Context
    /// NMI.
    #[inline]
    pub fn begin_run(&self, arrivals: u64) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        self.arrivals_seen.store(arrivals, Ordering::Relaxed);
        let runs = self.runs.load(Ordering::Relaxed) + 1;
        self.runs.store(runs, Ordering::Relaxed);
        if u64::from(runs) > arrivals.wrapping_sub(self.arrivals_before.load(Ordering::Relaxed)) {
            self.fail(Failure::Latch);
        }
        if runs > self.runs_max.load(Ordering::Relaxed) || self.watchdog.bites() {
            self.fail(Failure::Live);
            Self::give_up();
        }
    }

    /// Claims what has come, and then touches the page.
    ///
    /// # Context
    /// NMI; may fault.
    #[inline]
    pub fn handle(&self, interrupted_rip: u64) -> u32 {
        if !self.on.load(Ordering::Relaxed) {
            return 0;
        }
        let events = u32::from(self.claim_timer()) + u32::from(self.claim_self_nmi(interrupted_rip));
        match self.provoker.next() {
            Some(provocation) if provocation.before_touch => {
                self.provoke(provocation);
                self.touch();
            }
            Some(provocation) => {
                self.touch();
                self.provoke(provocation);
            }
            None => self.touch(),
        }
        if !self.timer.load(Ordering::Relaxed) && !self.self_nmi.load(Ordering::Relaxed) {
            self.watchdog.arm();
        }
        events
    }

    fn claim_timer(&self) -> bool {
        let ended = self.timer.load(Ordering::Relaxed) && percpu::current().apic.remaining() == 0;
        if ended {
            self.timer.store(false, Ordering::Relaxed);
        }
        ended
    }

    fn claim_self_nmi(&self, interrupted_rip: u64) -> bool {
        let came = self.self_nmi.load(Ordering::Relaxed) && was_sent(interrupted_rip);
        if came {
            self.self_nmi.store(false, Ordering::Relaxed);
        }
        came
    }

    fn provoke(&self, provocation: Provocation) {
        let apic = percpu::current().apic;
        // Marked before it is raised: only a later run can claim it.
        match provocation.timer_ticks {
            Some(ticks) if !self.timer.load(Ordering::Relaxed) => {
                self.timer.store(true, Ordering::Relaxed);
                apic.arm(ticks);
            }
            _ => {
                self.self_nmi.store(true, Ordering::Relaxed);
                apic.send_self_nmi();
            }
        }
    }

    fn touch(&self) {
        let page = self.page.load(Ordering::Relaxed);
        if page >= self.pages_end.load(Ordering::Relaxed) {
            return;
        }
        self.page.store(page + PAGE_BYTES, Ordering::Relaxed);
        // SAFETY: the page is the experiment's own.
        if unsafe { fallible::touch_word(page) }.is_err() {
            self.touch_failed.store(true, Ordering::Relaxed);
        }
    }

    fn fail(&self, failure: Failure) {
        let failures = self.failures.load(Ordering::Relaxed) | failure.bit();
        self.failures.store(failures, Ordering::Relaxed);
    }

    fn give_up() -> ! {
        // SAFETY: (1) an experiment is on (checked by the callers), so its code is what was interrupted; (2)
        // no function between the entry and here has anything to drop.
        unsafe { abandon() }
    }
}

/// Makes the NMI path usable again after an NMI was abandoned.
///
/// # Context
/// On the thread stack, at the end of an NMI that never returned; called by the assembly only.
pub extern "C" fn recover() {
    let nmi = &percpu::current().nmi;
    nmi.stack.make_idle();
    nmi.sampler.end_run(None);
}
