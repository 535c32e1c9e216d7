//! Whether a line of the machine raises NMIs on every CPU, those that do not sample included.
//!
//! An I/O APIC can address one CPU or all. One that does not sample can't tell the line's NMIs from others, and must not
//! call them unknown (case 53): once there is such a line, it takes every empty NMI for the line's.

use core::sync::atomic::{AtomicBool, Ordering};

/// Written by the thread that starts the line, read by NMIs that nothing explains.
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// Says that a line's NMIs reach every CPU from now on; when it stops, one may still be on its way.
pub fn begin() {
    // Relaxed: the line starts by a store to a device, which comes after this.
    HAS_BEGUN.store(true, Ordering::Relaxed);
}

/// Tells whether an NMI that found nothing on a CPU without a sampler can be the line's.
///
/// # Context
/// NMI.
pub(super) fn explains() -> bool {
    HAS_BEGUN.load(Ordering::Relaxed)
}
