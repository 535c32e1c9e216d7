//! The pairs of the NMI sweep: a second NMI at one instruction of a first one, and a third one at every
//! instruction after that.
//!
//! For each number of ticks from `sweep_first` to `sweep_last`, which is that of a
//! [placement](super::placement), one row: a pair for each gap from `third_first` to `third_last`, until the
//! third NMI lands after the return of all others. A failure does not end anything: the host judges.
//!
//! The second NMI is the timer's, the third the HPET's. That their ticks are the same is checked before the
//! first pair, so that a gap is an exact number of instructions.

use core::fmt;

use nmiprof_wire::{Failure, Frame, Landing, Options, Pair, Stress};

use super::placement::Bench;
use crate::arch::arrivals;
use crate::arch::experiment::{LINE_INSTRUCTIONS, THIRD_TICK_INSTRUCTIONS, Third, is_beyond_return};
use crate::arch::hpet::message::Hpet;
use crate::arch::percpu::PerCpu;
use crate::{info, report, stream};

/// Pages that one pair touches: one on each run, so that each run has a fault that unmasks NMIs.
const PAGES: u64 = 3;
/// Pairs at the end of a row whose third NMI landed after the return.
const AFTER_RETURN: u32 = 16;
/// Ticks after which every first NMI has returned, without another one.
const CHECK_TICKS: u32 = 2000;
/// Ticks in which a second one returns there.
const CHECK_GAP: u32 = 1000;

const _: () = assert!(CHECK_TICKS + CHECK_GAP < LINE_INSTRUCTIONS, "the line outlasts both");

/// Runs the pairs that the options ask for, and sends each.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu) {
    check(options);
    let source = match (Hpet::find(), cpu.apic.nmi_message()) {
        (Ok(source), Some(message)) => {
            source.route(message);
            source
        }
        (Err(error), _) => refuse(format_args!("{error}")),
        (_, None) => refuse(format_args!("the APIC's ID does not fit into a message; run QEMU's TCG")),
    };
    let mut pairs = Pairs { bench: Bench::new(cpu, PAGES), source };
    arrivals::install(cpu.nmi.experiment.runs());
    pairs.check_source();
    let (mut done, mut failed) = (0, 0);
    for ticks in options.sweep_first..=options.sweep_last {
        pairs.row(ticks, options, |pair| {
            done += 1;
            failed += u32::from(pair.failures != 0);
            stream::send(&Frame::Pair(pair));
        });
    }
    pairs.bench.finish();
    info!("pairs: {done}, {failed} with failures");
}

fn check(options: &Options<'_>) {
    let Options { sweep_first, sweep_last, third_first, third_last, .. } = *options;
    let outlasts = sweep_last.checked_add(third_last).is_some_and(|ticks| ticks <= LINE_INSTRUCTIONS);
    if sweep_first > sweep_last || third_first > third_last || !outlasts {
        refuse(format_args!(
            "sweep_first={sweep_first} sweep_last={sweep_last} third_first={third_first} third_last={third_last}: \
             the first must not be above the last, and the last two together not above {LINE_INSTRUCTIONS}"
        ));
    }
    if options.stress != Stress::None {
        refuse(format_args!("it counts its NMIs: leave stress={} out", options.stress));
    }
}

fn refuse(why: fmt::Arguments<'_>) -> ! {
    report::configuration(format_args!("selftest=pairs: {why}"))
}

struct Pairs {
    bench: Bench,
    source: Hpet,
}

impl Pairs {
    /// Does one row, until [`AFTER_RETURN`] third NMIs in a row have landed after the return.
    fn row(&mut self, ticks: u32, options: &Options<'_>, mut done: impl FnMut(Pair)) {
        let mut after_return = 0;
        for gap in options.third_first..=options.third_last {
            let timer = ticks + arrivals::INSTRUCTIONS;
            let mut pair = Pair { ticks, gap, ..self.place(timer, timer + gap) };
            pair.failures |= self.bench.control();
            let has_returned = is_beyond_return(pair.third.address());
            done(pair);
            after_return = if has_returned { after_return + 1 } else { 0 };
            if after_return == AFTER_RETURN {
                return;
            }
        }
    }

    /// Raises the timer's NMI and the HPET's at these ticks. Ticks and gap are left out of the result.
    fn place(&mut self, timer: u32, hpet: u32) -> Pair {
        let placement = self.bench.place_with(timer, &Third::at(self.source, hpet));
        // Two where the HPET's NMI merged with the timer's. The host knows where it can.
        let has_all = (2..=3).contains(&placement.arrivals);
        Pair {
            second: landing(1),
            third: landing(2),
            arrivals: placement.arrivals,
            runs: placement.runs,
            nested: placement.nested,
            failures: placement.failures | if has_all { 0 } else { Failure::Latch.bit() },
            ..Pair::default()
        }
    }

    /// Checks that the HPET's NMI is raised at just the tick at which the timer's would be, at every phase of the
    /// HPET's own tick: the second of three NMIs lands at the same instruction, whichever of them it is.
    fn check_source(&mut self) {
        for phase in 0..=THIRD_TICK_INSTRUCTIONS {
            let (first, last) = (CHECK_TICKS + phase, CHECK_TICKS + phase + CHECK_GAP);
            let [by_timer, by_hpet] =
                [(first, last), (last, first)].map(|(timer, hpet)| self.place(timer, hpet));
            let is_exact =
                by_timer.second == by_hpet.second && by_timer.arrivals == 3 && by_hpet.arrivals == 3;
            if phase > 0 && !(is_exact && is_beyond_return(by_timer.second.address())) {
                refuse(format_args!(
                    "the NMI of the HPET (period {} fs) does not keep time with that of the APIC's timer; run QEMU's TCG \
                     with `-icount shift=0 -global hpet.msi=on`",
                    self.source.period_fs()
                ));
            }
        }
        // The dispatcher remembers the NMI before: each pair comes after a control.
        self.bench.control();
    }
}

/// Returns what the arrival with this number interrupted; the default where there was none.
fn landing(number: usize) -> Landing {
    let arrival = arrivals::get(number);
    arrival
        .map_or(Landing::default(), |(rip, runs)| Landing::at(rip, u16::try_from(runs).unwrap_or(u16::MAX)))
}
