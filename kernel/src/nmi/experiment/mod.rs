//! The part that sweep and storm have in the handler: one more source of events, which checks what it sees.
//!
//! An experiment interrupts the code of [`arch::experiment`](crate::arch::experiment) by a self-NMI, by the timer
//! and, in a pair, by the HPET. The handler claims each of them once and touches an absent page on its first run, so that a
//! page fault's `iret` unmasks NMIs inside. What breaks NMI-once or NMI-latch is noted; what would then run
//! on a destroyed stack is abandoned, and so is an entry that only the [watchdog] ends. In a storm each run
//! [provokes](provoker) more NMIs, and breakpoints, whose handler is one more place for an NMI to land.
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
use crate::arch::{fallible, hpet, percpu, raise};
use crate::selftest::acts;
use provoker::{Provocation, Provoker, Source};
pub use provoker::{Provoking, TICKS_MAX as PROVOKED_TICKS_MAX};
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
    /// The interrupted code is that of `arch::experiment`: it says whether the self-NMI was sent, and an NMI can
    /// be abandoned to it.
    on_line: AtomicBool,
    /// The self-NMI is still to be claimed.
    self_nmi: AtomicBool,
    /// The timer's NMI is still to be claimed.
    timer: AtomicBool,
    /// What the HPET's counter reads when its NMI, still to be claimed, is raised; 0 if there is none.
    third: AtomicU32,
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
    /// Times that the handler went on after it had marked itself as running: as many as runs, unless it goes in circles.
    passes: AtomicU32,
    /// Passes after which the experiment is given up.
    passes_max: AtomicU32,
    /// Bits of [`Failure`].
    failures: AtomicU32,
    /// The next breakpoint's handler sends the self-NMI. Written by the handler, or by the thread before
    /// its own breakpoint; cleared by the exception path.
    send_in_breakpoint: AtomicBool,
    /// Breakpoints taken. Written by the exception path, which may be on top of itself.
    breakpoints: AtomicU32,
    /// Breakpoints in whose handler an NMI arrived.
    hit_breakpoints: AtomicU32,
    /// Runs that found both sources' events.
    merged: AtomicU32,
}

/// What an experiment expects of the handler.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Pages to touch, one on each run.
    pub pages: Range<u64>,
    /// Whether the interrupted code is that of [`arch::experiment`](crate::arch::experiment).
    pub on_line: bool,
    /// Whether a self-NMI is sent.
    pub self_nmi: bool,
    /// Whether the timer is armed.
    pub timer: bool,
    /// What the HPET's counter reads when its NMI is raised; 0 if it is not started.
    pub third: u32,
    /// What the handler provokes.
    pub provoking: Provoking,
}

impl Plan {
    /// A self-NMI from the line, and nothing else.
    pub const PLAIN: Self = Self {
        pages: 0..0,
        on_line: true,
        self_nmi: true,
        timer: false,
        third: 0,
        provoking: Provoking::Nothing,
    };
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
    /// Breakpoints taken.
    pub breakpoints: u32,
    /// Breakpoints in whose handler an NMI arrived: at least so many.
    pub hit_breakpoints: u32,
    /// Runs that found the events of two sources.
    pub merged: u32,
}

impl Experiment {
    /// Returns the address of a word that every run of the handler writes.
    pub fn written_by_runs(&self) -> u64 {
        self.arrivals_seen.as_ptr().addr() as u64
    }

    /// Starts an experiment, `arrivals` NMIs after the CPU's first.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn begin(&self, plan: &Plan, arrivals: u64) {
        self.on_line.store(plan.on_line, Ordering::Relaxed);
        self.self_nmi.store(plan.self_nmi, Ordering::Relaxed);
        self.timer.store(plan.timer, Ordering::Relaxed);
        self.third.store(plan.third, Ordering::Relaxed);
        self.watchdog.reset();
        self.provoker.reset(plan.provoking);
        self.page.store(plan.pages.start, Ordering::Relaxed);
        self.pages_end.store(plan.pages.end, Ordering::Relaxed);
        self.passes_max.store(plan.provoking.runs().saturating_add(EXTRA_RUNS_MAX), Ordering::Relaxed);
        self.touch_failed.store(false, Ordering::Relaxed);
        self.arrivals_before.store(arrivals, Ordering::Relaxed);
        self.arrivals_seen.store(arrivals, Ordering::Relaxed);
        self.runs.store(0, Ordering::Relaxed);
        self.passes.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.send_in_breakpoint.store(false, Ordering::Relaxed);
        for count in [&self.breakpoints, &self.hit_breakpoints, &self.merged] {
            count.store(0, Ordering::Relaxed);
        }
        self.on.store(true, Ordering::Relaxed);
    }

    /// Ends the experiment: `arrivals` is the CPU's count now.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn end(&self, arrivals: u64) -> Outcome {
        self.on.store(false, Ordering::Relaxed);
        if self.expects_more() || self.arrivals_seen.load(Ordering::Relaxed) != arrivals {
            self.fail(Failure::Latch);
        }
        Outcome {
            failures: self.failures.load(Ordering::Relaxed),
            touch_failed: self.touch_failed.load(Ordering::Relaxed),
            watchdog_rip: self.watchdog.last_rip(),
            breakpoints: self.breakpoints.load(Ordering::Relaxed),
            hit_breakpoints: self.hit_breakpoints.load(Ordering::Relaxed),
            merged: self.merged.load(Ordering::Relaxed),
        }
    }

    /// Reacts to an entry of the handler while it runs, which breaks NMI-once: does not return if it can be
    /// abandoned.
    ///
    /// # Context
    /// NMI.
    pub fn reentered(&self) {
        if self.on.load(Ordering::Relaxed) {
            self.fail(Failure::Once);
            self.give_up();
        }
    }

    /// Notes the start of a run: the first thing that the handler does, for an NMI before that may be one more run.
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
    }

    /// Notes that the run goes on; does not return from one that goes in circles, if it can be abandoned.
    ///
    /// Apart from [`Experiment::begin_run`], and after the handler has marked itself as running: `naive` returns for
    /// ever to where it was interrupted, and what that leaves out counts no circle. After this a nested NMI finds the
    /// mark.
    ///
    /// # Context
    /// NMI.
    #[inline]
    pub fn go_on(&self) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let passes = self.passes.load(Ordering::Relaxed) + 1;
        self.passes.store(passes, Ordering::Relaxed);
        if passes > self.passes_max.load(Ordering::Relaxed) || self.watchdog.bites() {
            self.fail(Failure::Live);
            self.give_up();
        }
    }

    /// Claims what has come, does what a [situation](acts) asks for, touches a page, and provokes.
    ///
    /// # Context
    /// NMI; may fault.
    #[inline]
    pub fn handle(&self, interrupted_rip: u64) -> u32 {
        if !self.on.load(Ordering::Relaxed) {
            acts::perform();
            return 0;
        }
        let events = u32::from(self.claim_timer())
            + u32::from(self.claim_third())
            + u32::from(self.claim_self_nmi(interrupted_rip));
        if events > 1 {
            self.merged.store(self.merged.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        acts::perform();
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
        if !self.expects_more() {
            self.watchdog.arm();
        }
        events
    }

    /// Returns the number of runs that have begun, for whoever looks at it from outside of the handler.
    pub const fn runs(&self) -> &AtomicU32 {
        &self.runs
    }

    /// Tells whether something is still to be claimed.
    fn expects_more(&self) -> bool {
        self.self_nmi.load(Ordering::Relaxed)
            || self.timer.load(Ordering::Relaxed)
            || self.third.load(Ordering::Relaxed) != 0
    }

    fn claim_timer(&self) -> bool {
        let ended = self.timer.load(Ordering::Relaxed) && percpu::current().apic.remaining() == 0;
        if ended {
            self.timer.store(false, Ordering::Relaxed);
        }
        ended
    }

    fn claim_third(&self) -> bool {
        let due = self.third.load(Ordering::Relaxed);
        let ended = due != 0 && hpet::message::counter() >= due;
        if ended {
            self.third.store(0, Ordering::Relaxed);
        }
        ended
    }

    fn claim_self_nmi(&self, interrupted_rip: u64) -> bool {
        let is_sent = !self.on_line.load(Ordering::Relaxed) || was_sent(interrupted_rip);
        let came = self.self_nmi.load(Ordering::Relaxed) && is_sent;
        if came {
            self.self_nmi.store(false, Ordering::Relaxed);
        }
        came
    }

    fn provoke(&self, provocation: Provocation) {
        match provocation.source {
            Source::Timer(ticks) if self.arm(ticks) => {}
            Source::Timer(_) => self.send(1),
            Source::SelfNmis(count) => self.send(count),
            Source::Both(ticks) => {
                self.arm(ticks);
                self.send(1);
            }
            Source::Breakpoint => self.break_and_send(),
        }
        if provocation.breakpoint {
            raise::breakpoint();
        }
    }

    /// Arms the timer; refuses where its NMI is still to come.
    fn arm(&self, ticks: u32) -> bool {
        // Marked before it is raised: only a later run can claim it.
        let is_free = !self.timer.swap(true, Ordering::Relaxed);
        if is_free {
            percpu::current().apic.arm(ticks);
        }
        is_free
    }

    /// Sends self-NMIs in a row, which are one event.
    fn send(&self, count: u32) {
        self.self_nmi.store(true, Ordering::Relaxed);
        for _ in 0..count {
            percpu::current().apic.send_self_nmi();
        }
    }

    /// Announces a self-NMI that somebody else sends.
    ///
    /// # Context
    /// Any, while an experiment is on.
    pub fn expect_self_nmi(&self) {
        self.self_nmi.store(true, Ordering::Relaxed);
    }

    /// Raises a breakpoint whose handler sends a self-NMI.
    ///
    /// # Context
    /// Any, while an experiment is on.
    pub fn break_and_send(&self) {
        self.self_nmi.store(true, Ordering::Relaxed);
        self.send_in_breakpoint.store(true, Ordering::Relaxed);
        raise::breakpoint();
    }

    /// Takes a breakpoint, if an experiment is on: counts it, and sends the self-NMI if that was asked for.
    ///
    /// # Context
    /// The exception path, in an NMI or under one.
    pub fn take_breakpoint(&self) -> bool {
        if !self.on.load(Ordering::Relaxed) {
            return false;
        }
        self.breakpoints.fetch_add(1, Ordering::Relaxed);
        let cpu = percpu::current();
        let before = cpu.nmi.stack().read_counters().entries;
        if self.send_in_breakpoint.swap(false, Ordering::Relaxed) {
            cpu.apic.send_self_nmi();
        }
        if cpu.nmi.stack().read_counters().entries != before {
            self.hit_breakpoints.fetch_add(1, Ordering::Relaxed);
        }
        true
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

    /// Abandons the NMI, if there is a line to abandon it to.
    fn give_up(&self) {
        if self.on_line.load(Ordering::Relaxed) {
            // SAFETY: (1) the line is what was interrupted (checked above, and that an experiment is on by the
            // callers); (2) no function between the entry and here has anything to drop.
            unsafe { abandon() }
        }
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
