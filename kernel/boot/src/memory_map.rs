//! RAM as sorted, disjoint runs.
//!
//! Loaders describe memory as entries that firmware wrote: in any order, touching, overlapping, and sometimes
//! contradictory. Here the runs are always sorted and never touch, and what is taken away stays away only as long as
//! nothing is added on top; so whoever fills a map adds all RAM first and then removes all that is not.
//!
//! There is room for a fixed number of runs. Where it does not suffice, the shortest run goes: memory is left unused,
//! and nothing is ever RAM that was not described as such.

/// First physical address that this kernel does not use: its direct map ends there.
pub const PHYSICAL_END: u64 = 1 << 44;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First byte, as a physical address.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl MemoryRange {
    /// A range of nothing.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// Creates the range of `len` bytes at `start`, cut at the end of the address space.
    #[must_use]
    pub const fn with_len(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }

    /// Returns the length in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Tells whether there is no byte in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether all of `other` lies inside.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

/// Runs of RAM, sorted; no two of them touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    runs: [MemoryRange; Self::RUNS_MAX],
    len: usize,
}

impl MemoryMap {
    /// Most runs that are kept.
    pub const RUNS_MAX: usize = 128;

    /// Creates a map of no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: [MemoryRange::EMPTY; Self::RUNS_MAX], len: 0 }
    }

    /// Returns the runs, in ascending order.
    #[must_use]
    pub fn runs(&self) -> &[MemoryRange] {
        self.runs.get(..self.len).unwrap_or_default()
    }

    /// Returns the sum of all lengths.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.runs().iter().map(MemoryRange::len).sum()
    }

    /// Tells whether all of a range is RAM.
    #[must_use]
    pub fn contains(&self, range: &MemoryRange) -> bool {
        range.is_empty() || self.runs().iter().any(|run| run.contains(range))
    }

    /// Adds a range, joined with all runs that it meets; what lies beyond [`PHYSICAL_END`] is left out.
    pub fn add(&mut self, range: MemoryRange) {
        let mut joined = MemoryRange { end: range.end.min(PHYSICAL_END), ..range };
        if joined.is_empty() {
            return;
        }
        let mut kept = 0;
        for index in 0..self.len {
            let run = self.runs[index];
            if run.end < joined.start || joined.end < run.start {
                self.runs[kept] = run;
                kept += 1;
            } else {
                joined = MemoryRange { start: run.start.min(joined.start), end: run.end.max(joined.end) };
            }
        }
        self.len = kept;
        self.insert(joined);
    }

    /// Takes a range away.
    pub fn remove(&mut self, range: MemoryRange) {
        if range.is_empty() {
            return;
        }
        let mut behind = MemoryRange::EMPTY;
        let mut kept = 0;
        for index in 0..self.len {
            let run = self.runs[index];
            let before = MemoryRange { end: run.end.min(range.start), ..run };
            let after = MemoryRange { start: run.start.max(range.end), ..run };
            for part in [before, after].into_iter().filter(|part| !part.is_empty()) {
                // A run that is cut in two needs a second place, which may not be free yet.
                if kept <= index {
                    self.runs[kept] = part;
                    kept += 1;
                } else {
                    behind = part;
                }
            }
        }
        self.len = kept;
        if !behind.is_empty() {
            self.insert(behind);
        }
    }

    /// Takes the start of the first run that has `bytes` bytes below `end`, and returns its address.
    pub fn take_first(&mut self, bytes: u64, end: u64) -> Option<u64> {
        let fits = |run: &&MemoryRange| run.end.min(end).saturating_sub(run.start) >= bytes;
        let start = self.runs().iter().find(fits)?.start;
        self.remove(MemoryRange::with_len(start, bytes));
        Some(start)
    }

    /// Cuts every run to whole units of `unit_bytes`, a power of two.
    pub fn align(&mut self, unit_bytes: u64) {
        let whole = self.clone();
        self.len = 0;
        for run in whole.runs() {
            let start = run.start.next_multiple_of(unit_bytes);
            let aligned = MemoryRange { start, end: run.end & !(unit_bytes - 1) };
            if !aligned.is_empty() {
                self.insert(aligned);
            }
        }
    }

    /// Inserts a run that touches none of the others. Where there is no room, the shortest run of all is left out.
    fn insert(&mut self, run: MemoryRange) {
        let mut run = run;
        if self.len == Self::RUNS_MAX {
            let shortest = (0..self.len).min_by_key(|index| self.runs[*index].len()).unwrap_or_default();
            if self.runs[shortest].len() >= run.len() {
                return;
            }
            self.runs.copy_within(shortest + 1..self.len, shortest);
            self.len -= 1;
        }
        let at = self.runs().partition_point(|other| other.start < run.start);
        for slot in &mut self.runs[at..=self.len] {
            core::mem::swap(slot, &mut run);
        }
        self.len += 1;
    }
}

impl Default for MemoryMap {
    fn default() -> Self {
        Self::new()
    }
}
