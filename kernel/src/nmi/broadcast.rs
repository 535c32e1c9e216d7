//! Whether a line of the machine raises NMIs on every CPU now, those that do not sample included.
//!
//! An I/O APIC can address one CPU or all. One that does not sample can't tell the line's NMIs from others, and must not
//! call them unknown (case 53): while there is such a line, it takes every empty NMI for the line's.

use core::sync::atomic::{AtomicBool, Ordering};

/// Written by the thread that starts and stops the line, read by NMIs that nothing explains.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Says whether a line's NMIs reach every CPU from now on; it does not tick at this moment.
pub fn set(is_on: bool) {
    // Relaxed: the line starts by a store to a device, which comes after this.
    IS_ON.store(is_on, Ordering::Relaxed);
}

/// Tells whether an NMI that found nothing on a CPU without a sampler can be the line's.
///
/// # Context
/// NMI.
pub(super) fn explains() -> bool {
    IS_ON.load(Ordering::Relaxed)
}
