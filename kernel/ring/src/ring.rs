//! The part that both sides share: the two positions, the drop counters, the memory.
//!
//! Every access to a shared position goes through a function of this file, which gives the reason of its
//! ordering. A side never loads its own position back: it keeps a private copy and only stores the shared
//! one. This saves no time, but loom forgets the other side's access to a word when the next one is a load by
//! the word's own writer, and would then explore one interleaving only.

use core::error::Error;
use core::fmt;

use crate::consumer::Consumer;
use crate::drops::DropCounters;
use crate::memory::{Memory, PAGE_WORDS, PageIndex, Pages, TouchError, WordIndex, WordRange};
use crate::producer::Producer;
use crate::sync::{AtomicU64, Ordering};

/// A ring of words; [`Ring::split`] gives its two ends.
pub struct Ring<M> {
    producer_lines: ProducerLines,
    consumer_lines: ConsumerLines,
    /// Capacity in words, less one: the capacity is a power of two.
    mask: u64,
    /// Fewest words that are given back at once, in whole pages whose frames are taken away; 0 where the
    /// pages keep them.
    batch_words: u64,
    memory: M,
}

/// What the producer writes, on a pair of cache lines of its own.
///
/// A pair, for the prefetcher of adjacent lines fetches 128 bytes at once and would share the other side's
/// line.
#[repr(align(128))]
struct ProducerLines {
    /// Position after the last committed record, in words.
    ///
    /// Written by the producer, read by the consumer. `head - tail` is 0 to the capacity. Wraps at 2^64 and
    /// stays right.
    head: AtomicU64,
    /// Written by the producer, read by both.
    drops: DropCounters,
}

/// What the consumer writes, on a pair of cache lines of its own.
#[repr(align(128))]
struct ConsumerLines {
    /// Position of the oldest record that was not given back, in words.
    ///
    /// Written by the consumer, read by the producer. Never passes `head`. Wraps at 2^64 and stays right.
    tail: AtomicU64,
    /// Position of the oldest record that was not drained, where that is not `tail`: in a ring that decommits.
    ///
    /// Written by the consumer, read by the next split.
    drained: AtomicU64,
}

// Size and alignment together: nothing else fits on either pair of lines. Loom's atomics have a size of their
// own.
#[cfg(not(loom))]
const _: () = {
    assert!(align_of::<ProducerLines>() == 128 && size_of::<ProducerLines>() == 128);
    assert!(align_of::<ConsumerLines>() == 128 && size_of::<ConsumerLines>() == 128);
};

impl<M: Memory> Ring<M> {
    /// Makes an empty ring over all of `memory`; touches none of it.
    ///
    /// # Errors
    /// [`CapacityError`] if the number of pages does not suit a ring.
    pub fn new(memory: M) -> Result<Self, CapacityError> {
        Self::starting_at(memory, 0)
    }

    /// Makes an empty ring whose positions start at `position`.
    ///
    /// A hook for tests: shortly before 2^64 the positions wrap; shortly before a page edge one record
    /// touches two pages.
    #[doc(hidden)]
    pub fn starting_at(memory: M, position: u64) -> Result<Self, CapacityError> {
        let mask = capacity_words(memory.pages())?.wrapping_sub(1);
        Ok(Self {
            producer_lines: ProducerLines { head: AtomicU64::new(position), drops: DropCounters::new() },
            consumer_lines: ConsumerLines {
                tail: AtomicU64::new(position),
                drained: AtomicU64::new(position),
            },
            mask,
            batch_words: 0,
            memory,
        })
    }

    /// Makes the ring decommit: space is given back in whole pages, at least `batch_pages` at a time, and
    /// loses its frames before the producer may write there again. So each page is touched anew in each lap.
    ///
    /// # Errors
    /// [`CapacityError::Batch`] unless `batch_pages` is at least 1 and less than all pages: the producer has
    /// to have room for a record while the consumer waits for the batch to be full.
    pub fn decommitting(mut self, batch_pages: usize) -> Result<Self, CapacityError> {
        let pages = self.memory.pages();
        if !(1..pages).contains(&batch_pages) {
            return Err(CapacityError::Batch { batch_pages, pages });
        }
        self.batch_words = (batch_pages as u64).wrapping_mul(PAGE_WORDS as u64);
        Ok(self)
    }

    /// Gives the only producer and the only consumer.
    ///
    /// From a `&'static mut Ring` both live for ever, and nothing can split the ring again. After a shorter
    /// borrow a new split goes on with the records and counts that are there, and touches every page anew.
    pub fn split(&mut self) -> (Producer<'_, M>, Consumer<'_, M>) {
        let Positions { head, tail, drained } = self.positions();
        (Producer::new(self, head, tail), Consumer::new(self, tail, drained))
    }

    /// Returns the memory that the ring was made of.
    #[must_use]
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Returns the size of the memory in words.
    #[inline]
    pub(crate) fn capacity_words(&self) -> u64 {
        self.mask.wrapping_add(1)
    }

    /// Returns the word at `position`, which must lie below the end of the touched pages.
    #[inline]
    pub(crate) fn word(&self, position: u64) -> &AtomicU64 {
        self.memory.word(WordIndex::of_touched(position, self.mask))
    }

    /// Returns the `len` words from `position` on, which must lie below the end of the touched pages; nothing
    /// where they go on at the start of the memory. `mask` is the ring's, which the caller has at hand.
    #[inline]
    pub(crate) fn words(&self, position: u64, len: usize, mask: u64) -> Option<&[AtomicU64]> {
        Some(self.memory.words(WordRange::of_touched(position, len, mask)?))
    }

    /// Makes the page at `position` present.
    pub(crate) fn touch(&self, position: u64) -> Result<(), TouchError> {
        self.memory.touch(PageIndex::of(position, self.mask))
    }

    /// Takes the frames of the pages between two page edges away.
    pub(crate) fn release(&self, start: u64, end: u64) {
        self.memory.release(Pages::between(start, end, self.mask));
    }
}

impl<M> Ring<M> {
    /// Reads the positions for a new split, which borrows the whole ring.
    fn positions(&mut self) -> Positions {
        // Relaxed: nobody else holds the ring, so whatever handed it over has ordered everything before.
        let head = self.producer_lines.head.load(Ordering::Relaxed);
        let tail = self.consumer_lines.tail.load(Ordering::Relaxed);
        let drained =
            if self.keeps_pages() { tail } else { self.consumer_lines.drained.load(Ordering::Relaxed) };
        Positions { head, tail, drained }
    }

    /// Tells whether pages keep their frames when they are given back.
    pub(crate) fn keeps_pages(&self) -> bool {
        self.batch_words == 0
    }

    /// Returns the fewest words that are given back at once.
    pub(crate) fn batch_words(&self) -> u64 {
        self.batch_words
    }

    /// Notes how far the consumer has drained, for the next split.
    pub(crate) fn note_drained(&self, position: u64) {
        // Relaxed: nobody reads it while the ring is split.
        self.consumer_lines.drained.store(position, Ordering::Relaxed);
    }

    /// Returns what reduces a position to an index.
    #[inline]
    pub(crate) fn mask(&self) -> u64 {
        self.mask
    }

    /// Hands every word below `head` to the consumer.
    #[inline]
    pub(crate) fn publish_head(&self, head: u64) {
        // Release: the words of the record, stored Relaxed before, are visible to whoever acquires this head.
        self.producer_lines.head.store(head, Ordering::Release);
    }

    /// Reads `head` on the consumer's side, before the words below it.
    pub(crate) fn head_by_consumer(&self) -> u64 {
        // Acquire: pairs with `publish_head`; the Relaxed loads of the words can't be moved before it.
        self.producer_lines.head.load(Ordering::Acquire)
    }

    /// Gives every word below `tail` back to the producer.
    pub(crate) fn publish_tail(&self, tail: u64) {
        // Release: the consumer's loads of those words are done before the producer may write there again.
        self.consumer_lines.tail.store(tail, Ordering::Release);
    }

    /// Reads `tail` on the producer's side, before it writes into the words given back.
    pub(crate) fn tail_by_producer(&self) -> u64 {
        // Acquire: pairs with `publish_tail`; the stores of the next record can't be moved before it.
        self.consumer_lines.tail.load(Ordering::Acquire)
    }

    /// Returns the drop counters.
    pub(crate) fn drops(&self) -> &DropCounters {
        &self.producer_lines.drops
    }
}

/// Where a ring stands.
struct Positions {
    head: u64,
    tail: u64,
    drained: u64,
}

/// Returns the capacity of a ring of `pages`, in words.
fn capacity_words(pages: usize) -> Result<u64, CapacityError> {
    if !pages.is_power_of_two() {
        return Err(CapacityError::NotPowerOfTwo { pages });
    }
    let words = pages.checked_mul(PAGE_WORDS).ok_or(CapacityError::TooLarge { pages })?;
    Ok(words as u64)
}

/// Why a memory can't hold a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CapacityError {
    /// The number of pages is zero or no power of two.
    NotPowerOfTwo {
        /// The size that was offered.
        pages: usize,
    },
    /// The number of words does not fit in a `usize`.
    TooLarge {
        /// The size that was offered.
        pages: usize,
    },
    /// The ring can't give back so many pages at once.
    Batch {
        /// The pages that were asked for.
        batch_pages: usize,
        /// The size of the ring.
        pages: usize,
    },
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPowerOfTwo { pages } => write!(f, "a ring needs a power of two of pages, not {pages}"),
            Self::TooLarge { pages } => {
                write!(f, "a ring of {pages} pages has more words than an index can tell")
            }
            Self::Batch { batch_pages, pages } => {
                write!(f, "a ring of {pages} pages decommits 1 to all but one at a time, not {batch_pages}")
            }
        }
    }
}

impl Error for CapacityError {}
