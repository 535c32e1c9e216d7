//! Counters that the NMI writes and thread context reads.

use core::sync::atomic::{AtomicU64, Ordering};

use nmiprof_wire::NmiCounters;

use crate::memory::fault::Resolution;

/// A count with one writer: the NMI of one CPU. Wraps after 2^64.
#[derive(Debug)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    ///
    /// # Context
    /// The NMI that owns the counter, or whoever its field names. Not a locked operation: there is one writer.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds to the count; else as [`Counter::increment`].
    #[inline]
    pub fn add(&self, more: u64) {
        // Relaxed: a count orders nothing.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Reads the count.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Starts again from 0.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What the dispatcher counts. The meanings are those of [`NmiCounters`].
#[derive(Debug)]
pub struct Counters {
    /// Runs of the handler.
    pub runs: Counter,
    /// Runs that handled something.
    pub handled: Counter,
    /// Empty runs that an earlier one explains.
    pub swallowed: Counter,
    /// Empty runs that nothing explains.
    pub unknown: Counter,
    /// Runs that system control port B explains, and no handler claimed.
    pub external: Counter,
    /// Runs that could not look at the port.
    pub reason_busy: Counter,
    /// Runs at the same RIP as the one before.
    pub back_to_back: Counter,
    /// Page faults inside NMIs.
    pub page_faults: Counter,
    /// Of these, the first touches of a page.
    first_touches: Counter,
    /// Of these, those that brought an address space up to date.
    space_syncs: Counter,
    /// Of these, all others.
    other_faults: Counter,
    /// Frames taken for tables.
    pub table_frames: Counter,
    /// Page faults outside NMIs that brought an address space up to date. Written by them.
    pub thread_syncs: Counter,
    /// Overflows that the PMU driver saw.
    pub overflows: Counter,
    /// Of these, those that came while sampling was throttled: not stored.
    pub throttled: Counter,
    /// Times that the CPU halted while it sampled. Written by its thread.
    pub halts: Counter,
}

impl Counters {
    /// Creates counters at 0.
    pub const fn new() -> Self {
        Self {
            runs: Counter::new(),
            handled: Counter::new(),
            swallowed: Counter::new(),
            unknown: Counter::new(),
            external: Counter::new(),
            reason_busy: Counter::new(),
            back_to_back: Counter::new(),
            page_faults: Counter::new(),
            first_touches: Counter::new(),
            space_syncs: Counter::new(),
            other_faults: Counter::new(),
            table_frames: Counter::new(),
            thread_syncs: Counter::new(),
            overflows: Counter::new(),
            throttled: Counter::new(),
            halts: Counter::new(),
        }
    }

    /// Counts a page fault inside the NMI, and what came of it.
    ///
    /// # Context
    /// The fault.
    pub fn count_page_fault(&self, resolution: Resolution) {
        self.page_faults.increment();
        match resolution {
            Resolution::FirstTouch { tables } => {
                self.first_touches.increment();
                self.table_frames.add(u64::from(tables));
            }
            Resolution::Synced => self.space_syncs.increment(),
            Resolution::NoFrame { tables } | Resolution::Raced { tables } => {
                self.other_faults.increment();
                self.table_frames.add(u64::from(tables));
            }
            Resolution::BadAddress => self.other_faults.increment(),
        }
    }

    /// Reads the dispatcher's part of the counters; what the entries count stays 0.
    pub fn read(&self) -> NmiCounters {
        NmiCounters {
            runs: self.runs.read(),
            handled: self.handled.read(),
            swallowed: self.swallowed.read(),
            unknown: self.unknown.read(),
            external: self.external.read(),
            reason_busy: self.reason_busy.read(),
            back_to_back: self.back_to_back.read(),
            page_faults: self.page_faults.read(),
            first_touches: self.first_touches.read(),
            space_syncs: self.space_syncs.read(),
            other_faults: self.other_faults.read(),
            halts: self.halts.read(),
            ..NmiCounters::default()
        }
    }
}
