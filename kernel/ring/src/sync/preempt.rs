//! Atomics that can be interrupted: before each operation a registered closure runs to its end.
//!
//! Between two atomic operations the consumer touches nothing that the producer can see, so an NMI anywhere
//! in between has the same effect as one right before the next operation: these are all the places there are.
//! The closure's own operations are not interrupted, as an NMI handler is not by its own kind.

extern crate std;

use core::cell::RefCell;
use core::sync::atomic::{self, Ordering};
use std::boxed::Box;

std::thread_local! {
    /// The closure to run, absent while it runs.
    static HANDLER: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
}

/// Runs `body` on this thread, and `handler` before each atomic operation of it.
pub fn with_preemption<R>(handler: impl FnMut() + 'static, body: impl FnOnce() -> R) -> R {
    /// Disarms also when `body` panics: the next test may run on the same thread.
    struct Disarm;
    impl Drop for Disarm {
        fn drop(&mut self) {
            HANDLER.set(None);
        }
    }
    let _disarm = Disarm;
    HANDLER.set(Some(Box::new(handler)));
    body()
}

fn interrupt() {
    if let Some(mut handler) = HANDLER.take() {
        handler();
        HANDLER.set(Some(handler));
    }
}

/// An atomic word that is interrupted before each operation.
#[derive(Debug, Default)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    /// Makes a word that holds `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    /// Loads the value.
    pub fn load(&self, order: Ordering) -> u64 {
        interrupt();
        self.0.load(order)
    }

    /// Stores `value`.
    pub fn store(&self, value: u64, order: Ordering) {
        interrupt();
        self.0.store(value, order);
    }
}
