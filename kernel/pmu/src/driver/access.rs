//! Accesses that may fail, and go on.
//!
//! A #GP in a handler has no one to tell: it is counted, and the count is part of what the driver reports.

use crate::bus::MsrBus;

/// A bus that counts its failures instead of returning them.
#[derive(Debug)]
pub(super) struct Access<B> {
    pub(super) bus: B,
    /// Accesses that raised #GP; saturates.
    pub(super) errors: u32,
}

impl<B: MsrBus> Access<B> {
    pub(super) const fn new(bus: B) -> Self {
        Self { bus, errors: 0 }
    }

    /// Reads a register; `None` is counted.
    #[inline]
    pub(super) fn read(&mut self, msr: u32) -> Option<u64> {
        let value = self.bus.read(msr).ok();
        if value.is_none() {
            self.errors = self.errors.saturating_add(1);
        }
        value
    }

    /// Writes a register, or counts that it could not.
    #[inline]
    pub(super) fn write(&mut self, msr: u32, value: u64) {
        if self.bus.write(msr, value).is_err() {
            self.errors = self.errors.saturating_add(1);
        }
    }
}
