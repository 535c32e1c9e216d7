//! The first page fault inside an NMI: noted there, reported by the thread.
//!
//! Ingo Molnar's suggestion in the linux-kernel thread of July 2010 on vmalloc faults in NMI: warn once about a
//! fault where none should be. Here they are wanted, so it is told on request only.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::memory::fault::PageFault;

const NONE: u8 = 0;
const NOTED: u8 = 1;
const REPORTED: u8 = 2;

/// What is known of the first fault of one CPU.
#[derive(Debug)]
pub struct FirstFault {
    /// Goes up from `NONE`: to `NOTED` by the NMI, to `REPORTED` by the thread.
    state: AtomicU8,
    /// Written once by the NMI, before `NOTED`.
    address: AtomicU64,
    /// Written once by the NMI, before `NOTED`.
    rip: AtomicU64,
}

impl FirstFault {
    /// Creates the state before any fault.
    pub const fn new() -> Self {
        Self { state: AtomicU8::new(NONE), address: AtomicU64::new(0), rip: AtomicU64::new(0) }
    }

    /// Notes a fault, if it is the first.
    ///
    /// # Context
    /// A page fault inside the NMI of this CPU.
    pub fn note(&self, fault: &PageFault) {
        // Relaxed: only this context leaves `NONE`.
        if self.state.load(Ordering::Relaxed) != NONE {
            return;
        }
        self.address.store(fault.address, Ordering::Relaxed);
        self.rip.store(fault.rip, Ordering::Relaxed);
        // Release: publishes the two.
        self.state.store(NOTED, Ordering::Release);
    }

    /// Returns address and instruction of the first fault, once.
    ///
    /// # Context
    /// Thread.
    pub fn take(&self) -> Option<(u64, u64)> {
        // Acquire: pairs with `note`. From `NOTED` on only the thread writes the state.
        if self.state.load(Ordering::Acquire) != NOTED {
            return None;
        }
        self.state.store(REPORTED, Ordering::Relaxed);
        Some((self.address.load(Ordering::Relaxed), self.rip.load(Ordering::Relaxed)))
    }
}
