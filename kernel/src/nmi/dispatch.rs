//! Who raised the NMI.
//!
//! An NMI has no vector of its own to tell its source: every handler is asked how many events it handled.
//! One NMI may find several (they merge while NMIs are masked), and the NMI that was latched for a second
//! one then finds nothing. It interrupts the same instruction as the one before (*back-to-back*), so an
//! empty NMI is *swallowed* if it is back-to-back and an earlier one in the same row handled more than one
//! event. After Zickus, "x86, nmi: add in logic to handle multiple events and unknown NMIs" (Linux 3.2).
//!
//! Order, on every run: the local handlers; if none handled anything, system control port B (SERR, IOCHK);
//! if that says nothing, swallowed or unknown. Each run has exactly one outcome.
//!
//! **Walk-all** asks every local handler, always. **Stop-early** stops at the first that handled something,
//! unless the NMI is back-to-back: cheaper, but an event that merged into an NMI whose first handler was
//! served is not looked at until the next back-to-back NMI, which may never come.
//!
//! A truly unknown NMI that merges with a PMI is lost either way: the CPU latches one.

use nmiprof_pmu::Pmu;
use nmiprof_wire::{Dispatch, UnknownPolicy};

use super::Run;
use super::control_port::{self, Reason};
use super::counters::Counters;
use crate::arch::frame::IretFrame;
use crate::report;

/// A handler: says how many events of its source it handled.
type Ask = fn(&mut Run<'_>) -> u32;

/// Handlers of this CPU's own events.
const LOCAL: &[Ask] = &[
    overflow,
    self_nmi,
    #[cfg(feature = "selftest")]
    experiment,
];

/// What the dispatcher was told, and what it remembers from one NMI to the next.
#[derive(Debug)]
pub struct Dispatcher {
    mode: Dispatch,
    unknown: UnknownPolicy,
    last_rip: u64,
    /// An NMI of this row handled more than one event: the row may end with an empty one.
    swallow: bool,
}

impl Dispatcher {
    /// Creates the state before the first NMI.
    pub const fn new(mode: Dispatch, unknown: UnknownPolicy) -> Self {
        Self { mode, unknown, last_rip: 0, swallow: false }
    }

    /// Notes an NMI at `rip` and tells whether it continues the row.
    fn arrive(&mut self, rip: u64) -> bool {
        let continues = rip == self.last_rip;
        self.swallow &= continues;
        self.last_rip = rip;
        continues
    }
}

/// Asks every handler, and accounts for the outcome.
#[inline]
pub fn dispatch(dispatcher: &mut Dispatcher, run: &mut Run<'_>) {
    let counters = &run.interrupted.nmi.counters;
    counters.runs.increment();
    let back_to_back = dispatcher.arrive(run.interrupted.frame.rip);
    if back_to_back {
        counters.back_to_back.increment();
    }
    let stops = dispatcher.mode == Dispatch::StopEarly && !back_to_back;
    let handled = ask_local(run, stops);
    if handled > 0 {
        counters.handled.increment();
        dispatcher.swallow |= handled > 1;
    } else {
        explain_empty(dispatcher, counters, run.interrupted.frame);
    }
    if let Some(sampler) = &mut run.sampler {
        sampler.pmu.rearm();
    }
}

#[inline]
fn ask_local(run: &mut Run<'_>, stops: bool) -> u32 {
    // A fold over a constant list: the compiler turns it into direct, inlined calls.
    LOCAL.iter().fold(0, |handled, ask| if stops && handled > 0 { handled } else { handled + ask(run) })
}

/// Accounts for a run in which no local handler found anything.
#[cold]
fn explain_empty(dispatcher: &Dispatcher, counters: &Counters, frame: &IretFrame) {
    match control_port::take_reason() {
        Reason::Busy => counters.reason_busy.increment(),
        Reason::External => counters.external.increment(),
        Reason::None if dispatcher.swallow => counters.swallowed.increment(),
        Reason::None => {
            counters.unknown.increment();
            if dispatcher.unknown == UnknownPolicy::Stop {
                report::unknown_nmi(frame);
            }
        }
    }
}

fn overflow(run: &mut Run<'_>) -> u32 {
    run.sampler.as_mut().map_or(0, |sampler| sampler.handle(&run.interrupted))
}

fn self_nmi(run: &mut Run<'_>) -> u32 {
    run.interrupted.nmi.claim_self_nmis()
}

#[cfg(feature = "selftest")]
fn experiment(run: &mut Run<'_>) -> u32 {
    run.interrupted.nmi.experiment.handle(run.interrupted.frame.rip)
}
