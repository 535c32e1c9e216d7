//! The reading end: drain records, read the losses.

use core::error::Error;
use core::fmt;
use core::ops::ControlFlow;

use crate::drops::Drops;
use crate::memory::{Memory, PAGE_MASK, PAGE_WORDS};
use crate::record::Header;
use crate::ring::Ring;
use crate::sync::Ordering;

/// The only reader of a ring.
pub struct Consumer<'a, M> {
    ring: &'a Ring<M>,
    /// Position of the oldest record that was not drained.
    drained: u64,
    /// Position of the oldest word that was not given back: the private copy of the shared one. It is `drained`
    /// unless the ring decommits.
    tail: u64,
    /// Pages released.
    pages_released: u64,
    /// The mutant that gives pages back before they are released.
    #[cfg(feature = "mutants")]
    publishes_first: bool,
}

impl<'a, M: Memory> Consumer<'a, M> {
    pub(crate) fn new(ring: &'a Ring<M>, tail: u64, drained: u64) -> Self {
        Self {
            ring,
            drained,
            tail,
            pages_released: 0,
            #[cfg(feature = "mutants")]
            publishes_first: false,
        }
    }

    /// Hands at most `records_max` records to `take`, oldest first, and returns how many it took.
    ///
    /// What is committed after the start waits for the next drain. The space goes back to the producer at the
    /// end, all at once: a large `records_max` costs fewer shared writes, a small one gives space back
    /// sooner. A ring that [decommits](Ring::decommitting) keeps what does not fill a batch of pages. When `take` breaks, the record that it broke at stays and comes first next time.
    ///
    /// # Errors
    /// [`Corrupt`] at a header that can't be one. The records before it are done; the ring stays at the bad
    /// one, so that every later drain says so again.
    pub fn drain<F>(&mut self, records_max: usize, take: F) -> Result<usize, Corrupt>
    where
        F: FnMut(Record<'_, M>) -> ControlFlow<()>,
    {
        let head = self.ring.head_by_consumer();
        let mut cursor = Cursor { ring: self.ring, position: self.drained, head };
        let taken = cursor.advance(records_max, take);
        if cursor.position != self.drained {
            self.drained = cursor.position;
            if self.ring.keeps_pages() {
                self.give_back(self.drained);
            } else {
                self.ring.note_drained(self.drained);
                self.decommit();
            }
        }
        taken
    }

    fn give_back(&mut self, tail: u64) {
        self.tail = tail;
        self.ring.publish_tail(tail);
    }

    /// Releases and gives back the pages that lie wholly between the tail and the drained position, if they
    /// are enough. The tail stays on page edges, so no page that the producer has touched is ever released:
    /// it touches a page only where the tail has passed the whole of that page's previous lap.
    fn decommit(&mut self) {
        // After a start in the middle of a page that page keeps its frame for one lap.
        let start = self.tail.wrapping_add(!PAGE_MASK) & PAGE_MASK;
        let end = self.drained & PAGE_MASK;
        let words = end.wrapping_sub(start).cast_signed();
        if words < self.ring.batch_words().cast_signed() {
            return;
        }
        #[cfg(feature = "mutants")]
        if self.publishes_first {
            self.give_back(end);
        }
        self.release(start, end);
        // Only now: until the tail has passed, the producer can't write there, so it can't meet an absent page
        // that it has touched, nor lose a record in a frame that goes away.
        self.give_back(end);
    }

    /// Releases the pages between two page edges.
    fn release(&mut self, start: u64, end: u64) {
        self.ring.release(start, end);
        let pages = end.wrapping_sub(start).checked_div(PAGE_WORDS as u64).unwrap_or_default();
        self.pages_released = self.pages_released.wrapping_add(pages);
    }

    /// Turns the mutant on that gives pages back before they are released: for tests that must notice.
    #[cfg(feature = "mutants")]
    pub fn publish_before_release(&mut self) {
        self.publishes_first = true;
    }

    /// Returns how many pages were released since the ring was split.
    #[must_use]
    pub fn pages_released(&self) -> u64 {
        self.pages_released
    }

    /// Returns the memory of the ring.
    #[must_use]
    pub fn memory(&self) -> &'a M {
        self.ring.memory()
    }

    /// Returns how many words hold records that were not drained. May have grown when it returns.
    #[must_use]
    pub fn used_words(&self) -> u64 {
        self.ring.head_by_consumer().wrapping_sub(self.drained)
    }

    /// Tells whether there is nothing to drain. May have changed when it returns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used_words() == 0
    }

    /// Reads the drop counters: at least every drop that came before the last record drained.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.ring.drops().read()
    }
}

/// One pass over the words between two positions.
struct Cursor<'a, M> {
    ring: &'a Ring<M>,
    position: u64,
    /// End of the pass. Each step moves `position` nearer by at least one word and never past it.
    head: u64,
}

impl<M: Memory> Cursor<'_, M> {
    fn advance<F>(&mut self, records_max: usize, mut take: F) -> Result<usize, Corrupt>
    where
        F: FnMut(Record<'_, M>) -> ControlFlow<()>,
    {
        for taken in 0..records_max {
            let Some(record) = self.record()? else {
                return Ok(taken);
            };
            let end = record.end();
            if take(record).is_break() {
                return Ok(taken);
            }
            self.position = end;
        }
        Ok(records_max)
    }

    /// Returns the record at the position, or none at the end of the pass.
    fn record(&self) -> Result<Option<Record<'_, M>>, Corrupt> {
        let available_words = self.head.wrapping_sub(self.position);
        if available_words == 0 {
            return Ok(None);
        }
        // Relaxed: the Acquire load of `head` came first, see `Ring::head_by_consumer`.
        let header = Header::from_bits(self.ring.word(self.position).load(Ordering::Relaxed));
        if !(1..=available_words).contains(&header.record_words()) {
            return Err(Corrupt { position: self.position });
        }
        Ok(Some(Record { ring: self.ring, position: self.position, header }))
    }
}

/// A committed record, read in place: it is valid until [`Consumer::drain`] gives its words back.
pub struct Record<'r, M> {
    ring: &'r Ring<M>,
    /// Position of the header; the whole record lies between `tail` and `head`.
    position: u64,
    header: Header,
}

impl<M: Memory> Record<'_, M> {
    /// Returns the tag given to [`Grant::commit`](crate::Grant::commit).
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.header.tag()
    }

    /// Returns the number of payload words.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "at most 255")]
    pub fn len(&self) -> usize {
        self.header.record_words().wrapping_sub(1) as usize
    }

    /// Tells whether there is no payload.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the payload word `index`, or none past the end.
    #[must_use]
    pub fn word(&self, index: usize) -> Option<u64> {
        if index >= self.len() {
            return None;
        }
        let position = self.position.wrapping_add(1).wrapping_add(index as u64);
        // Relaxed: the Acquire load of `head` came first, see `Ring::head_by_consumer`.
        Some(self.ring.word(position).load(Ordering::Relaxed))
    }

    /// Returns the payload words in order.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        (0..self.len()).map_while(|index| self.word(index))
    }

    /// Returns the position of the next record.
    fn end(&self) -> u64 {
        self.position.wrapping_add(self.header.record_words())
    }
}

/// A header that is no header: its length is 0 or reaches past what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Position of the header, in words since the ring was made.
    pub position: u64,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ring holds no record header at word {}", self.position)
    }
}

impl Error for Corrupt {}
