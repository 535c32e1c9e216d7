//! The engine: from events to counters, and from overflows to samples.

mod schedule;
mod types;

use crate::counter::CounterSet;
use crate::unit::CounterUnit;

pub use schedule::ScheduleError;
pub use types::{EVENTS_MAX, EngineCounts, EventCounts, Overflow, Rate, Request, Settings};

/// The events of one CPU, its counters, and the account of both.
#[derive(Debug)]
pub struct Engine<U> {
    unit: U,
    settings: Settings,
}

impl<U: CounterUnit> Engine<U> {
    /// Creates a stopped engine without events. Touches no register.
    pub fn new(unit: U, settings: Settings) -> Self {
        Self { unit, settings }
    }

    /// Replaces the events, zeroes all counts, and plans the turns; `usable` are the counters that may be used.
    ///
    /// # Errors
    /// A [`ScheduleError`] says what does not fit; the engine has no events then.
    pub fn set_events(&mut self, requests: &[Request], usable: CounterSet) -> Result<(), ScheduleError> {
        let _ = (requests, usable);
        Ok(())
    }

    /// Tells the throttle what an NMI costs outside of [`Engine::handle_nmi`]: entry, dispatch and return.
    pub fn set_nmi_overhead(&mut self, ticks: u64) {
        let _ = ticks;
    }

    /// Tells whether [`Engine::tick`] has to be called: for turns, frequencies or the throttle.
    pub fn needs_tick(&self) -> bool {
        false
    }

    /// Tells whether the events take turns.
    pub fn is_multiplexed(&self) -> bool {
        false
    }

    /// Tells whether it is started.
    pub fn is_running(&self) -> bool {
        false
    }

    /// Starts to count; counts and rests of periods go on from where they were. Does nothing if it runs.
    ///
    /// # Context
    /// An NMI of the CPU.
    pub fn start(&mut self, now: u64) {
        let _ = now;
    }

    /// Stops to count. Does nothing if it does not run.
    ///
    /// # Context
    /// An NMI of the CPU.
    pub fn stop(&mut self, now: u64) {
        let _ = now;
    }

    /// Handles an NMI, and returns how many overflows it handled: 0 if it was not one of the counters.
    ///
    /// # Context
    /// The NMI.
    pub fn handle_nmi(&mut self, clock: impl Fn() -> u64, sink: impl FnMut(Overflow)) -> u32 {
        let _ = (clock, sink);
        0
    }

    /// Does what is due at each tick: ends throttling, follows frequencies, changes turns.
    ///
    /// # Context
    /// An NMI of the CPU, after `handle_nmi`.
    pub fn tick(&mut self, now: u64) {
        let _ = (now, self.settings);
    }

    /// Tells whether an NMI that nobody else explains is a late one of a counter; each `true` is one claim.
    ///
    /// # Context
    /// The NMI, after `handle_nmi` returned 0.
    pub fn claims_late(&mut self, now: u64) -> bool {
        let _ = now;
        false
    }

    /// Returns what was counted of an event up to the last overflow, tick, start, stop or [`Engine::read_all`].
    pub fn counts(&self, event: u8) -> EventCounts {
        let _ = event;
        EventCounts::default()
    }

    /// Brings all counts up to date.
    ///
    /// # Context
    /// An NMI of the CPU, or any while the engine is stopped.
    pub fn read_all(&mut self, now: u64) {
        let _ = now;
    }

    /// Returns what the engine did besides counting.
    pub fn engine_counts(&self) -> EngineCounts {
        EngineCounts::default()
    }

    /// Returns the unit. What is programmed through it while the engine runs is lost.
    pub fn unit(&mut self) -> &mut U {
        &mut self.unit
    }

    /// Gives the unit back, as it is: stop first.
    pub fn into_unit(self) -> U {
        self.unit
    }
}
