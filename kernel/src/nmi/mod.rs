//! Non-maskable interrupts: from the entry at vector 2 to the sample.
//!
//! [`entry`] is the assembly that survives nesting; it calls [`run`], which asks the [`dispatch`]er's
//! handlers what happened. Everything below runs with **no lock, no allocation, no panic, no formatting,
//! no float and no unbounded loop**. It may fault where it touches ring memory, and nowhere else.

#![expect(unsafe_code, reason = "hands the NMI its own state, by the invariant NMI-once")]
#![deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

pub mod broadcast;
mod control;
pub mod control_port;
pub mod counters;
#[cfg(feature = "selftest")]
pub mod deadline;
#[cfg(feature = "selftest")]
pub mod defect;
pub mod dispatch;
pub mod entry;
#[cfg(feature = "selftest")]
pub mod experiment;
mod first_fault;
mod handlers;
pub mod mailbox;
pub mod orders;
mod slot;
#[cfg(feature = "selftest")]
pub mod staging;

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nmiprof_wire::{FaultReturn, NmiCounters, Options};

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::percpu::{self, PerCpu as Cpu, SHARED_BYTES};
use crate::memory::fault::{PageFault, Resolution};
use crate::report;
use crate::sampler::Sampler;
use counters::Counters;
use dispatch::Dispatcher;
use entry::NmiStack;
pub use first_fault::FirstFault;
use mailbox::{Mailbox, Message};
use slot::SamplerSlot;

/// An address that no instruction has: no NMI came before.
const NO_RIP: u64 = 0;

/// What the NMI path of one CPU owns and counts.
pub struct PerCpu {
    stack: NmiStack,
    /// What the handler samples with, and the marker of NMI-once.
    sampler: SamplerSlot,
    /// Counts, written by the NMI, read by the thread.
    pub counters: Counters,
    /// What NMI IPIs are about.
    pub mailbox: Mailbox,
    /// Send a self-NMI at each page fault that is resolved. Written by the thread, read by the NMI.
    nest_on_first_touch: AtomicBool,
    /// Whether the sampler has counters that take orders. Written and read by the thread.
    has_counters: AtomicBool,
    /// Whether the counters have something to do at the next tick. Written by the NMI, read by the tick.
    pub wants_tick: AtomicBool,
    /// The first page fault inside an NMI.
    pub first_fault: FirstFault,
    /// The experiment of the NMI sweep.
    #[cfg(feature = "selftest")]
    pub experiment: experiment::Experiment,
    /// The timer as a source of its own.
    #[cfg(feature = "selftest")]
    pub deadline: deadline::Deadline,
    /// What the self-test stages.
    #[cfg(feature = "selftest")]
    pub staging: staging::Staging,
    /// Exceptions inside an NMI return without `iret`.
    masked_fault_return: bool,
    /// What the last run interrupted, or [`NO_RIP`]. Written by the handler, and by code that waits at one
    /// instruction.
    last_rip: AtomicU64,
    /// State that only the handler touches.
    dispatcher: UnsafeCell<Dispatcher>,
}

const _: () = assert!(
    offset_of!(PerCpu, mailbox).is_multiple_of(SHARED_BYTES)
        && size_of::<Mailbox>().is_multiple_of(SHARED_BYTES)
        && size_of::<PerCpu>().is_multiple_of(SHARED_BYTES),
    "no shared cache line: the mailbox, which other CPUs write, begins and ends a pair of lines"
);

/// What one run of the handler is about.
pub struct Run<'a> {
    /// What it interrupted.
    pub interrupted: Interrupted<'a>,
    /// What it samples with.
    sampler: Option<&'a mut Sampler>,
}

/// What an NMI interrupted.
pub struct Interrupted<'a> {
    /// The NMI path of this CPU.
    pub nmi: &'a PerCpu,
    /// The outermost interrupted code.
    pub frame: &'a IretFrame,
    /// Its RBP.
    pub frame_pointer: u64,
}

impl PerCpu {
    /// Creates the state for a CPU that takes its NMIs on `stack`.
    pub fn new(stack: NmiStack, options: &Options<'_>) -> Self {
        Self {
            stack,
            sampler: SamplerSlot::new(),
            counters: Counters::new(),
            mailbox: Mailbox::new(),
            nest_on_first_touch: AtomicBool::new(false),
            has_counters: AtomicBool::new(false),
            wants_tick: AtomicBool::new(false),
            first_fault: FirstFault::new(),
            #[cfg(feature = "selftest")]
            experiment: experiment::Experiment::default(),
            #[cfg(feature = "selftest")]
            deadline: deadline::Deadline::default(),
            #[cfg(feature = "selftest")]
            staging: staging::Staging::default(),
            masked_fault_return: options.fault_return == FaultReturn::Ret,
            last_rip: AtomicU64::new(NO_RIP),
            dispatcher: UnsafeCell::new(Dispatcher::new(options)),
        }
    }

    /// Returns the stack that NMIs start on.
    pub const fn stack(&self) -> &NmiStack {
        &self.stack
    }

    /// Starts or stops to provoke nested NMIs.
    pub fn set_nest_on_first_touch(&self, on: bool) {
        self.nest_on_first_touch.store(on, Ordering::Relaxed);
    }

    /// Returns the state if this CPU is handling an NMI: an exception asks.
    pub fn in_progress(&self) -> Option<&Self> {
        self.sampler.is_in_use().then_some(self)
    }

    /// Tells an exception whether to return without `iret`: inside an NMI, where that was asked for.
    #[inline]
    pub fn returns_masked(&self) -> bool {
        self.masked_fault_return && self.sampler.is_in_use()
    }

    /// Counts a page fault inside the NMI, and provokes a nested NMI if it is resolved and that was asked for.
    pub fn count_page_fault(&self, fault: &PageFault, resolution: Resolution, apic: LocalApic) {
        self.counters.count_page_fault(resolution);
        self.first_fault.note(fault);
        let resolved = matches!(resolution, Resolution::FirstTouch { .. } | Resolution::Synced);
        if resolved && self.nest_on_first_touch.load(Ordering::Relaxed) {
            self.send_self_nmi(apic);
        }
    }

    /// Sends an NMI to this CPU that the handler will recognize.
    ///
    /// # Context
    /// This CPU, thread or NMI.
    pub fn send_self_nmi(&self, apic: LocalApic) {
        // With other CPUs, an NMI of theirs may come right between the two, and find the message.
        if percpu::has_others() {
            self.mailbox.leave_from_afar(Message::Nudge);
        } else {
            self.mailbox.leave(Message::Nudge);
        }
        apic.send_self_nmi();
    }

    /// Tells whether a self-NMI was sent that the handler has not claimed.
    #[cfg(feature = "selftest")]
    pub fn has_unclaimed_self_nmi(&self) -> bool {
        self.mailbox.is_waiting(Message::Nudge)
    }

    /// Ends a row of back-to-back NMIs: code that waits at one instruction calls this before it waits.
    ///
    /// Else the next NMI there would look like the latched half of the one before.
    ///
    /// # Context
    /// Thread of this CPU.
    pub fn forget_last_rip(&self) {
        // Relaxed: for this CPU's NMIs only.
        self.last_rip.store(NO_RIP, Ordering::Relaxed);
    }

    /// Notes that this CPU is about to halt: NMIs find it at one instruction, again and again, and that is no row; and
    /// where it samples, ticks of the clock are not instructions any more.
    ///
    /// # Context
    /// Thread of this CPU.
    pub fn note_halt(&self) {
        self.forget_last_rip();
        if self.sampler.is_on() {
            self.counters.halts.increment();
        }
    }

    /// Reads all counters at one moment between NMIs.
    ///
    /// # Context
    /// Thread, on this CPU. An NMI during the reads is noticed by the number of entries; the counters are
    /// then read again, as long as it takes a few times.
    pub fn snapshot(&self) -> NmiCounters {
        const TRIES: usize = 16;
        let mut counts = self.read_counters();
        for _ in 0..TRIES {
            let again = self.read_counters();
            if again == counts {
                break;
            }
            counts = again;
        }
        counts
    }

    fn read_counters(&self) -> NmiCounters {
        let entries = self.stack.read_counters();
        NmiCounters {
            entries: entries.entries,
            nested: entries.nested,
            rerun: entries.rerun,
            ..self.counters.read()
        }
    }
}

// SAFETY: (1) all fields but `dispatcher` are atomics or never written; (2) `dispatcher` is touched by `run`
// only, which is never re-entered on its CPU (invariant NMI-once).
unsafe impl Sync for PerCpu {}

/// Handles one NMI, or the run that nested ones asked for.
///
/// # Context
/// NMI; called by the entries only.
pub(crate) extern "C" fn run(cpu: &Cpu, frame: &IretFrame, frame_pointer: u64) {
    #[cfg(feature = "selftest")]
    cpu.nmi.experiment.begin_run(cpu.nmi.stack.read_counters().entries);
    // SAFETY: (1) this is the NMI of the slot's CPU; (2) `end_run` below.
    let Some(sampler) = (unsafe { cpu.nmi.sampler.begin_run() }) else {
        return run_without_sampler(cpu, frame, frame_pointer);
    };
    if !sampler.is_usual() {
        return run_unusual(cpu, frame, frame_pointer, sampler);
    }
    let sampler = handle::<true>(cpu, frame, frame_pointer, Some(sampler));
    cpu.nmi.sampler.end_run(sampler);
}

/// Handles one NMI with whatever counts: apart, so that the usual samplers do not pay for its registers.
#[inline(never)]
fn run_unusual(cpu: &Cpu, frame: &IretFrame, frame_pointer: u64, sampler: &mut Sampler) {
    #[cfg(feature = "selftest")]
    if sampler.is_timed() {
        return run_timed(cpu, frame, frame_pointer, sampler);
    }
    let sampler = handle::<false>(cpu, frame, frame_pointer, Some(sampler));
    cpu.nmi.sampler.end_run(sampler);
}

/// Handles one NMI as a usual one, and notes how long that takes.
#[cfg(feature = "selftest")]
#[inline(never)]
fn run_timed(cpu: &Cpu, frame: &IretFrame, frame_pointer: u64, sampler: &mut Sampler) {
    sampler.set_timed(false);
    crate::selftest::handler_times::begin_run(cpu);
    let mut sampler = handle::<true>(cpu, frame, frame_pointer, Some(sampler));
    crate::selftest::handler_times::end_run(cpu);
    if let Some(sampler) = &mut sampler {
        sampler.set_timed(true);
    }
    cpu.nmi.sampler.end_run(sampler);
}

/// Handles an NMI while sampling is off; reports one that found the handler running.
#[cold]
fn run_without_sampler(cpu: &Cpu, frame: &IretFrame, frame_pointer: u64) {
    let nmi = &cpu.nmi;
    if nmi.sampler.is_in_use() {
        #[cfg(feature = "selftest")]
        nmi.experiment.reentered();
        report::broken_invariant("NMI-once: the handler was entered while it was running", frame);
    }
    nmi.sampler.begin_empty_run();
    #[cfg(feature = "selftest")]
    crate::selftest::turnstile::begin_run(cpu.index);
    handle::<false>(cpu, frame, frame_pointer, None);
    nmi.sampler.end_run(None);
    #[cfg(feature = "selftest")]
    crate::selftest::turnstile::end_run(cpu.index);
}

/// Asks the handlers; gives the sampler back.
///
/// A copy for each of its callers, so that a run with a usual sampler need not ask for it again and again.
#[inline(always)]
fn handle<'a, const USUAL: bool>(
    cpu: &'a Cpu,
    frame: &'a IretFrame,
    frame_pointer: u64,
    sampler: Option<&'a mut Sampler>,
) -> Option<&'a mut Sampler> {
    let nmi = &cpu.nmi;
    #[cfg(feature = "selftest")]
    nmi.experiment.go_on();
    // SAFETY: NMI-once (the caller has taken the sampler's slot), so this is the only reference to it.
    let dispatcher = unsafe { &mut *nmi.dispatcher.get() };
    #[cfg(feature = "selftest")]
    crate::selftest::exceptions::raise_all(nmi, cpu.apic);
    #[cfg(feature = "selftest")]
    nmi.staging.act(nmi, cpu.apic, frame.rip);
    #[cfg(feature = "selftest")]
    crate::selftest::windows::note(frame, nmi, cpu.apic);
    #[cfg(feature = "selftest")]
    crate::selftest::spaces::walk_all(cpu);
    let interrupted = Interrupted { nmi, frame, frame_pointer };
    let mut run = Run { interrupted, sampler };
    dispatch::dispatch::<USUAL>(dispatcher, &mut run);
    run.sampler
}
