//! The atomics of the ring, in one of three kinds.
//!
//! | backend | chosen by | models |
//! |---|---|---|
//! | core | default | nothing: the real thing |
//! | loom | `--cfg loom` | a reader on another CPU: every interleaving, every value it may load |
//! | preempt | feature `preempt` | an NMI on top of the reader: a producer run before any operation |
//!
//! Loom takes precedence. It can't stand in for *preempt*: its threads take turns, whereas an NMI runs to its
//! end before the interrupted code goes on, and that code can't go on in between.

pub use core::sync::atomic::Ordering;

#[cfg(not(any(loom, feature = "preempt")))]
pub use core::sync::atomic::AtomicU64;

#[cfg(loom)]
pub use loom::sync::atomic::AtomicU64;

#[cfg(all(feature = "preempt", not(loom)))]
pub use preempt::{AtomicU64, with_preemption};

#[cfg(all(feature = "preempt", not(loom)))]
mod preempt;
