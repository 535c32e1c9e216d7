//! Who raised the NMI.
//!
//! An NMI has no vector of its own to tell its source: every handler is asked how many events it handled.
//! One NMI may find several (they merge while NMIs are masked), and the NMI that was latched for a second
//! one then finds nothing. It interrupts the same instruction as the one before (*back-to-back*), so an
//! empty NMI is *swallowed* if it is back-to-back and an earlier one in the same row handled more than one
//! event. After Zickus, "x86, nmi: add in logic to handle multiple events and unknown NMIs" (Linux 3.2).
//!
//! Order, on every run: the [local handlers](handlers::LOCAL); if none handled anything, system control port B
//! and the handlers of what it says; if it says nothing, swallowed; else the first handler for unknown NMIs;
//! else unknown. Each run has exactly one outcome (invariant Dispatch).
//!
//! **Walk-all** asks every local handler, always. **Stop-early** stops at the first that handled something,
//! unless the NMI is back-to-back: cheaper, but an event that merged into an NMI whose first handler was
//! served is not looked at until the next back-to-back NMI, which may never come.
//!
//! # What this can't know
//! The CPU latches one NMI. A truly unknown one that merges with a PMI is therefore lost, and so is one that is
//! swallowed: as in Linux. Code that stays at one instruction makes unrelated NMIs look back-to-back. In Linux
//! the swallow flag then excuses every empty one of them; here the first that it excuses uses it up, for only
//! one NMI can have been latched. An idle loop says where it begins anew: [`PerCpu::forget_last_rip`](super::PerCpu).

use core::sync::atomic::Ordering;

use nmiprof_pmu::Pmu;
use nmiprof_wire::{Dispatch, UnknownPolicy};

use super::control_port::{self, Reason};
use super::handlers::{self, Unclaimed, Walk, nmi_handle};
use super::{Interrupted, Run};
use crate::report;

/// What the dispatcher was told, and what it remembers from one NMI to the next; but for the last RIP.
#[derive(Debug)]
pub struct Dispatcher {
    mode: Dispatch,
    unknown: UnknownPolicy,
    /// An NMI of this row handled more than one event: the row may end with an empty one.
    swallow: bool,
    #[cfg(feature = "selftest")]
    defect: super::defect::Defect,
}

impl Dispatcher {
    /// Creates the state before the first NMI.
    pub fn new(options: &nmiprof_wire::Options<'_>) -> Self {
        Self {
            mode: options.dispatch,
            unknown: options.unknown,
            swallow: false,
            #[cfg(feature = "selftest")]
            defect: super::defect::Defect::named(options.mutant),
        }
    }

    /// Notes an NMI, and tells whether it continues the row.
    #[inline]
    fn arrive(&mut self, run: &Run<'_>) -> bool {
        let last_rip = &run.interrupted.nmi.last_rip;
        let rip = self.rip(run);
        // Relaxed: the handler of this CPU is the only one who looks, and NMI-once.
        let continues = rip == last_rip.load(Ordering::Relaxed);
        last_rip.store(rip, Ordering::Relaxed);
        self.swallow &= continues || self.keeps_swallow();
        continues
    }

    #[cfg(not(feature = "selftest"))]
    const fn rip(&self, run: &Run<'_>) -> u64 {
        run.interrupted.frame.rip
    }

    #[cfg(feature = "selftest")]
    fn rip(&self, run: &Run<'_>) -> u64 {
        self.defect.rip(&run.interrupted)
    }

    #[cfg(not(feature = "selftest"))]
    const fn keeps_swallow(&self) -> bool {
        false
    }

    #[cfg(feature = "selftest")]
    fn keeps_swallow(&self) -> bool {
        self.defect.keeps_swallow()
    }
}

/// Asks every handler, and accounts for the outcome.
#[inline]
pub fn dispatch(dispatcher: &mut Dispatcher, run: &mut Run<'_>) {
    let counters = &run.interrupted.nmi.counters;
    counters.runs.increment();
    let back_to_back = dispatcher.arrive(run);
    if back_to_back {
        counters.back_to_back.increment();
    }
    let stops = dispatcher.mode == Dispatch::StopEarly && !back_to_back;
    let walk = if stops { Walk::ToFirstHandled } else { Walk::All };
    let handled = nmi_handle(handlers::LOCAL, walk, run);
    if handled > 0 {
        counters.handled.increment();
        dispatcher.swallow |= handled > 1;
    } else {
        let Interrupted { nmi, frame, .. } = run.interrupted;
        explain_empty(dispatcher, Unclaimed { nmi, frame }, back_to_back);
    }
    if let Some(sampler) = &mut run.sampler {
        sampler.pmu.rearm();
    }
}

/// Accounts for a run in which no local handler found anything.
///
/// It gets its own copy of what it needs: a reference to the run would keep all of that in memory, where every
/// sample would have to store it.
#[cold]
fn explain_empty(dispatcher: &mut Dispatcher, mut run: Unclaimed<'_>, back_to_back: bool) {
    let counters = &run.nmi.counters;
    match control_port::take_reason() {
        Reason::Busy => counters.reason_busy.increment(),
        Reason::Reported { serr, io_check } => explain_external(&mut run, serr, io_check),
        Reason::None if back_to_back && dispatcher.swallow => {
            dispatcher.swallow = false;
            counters.swallowed.increment();
        }
        Reason::None => explain_unknown(dispatcher.unknown, &mut run),
    }
}

/// Accounts for what the chipset reported.
fn explain_external(run: &mut Unclaimed<'_>, serr: bool, io_check: bool) {
    let mut ask = |reported: bool, list| if reported { nmi_handle(list, Walk::All, run) } else { 0 };
    let handled = ask(serr, handlers::SERR) + ask(io_check, handlers::IO_CHECK);
    let counters = &run.nmi.counters;
    if handled > 0 { counters.handled.increment() } else { counters.external.increment() }
}

/// Accounts for an NMI that neither a local handler nor the chipset explains.
fn explain_unknown(policy: UnknownPolicy, run: &mut Unclaimed<'_>) {
    let first = handlers::UNKNOWN.get(..1).unwrap_or_default();
    if nmi_handle(first, Walk::All, run) > 0 {
        return run.nmi.counters.handled.increment();
    }
    run.nmi.counters.unknown.increment();
    if policy == UnknownPolicy::Stop {
        report::unknown_nmi(run.frame);
    }
}
