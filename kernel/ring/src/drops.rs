//! Records that were not stored, counted by cause.

use core::error::Error;
use core::fmt;

use crate::memory::TouchError;
use crate::sync::{AtomicU64, Ordering};

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// The consumer has not given back enough words.
    RingFull,
    /// A page needed a frame and none was left.
    NoFrame,
    /// A page could not be mapped for another reason.
    Fault,
}

impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RingFull => "the ring is full",
            Self::NoFrame => "no frame left for a ring page",
            Self::Fault => "a ring page faulted and could not be mapped",
        })
    }
}

impl Error for DropCause {}

impl From<TouchError> for DropCause {
    fn from(error: TouchError) -> Self {
        match error {
            TouchError::NoFrame => Self::NoFrame,
            TouchError::Fault => Self::Fault,
        }
    }
}

/// Dropped records by cause, since the ring was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// Records dropped for [`DropCause::RingFull`].
    pub ring_full: u64,
    /// Records dropped for [`DropCause::NoFrame`].
    pub no_frame: u64,
    /// Records dropped for [`DropCause::Fault`].
    pub fault: u64,
}

impl Drops {
    /// Returns the drops of every cause.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ring_full.wrapping_add(self.no_frame).wrapping_add(self.fault)
    }
}

/// The live counters, in the producer's cache lines.
///
/// Each is written by the producer alone, read by the producer and the consumer, counts up from 0 and would
/// wrap at 2^64, which at a drop per nanosecond takes five centuries.
pub(crate) struct DropCounters {
    ring_full: AtomicU64,
    no_frame: AtomicU64,
    fault: AtomicU64,
}

impl DropCounters {
    pub(crate) fn new() -> Self {
        Self { ring_full: AtomicU64::new(0), no_frame: AtomicU64::new(0), fault: AtomicU64::new(0) }
    }

    /// Counts one drop. Producer only: a load and a store, which two writers would tear apart.
    pub(crate) fn count(&self, cause: DropCause) {
        let counter = match cause {
            DropCause::RingFull => &self.ring_full,
            DropCause::NoFrame => &self.no_frame,
            DropCause::Fault => &self.fault,
        };
        // Relaxed load: the only writer reads its own last store.
        let count = counter.load(Ordering::Relaxed);
        // Relaxed store: the count guards no other data; the next Release store of `head` orders it for those
        // who need it.
        counter.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// Reads the counters one after the other; each is exact, the three are not one instant.
    pub(crate) fn read(&self) -> Drops {
        // Relaxed: whoever acquired `head` before already sees every drop that came before that record.
        Drops {
            ring_full: self.ring_full.load(Ordering::Relaxed),
            no_frame: self.no_frame.load(Ordering::Relaxed),
            fault: self.fault.load(Ordering::Relaxed),
        }
    }
}
