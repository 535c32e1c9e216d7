//! The NMI sweep: a second NMI at every instruction that a first one runs.
//!
//! One [placement](super::placement) for each number of ticks from `sweep_first` to `sweep_last`. A failure
//! does not end the sweep: the host judges. [`arch::experiment`](crate::arch::experiment) tells what a tick
//! means.

use nmiprof_wire::{Frame, Options, Stress};

use super::placement::Bench;
use crate::arch::experiment::{ENTRY_TICKS, LINE_INSTRUCTIONS};
use crate::arch::percpu::PerCpu;
use crate::nmi::experiment::Provoking;
use crate::{info, report, stream};

/// Runs placements with a third NMI: the first run touches its page, nests a self-NMI, and raises a breakpoint,
/// so that the timer's NMI finds the exit redirected and NMIs unmasked.
pub fn run_redirected(options: &Options<'_>, cpu: &'static PerCpu) {
    let Options { sweep_first: first, sweep_last: last, .. } = *options;
    if first < ENTRY_TICKS || last > LINE_INSTRUCTIONS {
        report::configuration(format_args!(
            "sweep_first={first} sweep_last={last}: from {ENTRY_TICKS} to {LINE_INSTRUCTIONS}"
        ));
    }
    let mut bench = Bench::new(cpu, 1);
    for ticks in first..=last {
        stream::send(&Frame::Placement(bench.place_provoking(ticks, Provoking::ThenBreakpoint)));
    }
    bench.finish();
}

/// Runs the placements that the options ask for, and sends each.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu) {
    let Options { sweep_first: first, sweep_last: last, .. } = *options;
    // Beyond the line the second NMI never comes: that is a reference, of the first NMI alone.
    let is_reference = first > LINE_INSTRUCTIONS;
    if first > last || (last > LINE_INSTRUCTIONS && !is_reference) {
        report::configuration(format_args!(
            "sweep_first={first} sweep_last={last}: the first must not be above the last, and both or neither above \
             {LINE_INSTRUCTIONS}"
        ));
    }
    if options.stress != Stress::None {
        report::configuration(format_args!(
            "selftest=sweep counts its NMIs: leave stress={} out",
            options.stress
        ));
    }
    let mut bench = Bench::new(cpu, 1);
    let mut failed = 0;
    for ticks in first..=last {
        let placement = bench.place(ticks);
        failed += u32::from(placement.failures != 0);
        stream::send(&Frame::Placement(placement));
    }
    bench.finish();
    info!(
        "sweep: {} placements, {failed} with failures; {ENTRY_TICKS} ticks are the entry's first instruction",
        last - first + 1
    );
}
