//! The storm: random nestings, with first touches again and again, until there were `sweep_last` of them.
//!
//! It is made of bursts of the [placement](super::placement)'s experiment, in which every run of the handler
//! touches an absent page and provokes one more NMI, by the APIC or by the timer with random ticks. All
//! invariants are checked after every burst, and NMI-live at every report. A report is one
//! [`Frame::Placement`] about each [`REPORT_NESTINGS`], whose `ticks` are the nestings so far and whose other
//! counts are those since the report before. The seed is `sweep_first`: the same one gives the same storm.

use nmiprof_wire::{Frame, Options, Placement};

use super::placement::Bench;
use crate::arch::experiment::LINE_INSTRUCTIONS;
use crate::arch::percpu::PerCpu;
use crate::nmi::experiment::PROVOKED_TICKS_MAX;
use crate::{info, stream};

/// NMIs that one burst provokes.
const BURST: u32 = 24;
/// Pages that one burst touches.
const PAGES: u64 = BURST as u64 + 2;
/// Nested arrivals between two reports, about.
const REPORT_NESTINGS: u16 = 1000;
/// Reports without a nested arrival after which there will be none: NMIs stay masked in this configuration.
const CALM_REPORTS_MAX: u32 = 10;

const _: () = assert!((BURST + 2) * PROVOKED_TICKS_MAX < LINE_INSTRUCTIONS, "the line outlasts every timer");

/// Runs the storm that the options ask for, and sends its reports.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu) {
    let mut seeds = Seeds(u64::from(options.sweep_first));
    info!("storm: {} nestings, seed {} (sweep_first)", options.sweep_last, options.sweep_first);
    let mut bench = Bench::new(cpu, PAGES);
    let (mut nestings, mut failed, mut calm) = (0, 0, 0);
    while nestings < options.sweep_last && calm < CALM_REPORTS_MAX {
        let report = gather(&mut bench, &mut seeds, nestings);
        nestings = report.ticks;
        calm = if report.nested == 0 { calm + 1 } else { 0 };
        failed += u32::from(report.failures != 0);
        stream::send(&Frame::Placement(report));
    }
    bench.finish();
    info!("storm: {nestings} nestings, {failed} reports with failures");
}

/// Runs bursts until there is something to report.
fn gather(bench: &mut Bench, seeds: &mut Seeds, nestings: u32) -> Placement {
    let mut sum = Placement { ticks: nestings, ..Placement::default() };
    for _ in 0..REPORT_NESTINGS {
        let burst = bench.burst(BURST, seeds.next());
        sum.last_rip = burst.last_rip;
        sum.arrivals = sum.arrivals.saturating_add(burst.arrivals);
        sum.runs = sum.runs.saturating_add(burst.runs);
        sum.nested = sum.nested.saturating_add(burst.nested);
        sum.failures |= burst.failures;
        if sum.nested >= REPORT_NESTINGS || burst.failures != 0 {
            break;
        }
    }
    sum.ticks = nestings.saturating_add(u32::from(sum.nested));
    sum.failures |= bench.control();
    sum
}

/// Seeds of the bursts: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
struct Seeds(u64);

impl Seeds {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut seed = self.0;
        seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (seed ^ (seed >> 31)).max(1)
    }
}
