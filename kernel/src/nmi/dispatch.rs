//! Who raised the NMI.
//!
//! An NMI has no vector of its own to tell its source: every handler is asked how many events it handled.
//! One NMI may find several (they merge while NMIs are masked), and the NMI that was latched for a second
//! one then finds nothing. It interrupts the same instruction as the one before (*back-to-back*), so an
//! empty NMI is *swallowed* if it is back-to-back and an earlier one in the same row handled more than one
//! event; else it is *unknown*. After Zickus, "x86, nmi: add in logic to handle multiple events and unknown
//! NMIs" (Linux 3.2). A truly unknown NMI that merges with a PMI is lost by this.

use nmiprof_pmu::Pmu;

use super::{Handler, Run};

/// Handlers of this CPU's own events: each returns how many it handled.
const LOCAL: &[fn(&mut Handler, &Run<'_>) -> u32] = &[
    overflow,
    self_nmi,
    #[cfg(feature = "selftest")]
    experiment,
];

/// What is remembered from one NMI to the next.
#[derive(Debug)]
pub struct BackToBack {
    last_rip: u64,
    /// An NMI of this row handled more than one event: the row may end with an empty one.
    swallow: bool,
}

impl BackToBack {
    /// Creates the state before the first NMI.
    pub const fn new() -> Self {
        Self { last_rip: 0, swallow: false }
    }

    /// Notes an NMI at `rip` and tells whether it continues the row.
    fn arrive(&mut self, rip: u64) -> bool {
        let continues = rip == self.last_rip;
        self.swallow &= continues;
        self.last_rip = rip;
        continues
    }
}

/// Asks every handler, and accounts for the outcome: each run gets exactly one.
#[inline]
pub fn dispatch(handler: &mut Handler, run: &Run<'_>) {
    let counters = &run.nmi.counters;
    counters.runs.increment();
    if handler.back_to_back.arrive(run.interrupted.rip) {
        counters.back_to_back.increment();
    }
    let handled: u32 = LOCAL.iter().map(|ask| ask(handler, run)).sum();
    if handled > 0 {
        counters.handled.increment();
        handler.back_to_back.swallow |= handled > 1;
    } else if handler.back_to_back.swallow {
        counters.swallowed.increment();
    } else {
        counters.unknown.increment();
    }
    if let Some(sampler) = &mut handler.sampler {
        sampler.pmu.rearm();
    }
}

fn overflow(handler: &mut Handler, run: &Run<'_>) -> u32 {
    handler.sampler.as_mut().map_or(0, |sampler| sampler.handle(run))
}

fn self_nmi(_: &mut Handler, run: &Run<'_>) -> u32 {
    run.nmi.claim_self_nmis()
}

#[cfg(feature = "selftest")]
fn experiment(_: &mut Handler, run: &Run<'_>) -> u32 {
    run.nmi.experiment.handle(run.interrupted.rip)
}
