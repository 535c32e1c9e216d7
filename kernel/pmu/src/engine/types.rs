//! What goes into the engine and what comes out of it: plain values.

use crate::unit::Encoding;

/// The most events of one CPU.
pub const EVENTS_MAX: usize = 16;

/// When an event is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Never: it is counted only.
    Count,
    /// After each so many events.
    Period(u64),
    /// So many times a second, by a period that follows the workload.
    Frequency(u64),
}

/// One event that is to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What a counter is programmed with, and which ones can be.
    pub encoding: Encoding,
    /// When it is sampled.
    pub rate: Rate,
    /// Number of its group. The requests of a group stand side by side, and count at the same time or not at all.
    pub group: u8,
}

/// What the engine is told about its machine.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `clock_hz` | u64 | 1/s | frequency of the clock that every `now` is read from |
/// | `tick_hz` | u32 | 1/s | how often `tick` will be called |
/// | `cpu_time_max_percent` | u8 | % | most time of a tick that may pass in the handler; 0 or 100 = no limit |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Frequency of the clock that every `now` is read from.
    pub clock_hz: u64,
    /// How often the tick comes.
    pub tick_hz: u32,
    /// Most time of a tick that may pass in the handler; 0 or 100: no limit.
    pub cpu_time_max_percent: u8,
}

/// The end of a period: a sample is due. The handler's sink gets each one exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// Index of the event among the requests.
    pub event: u8,
    /// Whether it was found while the counters were stopped by the throttle: count it, but spend no time on it.
    pub throttled: bool,
}

/// What was counted of one event since it was set.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `count` | u64 | events | exactly what its counters counted |
/// | `enabled_ticks` | u64 | ticks | time between start and stop |
/// | `running_ticks` | u64 | ticks | that part of it in which a counter counted it: not while others had their turn, nor while throttled |
/// | `overflows` | u64 | | calls of the sink |
/// | `skipped_periods` | u64 | | periods that ended without a call: the one before was noticed too late, or the counter was stopped |
/// | `period_events` | u64 | events | the period, now; 0 if it is only counted |
///
/// With a fixed period, `count = (overflows + owed + skipped_periods) * period_events + progress`, where `progress`
/// is less than a period and `owed` is at most 1: a period that ended right at a rotation, whose NMI is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Exactly what its counters counted.
    pub count: u64,
    /// Time between start and stop.
    pub enabled_ticks: u64,
    /// Time in which a counter counted it.
    pub running_ticks: u64,
    /// Calls of the sink.
    pub overflows: u64,
    /// Periods that ended without a call of the sink.
    pub skipped_periods: u64,
    /// The period, now; 0 if it is only counted.
    pub period_events: u64,
}

/// What the engine did besides counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounts {
    /// Times that the throttle stopped the counters.
    pub throttles: u64,
    /// How long they were stopped, in ticks of the clock.
    pub throttled_ticks: u64,
    /// NMIs that were claimed after the fact.
    pub late: u64,
    /// NMIs in which no counter had overflowed: late ones, and those of others.
    pub spurious: u64,
    /// NMIs in which more than one overflow was found.
    pub merged: u64,
    /// Overflows of counters that were stopped, or whose event had left them, before the NMI came.
    pub stopped_overflows: u64,
    /// Times that counters overflowed again and again, and were all restarted.
    pub recoveries: u64,
    /// Changes of turn.
    pub rotations: u64,
}
