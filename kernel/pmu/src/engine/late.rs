//! NMIs that come after the fact: the overflow is handled or its counter is stopped, and its NMI is still on its way.
//!
//! Nobody else explains such an NMI, and a kernel takes an unexplained one for a hardware error. Four ways to it:
//!
//! - A counter is stopped after its overflow and before its interrupt: by a stop, a change of turn, the throttle.
//! - An NMI of somebody else, such as the tick's, finds an overflow first.
//! - On AMD one NMI finds more than one overflow. The others have been acknowledged, and their interrupts may come yet.
//! - On AMD, too, the interrupt of a counter can be later than the status that another counter's NMI finds, so that the
//!   one that is found and the one that came need not be the same.
//!
//! Linux (5.4 and up, `arch/x86/events/amd/core.c`) claims every unexplained NMI within 100 ms after one that found
//! something. The window is taken from there. The number of claims is bounded besides, for a machine that samples
//! all the time is always within such a window, and would never see a hardware error: at most one claim per
//! overflow that may still interrupt.

/// How long after the fact an interrupt may come.
pub(super) const WINDOW_MS: u64 = 100;

/// The NMIs that may still come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    window_ticks: u64,
    claims_left: u32,
    /// When the claims expire.
    until: u64,
}

impl Late {
    /// Expects nothing.
    pub(super) fn new(clock_hz: u64) -> Self {
        Self { window_ticks: clock_hz.saturating_mul(WINDOW_MS) / 1000, claims_left: 0, until: 0 }
    }

    /// Expects up to `count` late NMIs from now on.
    ///
    /// They do not add up with those of before: an NMI that is pending absorbs the next one.
    pub(super) fn expect(&mut self, count: u32, now: u64) {
        if count != 0 {
            let before = if now > self.until { 0 } else { self.claims_left };
            self.claims_left = before.max(count);
            self.until = now.saturating_add(self.window_ticks);
        }
    }

    /// Expects so many late NMIs besides those of before, at the end: the NMI of the order to stop, which may not have been
    /// sent yet, absorbs nothing. While sampling goes on, sums would only grow.
    pub(super) fn expect_more(&mut self, count: u32, now: u64) {
        if count != 0 {
            let before = if now > self.until { 0 } else { self.claims_left };
            self.expect(before.saturating_add(count), now);
        }
    }

    /// Tells whether an NMI was expected, which it then no longer is.
    pub(super) fn claim(&mut self, now: u64) -> bool {
        if now > self.until {
            self.claims_left = 0;
        }
        let was_expected = self.claims_left != 0;
        self.claims_left = self.claims_left.saturating_sub(1);
        was_expected
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no more claims than were expected, none after the window. Method: examples, 1000 ticks a second.
    use super::*;

    #[test]
    fn as_many_are_claimed_as_were_expected() {
        let mut late = Late::new(1000);
        assert!(!late.claim(0), "none was expected");
        late.expect(2, 10);
        assert_eq!([11, 12, 13].map(|now| late.claim(now)), [true, true, false]);
    }

    #[test]
    fn a_claim_expires_after_100_ms() {
        let mut late = Late::new(1000);
        late.expect(2, 10);
        assert!(late.claim(110));
        assert!(!late.claim(111));
        assert!(!late.claim(100), "it does not come back");
    }

    #[test]
    fn those_of_counters_that_are_stopped_add_up() {
        let mut late = Late::new(1000);
        late.expect(1, 0);
        late.expect_more(1, 0);
        assert_eq!([1, 1, 1].map(|now| late.claim(now)), [true, true, false]);
        late.expect(1, 2);
        late.expect_more(0, 3);
        assert!(late.claim(3), "none more is none less");
        late.expect(1, 10);
        late.expect_more(1, 200);
        assert_eq!([201, 201].map(|now| late.claim(now)), [true, false], "the first one had expired");
    }

    #[test]
    fn expectations_renew_the_window_and_do_not_add_up() {
        let mut late = Late::new(1000);
        late.expect(2, 0);
        late.expect(1, 90);
        assert_eq!([150, 150, 150].map(|now| late.claim(now)), [true, true, false]);
        late.expect(3, 200);
        late.expect(1, 400);
        assert_eq!([400, 400].map(|now| late.claim(now)), [true, false], "the three had expired");
        late.expect(0, 500);
        assert!(!late.claim(500));
    }
}
