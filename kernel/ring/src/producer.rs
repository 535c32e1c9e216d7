//! The writing end: reserve, push, commit.
//!
//! The fast path is one comparison against `limit`, the stores of the words, and the store of `head`. All
//! else (a look at the consumer's `tail`, the first touch of a page, the count of a drop) is in one cold
//! function.

use crate::drops::DropCause;
use crate::memory::{Memory, PAGE_MASK, PAGE_WORDS, WordIndex};
use crate::record::{Header, MAX_PAYLOAD_WORDS};
use crate::ring::Ring;
use crate::sync::{AtomicU64, Ordering};

/// The only writer of a ring.
///
/// Its fields are its own: no other CPU reads them, and an NMI never re-enters the code that changes them.
pub struct Producer<'a, M> {
    ring: &'a Ring<M>,
    /// Position after the last committed record: the private copy of the shared one.
    head: u64,
    /// Position below which words are free and present, as far as known here. `limit - head` is 0 to the
    /// capacity.
    limit: u64,
    /// The consumer's `tail` when last looked at; the real one is the same or further.
    tail_seen: u64,
    /// End of the touched pages: not below the start of the page of `head`. Without meaning once
    /// `pages_untouched` is 0.
    touched: u64,
    /// Pages whose first touch is still to come; counts down to 0 in the first lap. In a ring that decommits
    /// every page of every lap is touched, so it never gets there.
    pages_untouched: usize,
}

impl<'a, M: Memory> Producer<'a, M> {
    /// Takes up writing where `ring` stands. The empty `limit` sends the first record through the cold path.
    pub(crate) fn new(ring: &'a Ring<M>, head: u64, tail: u64) -> Self {
        Self {
            ring,
            head,
            limit: head,
            tail_seen: tail,
            touched: head & PAGE_MASK,
            pages_untouched: ring.memory().pages(),
        }
    }

    /// Stores a whole record of `N` words, at most [`MAX_PAYLOAD_WORDS`], and hands it to the consumer. Of
    /// `tag` the low [`TAG_BITS`](crate::TAG_BITS) are kept.
    ///
    /// # Context
    /// As for [`Producer::reserve`].
    ///
    /// # Errors
    /// As for [`Producer::reserve`].
    #[inline]
    pub fn store<const N: usize>(&mut self, tag: u64, payload: [u64; N]) -> Result<(), DropCause> {
        const { assert!(N <= MAX_PAYLOAD_WORDS, "a record has a limit") };
        let mut grant = self.reserve(N)?;
        let header = grant.slot(grant.head);
        grant.push_all(payload);
        grant.commit_words(header, tag, N as u64);
        Ok(())
    }

    /// Makes room for a record of a header and up to `payload_words_max` words.
    ///
    /// More than [`MAX_PAYLOAD_WORDS`] counts as just that many. The room that a record does not use is not
    /// lost.
    ///
    /// # Context
    /// NMI or not, but never re-entered. May fault in [`Memory::touch`].
    ///
    /// # Errors
    /// The [`DropCause`], which was counted already: the caller just goes on without the record.
    #[inline]
    pub fn reserve(&mut self, payload_words_max: usize) -> Result<Grant<'_, M>, DropCause> {
        let payload_words_max = payload_words_max.min(MAX_PAYLOAD_WORDS) as u64;
        let record_words_max = payload_words_max.wrapping_add(1);
        if self.limit.wrapping_sub(self.head) < record_words_max {
            self.extend_limit(record_words_max)?;
        }
        let (head, mask) = (self.head, self.ring.mask());
        Ok(Grant {
            ring: self.ring,
            mask,
            committed: &mut self.head,
            head,
            payload_words: 0,
            payload_words_max,
        })
    }

    /// Moves `limit` to at least `words` past `head`, or counts why not.
    #[cold]
    fn extend_limit(&mut self, words: u64) -> Result<(), DropCause> {
        let head = self.head;
        let room =
            self.free_words(head, words).and_then(|free| Ok(free.min(self.present_words(head, words)?)));
        match room {
            Ok(room) => self.limit = head.wrapping_add(room),
            Err(cause) => self.ring.drops().count(cause),
        }
        room.map(|_| ())
    }

    /// Returns how many words from `head` on are free, looking at the real `tail` only if the cached one is
    /// too near.
    fn free_words(&mut self, head: u64, words: u64) -> Result<u64, DropCause> {
        let free = |tail: u64| self.ring.capacity_words().wrapping_sub(head.wrapping_sub(tail));
        if free(self.tail_seen) < words {
            self.tail_seen = self.ring.tail_by_producer();
        }
        let free = free(self.tail_seen);
        if free < words { Err(DropCause::RingFull) } else { Ok(free) }
    }

    /// Returns how many words from `head` on are present, at least `words`, touching the next pages if need
    /// be.
    ///
    /// At most two rounds: `touched` is never below the page of `head`, and a record is shorter than a page.
    /// A page that was touched counts even if the next one fails.
    fn present_words(&mut self, head: u64, words: u64) -> Result<u64, DropCause> {
        let end = head.wrapping_add(words);
        while self.pages_untouched > 0 {
            let missing_words = end.wrapping_sub(self.touched).cast_signed();
            if missing_words <= 0 {
                return Ok(self.touched.wrapping_sub(head));
            }
            self.ring.touch(self.touched)?;
            self.touched = self.touched.wrapping_add(PAGE_WORDS as u64);
            if self.ring.keeps_pages() {
                self.pages_untouched = self.pages_untouched.wrapping_sub(1);
            }
        }
        Ok(self.ring.capacity_words())
    }
}

/// Room for one record, invisible to the consumer until [`Grant::commit`]; dropping it leaves no trace.
#[must_use = "a grant that is not committed stores nothing"]
pub struct Grant<'g, M> {
    ring: &'g Ring<M>,
    /// The ring's, kept where the stores of the record can't make the compiler load it again.
    mask: u64,
    /// The producer's `head`.
    committed: &'g mut u64,
    /// Position of the header.
    head: u64,
    payload_words: u64,
    payload_words_max: u64,
}

impl<'g, M: Memory> Grant<'g, M> {
    /// Returns how many payload words there is room for.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most `MAX_PAYLOAD_WORDS`")]
    const fn room(&self) -> usize {
        self.payload_words_max.wrapping_sub(self.payload_words) as usize
    }

    /// Writes the next payload word; beyond what was reserved, writes nothing and returns false.
    #[inline]
    pub fn push(&mut self, word: u64) -> bool {
        if self.payload_words >= self.payload_words_max {
            return false;
        }
        self.payload_words = self.payload_words.wrapping_add(1);
        let slot = self.slot(self.head.wrapping_add(self.payload_words));
        // Relaxed: nobody reads past `head`; `publish_head` orders all words of the record at once.
        slot.store(word, Ordering::Relaxed);
        true
    }

    /// Writes the next `N` payload words, all of them or, beyond what was reserved, none; returns whether it did.
    #[inline]
    pub fn push_all<const N: usize>(&mut self, words: [u64; N]) -> bool {
        if self.room() < N {
            return false;
        }
        // All words are located before the first is stored: a store could change where the others are, for
        // all that the compiler knows.
        let slots = words.map(|_| {
            self.payload_words = self.payload_words.wrapping_add(1);
            self.slot(self.head.wrapping_add(self.payload_words))
        });
        for (slot, word) in slots.iter().zip(words) {
            // Relaxed: as in `push`.
            slot.store(word, Ordering::Relaxed);
        }
        true
    }

    /// Writes the next payload words, as many as there are and were reserved; gives the iterator back.
    #[inline]
    pub fn extend<I: Iterator<Item = u64>>(&mut self, mut words: I) -> I {
        let room = self.room();
        let position = self.head.wrapping_add(self.payload_words).wrapping_add(1);
        if let Some(slots) = self.ring.words(position, room, self.mask) {
            self.payload_words = self.payload_words.wrapping_add(fill(slots, &mut words));
            return words;
        }
        // The end of the memory is near: once in a lap.
        while self.payload_words < self.payload_words_max {
            let Some(word) = words.next() else { break };
            self.push(word);
        }
        words
    }

    /// Writes the header and hands the record to the consumer. Of `tag` the low [`TAG_BITS`](crate::TAG_BITS)
    /// are kept.
    #[inline]
    pub fn commit(self, tag: u64) {
        let (header, payload_words) = (self.slot(self.head), self.payload_words);
        self.commit_words(header, tag, payload_words);
    }

    /// Writes the header of a record of so many payload words, and hands it to the consumer.
    #[inline]
    fn commit_words(self, header: &AtomicU64, tag: u64, payload_words: u64) {
        let record_words = payload_words.wrapping_add(1);
        // Relaxed: as in `push`.
        header.store(Header::new(tag, record_words).bits(), Ordering::Relaxed);
        *self.committed = self.head.wrapping_add(record_words);
        self.ring.publish_head(*self.committed);
    }

    /// Locates a word of the record.
    #[inline]
    fn slot(&self, position: u64) -> &'g AtomicU64 {
        self.ring.memory().word(WordIndex::of_touched(position, self.mask))
    }
}

/// Words that [`fill`] stores between two looks at the end of the slots.
const STRIDE: usize = 4;

/// Stores words into slots while there are both, and returns how many.
#[inline]
fn fill(slots: &[AtomicU64], words: &mut impl Iterator<Item = u64>) -> u64 {
    let (strides, rest) = slots.as_chunks::<STRIDE>();
    let mut stored: u64 = 0;
    for stride in strides {
        for slot in stride {
            let Some(word) = words.next() else { return stored };
            // Relaxed: as in `Grant::push`.
            slot.store(word, Ordering::Relaxed);
            stored = stored.wrapping_add(1);
        }
    }
    for (slot, word) in rest.iter().zip(words) {
        // Relaxed: as in `Grant::push`.
        slot.store(word, Ordering::Relaxed);
        stored = stored.wrapping_add(1);
    }
    stored
}
