//! What stands in for an event on a virtual PMU, in words.

use nmiprof_pmu::event::{GenericEvent, generic_events, offer};
use nmiprof_pmu::model::{FORMULAS, Signal};
use nmiprof_pmu::{Capabilities, Encoding};

/// What a model says of an event for which it has no formula.
const NEVER: &str = "never";

/// Returns the formula of what a counter would be programmed with: a raw event may be one that has a name.
pub(super) fn of(encoding: &Encoding, capabilities: &Capabilities) -> &'static str {
    let is_it = |event: &&GenericEvent| {
        offer(**event, capabilities).is_ok_and(|offered| offered.select == encoding.select)
    };
    let signal = generic_events().iter().find(is_it).map(|event| signal_of(*event));
    let formula = signal.and_then(|signal| FORMULAS.iter().find(|formula| formula.signal == signal));
    formula.map_or(NEVER, |formula| formula.text)
}

const fn signal_of(event: GenericEvent) -> Signal {
    match event {
        GenericEvent::Cycles => Signal::UnhaltedCycles,
        GenericEvent::Instructions => Signal::Instructions,
        GenericEvent::RefCycles | GenericEvent::BusCycles => Signal::ReferenceCycles,
        GenericEvent::CacheReferences => Signal::LlcReferences,
        GenericEvent::CacheMisses => Signal::LlcMisses,
        GenericEvent::Branches => Signal::Branches,
        GenericEvent::BranchMisses => Signal::BranchMisses,
        GenericEvent::Slots => Signal::Slots,
        GenericEvent::StalledCyclesFrontend => Signal::StalledFrontend,
        GenericEvent::StalledCyclesBackend => Signal::StalledBackend,
    }
}
