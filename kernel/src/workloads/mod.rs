//! Workloads: code that is worth profiling, and that knows whether it computed the right thing.
//!
//! Adding one is adding a file and a line in [`ALL`], or in [`BY_NAME`] where it should run on request only.

mod chase;
mod hash;
mod irqs_off;
mod matrix;
mod parse;
mod shared;
mod sort;

use alloc::boxed::Box;
use alloc::vec::Vec;

use nmiprof_wire::{ClockKind, WorkloadResult};

use crate::arch::cpu;

/// A piece of work that can be done again and again.
pub trait Workload: Send {
    /// Does one step, about a million instructions, and tells whether its result is right.
    ///
    /// Every step does exactly the same work.
    fn step(&mut self) -> bool;
}

/// Name and constructor of a workload.
pub type Entry = (&'static str, fn() -> Box<dyn Workload>);

/// The workloads that run where none is named.
pub const ALL: &[Entry] = &[
    ("matrix", || Box::new(matrix::Matrix::new())),
    ("sort", || Box::new(sort::Sort::new())),
    ("hash", || Box::new(hash::Hash)),
    ("chase", || Box::new(chase::Chase::new())),
    ("parse", || Box::new(parse::Parse::new())),
    ("irqs-off", || Box::new(irqs_off::IrqsOff)),
];

/// Those that run where they are named: they show something only with several CPUs.
pub const BY_NAME: &[Entry] = &[("shared", || Box::new(shared::Shared::new()))];

/// Selects workloads by their comma-separated names, in that order; no name selects [`ALL`].
///
/// # Errors
/// The first name that is not known.
pub fn select(names: &str) -> Result<Vec<Task>, &str> {
    if names.is_empty() {
        return Ok(ALL.iter().map(Task::new).collect());
    }
    let find = |name| ALL.iter().chain(BY_NAME).find(|entry| entry.0 == name).map(Task::new).ok_or(name);
    names.split(',').map(find).collect()
}

/// A workload in use, and what came of it.
pub struct Task {
    name: &'static str,
    workload: Box<dyn Workload>,
    steps: u64,
    wrong_results: u64,
    instructions_per_step: Option<u64>,
}

impl Task {
    fn new(&(name, make): &Entry) -> Self {
        Self { name, workload: make(), steps: 0, wrong_results: 0, instructions_per_step: None }
    }

    /// Does one step.
    pub fn step(&mut self) {
        self.steps += 1;
        self.wrong_results += u64::from(!self.workload.step());
    }

    /// Measures the length of a step, where the clock counts instructions; call it with sampling off. The first step is
    /// not measured: it may be another one's first use of memory.
    pub fn measure_step(&mut self, clock: ClockKind) {
        if clock != ClockKind::Instructions {
            return;
        }
        self.workload.step();
        let start = cpu::timestamp();
        self.workload.step();
        self.instructions_per_step = Some(cpu::timestamp().wrapping_sub(start));
    }

    /// Returns the outcome so far.
    pub const fn result(&self) -> WorkloadResult<'static> {
        WorkloadResult {
            name: self.name,
            steps: self.steps,
            instructions_per_step: self.instructions_per_step,
            wrong_results: self.wrong_results,
        }
    }
}

/// A generator of reproducible numbers: a linear congruential one (Knuth's MMIX), upper bits used.
#[derive(Clone)]
struct Numbers(u64);

impl Numbers {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}
