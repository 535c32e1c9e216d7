//! The header word of a record.
//!
//! | bits | field | unit | meaning |
//! |---|---|---|---|
//! | 0..8 | length | words | the whole record, header included; never 0 |
//! | 8..64 | tag | - | the producer's own: a kind, a time |
//!
//! The payload words follow in order, each at the next position, across page edges and the end of the ring.

use crate::memory::PAGE_WORDS;

const LEN_BITS: u32 = 8;
const LEN_MASK: u64 = (1 << LEN_BITS) - 1;

/// Bits of a tag that a header keeps.
pub const TAG_BITS: u32 = u64::BITS - LEN_BITS;

/// Most words in a record, header included.
pub const MAX_RECORD_WORDS: usize = if cfg!(loom) { 7 } else { 255 };

/// Most payload words in a record.
pub const MAX_PAYLOAD_WORDS: usize = MAX_RECORD_WORDS - 1;

const _: () = assert!(MAX_RECORD_WORDS as u64 <= LEN_MASK, "the header can tell every length");
const _: () = assert!(MAX_RECORD_WORDS < PAGE_WORDS, "a record touches at most two pages");

/// The first word of a record.
#[derive(Clone, Copy)]
pub(crate) struct Header(u64);

impl Header {
    /// Packs a length in words, header included, and the low [`TAG_BITS`] of `tag`.
    #[inline]
    pub(crate) fn new(tag: u64, record_words: u64) -> Self {
        Self(tag << LEN_BITS | record_words & LEN_MASK)
    }

    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn tag(self) -> u64 {
        self.0 >> LEN_BITS
    }

    /// Returns the length in words, header included: 0 to 255 as found in memory.
    #[inline]
    pub(crate) fn record_words(self) -> u64 {
        self.0 & LEN_MASK
    }
}
