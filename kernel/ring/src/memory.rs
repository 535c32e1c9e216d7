//! What the ring asks of its memory: words by index, and the first touch of a page.
//!
//! The indices are newtypes that only this crate makes, so holding one is a proof. An implementation that
//! turns a [`WordIndex`] into an address by unchecked arithmetic can cite that proof instead of checking
//! again in the NMI.

use core::error::Error;
use core::fmt;
use core::ops::Range;

use crate::sync::AtomicU64;

/// Words in a page: 4 KiB, or a toy size that loom can explore.
pub const PAGE_WORDS: usize = if cfg!(loom) { 8 } else { 512 };

/// Rounds a position down to the start of its page.
pub(crate) const PAGE_MASK: u64 = !(PAGE_WORDS as u64 - 1);

/// The backing memory of a ring, some pages of which may have no frame yet.
pub trait Memory {
    /// Returns the size in pages, which must never change.
    fn pages(&self) -> usize;

    /// Returns the word at `index`; the same word each time.
    ///
    /// # Context
    /// NMI and thread; must not fault, as its page was touched before. Mark it `#[inline]`.
    fn word(&self, index: WordIndex) -> &AtomicU64;

    /// Returns the words of `range`; each the same one as from [`Memory::word`].
    ///
    /// # Context
    /// As for [`Memory::word`].
    fn words(&self, range: WordRange) -> &[AtomicU64];

    /// Makes `page` present and writable.
    ///
    /// The ring asks once per page and in order, and asks again after an error. Pages are asked for anew if
    /// the ring is split again, and in every lap if it decommits; so touching a present page must succeed.
    ///
    /// # Context
    /// NMI; may fault.
    ///
    /// # Errors
    /// [`TouchError`] if the page is still absent; the ring then drops one record and counts the cause.
    fn touch(&self, page: PageIndex) -> Result<(), TouchError>;

    /// Takes the frames of `pages` away: nobody uses them until they were touched again.
    ///
    /// When it returns no CPU may reach the frames any more, that of the producer included. Only a ring made by
    /// [`Ring::decommitting`](crate::Ring::decommitting) asks for this; a batch at a time, for that may take a message
    /// to another CPU.
    ///
    /// # Context
    /// The thread of the consumer. The producer may come at any time, but not to these pages.
    fn release(&self, pages: Pages);
}

/// The index of a word below `pages * PAGE_WORDS` whose page was touched successfully.
#[derive(Debug, PartialEq, Eq)]
pub struct WordIndex(usize);

impl WordIndex {
    /// Locates `position`, which must lie below the end of the touched pages.
    #[inline]
    pub(crate) fn of_touched(position: u64, mask: u64) -> Self {
        Self(masked(position, mask))
    }

    /// Returns the index, counted in words.
    #[inline]
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

/// Words one after the other, of pages that were touched successfully, and not past the last word.
#[derive(Debug, PartialEq, Eq)]
pub struct WordRange {
    first: usize,
    len: usize,
}

impl WordRange {
    /// Locates the `len` words from `position` on, which must lie below the end of the touched pages; nothing
    /// where the memory ends before them.
    #[inline]
    pub(crate) fn of_touched(position: u64, len: usize, mask: u64) -> Option<Self> {
        let first = masked(position, mask);
        let is_inside = (first as u64).wrapping_add(len as u64) <= mask;
        is_inside.then_some(Self { first, len })
    }

    /// Returns the indices, counted in words.
    #[inline]
    #[must_use]
    pub fn get(self) -> Range<usize> {
        self.first..self.first.wrapping_add(self.len)
    }
}

/// The index of a page below `pages`.
#[derive(Debug, PartialEq, Eq)]
pub struct PageIndex(usize);

impl PageIndex {
    /// Returns the page that holds `position`.
    pub(crate) fn of(position: u64, mask: u64) -> Self {
        Self(masked(position, mask) / PAGE_WORDS)
    }

    /// Returns the index, counted in pages.
    #[inline]
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

/// Pages one after the other, which may go on at the start of the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Position of the next page.
    position: u64,
    /// Position after the last one.
    end: u64,
    mask: u64,
}

impl Pages {
    /// Returns the pages between two page edges.
    pub(crate) fn between(start: u64, end: u64, mask: u64) -> Self {
        Self { position: start, end, mask }
    }
}

impl Iterator for Pages {
    type Item = PageIndex;

    fn next(&mut self) -> Option<PageIndex> {
        // Ends: the distance is a whole number of pages.
        let page = (self.position != self.end).then(|| PageIndex::of(self.position, self.mask))?;
        self.position = self.position.wrapping_add(PAGE_WORDS as u64);
        Some(page)
    }
}

/// Why a page could not be made present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchError {
    /// The reserve of frames is empty; a later touch may succeed.
    NoFrame,
    /// The address faulted for another reason.
    Fault,
}

impl fmt::Display for TouchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoFrame => "no frame left for a ring page",
            Self::Fault => "a ring page faulted and could not be mapped",
        })
    }
}

impl Error for TouchError {}

/// Reduces a free-running position to an index below the capacity.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "x86-64 only: usize has 64 bits, asserted below")]
fn masked(position: u64, mask: u64) -> usize {
    (position & mask) as usize
}

const _: () = assert!(usize::BITS == u64::BITS);
const _: () = assert!(PAGE_WORDS.is_power_of_two(), "a position splits into page and offset by its bits");
