//! One event: its period, the part of it that a counter is loaded with, and its account.
//!
//! `left` is the one quantity that sampling rests on: the events until the period ends, less what has been counted;
//! negative once it is over. A counter is loaded with `left`, or with as much of it as it can be (a *part*), and every
//! read subtracts what was counted since the one before. That makes the rest simple:
//!
//! - Whether an overflow is a sample is not asked of the hardware but of `left`. The end of a part leaves it above 0, as
//!   does a status bit that was stale.
//! - An event that loses its counter keeps `left`, and goes on with it on another one.
//! - What is counted after the overflow, until it is noticed, is taken from the next period, so that the long-run rate
//!   is exact. If that is more than the whole next period, periods have passed that no overflow stands for: a counter
//!   that was loaded once overflows once. They are skipped, and counted as such; one sample is taken.
//!
//! Reads are taken modulo the counter's width. That is right as long as a counter does not do a whole lap between
//! reads, for which it would have to count as many events after its overflow as it can be loaded with.

use super::frequency::Frequency;
use super::types::{EventCounts, Rate, Request, Settings};
use crate::counter::Counter;
use crate::unit::{CounterUnit, Encoding};

/// Longest period: one that fits an `i64`, with room for what is counted after it.
const PERIOD_MAX: u64 = 1 << 62;

/// An event, on a counter or off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    encoding: Encoding,
    /// What adjusts the period.
    frequency: Option<Frequency>,
    /// Events left of the period.
    left: i64,
    counter: Option<Counter>,
    /// The bits that the counter has.
    mask: u64,
    /// What the counter can be loaded with, and what it was.
    load_max: u64,
    loaded: u64,
    /// What it had counted since then when it was last read.
    seen: u64,
    counts: EventCounts,
}

impl Event {
    /// Creates one with a whole period left.
    pub(super) fn new(request: &Request, settings: &Settings) -> Self {
        let (period, frequency) = match request.rate {
            Rate::Count => (0, None),
            Rate::Period(events) => (events.min(PERIOD_MAX), None),
            Rate::Frequency(hz) => {
                let frequency = Frequency::new(hz, settings.clock_hz, settings.tick_hz);
                (frequency.period(), Some(frequency))
            }
        };
        Self {
            encoding: request.encoding,
            frequency,
            left: signed(period),
            counter: None,
            mask: 0,
            load_max: 1,
            loaded: 0,
            seen: 0,
            counts: EventCounts { period_events: period, ..EventCounts::default() },
        }
    }

    pub(super) const fn counter(&self) -> Option<Counter> {
        self.counter
    }

    pub(super) const fn counts(&self) -> EventCounts {
        self.counts
    }

    pub(super) const fn is_sampled(&self) -> bool {
        self.counts.period_events != 0
    }

    pub(super) const fn has_frequency(&self) -> bool {
        self.frequency.is_some()
    }

    /// Puts the event on a counter, stopped.
    pub(super) fn attach<U: CounterUnit>(&mut self, unit: &mut U, counter: Counter, now: u64) {
        let spare_bits = 64_u32.saturating_sub(u32::from(unit.capabilities().width_bits(counter)));
        self.mask = u64::MAX.checked_shr(spare_bits).unwrap_or(0);
        self.load_max = unit.load_max(counter).max(1);
        self.counter = Some(counter);
        unit.program(counter, Some(self.encoding));
        self.load(unit);
        self.resume(now);
    }

    /// Takes the event off its counter, which is stopped and was read.
    pub(super) fn detach<U: CounterUnit>(&mut self, unit: &mut U) {
        if let Some(counter) = self.counter.take() {
            unit.program(counter, None);
        }
    }

    /// Begins to measure the rate anew, after a time in which nothing was counted.
    pub(super) fn resume(&mut self, now: u64) {
        if let Some(frequency) = &mut self.frequency {
            frequency.resume(now, self.counts.count);
        }
    }

    /// Accounts a time, and whether a counter counted in it.
    pub(super) fn pass(&mut self, ticks: u64, is_counting: bool) {
        self.counts.enabled_ticks = self.counts.enabled_ticks.wrapping_add(ticks);
        if is_counting && self.counter.is_some() {
            self.counts.running_ticks = self.counts.running_ticks.wrapping_add(ticks);
        }
    }

    /// Reads the counter, and accounts what it counted.
    #[inline]
    pub(super) fn read<U: CounterUnit>(&mut self, unit: &mut U) {
        let Some(counter) = self.counter else { return };
        let counted = unit.read(counter).wrapping_add(self.loaded) & self.mask;
        let events = counted.wrapping_sub(self.seen) & self.mask;
        self.seen = counted;
        self.counts.count = self.counts.count.wrapping_add(events);
        self.left = self.left.saturating_sub(signed(events));
    }

    /// Loads the counter with what is left of the period, or with what it can take. Nothing may have been counted since
    /// it was read, or is lost.
    #[inline]
    pub(super) fn load<U: CounterUnit>(&mut self, unit: &mut U) {
        let Some(counter) = self.counter else { return };
        let wanted = if self.is_sampled() { self.left.max(1).unsigned_abs() } else { u64::MAX };
        self.loaded = wanted.min(self.load_max);
        self.seen = 0;
        unit.load(counter, self.loaded);
    }

    /// Begins the next period if this one is over, as of the last read; tells whether it was.
    #[inline]
    pub(super) fn end_period(&mut self, clock: impl FnOnce() -> u64) -> bool {
        if self.left > 0 || !self.is_sampled() {
            return false;
        }
        if let Some(frequency) = &mut self.frequency {
            self.counts.period_events = frequency.overflow(clock(), self.counts.count).max(1);
        }
        let (period, over) = (self.counts.period_events, self.left.unsigned_abs());
        self.left = if over < period { signed(period.wrapping_sub(over)) } else { self.skip(over) };
        true
    }

    /// Skips whole periods; returns what is left of the next one.
    #[cold]
    fn skip(&mut self, over: u64) -> i64 {
        let period = self.counts.period_events;
        self.skipped(over.checked_div(period).unwrap_or(0));
        signed(period.wrapping_sub(over.checked_rem(period).unwrap_or(0)))
    }

    /// Counts periods that ended without a sample.
    pub(super) fn skipped(&mut self, periods: u64) {
        self.counts.skipped_periods = self.counts.skipped_periods.wrapping_add(periods);
    }

    /// Counts a sample.
    #[inline]
    pub(super) fn sampled(&mut self) {
        self.counts.overflows = self.counts.overflows.wrapping_add(1);
    }

    /// Lets the period follow the workload; an eighth is not worth a reload.
    ///
    /// What is left of a period becomes shorter with it, or an event that has become rare would be waited for with the
    /// period of when it was not. An overflow whose NMI is on its way is left to the NMI.
    pub(super) fn follow<U: CounterUnit>(&mut self, unit: &mut U, now: u64) {
        let Some(frequency) = &mut self.frequency else { return };
        let before = self.counts.period_events;
        if self.counter.is_none() || self.left <= 0 || self.seen >= self.loaded {
            return;
        }
        let period = frequency.tick(now, self.counts.count).max(1);
        if period < before.wrapping_sub(before >> 3) {
            self.left = scaled(self.left, period, before);
            self.counts.period_events = period;
            self.load(unit);
        }
    }
}

/// Returns `left * to / from`, at least 1.
fn scaled(left: i64, to: u64, from: u64) -> i64 {
    let product = u128::from(left.unsigned_abs()).wrapping_mul(u128::from(to));
    let quotient = product.checked_div(u128::from(from)).unwrap_or(1);
    i64::try_from(quotient).unwrap_or(i64::MAX).max(1)
}

fn signed(events: u64) -> i64 {
    i64::try_from(events).unwrap_or(i64::MAX)
}
