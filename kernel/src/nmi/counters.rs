//! Counters that the NMI writes and thread context reads.

use core::sync::atomic::{AtomicU64, Ordering};

use nmiprof_wire::{CutChains, NmiCounters};

use crate::callchain::Cut;
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
    /// The NMI that owns the counter. Not a locked operation: there is one writer.
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
    /// Runs claimed by system control port B.
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
    /// Call chains cut at the depth limit.
    cut_by_depth: Counter,
    /// Call chains cut at a pointer that makes no sense.
    cut_by_pointer: Counter,
    /// Call chains cut at a frame that is not mapped.
    cut_by_fault: Counter,
    /// Overflows that the PMU driver saw.
    pub overflows: Counter,
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
            cut_by_depth: Counter::new(),
            cut_by_pointer: Counter::new(),
            cut_by_fault: Counter::new(),
            overflows: Counter::new(),
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
            Resolution::NoFrame { tables } => {
                self.other_faults.increment();
                self.table_frames.add(u64::from(tables));
            }
            Resolution::Raced | Resolution::BadAddress => self.other_faults.increment(),
        }
    }

    /// Counts a call chain that was cut.
    pub fn count_cut_chain(&self, cut: Cut) {
        match cut {
            Cut::Depth => self.cut_by_depth.increment(),
            Cut::Pointer => self.cut_by_pointer.increment(),
            Cut::Fault => self.cut_by_fault.increment(),
        }
    }

    /// Reads how many call chains were cut, by cause.
    pub fn cut_chains(&self) -> CutChains {
        CutChains {
            depth: self.cut_by_depth.read(),
            pointer: self.cut_by_pointer.read(),
            fault: self.cut_by_fault.read(),
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
            ..NmiCounters::default()
        }
    }
}
