//! What is counted: events of instructions that retired, and what they cost.
//!
//! - [`cost`]: the model of time;
//! - [`cache`], [`branches`]: what memory accesses and branches add to it;
//! - [`raw`]: events that have a code and no name;
//! - [`sites`]: the truth, kept per address.

pub mod branches;
pub mod cache;
pub mod cost;
pub mod raw;
pub mod sites;

use std::ops::{Add, AddAssign, Sub};

use nmiprof_pmu::model::Signal;

/// How often each kind of event happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions retired.
    pub instructions: u64,
    /// Cycles that they took.
    pub cycles: u64,
    /// Branches retired.
    pub branches: u64,
    /// Those that went elsewhere than to the next instruction.
    pub taken_branches: u64,
    /// Those that the predictor was wrong about.
    pub branch_misses: u64,
    /// Words of memory read.
    pub loads: u64,
    /// Words of memory written.
    pub stores: u64,
    /// Accesses that reached the last-level cache.
    pub cache_references: u64,
    /// Accesses that missed it.
    pub cache_misses: u64,
    /// Cycles spent on refilling after a wrong prediction.
    pub stalled_frontend: u64,
    /// Cycles spent on waiting for memory.
    pub stalled_backend: u64,
}

/// Slots of the pipeline in each cycle.
const SLOTS_PER_CYCLE: u64 = 4;

impl Counts {
    /// Returns how often what a counter of a vendor's counts has happened.
    #[must_use]
    pub const fn of(&self, signal: Signal, is_intel: bool) -> u64 {
        match signal {
            Signal::Instructions => self.instructions,
            Signal::UnhaltedCycles | Signal::ReferenceCycles => self.cycles,
            Signal::Slots => self.cycles * SLOTS_PER_CYCLE,
            Signal::LlcReferences => self.cache_references,
            Signal::LlcMisses => self.cache_misses,
            Signal::Branches => self.branches,
            Signal::BranchMisses => self.branch_misses,
            Signal::StalledFrontend => self.stalled_frontend,
            Signal::StalledBackend => self.stalled_backend,
            Signal::Other(select) => raw::count(select, is_intel, self),
        }
    }

    /// Returns the most that one instruction can add to a kind of event.
    #[must_use]
    pub const fn most_per_instruction(signal: Signal) -> u64 {
        match signal {
            Signal::Slots => cost::CYCLES_MAX * SLOTS_PER_CYCLE,
            Signal::UnhaltedCycles
            | Signal::ReferenceCycles
            | Signal::StalledFrontend
            | Signal::StalledBackend
            | Signal::Other(_) => cost::CYCLES_MAX,
            Signal::LlcReferences | Signal::LlcMisses => sites::OPERANDS_MAX as u64,
            Signal::Instructions | Signal::Branches | Signal::BranchMisses => 1,
        }
    }
}

impl AddAssign for Counts {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Add for Counts {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        self.combined(other, u64::wrapping_add)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combined(other, u64::wrapping_sub)
    }
}

impl Counts {
    #[inline]
    fn combined(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            instructions: with(self.instructions, other.instructions),
            cycles: with(self.cycles, other.cycles),
            branches: with(self.branches, other.branches),
            taken_branches: with(self.taken_branches, other.taken_branches),
            branch_misses: with(self.branch_misses, other.branch_misses),
            loads: with(self.loads, other.loads),
            stores: with(self.stores, other.stores),
            cache_references: with(self.cache_references, other.cache_references),
            cache_misses: with(self.cache_misses, other.cache_misses),
            stalled_frontend: with(self.stalled_frontend, other.stalled_frontend),
            stalled_backend: with(self.stalled_backend, other.stalled_backend),
        }
    }
}
