//! Who raised the NMI.
//!
//! An NMI has no vector of its own to tell its source: every handler is asked how many events it handled.
//! One NMI may find several (they merge while NMIs are masked), and the NMI that was latched for a second
//! one then finds nothing. It interrupts the same instruction as the one before (*back-to-back*), so an
//! empty NMI is *swallowed* if it is back-to-back and an earlier one in the same row handled more than one
//! event. After Zickus, "x86, nmi: add in logic to handle multiple events and unknown NMIs" (Linux 3.2).
//!
//! Order, on every run: the [local handlers](handlers::ask_local); if none handled anything, a [line](broadcast) that
//! reaches CPUs which don't sample; else system control port B and the handlers of what it says; if it says nothing,
//! swallowed; else the PMU, whether it was a late one of its own, and the mailbox; else the first handler for unknown
//! NMIs; else unknown. Each run has exactly one outcome (invariant Dispatch).
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

use nmiprof_wire::{Dispatch, UnknownPolicy};

use super::broadcast;
use super::control_port::{self, Reason};
use super::handlers::{self, Unclaimed, ask_all};
use super::mailbox::Mailbox;
use super::{Interrupted, Run};
use crate::report;
use crate::sampler::Sampler;

/// More events than any NMI has: every handler is asked.
const ALL_EVENTS: u32 = u32::MAX;

/// What the dispatcher was told, and what it remembers from one NMI to the next; but for the last RIP.
#[derive(Debug)]
pub struct Dispatcher {
    /// Events that are enough for an NMI that begins a row.
    enough: u32,
    unknown: UnknownPolicy,
    /// An NMI of this row handled more than one event: the row may end with an empty one.
    swallow: bool,
    #[cfg(feature = "selftest")]
    defect: super::defect::Defect,
}

impl Dispatcher {
    /// Creates the state before the first NMI.
    pub fn new(options: &nmiprof_wire::Options<'_>) -> Self {
        let enough = match options.dispatch {
            Dispatch::WalkAll => ALL_EVENTS,
            Dispatch::StopEarly => 1,
        };
        Self {
            enough,
            unknown: options.unknown,
            swallow: false,
            #[cfg(feature = "selftest")]
            defect: super::defect::Defect::named(options.mutant),
        }
    }

    /// Notes an NMI; returns how many events are enough, so that no further handler is asked.
    #[inline(always)]
    fn arrive(&mut self, run: &Run<'_>) -> u32 {
        let nmi = run.interrupted.nmi;
        let rip = self.rip(run);
        // Relaxed: the handler of this CPU is the only one who looks, and NMI-once.
        if rip == nmi.last_rip.load(Ordering::Relaxed) {
            nmi.counters.back_to_back.increment();
            return ALL_EVENTS;
        }
        nmi.last_rip.store(rip, Ordering::Relaxed);
        self.swallow &= self.keeps_swallow();
        self.enough
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
    fn is_late(&self, mailbox: &Mailbox) -> bool {
        mailbox.claims_late()
    }

    #[cfg(feature = "selftest")]
    fn is_late(&self, mailbox: &Mailbox) -> bool {
        self.defect.is_late(mailbox)
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

/// Asks every handler, and accounts for the outcome. `USUAL` says that the sampler is, if there is one.
#[inline(always)]
pub fn dispatch<const USUAL: bool>(dispatcher: &mut Dispatcher, run: &mut Run<'_>) {
    let counters = &run.interrupted.nmi.counters;
    counters.runs.increment();
    let enough = dispatcher.arrive(run);
    let handled = handlers::ask_local::<USUAL>(run, enough);
    if handled == 1 {
        counters.handled.increment();
    } else {
        let Interrupted { nmi, frame, .. } = run.interrupted;
        // A usual sampler has nothing to say about NMIs without an event.
        let sampler = if USUAL { None } else { run.sampler.as_deref_mut() };
        account_for_unusual::<USUAL>(dispatcher, Unclaimed { nmi, frame }, sampler, handled);
    }
    if let Some(sampler) = &mut run.sampler {
        sampler.timer.rearm();
    }
}

/// Accounts for a run in which the local handlers found nothing, or more than one event.
///
/// It gets its own copy of what it needs: a reference to the run would keep all of that in memory, where every
/// sample would have to store it.
#[cold]
fn account_for_unusual<const USUAL: bool>(
    dispatcher: &mut Dispatcher,
    run: Unclaimed<'_>,
    sampler: Option<&mut Sampler>,
    handled: u32,
) {
    if handled == 0 {
        return explain_empty::<USUAL>(dispatcher, run, if USUAL { None } else { sampler });
    }
    run.nmi.counters.handled.increment();
    dispatcher.swallow = true;
}

/// Accounts for a run in which no local handler found anything.
#[inline(always)]
fn explain_empty<const USUAL: bool>(
    dispatcher: &mut Dispatcher,
    mut run: Unclaimed<'_>,
    sampler: Option<&mut Sampler>,
) {
    let counters = &run.nmi.counters;
    if !USUAL && sampler.is_none() && broadcast::explains() {
        return counters.handled.increment();
    }
    match control_port::take_reason() {
        Reason::Busy => counters.reason_busy.increment(),
        Reason::Reported { serr, io_check } => explain_external(&mut run, serr, io_check),
        Reason::None if dispatcher.swallow => {
            dispatcher.swallow = false;
            counters.swallowed.increment();
            run.nmi.mailbox.late_was_explained();
            if let Some(sampler) = sampler {
                sampler.late_was_explained();
            }
        }
        // Asked after that, so that a claim is not used up for what the row explains.
        Reason::None if sampler.is_some_and(Sampler::claims_late) => counters.handled.increment(),
        Reason::None if dispatcher.is_late(&run.nmi.mailbox) => counters.handled.increment(),
        Reason::None => explain_unknown(dispatcher.unknown, &mut run),
    }
}

/// Accounts for what the chipset reported.
fn explain_external(run: &mut Unclaimed<'_>, serr: bool, io_check: bool) {
    let mut ask = |reported: bool, list| if reported { ask_all(list, run) } else { 0 };
    let handled = ask(serr, handlers::SERR) + ask(io_check, handlers::IO_CHECK);
    let counters = &run.nmi.counters;
    if handled > 0 { counters.handled.increment() } else { counters.external.increment() }
}

/// Accounts for an NMI that neither a local handler nor the chipset explains.
fn explain_unknown(policy: UnknownPolicy, run: &mut Unclaimed<'_>) {
    let first = handlers::UNKNOWN.get(..1).unwrap_or_default();
    if ask_all(first, run) > 0 {
        return run.nmi.counters.handled.increment();
    }
    run.nmi.counters.unknown.increment();
    if policy == UnknownPolicy::Stop {
        report::unknown_nmi(run.frame);
    }
}
