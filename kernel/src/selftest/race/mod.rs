//! Races between CPUs: each situation in every order of its steps, and a long run on CPUs that do run in parallel.
//!
//! | case | raced for | by |
//! |---|---|---|
//! | 21 | a top-level entry, tables and a page of an area, in an address space that is older than it | two NMIs; two threads; an NMI and a thread that unmaps and maps, or makes the area |
//! | 50 | system control port B | two NMIs that nobody explains |
//!
//! [`turnstile`] forces the orders. One [`Frame::Case`] for each situation, whose `hits` are the orders in which
//! it was raced; the log has its name, and how often which entry was lost to the other CPU.

mod area;
mod long;
mod port;
mod scene;

use alloc::boxed::Box;

use nmiprof_wire::{CaseReport, Frame, NmiCounters, Options};

use super::turnstile::RACERS;
use crate::arch::percpu::{self, PerCpu};
use crate::memory::space::{self, AddressSpace};
use crate::{info, report, smp, stream};

/// Name of the self-test that forces every order.
pub const NAME: &str = "race";
/// Name of the long run.
pub const LONG: &str = "race-long";

/// Ticks of a second, about: for how long to wait.
const TICKS_PER_SECOND: u64 = 1 << 30;

/// Races for everything, in every order.
pub fn run() {
    let arena = Arena::new();
    scene::run(&arena);
    area::run(&arena);
    port::run(&arena);
    arena.leave();
}

/// Races for pages until the CPUs have met often enough, for the duration at most.
pub fn run_long(options: &Options<'_>) {
    let arena = Arena::new();
    long::run(&arena, options.duration_ns);
    arena.leave();
}

/// The CPUs that race, and the address space that they have in common, which is older than any area that is made
/// later.
struct Arena {
    cpus: [&'static PerCpu; RACERS],
    space: &'static AddressSpace,
}

impl Arena {
    /// Leads both CPUs into a new address space.
    fn new() -> Self {
        let cpus = [1, 2].map(|index| {
            percpu::of(index).unwrap_or_else(|| {
                report::configuration(format_args!("this self-test needs three CPUs: run QEMU with -smp 3"))
            })
        });
        let space = AddressSpace::new_process().expect("there is memory");
        let arena = Self { cpus, space: Box::leak(Box::new(space)) };
        arena.cpus.iter().for_each(|cpu| arena.load(cpu));
        arena
    }

    #[expect(unsafe_code, reason = "loads an address space")]
    fn load(&self, cpu: &'static PerCpu) {
        let space = self.space;
        // SAFETY: the space lives for ever.
        Self::make_do(cpu, move || unsafe { space.load() });
    }

    /// Leads them out again.
    fn leave(&self) {
        self.cpus.iter().for_each(|cpu| Self::make_do(cpu, space::load_master));
    }

    /// Lets a CPU do something, and returns when it has.
    fn make_do(cpu: &'static PerCpu, work: impl FnOnce() + Send + 'static) {
        smp::assign(cpu, TICKS_PER_SECOND, Box::new(|_| work()));
        Self::wait_until_parked(cpu);
    }

    fn wait_until_parked(cpu: &PerCpu) {
        while !smp::is_parked(cpu.index) {
            core::hint::spin_loop();
        }
    }

    /// Makes both forget what they have cached of an area, and fills their reserves.
    fn refresh(&self) {
        for cpu in self.cpus {
            smp::flush(cpu);
            cpu.reserve.refill();
        }
    }

    /// Reads what both have counted.
    fn counts(&self) -> [NmiCounters; RACERS] {
        self.cpus.map(|cpu| cpu.nmi.snapshot())
    }

    /// Returns how many frames both have taken, in all.
    fn frames_taken(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.reserve.counts().refilled).sum()
    }
}

/// Sends what came of a situation that was raced for in so many orders.
fn send(case: u16, hits: u64, failures: u32) {
    stream::send(&Frame::Case(CaseReport { case, hits, failures, ..CaseReport::default() }));
}

/// Says it, too.
fn say(case: u16, name: &str, orders: u64, what: core::fmt::Arguments<'_>, failures: u32) {
    info!("race, case {case}, {name}: {orders} orders; {what}; failures {failures:#x}");
}
