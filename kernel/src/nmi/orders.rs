//! Orders of the thread to the NMI: start, stop, tick.
//!
//! What counts with real or modelled registers is touched in its CPU's NMI only, so that no NMI can come between two
//! of its accesses. Whoever wants something of it leaves an order here and sends a self-NMI.

use core::sync::atomic::{AtomicU32, Ordering};

/// Something that the NMI is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Order {
    /// Begin to count.
    Start = 1 << 0,
    /// Cease to count.
    Stop = 1 << 1,
    /// Do what is due from time to time: give the counters to other events, set periods anew, end a throttling.
    Tick = 1 << 2,
}

/// The orders that were not taken yet. Set by the threads of one CPU and by the tick, taken by its NMI.
#[derive(Debug, Default)]
pub struct Orders(AtomicU32);

/// Orders that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken(u32);

impl Orders {
    /// Creates no order.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Adds an order.
    pub fn give(&self, order: Order) {
        // Relaxed: an order says all there is to say.
        self.0.fetch_or(order as u32, Ordering::Relaxed);
    }

    /// Tells whether an order was not taken yet.
    pub(super) fn is_pending(&self, order: Order) -> bool {
        self.0.load(Ordering::Relaxed) & order as u32 != 0
    }

    /// Takes all orders.
    ///
    /// # Context
    /// NMI.
    #[inline]
    pub fn take(&self) -> Taken {
        // A look first: the exchange is locked, and there is an order once in a thousand NMIs.
        if self.0.load(Ordering::Relaxed) == 0 {
            return Taken(0);
        }
        Taken(self.0.swap(0, Ordering::Relaxed))
    }
}

impl Taken {
    /// Tells whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether this one is among them.
    pub const fn has(self, order: Order) -> bool {
        self.0 & order as u32 != 0
    }
}
