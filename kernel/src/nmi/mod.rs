//! Non-maskable interrupts: from the entry at vector 2 to the sample.
//!
//! [`entry`] is the assembly that survives nesting; it calls [`run`], which asks the [`dispatch`]er's
//! handlers what happened. Everything below runs with **no lock, no allocation, no panic, no formatting,
//! no float and no unbounded loop**. It may fault where it touches ring memory, and nowhere else.

#![expect(unsafe_code, reason = "hands the NMI its own state, by the invariant NMI-once")]
#![deny(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod control;
mod control_port;
pub mod counters;
pub mod dispatch;
pub mod entry;
#[cfg(feature = "selftest")]
pub mod experiment;
mod first_fault;

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use nmiprof_wire::{FaultReturn, NmiCounters, Options};

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::percpu::PerCpu as Cpu;
use crate::memory::fault::{PageFault, Resolution};
use crate::report;
use crate::sampler::Sampler;
use counters::Counters;
use dispatch::Dispatcher;
use entry::NmiStack;
pub use first_fault::FirstFault;

/// What the NMI path of one CPU owns and counts.
pub struct PerCpu {
    stack: NmiStack,
    /// Marker of NMI-once: the handler is running. Written by the NMI; read by its page faults.
    running: AtomicBool,
    /// Counts, written by the NMI, read by the thread.
    pub counters: Counters,
    /// Self-NMIs sent and not claimed. Written by whoever sends on this CPU, thread or NMI, and cleared by
    /// the handler.
    self_nmis: AtomicU32,
    /// Send a self-NMI at each page fault that is resolved. Written by the thread, read by the NMI.
    nest_on_first_touch: AtomicBool,
    /// The first page fault inside an NMI.
    pub first_fault: FirstFault,
    /// The experiment of the NMI sweep.
    #[cfg(feature = "selftest")]
    pub experiment: experiment::Experiment,
    /// Exceptions inside an NMI return without `iret`.
    masked_fault_return: bool,
    /// What the handler samples with; null while sampling is off. Written by the thread of this CPU, read by
    /// its NMI. Whoever reads it owns it: an NMI is over before the thread goes on.
    sampler: AtomicPtr<Sampler>,
    /// State that only the handler touches.
    dispatcher: UnsafeCell<Dispatcher>,
}

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
            running: AtomicBool::new(false),
            counters: Counters::new(),
            self_nmis: AtomicU32::new(0),
            nest_on_first_touch: AtomicBool::new(false),
            first_fault: FirstFault::new(),
            #[cfg(feature = "selftest")]
            experiment: experiment::Experiment::default(),
            masked_fault_return: options.fault_return == FaultReturn::Ret,
            sampler: AtomicPtr::new(ptr::null_mut()),
            dispatcher: UnsafeCell::new(Dispatcher::new(options.dispatch, options.unknown)),
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
        self.running.load(Ordering::Relaxed).then_some(self)
    }

    /// Tells an exception whether to return without `iret`: inside an NMI, where that was asked for.
    #[inline]
    pub fn returns_masked(&self) -> bool {
        self.masked_fault_return && self.running.load(Ordering::Relaxed)
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
    pub fn send_self_nmi(&self, apic: LocalApic) {
        self.self_nmis.fetch_add(1, Ordering::Relaxed);
        apic.send_self_nmi();
    }

    /// Claims the self-NMIs sent so far; they merge into one event.
    fn claim_self_nmis(&self) -> u32 {
        // Two steps suffice: nothing of this CPU that sends can come in between, for there is no fault.
        let sent = self.self_nmis.load(Ordering::Relaxed);
        if sent > 0 {
            self.self_nmis.store(0, Ordering::Relaxed);
        }
        sent.min(1)
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
    let nmi = &cpu.nmi;
    // Relaxed: only this CPU's NMI writes the marker, and program order is enough for itself.
    if nmi.running.load(Ordering::Relaxed) {
        #[cfg(feature = "selftest")]
        nmi.experiment.reentered();
        report::broken_invariant("NMI-once: the handler was entered while it was running", frame);
    }
    nmi.running.store(true, Ordering::Relaxed);
    #[cfg(feature = "selftest")]
    nmi.experiment.begin_run(nmi.stack.read_counters().entries);
    // SAFETY: NMI-once (checked above), so this is the only reference to the dispatcher.
    let dispatcher = unsafe { &mut *nmi.dispatcher.get() };
    // Acquire: pairs with `start`, so that the sampler is complete.
    let sampler = nmi.sampler.load(Ordering::Acquire);
    // SAFETY: (1) not null means that `start` has put a live sampler there and `stop` has not taken it;
    // (2) the thread of this CPU does not run now, and NMI-once, so this is the only reference to it.
    let sampler = unsafe { sampler.as_mut() };
    #[cfg(feature = "selftest")]
    crate::selftest::exceptions::raise_all(nmi, cpu.apic);
    #[cfg(feature = "selftest")]
    crate::selftest::windows::note(frame, nmi, cpu.apic);
    #[cfg(feature = "selftest")]
    crate::selftest::spaces::walk_all(cpu);
    let interrupted = Interrupted { nmi, frame, frame_pointer };
    dispatch::dispatch(dispatcher, &mut Run { interrupted, sampler });
    nmi.running.store(false, Ordering::Relaxed);
}
