//! The gap between draining a ring page and taking its frame away: NMIs are forced into it.
//!
//! On request the drain waits, before each release, until sampling has had more overflows than the ring has
//! room for. The producer must then be stuck at the pages that were not given back. The mutant gives them
//! back first: its producer writes into a page that goes away.
//!
//! Another mutant leaves out the flush on the producer's CPU, where that is not the one that drains. The producer then
//! goes on with the translation that it has cached, and writes into a frame that is somebody else's.

use core::sync::atomic::{AtomicBool, Ordering};

use nmiprof_ring::Consumer;
use nmiprof_wire::Options;

use crate::arch::{cpu, percpu};
use crate::memory::ring_memory::RingMemory;

/// Waits in the gap, and drains in the right order.
pub const GAP: &str = "decommit-gap";
/// Waits in the gap, and gives pages back before they are released.
pub const PUBLISH_FIRST: &str = "decommit-publish-first";

/// Forgets to make the producer's CPU forget its translations.
pub const NO_FLUSH: &str = "decommit-no-flush";

/// Overflows to wait for: more records than a ring of two pages holds.
const OVERFLOWS: u64 = 400;

static ACTIVE: AtomicBool = AtomicBool::new(false);
static KEEPS_TRANSLATIONS: AtomicBool = AtomicBool::new(false);

/// Starts to wait in the gap, and breaks the consumer if that was asked for.
pub fn prepare(options: &Options<'_>, consumer: &mut Consumer<'_, RingMemory>) {
    ACTIVE.store(matches!(options.selftest, GAP | PUBLISH_FIRST), Ordering::Relaxed);
    KEEPS_TRANSLATIONS.store(options.selftest == NO_FLUSH, Ordering::Relaxed);
    if options.selftest == PUBLISH_FIRST {
        consumer.publish_before_release();
    }
}

/// Tells whether the mutant leaves translations cached.
pub fn keeps_translations() -> bool {
    KEEPS_TRANSLATIONS.load(Ordering::Relaxed)
}

/// Waits, while sampling is on.
///
/// # Context
/// Thread.
pub fn before_release() {
    if !ACTIVE.load(Ordering::Relaxed) {
        return;
    }
    let nmi = &percpu::current().nmi;
    let before = nmi.counters.overflows.read();
    while nmi.is_sampling() && nmi.counters.overflows.read() - before < OVERFLOWS {
        cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
    }
}
