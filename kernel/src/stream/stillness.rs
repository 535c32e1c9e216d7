//! How long a line stands still while bytes wait for it.
//!
//! Time is the time-stamp counter, so that it passes in any context. Until its frequency is measured, it is taken for a
//! fast one: then a wait may last longer than it is meant to, and never for ever.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::cpu;

/// What waits for a line gives up when it has stood still for so long.
const GIVE_UP_SECONDS: u64 = 5;
/// A line that stood still for a second divided by this has stalled.
const STALLS_PER_SECOND: u64 = 10;

/// Ticks of the clock per second. Written once, when they are known.
///
/// Relaxed: whoever reads the first guess waits a little longer.
static CLOCK_HZ: AtomicU64 = AtomicU64::new(5_000_000_000);

/// Says how fast the time-stamp counter is.
pub(super) fn set_clock(hz: u64) {
    CLOCK_HZ.store(hz, Ordering::Relaxed);
}

/// What is known of the movement of a line.
pub(super) struct Stillness {
    /// When bytes last moved or began to wait; `None` while none waits.
    since: Option<u64>,
    /// The present time of standing still is counted already.
    is_counted: bool,
    /// How often the line has stalled.
    pub(super) stalls: u64,
    /// The longest of these times, in ticks.
    pub(super) ticks_max: u64,
}

impl Stillness {
    pub(super) const fn new() -> Self {
        Self { since: None, is_counted: false, stalls: 0, ticks_max: 0 }
    }

    /// Takes note of what the line does now: whether bytes have moved, and whether more wait.
    pub(super) fn look(&mut self, has_moved: bool, waits: bool) {
        if self.since.is_none() && !waits {
            return;
        }
        let now = cpu::timestamp();
        self.count(now);
        if has_moved || self.since.is_none() {
            (self.since, self.is_counted) = (Some(now), false);
        }
        if !waits {
            self.since = None;
        }
    }

    /// Tells whether the line has stood still for so long that nobody should wait for it.
    pub(super) fn is_hopeless(&self) -> bool {
        let limit_ticks = GIVE_UP_SECONDS * CLOCK_HZ.load(Ordering::Relaxed);
        self.since.is_some_and(|since| cpu::timestamp().saturating_sub(since) > limit_ticks)
    }

    fn count(&mut self, now: u64) {
        let ticks = now.saturating_sub(self.since.unwrap_or(now));
        if ticks >= CLOCK_HZ.load(Ordering::Relaxed) / STALLS_PER_SECOND {
            self.stalls += u64::from(!self.is_counted);
            self.is_counted = true;
            self.ticks_max = self.ticks_max.max(ticks);
        }
    }
}
