//! A virtual PMU: a countdown timer whose end is an NMI.
//!
//! What the timer counts depends on the machine. Under an emulator that advances time with instructions,
//! one tick is one instruction and every overflow falls on an exact one; elsewhere a tick is time.
//!
//! The counter stands still while the NMI handler runs: it is armed at the end of the handler. The few
//! ticks between arming and the first interrupted instruction are the *resume cost*; it is measured at
//! start and subtracted, so that a period counts interrupted code only.

use crate::{Overflow, Pmu};

/// A timer of 32 bits that counts down to an NMI, once.
pub trait CountdownTimer {
    /// Starts to count `ticks` down; 0 stops.
    fn arm(&self, ticks: u32);
    /// Stops.
    fn disarm(&self);
    /// Returns the ticks that are left: 0 when the timer has run out, or is stopped.
    fn remaining(&self) -> u32;
}

/// A PMU with one counter made of a [`CountdownTimer`].
#[derive(Debug)]
pub struct VirtualPmu<T> {
    timer: T,
    resume_ticks: u32,
    period_ticks: u64,
    /// What the timer is armed with for a whole period; 0 where a period does not fit into it.
    whole_ticks: u32,
    /// Ticks of the current period that are not armed yet.
    left_ticks: u64,
    armed: bool,
}

impl<T: CountdownTimer> VirtualPmu<T> {
    /// Creates a stopped PMU. `resume_ticks` pass between arming and the first interrupted instruction.
    pub const fn new(timer: T, resume_ticks: u32) -> Self {
        Self { timer, resume_ticks, period_ticks: 0, whole_ticks: 0, left_ticks: 0, armed: false }
    }

    /// Arms the timer for a part of a period that does not fit into it.
    #[cold]
    fn arm_part(&mut self) {
        if self.left_ticks == 0 {
            self.left_ticks = self.period_ticks;
        }
        let part = self.left_ticks.min(u64::from(self.part_ticks_max()));
        self.left_ticks -= part;
        self.arm(self.timer_ticks(part));
    }

    #[inline]
    fn arm(&mut self, ticks: u32) {
        self.armed = true;
        self.timer.arm(ticks);
    }

    /// Returns what to arm the timer with for so many ticks of interrupted code.
    ///
    /// The resume cost comes on top of each part, because each part ends with an NMI. At least one tick
    /// is armed, so that a period shorter than the resume cost still makes progress.
    fn timer_ticks(&self, part_ticks: u64) -> u32 {
        u32::try_from(part_ticks).unwrap_or(u32::MAX).saturating_add(self.resume_ticks).max(1)
    }

    const fn part_ticks_max(&self) -> u32 {
        u32::MAX - self.resume_ticks
    }
}

impl<T: CountdownTimer> Pmu for VirtualPmu<T> {
    const NAME: &'static str = "lapic-timer";
    const IS_VIRTUAL: bool = true;

    fn set_period(&mut self, events: u64) {
        let fits = events > 0 && events <= u64::from(self.part_ticks_max());
        self.period_ticks = events;
        self.whole_ticks = if fits { self.timer_ticks(events) } else { 0 };
    }

    #[inline]
    fn poll(&mut self) -> Overflow {
        if !self.armed || self.timer.remaining() != 0 {
            return Overflow::NotMine;
        }
        self.armed = false;
        if self.left_ticks > 0 { Overflow::Partial } else { Overflow::Complete }
    }

    #[inline]
    fn rearm(&mut self) {
        if self.armed {
            return;
        }
        if self.whole_ticks != 0 && self.left_ticks == 0 {
            self.arm(self.whole_ticks);
        } else if self.period_ticks != 0 {
            self.arm_part();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// A timer that runs out when told to.
    #[derive(Default)]
    struct Clock {
        remaining: Cell<u32>,
        armed: Cell<u64>,
        arms: Cell<u64>,
    }

    impl CountdownTimer for &Clock {
        fn arm(&self, ticks: u32) {
            self.remaining.set(ticks);
            self.armed.set(self.armed.get() + u64::from(ticks));
            self.arms.set(self.arms.get() + 1);
        }
        fn disarm(&self) {
            self.remaining.set(0);
        }
        fn remaining(&self) -> u32 {
            self.remaining.get()
        }
    }

    /// Lets the timer run out until a period is complete; returns the NMIs that it took.
    fn overflow(clock: &Clock, pmu: &mut VirtualPmu<&Clock>) -> u64 {
        for nmis in 1.. {
            clock.remaining.set(0);
            let found = pmu.poll();
            assert_ne!(found, Overflow::NotMine, "the timer ran out");
            pmu.rearm();
            if found == Overflow::Complete {
                return nmis;
            }
        }
        unreachable!("a period ends")
    }

    #[test]
    fn an_nmi_before_the_end_is_not_an_overflow() {
        let clock = Clock::default();
        let mut pmu = VirtualPmu::new(&clock, 0);
        assert_eq!(pmu.poll(), Overflow::NotMine, "not started");
        pmu.rearm();
        assert_eq!(clock.arms.get(), 0, "no period, no count");
        pmu.set_period(100);
        pmu.rearm();
        assert_eq!(pmu.poll(), Overflow::NotMine, "still counting");
        pmu.rearm();
        assert_eq!(clock.arms.get(), 1, "a foreign NMI does not restart the count");
    }

    #[test]
    fn one_end_is_one_overflow() {
        let clock = Clock::default();
        let mut pmu = VirtualPmu::new(&clock, 0);
        pmu.set_period(100);
        pmu.rearm();
        clock.remaining.set(0);
        assert_eq!(pmu.poll(), Overflow::Complete);
        assert_eq!(pmu.poll(), Overflow::NotMine, "asked again in the same NMI, or in an empty one");
    }

    #[test]
    fn a_period_wider_than_the_timer_is_counted_in_parts() {
        let clock = Clock::default();
        let period = 3 * u64::from(u32::MAX) + 17;
        let resume = 7;
        let mut pmu = VirtualPmu::new(&clock, resume);
        pmu.set_period(period);
        pmu.rearm();
        for _ in 0..3 {
            let (armed, arms) = (clock.armed.get(), clock.arms.get());
            let nmis = overflow(&clock, &mut pmu);
            assert_eq!(nmis, 4, "three full timers and a rest");
            let parts = clock.arms.get() - arms;
            assert_eq!(clock.armed.get() - armed, period + parts * u64::from(resume), "nothing lost");
        }
    }

    #[test]
    fn the_shortest_period_makes_progress() {
        let clock = Clock::default();
        let mut pmu = VirtualPmu::new(&clock, 0);
        pmu.set_period(1);
        pmu.rearm();
        assert_eq!(clock.remaining.get(), 1);
        assert_eq!(overflow(&clock, &mut pmu), 1);
        assert_eq!(clock.remaining.get(), 1, "armed again");
    }
}
