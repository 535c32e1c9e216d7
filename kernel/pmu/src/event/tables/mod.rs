//! Event codes, as data: which code a generic event has on which CPU, and which counters can count a code.
//!
//! The numbers are facts of the manuals; which of them belongs to which of perf's names is a choice, and it is
//! Linux's, so that a number means the same here and there.

pub(super) mod amd;
pub(super) mod intel;
