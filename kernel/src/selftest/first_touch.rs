//! What a sample costs when its page was never touched, or its address space does not have the ring yet.
//!
//! One sample at a time is taken in a straight line of instructions, and the line is timed: what exceeds the
//! line's own time is the whole NMI, from the first instruction of its entry to the last of its exit. Ticks must be
//! instructions.

#![expect(unsafe_code, reason = "loads address spaces")]

use alloc::vec::Vec;

use nmiprof_wire::Options;

use crate::arch::cpu::{self, SLED_INSTRUCTIONS};
use crate::info;
use crate::memory::space::{self, AddressSpace};
use crate::report;
use crate::session::Session;

/// Name of the measurement.
pub const NAME: &str = "first-touch";

/// Samples measured: enough for some pages.
const SAMPLES: usize = 1_200;
/// Samples in an old address space.
const OLD_SPACES: usize = 8;
/// Puts the one sample somewhere into the timed line.
const PERIOD: u64 = 5_000;
/// Puts it far behind.
const PERIOD_NEVER: u64 = 10_000_000;

/// Makes the processes, which have to be older than the ring's area.
pub fn prepare(options: &Options<'_>) -> Vec<AddressSpace> {
    let processes = if options.selftest == NAME { OLD_SPACES } else { 0 };
    let processes = (0..processes).map(|_| AddressSpace::new_process());
    processes.collect::<Result<_, _>>().unwrap_or_else(|error| {
        report::configuration(format_args!("no memory for address spaces ({error:?})"))
    })
}

/// Measures, and says what was found.
pub fn run(options: &Options<'_>, session: &mut Session, old: &[AddressSpace]) {
    session.begin();
    let line = time_line(session, PERIOD_NEVER);
    let mut costs = Vec::new();
    for _ in 0..SAMPLES {
        costs.push(time_line(session, PERIOD) - line);
        session.refill();
        session.flush(|_| ());
    }
    costs.sort_unstable();
    let warm = costs[costs.len() / 2];
    let pages: Vec<_> = costs.iter().copied().filter(|cost| *cost > warm).collect();
    let page = pages.first().copied().unwrap_or(warm);
    let old = old.iter().map(|process| {
        // SAFETY: the master is loaded again before the process is dropped.
        unsafe { process.load() };
        let cost = time_line(session, PERIOD) - line;
        space::load_master();
        session.flush(|_| ());
        cost
    });
    let old: Vec<_> = old.collect();
    info!(
        "first touch: ring={} warm={warm} new_page={page} old_space={} instructions; {} samples at a new page",
        options.ring,
        old.iter().min().copied().unwrap_or_default(),
        pages.len(),
    );
}

/// Times a line of instructions with one sample in it: always the same code, so that it costs the same.
#[inline(never)]
fn time_line(session: &mut Session, period: u64) -> u64 {
    let mut ticks = 0;
    session.sample(period, || {
        let start = cpu::timestamp();
        cpu::nop_sled(SLED_INSTRUCTIONS);
        ticks = cpu::timestamp() - start;
    });
    ticks
}
