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

/// More events than any NMI has: every handler is asked.
const ALL_EVENTS: u32 = u32::MAX;

/// Asks the handlers of a list in turn, until enough events are handled; adds up how many.
///
/// A macro, so that every call is direct and inlined, in each copy of the dispatcher.
macro_rules! ask_in_turn {
    ($run:expr, $enough:expr, [$first:path, $($(#[$only:meta])? $ask:path),+ $(,)?]) => {{
        let mut handled = $first($run);
        $(
            $(#[$only])?
            if handled < $enough {
                handled += $ask($run);
            }
        )+
        handled
    }};
}

/// What the dispatcher was told, and what it remembers from one NMI to the next.
#[derive(Debug)]
pub struct Dispatcher {
    /// Events that are enough for an NMI that begins a row.
    enough: u32,
    unknown: UnknownPolicy,
    last_rip: u64,
    /// An NMI of this row handled more than one event: the row may end with an empty one.
    swallow: bool,
}

impl Dispatcher {
    /// Creates the state before the first NMI.
    pub const fn new(mode: Dispatch, unknown: UnknownPolicy) -> Self {
        let enough = match mode {
            Dispatch::WalkAll => ALL_EVENTS,
            Dispatch::StopEarly => 1,
        };
        Self { enough, unknown, last_rip: 0, swallow: false }
    }

    /// Notes an NMI at `rip`; returns how many events are enough, so that no further handler is asked.
    #[inline(always)]
    fn arrive(&mut self, rip: u64, counters: &Counters) -> u32 {
        if rip == self.last_rip {
            counters.back_to_back.increment();
            return ALL_EVENTS;
        }
        self.last_rip = rip;
        self.swallow = false;
        self.enough
    }
}

/// Asks every handler, and accounts for the outcome.
#[inline(always)]
pub fn dispatch(dispatcher: &mut Dispatcher, run: &mut Run<'_>) {
    let counters = &run.interrupted.nmi.counters;
    counters.runs.increment();
    let enough = dispatcher.arrive(run.interrupted.frame.rip, counters);
    // This CPU's own events.
    let handled = ask_in_turn!(
        run,
        enough,
        [
            overflow,
            self_nmi,
            #[cfg(feature = "selftest")]
            experiment,
        ]
    );
    if handled == 1 {
        counters.handled.increment();
    } else {
        account_for_unusual(dispatcher, counters, handled, run.interrupted.frame);
    }
    if let Some(sampler) = &mut run.sampler {
        sampler.pmu.rearm();
    }
}

/// Accounts for a run in which the local handlers found nothing, or more than one event.
#[cold]
fn account_for_unusual(dispatcher: &mut Dispatcher, counters: &Counters, handled: u32, frame: &IretFrame) {
    if handled == 0 {
        return explain_empty(dispatcher, counters, frame);
    }
    counters.handled.increment();
    dispatcher.swallow = true;
}

/// Accounts for a run in which no local handler found anything.
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

#[inline(always)]
fn overflow(run: &mut Run<'_>) -> u32 {
    run.sampler.as_mut().map_or(0, |sampler| sampler.handle(&run.interrupted))
}

#[inline(always)]
fn self_nmi(run: &mut Run<'_>) -> u32 {
    run.interrupted.nmi.claim_self_nmis()
}

#[cfg(feature = "selftest")]
fn experiment(run: &mut Run<'_>) -> u32 {
    run.interrupted.nmi.experiment.handle(run.interrupted.frame.rip)
}
