//! The storm: random nestings, with first touches again and again, until there were `sweep_last` of them.
//!
//! It is made of bursts of the [placement](super::placement)'s experiment, in which every run of the handler
//! touches an absent page and provokes more NMIs: by the APIC, by the timer with random ticks, by both at once,
//! or out of a breakpoint's handler; and half of them raise a breakpoint afterwards. All
//! invariants are checked after every burst, and NMI-live at every report. A report is one
//! [`Frame::Placement`] about each [`REPORT_NESTINGS`], whose `ticks` are the nestings so far and whose other
//! counts are those since the report before. The seed is `sweep_first`: the same one gives the same storm.
//!
//! In the end come a [`Frame::Case`] for each thing that the storm provokes, with how often it did arise, and one
//! for each run of [`PENDING_RUNS`] with an NMI pending at every exit.

use nmiprof_wire::{CaseReport, Failure, Frame, Options, Placement};

use super::placement::{Bench, Observed};
use crate::arch::experiment::LINE_INSTRUCTIONS;
use crate::arch::percpu::PerCpu;
use crate::nmi::experiment::{PROVOKED_TICKS_MAX, Provoking};
use crate::{info, stream};

/// Provocations of one burst.
const BURST: u32 = 24;
/// Pages that one burst touches.
const PAGES: u64 = BURST as u64 + 2;
/// Nested arrivals between two reports, about.
const REPORT_NESTINGS: u16 = 1000;
/// Reports without a nested arrival after which there will be none: NMIs stay masked in this configuration.
const CALM_REPORTS_MAX: u32 = 10;
/// Exits with an NMI pending: a few, and many. Both must use as much stack.
const PENDING_RUNS: [u32; 2] = [100, 100_000];

/// Numbers of the situations that a storm reports on.
const PENDING_AT_EXIT: u16 = 11;
const RANDOM_NESTINGS: u16 = 15;
const NMI_IN_BREAKPOINT: u16 = 25;
const TWO_SOURCES_MERGED: u16 = 49;

const _: () = assert!((BURST + 2) * PROVOKED_TICKS_MAX < LINE_INSTRUCTIONS, "the line outlasts every timer");

/// Runs the storm that the options ask for, and sends its reports.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu) {
    let mut seeds = Seeds(u64::from(options.sweep_first));
    info!("storm: {} nestings, seed {} (sweep_first)", options.sweep_last, options.sweep_first);
    let mut bench = Bench::new(cpu, PAGES);
    let mut sums = Sums::default();
    let (mut nestings, mut failed, mut calm) = (0, 0, 0);
    while nestings < options.sweep_last && calm < CALM_REPORTS_MAX {
        let report = gather(&mut bench, &mut seeds, nestings, &mut sums);
        nestings = report.ticks;
        calm = if report.nested == 0 { calm + 1 } else { 0 };
        failed += u32::from(report.failures != 0);
        stream::send(&Frame::Placement(report));
    }
    sums.storm.stack_bytes = stack_use(cpu);
    sums.send();
    for runs in PENDING_RUNS {
        stream::send(&Frame::Case(pend(&mut bench, cpu, runs)));
    }
    bench.finish();
    info!("storm: {nestings} nestings, {failed} reports with failures");
}

/// Runs bursts until there is something to report.
fn gather(bench: &mut Bench, seeds: &mut Seeds, nestings: u32, sums: &mut Sums) -> Placement {
    let mut sum = Placement { ticks: nestings, ..Placement::default() };
    for _ in 0..REPORT_NESTINGS {
        let (burst, observed) = bench.burst(BURST, seeds.next());
        sums.add(&observed);
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

/// Keeps an NMI pending at each of so many exits, and then lets go.
///
/// An exit with one pending is one after which no instruction of the interrupted code was run: the next run
/// is *back-to-back*. That the report comes at all shows that the code goes on in the end.
fn pend(bench: &mut Bench, cpu: &PerCpu, runs: u32) -> CaseReport {
    cpu.nmi.stack().paint();
    let observed = bench.provoke(Provoking::AtExit(runs), true);
    let stack_bytes = stack_use(cpu);
    let expected = u64::from(runs) + 1;
    let counts_are_right = (observed.counts.entries, observed.counts.runs) == (expected, expected);
    let latch = if counts_are_right { 0 } else { Failure::Latch.bit() };
    let failures = observed.failures | latch | bench.control();
    CaseReport { stack_bytes, failures, ..observed.report(PENDING_AT_EXIT, observed.counts.back_to_back) }
}

fn stack_use(cpu: &PerCpu) -> u32 {
    u32::try_from(cpu.nmi.stack().deepest_use()).unwrap_or(u32::MAX)
}

/// What all bursts of a storm came to.
#[derive(Default)]
struct Sums {
    storm: CaseReport,
    hit_breakpoints: u64,
    merged: u64,
}

impl Sums {
    fn add(&mut self, burst: &Observed) {
        self.storm.arrivals += burst.counts.entries;
        self.storm.runs += burst.counts.runs;
        self.storm.nested += burst.counts.nested;
        self.storm.failures |= burst.failures;
        self.hit_breakpoints += u64::from(burst.outcome.hit_breakpoints);
        self.merged += u64::from(burst.outcome.merged);
    }

    fn send(&self) {
        for (case, hits) in [
            (RANDOM_NESTINGS, self.storm.nested),
            (NMI_IN_BREAKPOINT, self.hit_breakpoints),
            (TWO_SOURCES_MERGED, self.merged),
        ] {
            stream::send(&Frame::Case(CaseReport { case, hits, ..self.storm }));
        }
    }
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
