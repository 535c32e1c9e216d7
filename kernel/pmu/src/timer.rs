//! A PMU that is nothing but a countdown timer whose end is an NMI: one counter, one event.
//!
//! What the timer counts depends on the machine. Under an emulator that advances time with instructions,
//! one tick is one instruction and every overflow falls on an exact one; elsewhere a tick is time.
//!
//! The counter stands still while the NMI handler runs: it is armed at the end of the handler. The few
//! ticks between arming and the first interrupted instruction are the *resume cost*; it is measured at
//! start and subtracted, so that a period counts interrupted code only.

/// A timer of 32 bits that counts down to an NMI, once.
pub trait CountdownTimer {
    /// Starts to count `ticks` down; 0 stops.
    fn arm(&self, ticks: u32);
    /// Stops.
    fn disarm(&self);
    /// Returns the ticks that are left: 0 when the timer has run out, or is stopped.
    fn remaining(&self) -> u32;
}

/// What a timer has to do with an NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Nothing.
    NotMine,
    /// It came from the timer, but the period is not over: the timer is narrower than the period.
    Partial,
    /// The period is over: take a sample.
    Complete,
}

/// A PMU with one counter made of a [`CountdownTimer`].
///
/// # Context
/// All but `new` and the first `set_period` are called in the NMI of the CPU that the timer belongs to.
#[derive(Debug)]
pub struct TimerPmu<T> {
    timer: T,
    /// What the next [`TimerPmu::rearm`] arms the timer with; 0 while it counts, and without a period.
    due_ticks: u32,
    /// What the timer is armed with for a whole period; 0 where a period does not fit into it.
    whole_ticks: u32,
    resume_ticks: u32,
    period_ticks: u64,
    /// Ticks of the current period that come after those that are armed, or due.
    left_ticks: u64,
    /// What counts is a pause: no period ends with it.
    is_pausing: bool,
}

impl<T: CountdownTimer> TimerPmu<T> {
    /// Creates a stopped PMU. `resume_ticks` pass between arming and the first interrupted instruction.
    pub const fn new(timer: T, resume_ticks: u32) -> Self {
        Self {
            timer,
            due_ticks: 0,
            whole_ticks: 0,
            resume_ticks,
            period_ticks: 0,
            left_ticks: 0,
            is_pausing: false,
        }
    }

    /// Sets the number of ticks between overflows, from the next [`TimerPmu::rearm`] on.
    pub fn set_period(&mut self, events: u64) {
        let was_counting = self.is_counting();
        self.period_ticks = events;
        self.set_whole(events);
        // A period that is being counted ends with the part that is armed.
        self.left_ticks = 0;
        if !was_counting {
            self.due_ticks = 0;
            if events != 0 {
                self.begin_part();
            }
        }
    }

    /// Finds out whether this NMI is an overflow.
    #[inline]
    pub fn poll(&mut self) -> Overflow {
        if self.due_ticks != 0 || self.timer.remaining() != 0 {
            return Overflow::NotMine;
        }
        if self.whole_ticks == 0 {
            return self.end_part();
        }
        self.due_ticks = self.whole_ticks;
        Overflow::Complete
    }

    /// Starts to count, at first and after each overflow; does nothing while it counts.
    ///
    /// Called last in the handler, so that as little of it as possible is counted. The first call is in an NMI too, so
    /// that the first period is as exact as the others.
    #[inline]
    pub fn rearm(&mut self) {
        if self.due_ticks != 0 {
            self.timer.arm(self.due_ticks);
            self.due_ticks = 0;
        }
    }

    /// Lets so many ticks pass before the next period begins. What is due, or counts, is forgotten.
    ///
    /// # Context
    /// That of [`TimerPmu::poll`]; the next [`TimerPmu::rearm`] begins the pause.
    pub fn pause(&mut self, ticks: u32) {
        self.is_pausing = true;
        self.left_ticks = 0;
        // So that its end takes the cold path.
        self.whole_ticks = 0;
        self.due_ticks = ticks.max(1);
    }

    /// Tells whether a pause is due, or counts.
    pub const fn is_pausing(&self) -> bool {
        self.is_pausing
    }

    /// Ends what does not fit into the timer: a part of a period, or the want of one.
    #[cold]
    fn end_part(&mut self) -> Overflow {
        if self.period_ticks == 0 {
            return Overflow::NotMine;
        }
        if self.is_pausing {
            self.is_pausing = false;
            self.due_ticks = 0;
            self.set_whole(self.period_ticks);
            self.begin_part();
            return Overflow::Partial;
        }
        let is_last = self.left_ticks == 0;
        self.begin_part();
        if is_last { Overflow::Complete } else { Overflow::Partial }
    }

    /// Makes the next part of the period due, or the first of the next period.
    fn begin_part(&mut self) {
        if self.left_ticks == 0 {
            self.left_ticks = self.period_ticks;
        }
        let part = self.left_ticks.min(u64::from(self.part_ticks_max()));
        self.left_ticks -= part;
        self.due_ticks = self.timer_ticks(part);
    }

    /// Returns what to arm the timer with for so many ticks of interrupted code.
    ///
    /// The resume cost comes on top of each part, because each part ends with an NMI. At least one tick
    /// is armed, so that a period shorter than the resume cost still makes progress.
    fn timer_ticks(&self, part_ticks: u64) -> u32 {
        u32::try_from(part_ticks).unwrap_or(u32::MAX).saturating_add(self.resume_ticks).max(1)
    }

    fn set_whole(&mut self, events: u64) {
        let fits = events > 0 && events <= u64::from(self.part_ticks_max());
        self.whole_ticks = if fits { self.timer_ticks(events) } else { 0 };
    }

    const fn part_ticks_max(&self) -> u32 {
        u32::MAX - self.resume_ticks
    }

    /// Tells whether the timer counts. Without a period it does not, and nothing is due either.
    const fn is_counting(&self) -> bool {
        self.period_ticks != 0 && self.due_ticks == 0
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
    fn overflow(clock: &Clock, pmu: &mut TimerPmu<&Clock>) -> u64 {
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
        let mut pmu = TimerPmu::new(&clock, 0);
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
        let mut pmu = TimerPmu::new(&clock, 0);
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
        let mut pmu = TimerPmu::new(&clock, resume);
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
    fn a_new_period_begins_where_the_armed_part_of_the_old_one_ends() {
        let clock = Clock::default();
        let mut pmu = TimerPmu::new(&clock, 0);
        pmu.set_period(7);
        pmu.rearm();
        for period in [2 * u64::from(u32::MAX), 100, u64::from(u32::MAX) + 1, 50, 60] {
            let arms = clock.arms.get();
            pmu.set_period(period);
            pmu.rearm();
            assert_eq!(clock.arms.get(), arms, "it counts already");
            clock.remaining.set(0);
            assert_eq!(pmu.poll(), Overflow::Complete);
            let armed = clock.armed.get();
            let mut parts = 0;
            while clock.armed.get() - armed < period {
                pmu.rearm();
                clock.remaining.set(0);
                parts += 1;
                let wanted =
                    if clock.armed.get() - armed < period { Overflow::Partial } else { Overflow::Complete };
                assert_eq!(pmu.poll(), wanted);
            }
            assert_eq!(parts, period.div_ceil(u64::from(u32::MAX)));
            pmu.rearm();
        }
    }

    #[test]
    fn a_pause_ends_no_period_and_the_next_one_is_whole() {
        let clock = Clock::default();
        let mut pmu = TimerPmu::new(&clock, 3);
        pmu.set_period(100);
        pmu.rearm();
        clock.remaining.set(0);
        assert_eq!(pmu.poll(), Overflow::Complete);
        pmu.pause(5000);
        pmu.rearm();
        assert_eq!(clock.remaining.get(), 5000);
        assert_eq!(pmu.poll(), Overflow::NotMine, "the pause lasts");
        clock.remaining.set(0);
        assert_eq!(pmu.poll(), Overflow::Partial, "no period ends with it");
        pmu.rearm();
        assert_eq!(clock.remaining.get(), 103);
        assert_eq!(overflow(&clock, &mut pmu), 1);
    }

    #[test]
    fn the_shortest_period_makes_progress() {
        let clock = Clock::default();
        let mut pmu = TimerPmu::new(&clock, 0);
        pmu.set_period(1);
        pmu.rearm();
        assert_eq!(clock.remaining.get(), 1);
        assert_eq!(overflow(&clock, &mut pmu), 1);
        assert_eq!(clock.remaining.get(), 1, "armed again");
    }
}
