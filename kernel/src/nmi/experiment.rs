//! The NMI sweep's part in the handler: one more source of events, which counts what it sees.
//!
//! An experiment interrupts the code of [`arch::experiment`](crate::arch::experiment) by a self-NMI and by
//! the timer. The handler claims each of the two once and touches an absent page on its first run, so that a
//! page fault's `iret` unmasks NMIs inside. What breaks NMI-once or NMI-latch is noted; what would then run
//! on a destroyed stack is abandoned.
//!
//! NMI-latch is checked without help of the entry's own accounts, from its count of arrivals alone: every
//! arrival is followed by the start of a run, and no run starts without an arrival of its own.

#![expect(unsafe_code, reason = "touches a page that is not there, and abandons NMIs")]

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use core::ops::Range;

use nmiprof_pmu::CountdownTimer;
use nmiprof_wire::Failure;

use crate::arch::experiment::{abandon, was_sent};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{fallible, percpu};

/// Runs of one experiment, beyond those that its plan asks for, after which it is clear that they never end.
const EXTRA_RUNS_MAX: u32 = 16;

/// Ticks from the last claim to the watchdog's NMI: more than everything that is still to come.
const WATCHDOG_TICKS: u32 = 1 << 18;
/// Longest provoked timer.
pub const PROVOKED_TICKS_MAX: u32 = 150;

/// What one CPU knows of the experiment that is on.
///
/// All fields are written by the thread while no NMI can arrive, and in between by runs of the handler, which
/// are one at a time; so every access is `Relaxed`.
pub struct Experiment {
    on: AtomicBool,
    /// The self-NMI is still to be claimed.
    self_nmi: AtomicBool,
    /// The timer's NMI is still to be claimed.
    timer: AtomicBool,
    /// The timer is the watchdog's.
    watchdog: AtomicBool,
    /// The watchdog's NMI came.
    watchdog_ended: AtomicBool,
    /// Interrupted address of the last arrival when the watchdog was armed.
    watchdog_rip: AtomicU64,
    /// Address of the page that the next run touches.
    page: AtomicU64,
    /// End of the pages to touch.
    pages_end: AtomicU64,
    /// NMIs still to be provoked by runs.
    budget: AtomicU32,
    /// State of the generator that decides how.
    random: AtomicU64,
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
    /// Creates the state while there is no experiment.
    pub const fn new() -> Self {
        let [arrivals_before, arrivals_seen, page, pages_end, random, watchdog_rip] =
            [const { AtomicU64::new(0) }; 6];
        let [on, self_nmi, timer, watchdog, watchdog_ended, touch_failed] =
            [const { AtomicBool::new(false) }; 6];
        let [runs, runs_max, failures, budget] = [const { AtomicU32::new(0) }; 4];
        Self {
            on,
            self_nmi,
            timer,
            watchdog,
            watchdog_ended,
            watchdog_rip,
            page,
            pages_end,
            budget,
            random,
            touch_failed,
            arrivals_before,
            arrivals_seen,
            runs,
            runs_max,
            failures,
        }
    }

    /// Starts an experiment, `arrivals` NMIs after the CPU's first.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn begin(&self, plan: &Plan, arrivals: u64) {
        self.self_nmi.store(true, Ordering::Relaxed);
        self.timer.store(plan.timer, Ordering::Relaxed);
        self.watchdog.store(false, Ordering::Relaxed);
        self.watchdog_ended.store(false, Ordering::Relaxed);
        self.page.store(plan.pages.start, Ordering::Relaxed);
        self.pages_end.store(plan.pages.end, Ordering::Relaxed);
        self.budget.store(plan.provoke, Ordering::Relaxed);
        self.random.store(plan.seed, Ordering::Relaxed);
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
            watchdog_rip: self
                .watchdog_ended
                .load(Ordering::Relaxed)
                .then(|| self.watchdog_rip.load(Ordering::Relaxed)),
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
        if runs > self.runs_max.load(Ordering::Relaxed) || self.watchdog_bites() {
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
        let random = self.next_random();
        if random & 1 == 0 {
            self.provoke(random >> 1);
            self.touch();
        } else {
            self.touch();
            self.provoke(random >> 1);
        }
        self.arm_watchdog();
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

    /// Arms the watchdog when nothing else is to come: an entry that never returns, but lets NMIs in, ends by it.
    fn arm_watchdog(&self) {
        let expected = [&self.self_nmi, &self.timer, &self.watchdog];
        if expected.into_iter().all(|event| !event.load(Ordering::Relaxed)) {
            let cpu = percpu::current();
            self.watchdog_rip.store(cpu.nmi.stack.last_arrival().rip, Ordering::Relaxed);
            self.watchdog.store(true, Ordering::Relaxed);
            cpu.apic.arm(WATCHDOG_TICKS);
        }
    }

    fn watchdog_bites(&self) -> bool {
        let ended = self.watchdog.load(Ordering::Relaxed) && percpu::current().apic.remaining() == 0;
        self.watchdog_ended.store(ended, Ordering::Relaxed);
        ended
    }

    /// Provokes one more NMI, if the plan has one left.
    fn provoke(&self, random: u64) {
        let budget = self.budget.load(Ordering::Relaxed);
        if budget == 0 {
            return;
        }
        self.budget.store(budget - 1, Ordering::Relaxed);
        let apic = percpu::current().apic;
        // Marked before it is sent: only a later run can claim it.
        if self.timer.load(Ordering::Relaxed) || random.is_multiple_of(4) {
            self.self_nmi.store(true, Ordering::Relaxed);
            apic.send_self_nmi();
        } else {
            self.timer.store(true, Ordering::Relaxed);
            let ticks = 1 + (random >> 2) % u64::from(PROVOKED_TICKS_MAX);
            apic.arm(u32::try_from(ticks).unwrap_or(PROVOKED_TICKS_MAX));
        }
    }

    /// Steps the generator: Marsaglia, "Xorshift RNGs" (2003). A seed of 0 yields zeros.
    fn next_random(&self) -> u64 {
        let mut state = self.random.load(Ordering::Relaxed);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random.store(state, Ordering::Relaxed);
        state >> 8
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
    nmi.running.store(false, Ordering::Relaxed);
}
