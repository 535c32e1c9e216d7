//! The handling of an NMI.
//!
//! 1. [`CounterUnit::begin_pmi`]: nothing counts from here on, where that can be had.
//! 2. Samples that are owed since a change of turn are delivered.
//! 3. [`CounterUnit::take_overflows`], until there is none. Each is read, accounted and loaded, in this order and with
//!    nothing in between, for what is counted between read and load is lost where counters can't be stopped. Only then
//!    comes the sink, which takes long.
//! 4. Counters that overflow faster than they are loaded would keep this going for ever: after [`ROUNDS_MAX`] rounds
//!    everything is stopped, loaded and started anew.
//! 5. If the handler has had more than its share of the time, the counters are stopped until a tick.
//! 6. [`CounterUnit::end_pmi`]: the next overflow interrupts.
//!
//! With one event at a fixed period and no throttle this is one read, one load and two looks at the status between
//! `begin_pmi` and `end_pmi`, and no look at the clock. The throttle looks at it twice, a frequency once.
//!
//! An overflow of a counter without an event belongs to one that was stopped: there is no sample in it, but the NMI is
//! explained.

use super::{Engine, Overflow, set_bits};
use crate::counter::Counter;
use crate::unit::CounterUnit;

/// The most looks at the status in one NMI. Linux takes 100 (`arch/x86/events/intel/core.c`); each round with an
/// overflow can take a sample, so that fewer are time enough for a handler.
const ROUNDS_MAX: u32 = 16;

impl<U: CounterUnit> Engine<U> {
    /// Handles an NMI, and returns how many overflows it handled: 0 if it was not one of the counters.
    ///
    /// Overflows of all kinds are meant: ends of periods, for which `sink` is called, ends of parts, counters that only
    /// count, counters that were stopped.
    ///
    /// # Context
    /// The NMI.
    #[inline]
    pub fn handle_nmi(&mut self, clock: impl Fn() -> u64, mut sink: impl FnMut(Overflow)) -> u32 {
        if !self.is_set_up {
            return 0;
        }
        let begin = if self.throttle.is_on() { clock() } else { 0 };
        self.unit.begin_pmi();
        let owed = if self.owed == 0 { 0 } else { self.deliver_owed(&mut sink) };
        let found = self.drain(&clock, &mut sink);
        let handled = owed.wrapping_add(found);
        if handled == 0 {
            self.counts.spurious = self.counts.spurious.wrapping_add(1);
        } else {
            self.counts.merged = self.counts.merged.wrapping_add(u64::from(handled > 1));
            self.expect_late(found, &clock);
            if self.throttle.is_on() {
                self.limit(begin, clock(), &mut sink);
            }
        }
        self.unit.end_pmi();
        handled
    }

    /// Handles overflows until there is none; returns how many there were.
    #[inline]
    fn drain(&mut self, clock: &impl Fn() -> u64, sink: &mut impl FnMut(Overflow)) -> u32 {
        let mut found = 0_u32;
        for _ in 0..ROUNDS_MAX {
            let overflowed = self.unit.take_overflows();
            if overflowed.is_empty() {
                return found;
            }
            for counter in overflowed.iter() {
                self.handle_overflow(counter, clock, sink);
                found = found.wrapping_add(1);
            }
        }
        self.recover(clock, sink);
        found
    }

    #[inline]
    fn handle_overflow(
        &mut self,
        counter: Counter,
        clock: &impl Fn() -> u64,
        sink: &mut impl FnMut(Overflow),
    ) {
        let index = self.on_counter.get(usize::from(counter.number())).copied().flatten();
        if let Some(index) = index {
            self.renew(index, clock, sink);
        } else {
            self.counts.stopped_overflows = self.counts.stopped_overflows.wrapping_add(1);
        }
    }

    /// Reads the counter of an event, loads it, and delivers the sample if the period is over.
    #[inline]
    fn renew(&mut self, index: u8, clock: &impl Fn() -> u64, sink: &mut impl FnMut(Overflow)) -> bool {
        let throttled = self.throttle.is_throttled();
        let Some(event) = self.events.get_mut(usize::from(index)).and_then(Option::as_mut) else {
            return false;
        };
        event.read(&mut self.unit);
        let is_over = event.end_period(clock);
        event.load(&mut self.unit);
        if is_over {
            event.sampled();
            sink(Overflow { event: index, throttled });
        }
        is_over
    }

    /// Renews all events that are on a counter; returns how many periods were over.
    fn renew_all(&mut self, clock: &impl Fn() -> u64, sink: &mut impl FnMut(Overflow)) -> u32 {
        let on_counter = self.on_counter;
        let indices = on_counter.into_iter().flatten();
        indices.fold(0, |over: u32, index| over.wrapping_add(u32::from(self.renew(index, clock, sink))))
    }

    #[cold]
    fn deliver_owed(&mut self, sink: &mut impl FnMut(Overflow)) -> u32 {
        let owed = core::mem::take(&mut self.owed);
        let throttled = self.throttle.is_throttled();
        for index in set_bits(owed) {
            if let Some(event) = self.event_mut(index) {
                event.sampled();
                sink(Overflow { event: index, throttled });
            }
        }
        owed.count_ones()
    }

    /// Stops what overflows again and again, and starts it anew.
    #[cold]
    fn recover(&mut self, clock: &impl Fn() -> u64, sink: &mut impl FnMut(Overflow)) {
        self.counts.recoveries = self.counts.recoveries.wrapping_add(1);
        self.unit.recover();
        self.renew_all(clock, sink);
        if !self.throttle.is_throttled() {
            self.unit.enable(self.active);
        }
    }

    /// Expects the NMIs of the overflows that this one found besides its own, where they may come late.
    ///
    /// On Intel they don't: the masked LVT entry lets at most one more come, and that one comes right after this
    /// one, back-to-back, which the dispatcher knows how to explain.
    #[inline]
    fn expect_late(&mut self, found: u32, clock: &impl Fn() -> u64) {
        if !self.is_amd {
            return;
        }
        let others = if self.active.count() > 1 { found } else { found.saturating_sub(1) };
        if others != 0 {
            self.late.expect(others, clock());
        }
    }

    /// Stops all counters if the handler has had more than its share.
    #[inline]
    fn limit(&mut self, begin: u64, end: u64, sink: &mut impl FnMut(Overflow)) {
        if self.throttle.note(begin, end) {
            self.throttle_counters(end, sink);
        }
    }

    /// Stops all counters. What overflowed since the last look at the status is accounted, and its NMI expected.
    #[cold]
    fn throttle_counters(&mut self, now: u64, sink: &mut impl FnMut(Overflow)) {
        self.account(now, true);
        self.unit.disable(self.active);
        let over = self.renew_all(&|| now, sink);
        self.late.expect(over, now);
    }
}
