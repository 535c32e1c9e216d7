//! A ring of 64-bit words from one NMI handler to one drain, over memory that appears page by page.
//!
//! The hard case first: the producer is the NMI handler of a CPU. It may interrupt the consumer between any
//! two instructions on the same CPU, or run beside it on another one; it can neither wait nor be kept out. So
//! nothing here locks or retries, and a record that finds no room or no memory is dropped and counted by
//! cause.
//!
//! - [`Ring`] is the shared part; [`Ring::split`] gives its only [`Producer`] and its only [`Consumer`].
//! - [`Producer::store`] stores a record whose length is known to the compiler.
//! - [`Producer::reserve`] gives a [`Grant`]; [`Grant::push`] and [`Grant::extend`] write words;
//!   [`Grant::commit`] makes them one record.
//! - [`Consumer::drain`] hands out each complete [`Record`]; [`Consumer::drops`] reads the losses.
//! - [`Memory`] is what the embedder implements: the words, and the first touch of each page.
//! - [`sync`] chooses the atomics: those of `core`, of loom, or of *preempt*.
//!
//! # Algorithm
//!
//! Lamport's single-producer single-consumer queue ("Specifying Concurrent Program Modules", TOPLAS 1983).
//! Two positions count words since the start and never run backwards: only the producer writes `head`, only
//! the consumer writes `tail`, and a word belongs to the consumer while `tail <= position < head`. A position
//! is a `u64` that wraps; the capacity is a power of two, so `position & mask` stays the right index across
//! that wrap.
//!
//! 1. The producer writes the words of a record from `head` on, the header last, and publishes by one Release
//!    store of `head`. An NMI that stops halfway has published nothing.
//! 2. The consumer loads `head` with Acquire, reads, and gives the words back by one Release store of `tail`
//!    per batch.
//! 3. The producer loads `tail` with Acquire only when its cached copy says that the ring is full.
//!
//! A ring that [decommits](Ring::decommitting) does more in step 2, in this order: it consumes; it waits until
//! a batch of pages lies wholly between `tail` and what was drained; it [releases](Memory::release) them; and
//! *then* it moves `tail` past them. The producer touches each page anew in each lap. Were `tail` published
//! first, an NMI in between could write a record into a page that is about to go: the feature `mutants`.
//!
//! Taken from the literature: the cached copy of the other side's index, the batched `tail`, and a pair of
//! cache lines per side (MCRingBuffer: Lee, Bu and Chandranmenon, "A Lock-Free, Cache-Efficient Shared Ring
//! Buffer for Multi-Core Architectures", ANCS 2009). The cached `tail` and the end of the touched pages are
//! merged into one `limit`, so that the fast path has one comparison.
//!
//! Left out, and why:
//! - A batched `head` (MCRingBuffer): a committed sample has to be visible when the NMI returns, for nothing
//!   flushes later.
//! - Full and empty marks in the slots instead of indices (FastForward: Giacomoni, Moseley and Vachharajani,
//!   PPoPP 2008): the consumer would dirty every line it reads, and records of several words have no one slot
//!   to mark.
//! - Probing ahead and backing off (B-Queue: Wang, Zhang, Tang and Hua, 2013): it solves what slot marks
//!   bring with them.
//! - Padding at the end of the ring: words are indexed one by one, so a record may cross the end and any page
//!   edge.
//! - Overwriting the oldest record: a reader that can be overtaken is another algorithm and would be another
//!   type.
//!
//! # Context
//!
//! `Producer`: NMI; no lock, allocation or panic; its loops are bounded by the words of a record and by the two
//! pages that it can touch; it may fault in [`Memory::touch`] only. `Consumer`: a thread, with NMIs on.
#![no_std]
#![forbid(unsafe_code)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod consumer;
mod drops;
mod memory;
mod producer;
mod record;
mod ring;
pub mod sync;

pub use consumer::{Consumer, Corrupt, Record};
pub use drops::{DropCause, Drops};
pub use memory::{Memory, PAGE_WORDS, PageIndex, Pages, TouchError, WordIndex, WordRange};
pub use producer::{Grant, Producer};
pub use record::{MAX_PAYLOAD_WORDS, MAX_RECORD_WORDS, TAG_BITS};
pub use ring::{CapacityError, Ring};
