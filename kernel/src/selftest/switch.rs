//! The historical race, at every instruction: an address space older than the ring's area is switched to while
//! sampling is on.
//!
//! Two processes for each placement are made *before* the ring. The first is loaded, sampling starts with a
//! period that puts its one overflow somewhere in the [line](crate::arch::switch_line) that switches to the second,
//! and the NMI is the first to notice that the ring is missing. It must bring the space up to date that CR3 says,
//! and no other; the sample must arrive. In the end an NMI meets an old space while the mapper's locks are held, and the
//! drain reads the ring in another one.

#![expect(unsafe_code, reason = "loads address spaces")]

use alloc::vec::Vec;

use nmiprof_wire::{Failure, Frame, NmiCounters, Options, Placement, RingMode};

use crate::arch::percpu::PerCpu;
use crate::arch::switch_line::{self, Line};
use crate::arch::{cpu, paging};
use crate::memory::frames;
use crate::memory::space::{self, AddressSpace};
use crate::session::Session;
use crate::{info, report, stream};

/// Name of the experiment.
pub const NAME: &str = "switch";
/// The mutant that brings the space up to date that software takes for the current one.
pub const SYNC_CURRENT: &str = "switch-sync-current";

/// Makes the processes, which have to be older than the ring's area.
pub fn prepare(options: &Options<'_>) -> Vec<AddressSpace> {
    if !matches!(options.selftest, NAME | SYNC_CURRENT) {
        return Vec::new();
    }
    let placements = options.sweep_last.saturating_sub(options.sweep_first) as usize + 1;
    let processes = (0..2 * (placements + 1)).map(|_| AddressSpace::new_process());
    processes.collect::<Result<_, _>>().unwrap_or_else(|error| {
        report::configuration(format_args!(
            "no memory for two address spaces for each of {placements} placements ({error:?})"
        ))
    })
}

/// Runs the placements that the options ask for, and sends each.
pub fn run(options: &Options<'_>, cpu: &'static PerCpu, session: &mut Session, mut old: Vec<AddressSpace>) {
    let Line { start, cr3, end } = switch_line::line();
    info!("switch: line from {start:#x} to {end:#x}, CR3 is loaded at {cr3:#x}");
    session.begin();
    let mut failed = 0;
    for period in options.sweep_first..=options.sweep_last {
        let (Some(from), Some(to)) = (old.pop(), old.pop()) else { break };
        let placement = place(options.ring, cpu, session, period, &[from, to]);
        failed += u32::from(placement.failures != 0);
        stream::send(&Frame::Placement(placement));
    }
    let (Some(first), Some(second)) = (old.pop(), old.pop()) else { return };
    let locked = meets_locks_in(&first, options.ring, session);
    let drained = drains_in(&second, options.ring, session);
    info!(
        "switch: {failed} placements with failures; up to date: under locks {locked}, by the drain {drained}"
    );
}

/// Samples the switch between two spaces once.
fn place(
    ring: RingMode,
    cpu: &PerCpu,
    session: &mut Session,
    period: u32,
    [from, to]: &[AddressSpace; 2],
) -> Placement {
    let before = cpu.nmi.snapshot();
    switch_line::set_current(from.root());
    // SAFETY: the caller keeps both until the master is loaded again, below.
    unsafe { from.load() };
    session.sample(u64::from(period), || {
        // SAFETY: as above.
        unsafe { switch_line::run(to.root()) };
    });
    let cr3_is_kept = paging::loaded() == to.root();
    switch_line::set_current(space::master_root());
    space::load_master();
    let counts = since(&before, &cpu.nmi.snapshot());
    let (mut samples, mut last_rip) = (0, 0);
    session.flush(|sample| {
        samples += 1;
        last_rip = sample.ip;
    });
    let is_in_line = (switch_line::line().start..=switch_line::line().end).contains(&last_rip);
    let synced = [from, to].map(|space| space.has_top_level(session.ring_address()));
    let mut failures = 0;
    let mut check = |failure: Failure, holds: bool| failures |= if holds { 0 } else { failure.bit() };
    check(Failure::Latch, samples == 1 && is_in_line);
    check(Failure::Space, cr3_is_kept && synced == expected(ring, last_rip));
    let narrow = |count: u64| u16::try_from(count).unwrap_or(u16::MAX);
    Placement {
        ticks: period,
        last_rip,
        arrivals: narrow(counts.entries),
        runs: narrow(counts.runs),
        nested: narrow(counts.nested),
        failures,
    }
}

/// Tells which of the two spaces must have the ring's top-level entry after a sample at `rip`.
fn expected(ring: RingMode, rip: u64) -> [bool; 2] {
    match ring {
        // The instruction at `rip` has not run yet.
        RingMode::Lazy if rip <= switch_line::line().cr3 => [true, false],
        RingMode::Lazy => [false, true],
        // Installed when the ring was made; or in the direct map, which every space has.
        RingMode::Sync | RingMode::Direct => [true, true],
    }
}

/// Takes samples in an old space while the locks of the mapper and of the frame allocator are held, and tells
/// whether the space has the ring then.
fn meets_locks_in(space: &AddressSpace, ring: RingMode, session: &mut Session) -> bool {
    let before = space.has_top_level(session.ring_address());
    switch_line::set_current(space.root());
    // SAFETY: the caller keeps it until the master is loaded again, below.
    unsafe { space.load() };
    session.sample(1_000, || {
        let _mapper = space::kernel();
        frames::while_locked(|| cpu::nop_sled(cpu::SLED_INSTRUCTIONS));
    });
    space::load_master();
    let mut samples = 0;
    session.flush(|_| samples += 1);
    before == (ring != RingMode::Lazy) && samples > 0 && space.has_top_level(session.ring_address())
}

/// Takes samples and drains them in an old space, and tells whether that has the ring then.
fn drains_in(space: &AddressSpace, ring: RingMode, session: &mut Session) -> bool {
    session.sample(1_000, || cpu::nop_sled(cpu::SLED_INSTRUCTIONS));
    let before = space.has_top_level(session.ring_address());
    switch_line::set_current(space.root());
    // SAFETY: the caller keeps it until the master is loaded again, below.
    unsafe { space.load() };
    session.flush(|_| ());
    space::load_master();
    before == (ring != RingMode::Lazy) && space.has_top_level(session.ring_address())
}

fn since(before: &NmiCounters, after: &NmiCounters) -> NmiCounters {
    NmiCounters {
        entries: after.entries.wrapping_sub(before.entries),
        runs: after.runs.wrapping_sub(before.runs),
        nested: after.nested.wrapping_sub(before.nested),
        ..NmiCounters::default()
    }
}
