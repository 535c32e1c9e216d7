//! The engine: from events to counters, and from overflows to samples.
//!
//! It stands between the vendors' drivers ([`CounterUnit`]) and a sampler that wants to be told when to take a sample.
//! Everything is arithmetic on fixed arrays, and everything that runs while counters count runs in an NMI of their CPU:
//! no locks, no allocation, no panic, every loop bounded. Its concepts, one per file:
//!
//! - `event`: periods, counted in parts where a counter is too narrow, and exact counts;
//! - `schedule`, `matching`: which event is on which counter, and turns where there are too many;
//! - `frequency`: periods that follow the workload;
//! - [`throttle`]: a bound on the share of time that passes in the handler;
//! - `late`: NMIs that come after their overflow was handled;
//! - `pmi`: the handling of an NMI;
//! - here: the life of the whole.
//!
//! # Invariants
//! - ON: the engine runs, and `active` is the set of the counters that have an event, which `on_counter` names. They
//!   are enabled in the unit unless the throttle is tripped.
//! - ONCE: every end of a period that was noticed is one call of the sink, or is counted as skipped. One that is noticed
//!   outside of the handler (at a change of turn) is *owed*, and is delivered by the next NMI, which is on its way.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

mod event;
mod frequency;
mod late;
mod matching;
#[cfg(test)]
mod mock;
mod pmi;
mod schedule;
#[cfg(test)]
mod tests;
pub mod throttle;
mod types;

use crate::capabilities::Interface;
use crate::counter::{Counter, CounterSet};
use crate::unit::CounterUnit;
use event::Event;
use late::Late;
use schedule::{Schedule, index_u8};

pub use schedule::ScheduleError;
pub use throttle::Throttle;
pub use types::{EVENTS_MAX, EngineCounts, EventCounts, Overflow, Rate, Request, Settings};

/// The events of one CPU, its counters, and the account of both.
///
/// The NMI writes to it all the time, so it shares no pair of cache lines with what belongs to another CPU.
#[derive(Debug)]
#[repr(align(128))]
pub struct Engine<U> {
    unit: U,
    settings: Settings,
    is_amd: bool,
    events: [Option<Event>; EVENTS_MAX],
    schedule: Schedule,
    turn: usize,
    is_running: bool,
    /// Whether it was started once: before that the registers are not its own.
    is_set_up: bool,
    /// Counters that have an event.
    active: CounterSet,
    /// The event of each counter.
    on_counter: [Option<u8>; Counter::COUNT],
    /// Events whose period ended at a change of turn: bit N stands for event N.
    owed: u16,
    /// Until when `enabled_ticks` and `running_ticks` are accounted.
    accounted_until: u64,
    throttle: Throttle,
    late: Late,
    counts: EngineCounts,
}

impl<U: CounterUnit> Engine<U> {
    /// Creates a stopped engine without events. Touches no register.
    pub fn new(unit: U, settings: Settings) -> Self {
        let window_ticks = settings.clock_hz / u64::from(settings.tick_hz.max(1));
        Self {
            is_amd: !matches!(unit.capabilities().interface, Interface::Intel { .. }),
            unit,
            settings,
            events: [None; EVENTS_MAX],
            schedule: Schedule::EMPTY,
            turn: 0,
            is_running: false,
            is_set_up: false,
            active: CounterSet::EMPTY,
            on_counter: [None; Counter::COUNT],
            owed: 0,
            accounted_until: 0,
            throttle: Throttle::new(window_ticks, settings.cpu_time_max_percent),
            late: Late::new(settings.clock_hz),
            counts: EngineCounts::default(),
        }
    }

    /// Replaces the events, zeroes all counts, and plans the turns; `usable` are the counters that may be used.
    ///
    /// # Errors
    /// A [`ScheduleError`] says what does not fit. The engine then has the events that it had.
    pub fn set_events(&mut self, requests: &[Request], usable: CounterSet) -> Result<(), ScheduleError> {
        if self.is_running {
            return Err(ScheduleError::Running);
        }
        let usable = usable.intersection(self.unit.capabilities().counters());
        self.schedule = Schedule::plan(requests, usable)?;
        self.events = [None; EVENTS_MAX];
        for (slot, request) in self.events.iter_mut().zip(requests) {
            *slot = Some(Event::new(request, &self.settings));
        }
        self.turn = 0;
        self.counts = EngineCounts::default();
        self.throttle.forget_account();
        Ok(())
    }

    /// Tells the throttle what an NMI costs outside of [`Engine::handle_nmi`]: entry, dispatch and return.
    pub const fn set_nmi_overhead(&mut self, ticks: u64) {
        self.throttle.set_overhead(ticks);
    }

    /// Tells whether [`Engine::tick`] has to be called: for turns, frequencies or the throttle.
    pub fn needs_tick(&self) -> bool {
        let is_sampling = self.events.iter().flatten().any(Event::is_sampled);
        self.is_multiplexed() || self.has_frequency() || (self.throttle.is_on() && is_sampling)
    }

    /// Tells whether the next tick has anything to do: one that has not need not come.
    pub fn wants_tick(&self) -> bool {
        self.throttle.is_throttled() || self.is_multiplexed() || self.has_frequency()
    }

    /// Tells whether the events take turns.
    pub const fn is_multiplexed(&self) -> bool {
        self.schedule.turns_count() > 1
    }

    /// Tells whether it is started.
    pub const fn is_running(&self) -> bool {
        self.is_running
    }

    /// Starts to count; counts and rests of periods go on from where they were. Does nothing if it runs.
    ///
    /// # Context
    /// An NMI of the CPU.
    pub fn start(&mut self, now: u64) {
        if self.is_running {
            return;
        }
        self.is_running = true;
        self.is_set_up = true;
        self.accounted_until = now;
        self.throttle.start(now);
        self.unit.reset();
        self.unit.begin_pmi();
        self.enter_turn(now);
        self.unit.end_pmi();
    }

    /// Stops to count. Does nothing if it does not run.
    ///
    /// A period that ended, and whose NMI is on its way, is skipped: its sample would be one of the code that stops.
    ///
    /// # Context
    /// An NMI of the CPU.
    pub fn stop(&mut self, now: u64) {
        if !self.is_running {
            return;
        }
        self.account(now, !self.throttle.is_throttled());
        self.unit.begin_pmi();
        let in_flight = self.leave_turn(now);
        self.late.expect_more(in_flight, now);
        self.unit.end_pmi();
        for index in set_bits(core::mem::take(&mut self.owed)) {
            if let Some(event) = self.event_mut(index) {
                event.skipped(1);
            }
        }
        self.throttle.stop(now);
        self.is_running = false;
    }

    /// Does what is due at each tick: ends throttling, follows frequencies, changes turns.
    ///
    /// # Context
    /// An NMI of the CPU, after `handle_nmi`.
    pub fn tick(&mut self, now: u64) {
        if !self.is_running {
            return;
        }
        self.account(now, !self.throttle.is_throttled());
        let is_released = self.throttle.tick(now);
        let is_due = is_released || self.is_multiplexed() || self.has_frequency();
        if self.throttle.is_throttled() || !is_due {
            return;
        }
        self.unit.begin_pmi();
        self.follow_frequencies(now, is_released);
        if self.is_multiplexed() {
            let in_flight = self.leave_turn(now);
            self.late.expect(in_flight, now);
            self.turn = self.turn.wrapping_add(1).checked_rem(self.schedule.turns_count()).unwrap_or(0);
            self.counts.rotations = self.counts.rotations.wrapping_add(1);
            self.enter_turn(now);
        } else if is_released {
            self.unit.enable(self.active);
        }
        self.unit.end_pmi();
    }

    /// Accounts for the time that a change of turn has taken: the events were to be counted, and no counter counted.
    ///
    /// # Context
    /// An NMI of the CPU, right after `tick`.
    pub fn end_tick(&mut self, now: u64) {
        if self.is_running && self.is_multiplexed() {
            self.account(now, false);
        }
    }

    /// Tells whether an NMI that nobody else explains is a late one of a counter; each `true` is one claim.
    ///
    /// # Context
    /// The NMI, after `handle_nmi` returned 0.
    pub fn claims_late(&mut self, now: u64) -> bool {
        let is_late = self.late.claim(now);
        self.counts.late = self.counts.late.wrapping_add(u64::from(is_late));
        is_late
    }

    /// Notes that the NMI in which so many overflows were found was raised by somebody else, too: theirs may come yet.
    ///
    /// # Context
    /// The NMI, after `handle_nmi`.
    pub fn was_not_alone(&mut self, found: u32, now: u64) {
        self.late.expect(found, now);
    }

    /// Counts a late NMI that was not the counters' own: the bus raised it.
    pub const fn count_late(&mut self) {
        self.counts.late = self.counts.late.wrapping_add(1);
    }

    /// Notes that a late NMI was explained by somebody else: it will not be claimed.
    ///
    /// # Context
    /// The NMI.
    pub fn late_was_explained(&mut self, now: u64) {
        self.late.claim(now);
    }

    /// Returns what was counted of an event up to the last overflow, tick, start, stop or [`Engine::read_all`].
    pub fn counts(&self, event: u8) -> EventCounts {
        self.events
            .get(usize::from(event))
            .and_then(Option::as_ref)
            .map_or_else(EventCounts::default, Event::counts)
    }

    /// Brings all counts up to date.
    ///
    /// # Context
    /// An NMI of the CPU, or any while the engine is stopped.
    pub fn read_all(&mut self, now: u64) {
        if self.is_running {
            self.account(now, !self.throttle.is_throttled());
            self.events.iter_mut().flatten().for_each(|event| event.read(&mut self.unit));
        }
    }

    /// Returns what the engine did besides counting.
    pub fn engine_counts(&self) -> EngineCounts {
        let (throttles, throttled_ticks) = (self.throttle.episodes(), self.throttle.throttled_ticks());
        EngineCounts { throttles, throttled_ticks, ..self.counts }
    }

    /// Returns the unit. What is programmed through it while the engine runs is lost.
    pub const fn unit(&mut self) -> &mut U {
        &mut self.unit
    }

    /// Gives the unit back, as it is: stop first.
    pub fn into_unit(self) -> U {
        self.unit
    }

    /// Puts the events of the turn on their counters, and enables these.
    fn enter_turn(&mut self, now: u64) {
        for (index, slot) in self.events.iter_mut().enumerate() {
            let (Some(event), Some(counter)) = (slot, self.schedule.counter(self.turn, index)) else {
                continue;
            };
            event.attach(&mut self.unit, counter, now);
            self.active = self.active.union(counter.set());
            if let Some(on_counter) = self.on_counter.get_mut(usize::from(counter.number())) {
                *on_counter = Some(index_u8(index));
            }
        }
        self.unit.enable(self.active);
    }

    /// Takes all events off their counters, and returns how many overflows have an NMI to come. Periods that are over are
    /// owed.
    fn leave_turn(&mut self, now: u64) -> u32 {
        let overflowed = self.unit.take_overflows();
        self.unit.disable(self.active);
        let mut in_flight = 0_u32;
        for (index, slot) in self.events.iter_mut().enumerate() {
            let Some(event) = slot else { continue };
            let Some(counter) = event.counter() else { continue };
            event.read(&mut self.unit);
            let is_over = event.end_period(|| now);
            event.detach(&mut self.unit);
            in_flight = in_flight.wrapping_add(u32::from(is_over || overflowed.contains(counter)));
            if is_over {
                // Owed twice: the NMI has not come since the turn before.
                event.skipped(u64::from(self.owed & bit(index) != 0));
                self.owed |= bit(index);
            }
        }
        self.counts.stopped_overflows = self.counts.stopped_overflows.wrapping_add(u64::from(in_flight));
        self.active = CounterSet::EMPTY;
        self.on_counter = [None; Counter::COUNT];
        in_flight
    }

    fn follow_frequencies(&mut self, now: u64, is_released: bool) {
        for event in self.events.iter_mut().flatten().filter(|event| event.has_frequency()) {
            if is_released {
                event.resume(now);
            } else {
                event.read(&mut self.unit);
                event.follow(&mut self.unit, now);
            }
        }
    }

    /// Accounts the time since the last call.
    fn account(&mut self, now: u64, is_counting: bool) {
        let ticks = now.saturating_sub(self.accounted_until);
        self.accounted_until = now;
        self.events.iter_mut().flatten().for_each(|event| event.pass(ticks, is_counting));
    }

    fn has_frequency(&self) -> bool {
        self.events.iter().flatten().any(Event::has_frequency)
    }

    fn event_mut(&mut self, index: u8) -> Option<&mut Event> {
        self.events.get_mut(usize::from(index))?.as_mut()
    }
}

/// Returns the bit of an event.
fn bit(index: usize) -> u16 {
    u32::try_from(index).ok().and_then(|index| 1_u16.checked_shl(index)).unwrap_or(0)
}

/// Returns the numbers of the bits that are set.
fn set_bits(mut bits: u16) -> impl Iterator<Item = u8> {
    core::iter::from_fn(move || {
        let index = u8::try_from(bits.trailing_zeros()).ok().filter(|_| bits != 0)?;
        bits &= bits.wrapping_sub(1);
        Some(index)
    })
}
