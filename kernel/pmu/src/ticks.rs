//! A PMU that is nothing but a periodic interrupt line which reaches every CPU as an NMI.
//!
//! The line belongs to the machine: an interval timer or an HPET behind an I/O APIC. It ticks whether anybody listens or
//! not, nothing is armed in the NMI, and the NMI says neither where it came from nor for whom it is. So each CPU decides
//! for itself, from a clock that it can read without asking anyone, whether an NMI is a tick: it knows when its next tick is
//! due. There is nothing that CPUs share.
//!
//! # The rule
//! - Where the clock is the one that the line itself counts ([`Phase::Exact`]: the HPET's main counter), a tick is due at an
//!   exact count. An NMI is a tick if that count is reached.
//! - Where it is another one ([`Phase::Followed`]: the time-stamp counter for the interval timer), the frequencies are known
//!   to some parts in a thousand. An NMI is a tick from half a period before the due time on, so that the ticks may drift
//!   and jitter; the due time follows them, but slowly: neither an NMI that was masked for a while nor one of somebody
//!   else in a tick's place moves it far.
//! - One NMI is at most one tick. Ticks that passed while NMIs were masked have merged into one, and are counted
//!   ([`TickPmu::missed`]).
//!
//! # What it can misjudge
//! An NMI of somebody else after the due time but before the line's own NMI has arrived (or, with a followed phase, in the half
//! period before it) is taken for the tick, and the line's own NMI then finds nothing. It is expected for a while and
//! claimed as a late one ([`TickPmu::claims_late`]). An NMI that nobody explains and that comes in that while is claimed
//! instead: an unknown NMI in some microseconds after a tick can be lost. The number of overflows is right in each case: one
//! for each period.

use crate::timer::Overflow;

/// A clock that any CPU can read at any time, and that never goes back but for its wrap.
pub trait TickClock {
    /// Width of the count in bits: 2 to 64.
    fn bits(&self) -> u32;
    /// Returns the count.
    fn now(&self) -> u64;
}

/// How well the clock knows the line's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The line counts the same clock.
    Exact,
    /// The line counts a clock of its own.
    Followed,
}

/// When a line ticks, in counts of a [`TickClock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// From tick to tick.
    pub period: u64,
    /// How well the clock knows it.
    pub phase: Phase,
    /// How long after its due time the NMI of a tick is expected that was claimed already.
    pub late_max: u64,
    /// Ticks that make an overflow: more than one where the line can't tick as slowly as was asked for.
    pub ticks_per_overflow: u32,
}

/// One CPU's part of a periodic line.
///
/// # Context
/// All but `new` is called in the NMI of the CPU that it belongs to.
#[derive(Debug)]
pub struct TickPmu<C> {
    clock: C,
    rhythm: Rhythm,
    /// When the next tick is due.
    due: u64,
    /// The end of the time in which a claimed tick's own NMI may come.
    late_until: Option<u64>,
    /// No tick has come yet: the line may have started later than `due` supposes.
    is_first: bool,
    /// Ticks to the next overflow.
    ticks_left: u32,
    missed: u64,
    late: u64,
}

impl<C: TickClock> TickPmu<C> {
    /// How far the due time moves at most with one tick, as a part of the period: more than any two clocks drift.
    const DRIFT_SHIFT: u32 = 8;

    /// How long before its due time the first tick may come, as a part of the period.
    const FIRST_EARLY_SHIFT: u32 = 6;

    /// Longest period: far from where sums of times could overflow.
    const PERIOD_MAX: u64 = 1 << 48;

    /// Creates the part of a CPU; its first tick comes at `first_due` or later, for the line may start after this. With
    /// a [followed](Phase::Followed) phase that tick says when the next ones come.
    pub fn new(clock: C, rhythm: Rhythm, first_due: u64) -> Self {
        let period = rhythm.period.clamp(1, Self::PERIOD_MAX);
        let ticks_per_overflow = rhythm.ticks_per_overflow.max(1);
        let rhythm = Rhythm { period, ticks_per_overflow, ..rhythm };
        Self {
            clock,
            rhythm,
            due: first_due,
            late_until: None,
            is_first: true,
            ticks_left: ticks_per_overflow,
            missed: 0,
            late: 0,
        }
    }

    /// Finds out whether this NMI is a tick, and whether the tick is an overflow.
    pub fn poll(&mut self) -> Overflow {
        let since_due = self.since(self.due);
        if since_due < -self.early_max() {
            return Overflow::NotMine;
        }
        self.take_tick(since_due);
        self.ticks_left -= 1;
        if self.ticks_left > 0 {
            return Overflow::Partial;
        }
        self.ticks_left = self.rhythm.ticks_per_overflow;
        Overflow::Complete
    }

    /// Claims an NMI that nothing else explains, if the own NMI of a tick that was claimed already may be on its way.
    pub fn claims_late(&mut self) -> bool {
        let is_late = self.late_until.take().is_some_and(|end| self.since(end) <= 0);
        self.late = self.late.wrapping_add(is_late.into());
        is_late
    }

    /// Notes that the own NMI of the last tick was explained by what came before it.
    pub fn late_was_explained(&mut self) {
        self.late_until = None;
    }

    /// Returns how many ticks merged with the one after them.
    pub const fn missed(&self) -> u64 {
        self.missed
    }

    /// Returns how many NMIs were claimed as late ones.
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Goes on to the tick after the one nearest to now.
    fn take_tick(&mut self, since_due: i64) {
        if core::mem::take(&mut self.is_first) && self.rhythm.phase == Phase::Followed {
            let came = self.due.wrapping_add_signed(since_due);
            self.late_until = Some(came.wrapping_add(self.rhythm.late_max));
            self.due = came.wrapping_add(self.rhythm.period);
            return;
        }
        let period = self.rhythm.period.cast_signed();
        // The period is at least 1: no division panics.
        let passed = since_due.saturating_add(self.early_max()).checked_div(period).unwrap_or_default();
        let offset = since_due - passed * period;
        let was_due = self.due.wrapping_add_signed(passed * period);
        self.missed = self.missed.wrapping_add(passed.unsigned_abs());
        self.late_until = Some(was_due.wrapping_add(self.rhythm.late_max));
        self.due = was_due.wrapping_add_signed(period + self.shift(offset));
    }

    /// Returns how far the due time has to move for a tick that is so far from it.
    ///
    /// One that is earlier than any latency explains is likely to be that of somebody else, and hardly moves it. But if they
    /// all are, the due time is wrong.
    fn shift(&self, offset: i64) -> i64 {
        const UNLIKELY: i64 = 16;
        let slow = (self.rhythm.period >> Self::DRIFT_SHIFT).cast_signed();
        let late_max = i64::try_from(self.rhythm.late_max).unwrap_or(i64::MAX);
        match self.rhythm.phase {
            Phase::Exact => 0,
            Phase::Followed if offset < -late_max => -slow / UNLIKELY,
            Phase::Followed => offset.clamp(-slow, slow),
        }
    }

    /// Returns how long before its due time an NMI is a tick.
    fn early_max(&self) -> i64 {
        match self.rhythm.phase {
            Phase::Exact => 0,
            // It says when the next ones come, and the line has not started earlier than was said: only the clocks differ.
            Phase::Followed if self.is_first => (self.rhythm.period >> Self::FIRST_EARLY_SHIFT).cast_signed(),
            Phase::Followed => (self.rhythm.period / 2).cast_signed(),
        }
    }

    /// Returns the time since a moment that is less than half the clock's range away; negative if it is to come.
    fn since(&self, moment: u64) -> i64 {
        let unused_bits = u64::BITS.saturating_sub(self.clock.bits()).min(u64::BITS - 2);
        (self.clock.now().wrapping_sub(moment) << unused_bits).cast_signed() >> unused_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    const PERIOD: u64 = 1000;
    const LATE: u64 = 20;

    /// A clock that is set.
    struct Clock {
        now: Cell<u64>,
        bits: u32,
    }

    impl Clock {
        const fn new(now: u64, bits: u32) -> Self {
            Self { now: Cell::new(now), bits }
        }
    }

    impl TickClock for &Clock {
        fn bits(&self) -> u32 {
            self.bits
        }
        fn now(&self) -> u64 {
            if self.bits == 64 { self.now.get() } else { self.now.get() % (1 << self.bits) }
        }
    }

    fn pmu(clock: &Clock, phase: Phase) -> TickPmu<&Clock> {
        let rhythm = Rhythm { period: PERIOD, phase, late_max: LATE, ticks_per_overflow: 1 };
        TickPmu::new(clock, rhythm, clock.now() + PERIOD)
    }

    /// Asks about an NMI at this time.
    fn nmi_at(clock: &Clock, pmu: &mut TickPmu<&Clock>, time: u64) -> Overflow {
        clock.now.set(time);
        pmu.poll()
    }

    #[test]
    fn an_exact_tick_is_due_at_its_count_and_not_before() {
        let clock = Clock::new(0, 64);
        let mut pmu = pmu(&clock, Phase::Exact);
        for tick in 1..100 {
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD - 1), Overflow::NotMine);
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD + tick), Overflow::Complete, "however late");
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD + tick), Overflow::NotMine, "once");
        }
        assert_eq!(pmu.missed(), 0);
    }

    #[test]
    fn ticks_that_passed_together_are_one_overflow_and_the_rest_is_counted() {
        for phase in [Phase::Exact, Phase::Followed] {
            let clock = Clock::new(0, 64);
            let mut pmu = pmu(&clock, phase);
            assert_eq!(nmi_at(&clock, &mut pmu, PERIOD), Overflow::Complete);
            assert_eq!(nmi_at(&clock, &mut pmu, 5 * PERIOD + 10), Overflow::Complete);
            assert_eq!(nmi_at(&clock, &mut pmu, 5 * PERIOD + 20), Overflow::NotMine);
            assert_eq!(pmu.missed(), 3, "{phase:?}");
            assert_eq!(nmi_at(&clock, &mut pmu, 6 * PERIOD + 10), Overflow::Complete, "{phase:?}");
            assert_eq!(pmu.missed(), 3, "{phase:?}");
        }
    }

    #[test]
    fn a_clock_that_wraps_misses_no_tick() {
        for bits in [14, 32, 64] {
            let clock = Clock::new(0_u64.wrapping_sub(10 * PERIOD), bits);
            let mut pmu = pmu(&clock, Phase::Exact);
            for _ in 0..50 {
                let before = clock.now.get().wrapping_add(PERIOD - 1);
                assert_eq!(nmi_at(&clock, &mut pmu, before), Overflow::NotMine, "{bits}");
                assert_eq!(nmi_at(&clock, &mut pmu, before.wrapping_add(1)), Overflow::Complete, "{bits}");
            }
            assert_eq!(pmu.missed(), 0);
        }
    }

    #[test]
    fn a_followed_phase_drifts_with_its_line_either_way() {
        for real_period in [PERIOD - 1, PERIOD, PERIOD + 1] {
            let clock = Clock::new(0, 64);
            let mut pmu = pmu(&clock, Phase::Followed);
            for tick in 1..10_000 {
                // Now and then one that was masked for a while.
                let late = if tick % 7 == 0 { 300 } else { tick % 5 };
                let found = nmi_at(&clock, &mut pmu, tick * real_period + late);
                assert_eq!(found, Overflow::Complete, "{real_period}: {tick}");
                assert_eq!(nmi_at(&clock, &mut pmu, tick * real_period + 400), Overflow::NotMine);
            }
            assert_eq!(pmu.missed(), 0, "{real_period}");
        }
    }

    #[test]
    fn an_nmi_in_the_half_period_before_a_followed_tick_is_taken_for_it_and_its_own_is_a_late_one() {
        let clock = Clock::new(0, 64);
        let mut pmu = pmu(&clock, Phase::Followed);
        for tick in [1, 2] {
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD + 2), Overflow::Complete);
            pmu.late_was_explained();
        }
        for tick in (3..100).step_by(2) {
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD - 510), Overflow::NotMine);
            assert!(!pmu.claims_late(), "nothing is on its way");
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD - 400), Overflow::Complete);
            assert_eq!(nmi_at(&clock, &mut pmu, tick * PERIOD + 2), Overflow::NotMine);
            assert!(pmu.claims_late(), "the line's own");
            assert!(!pmu.claims_late(), "once");
            assert_eq!(nmi_at(&clock, &mut pmu, (tick + 1) * PERIOD + 2), Overflow::Complete);
            pmu.late_was_explained();
        }
    }

    #[test]
    fn a_line_that_starts_late_sets_the_phase_with_its_first_tick() {
        for start in [0, 1, PERIOD / 2, PERIOD - 1, 1000 * PERIOD + 700] {
            let clock = Clock::new(0, 64);
            let mut pmu = pmu(&clock, Phase::Followed);
            assert_eq!(nmi_at(&clock, &mut pmu, PERIOD / 2 - 1), Overflow::NotMine, "somebody else's");
            for tick in 1..100 {
                let found = nmi_at(&clock, &mut pmu, start + tick * PERIOD);
                assert_eq!(found, Overflow::Complete, "{start}: {tick}");
                assert_eq!(nmi_at(&clock, &mut pmu, start + tick * PERIOD + 400), Overflow::NotMine);
            }
            assert_eq!(pmu.missed(), 0, "{start}");
        }
    }

    #[test]
    fn a_late_nmi_is_expected_for_a_while_and_not_where_it_was_explained() {
        let clock = Clock::new(0, 64);
        let mut pmu = pmu(&clock, Phase::Exact);
        assert_eq!(nmi_at(&clock, &mut pmu, PERIOD + 1), Overflow::Complete);
        clock.now.set(PERIOD + LATE + 1);
        assert!(!pmu.claims_late(), "too late");
        assert_eq!(nmi_at(&clock, &mut pmu, 2 * PERIOD), Overflow::Complete);
        pmu.late_was_explained();
        assert!(!pmu.claims_late(), "swallowed already");
        assert_eq!(nmi_at(&clock, &mut pmu, 3 * PERIOD), Overflow::Complete);
        clock.now.set(3 * PERIOD + LATE);
        assert!(pmu.claims_late());
    }

    #[test]
    fn several_ticks_can_make_an_overflow() {
        let clock = Clock::new(0, 64);
        let rhythm = Rhythm { period: PERIOD, phase: Phase::Exact, late_max: LATE, ticks_per_overflow: 3 };
        let mut pmu = TickPmu::new(&clock, rhythm, PERIOD);
        let found = [1, 2, 3, 4, 5, 6].map(|tick| nmi_at(&clock, &mut pmu, tick * PERIOD));
        assert_eq!(found.map(|found| found == Overflow::Complete), [false, false, true, false, false, true]);
        assert!(found.iter().all(|found| *found != Overflow::NotMine), "each is its own");
    }

    #[test]
    fn no_numbers_make_it_panic() {
        for period in [0, 1, 2, u64::MAX / 4] {
            for bits in [0, 1, 2, 63, 64] {
                let clock = Clock::new(u64::MAX - 5, 64);
                let clock = Clock { bits, ..clock };
                for phase in [Phase::Exact, Phase::Followed] {
                    let rhythm = Rhythm { period, phase, late_max: u64::MAX, ticks_per_overflow: 0 };
                    let mut pmu = TickPmu::new(&clock, rhythm, u64::MAX);
                    for step in [0, 1, 3, u64::MAX / 2, u64::MAX / 3] {
                        clock.now.set(clock.now.get().wrapping_add(step));
                        let _ = (pmu.poll(), pmu.claims_late());
                    }
                }
            }
        }
    }
}
