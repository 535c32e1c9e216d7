//! What a run says of its PMU: the source of overflows, its events, and what they counted.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// The source of overflows.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `kind` | [`PmuKind`] | | whether hardware counts |
/// | `name` | text | | the driver and, of a model, the processor whose registers it has |
/// | `fallback` | text | | why nothing better is used; empty where nothing better was asked for |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct PmuInfo<'a> {
    /// Whether counters of the hardware count, or something stands in for them.
    pub kind: PmuKind,
    /// Name of the driver.
    pub name: &'a str,
    /// Why nothing better is used.
    pub fallback: &'a str,
}

/// Whether hardware counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum PmuKind {
    /// Performance counters of the CPU.
    Hardware,
    /// A timer that stands in for a counter, with or without a model of a PMU's registers before it.
    Virtual,
}

/// One event of a run.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `name` | text | | as perf would write it |
/// | `sampling` | [`Sampling`] | | how often it is sampled |
/// | `formula` | text | | what stands in for it on a virtual PMU, as a formula of the clock; empty where the hardware counts it |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct EventInfo<'a> {
    /// The event's name.
    pub name: &'a str,
    /// How often it is sampled.
    pub sampling: Sampling,
    /// What stands in for it.
    pub formula: &'a str,
}

/// How often an event is sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum Sampling {
    /// One sample every this many events (`-c`).
    Period(u64),
    /// This many samples per second (`-F`).
    Frequency(u64),
    /// Never: it is counted.
    Count,
}

/// What one event came to on one CPU. All are cumulative counts.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `cpu` | u16 | index | the CPU |
/// | `event` | u8 | index | into `Hello.events` |
/// | `count` | u64 | events | counted while a counter had the event |
/// | `enabled_ticks` | u64 | clock ticks | while the event was to be counted |
/// | `running_ticks` | u64 | clock ticks | of these, while a counter had it: fewer where there are more events than counters |
/// | `overflows` | u64 | overflows | that are samples, stored or not |
/// | `skipped_periods` | u64 | periods | that were over without an overflow of their own: the one before was noticed too late |
/// | `period_events` | u64 | events | between samples, at last; 0 where it is counted only |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct EventCounts {
    /// The CPU.
    pub cpu: u16,
    /// Index of the event in `Hello.events`.
    pub event: u8,
    /// Events counted while a counter had the event.
    pub count: u64,
    /// Clock ticks while the event was to be counted.
    pub enabled_ticks: u64,
    /// Clock ticks while a counter had it.
    pub running_ticks: u64,
    /// Overflows that are samples.
    pub overflows: u64,
    /// Periods that were over without an overflow of their own.
    pub skipped_periods: u64,
    /// Events between samples, at last.
    pub period_events: u64,
}

impl EventCounts {
    /// Returns the count that the whole enabled time would have had, and whether it is an estimate: perf's scaling.
    /// `None` where no counter ever had the event.
    #[must_use]
    pub fn scaled(&self) -> Option<(u64, bool)> {
        if self.running_ticks == 0 {
            return None;
        }
        if self.running_ticks >= self.enabled_ticks {
            return Some((self.count, false));
        }
        let scaled = u128::from(self.count) * u128::from(self.enabled_ticks) / u128::from(self.running_ticks);
        Some((u64::try_from(scaled).unwrap_or(u64::MAX), true))
    }
}

/// What the PMU's driver counted on one CPU. All are cumulative counts.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `cpu` | u16 | index | the CPU |
/// | `throttles` | u64 | times | that sampling was stopped because it took too large a share of the CPU |
/// | `throttled_ticks` | u64 | clock ticks | of that |
/// | `rotations` | u64 | times | that the counters were given to other events |
/// | `late` | u64 | NMIs | that came after what raised them was over, and were claimed |
/// | `merged` | u64 | NMIs | in which more than one overflow was found |
/// | `stopped_overflows` | u64 | overflows | of counters that had been given back |
/// | `recoveries` | u64 | times | that overflows would not end and all counters were stopped and started |
/// | `bus_errors` | u64 | accesses | that raised #GP |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct PmuCounters {
    /// The CPU.
    pub cpu: u16,
    /// Times that sampling was stopped because it took too large a share of the CPU.
    pub throttles: u64,
    /// Clock ticks of that.
    pub throttled_ticks: u64,
    /// Times that the counters were given to other events.
    pub rotations: u64,
    /// NMIs that came after what raised them was over, and were claimed.
    pub late: u64,
    /// NMIs in which more than one overflow was found.
    pub merged: u64,
    /// Overflows of counters that had been given back.
    pub stopped_overflows: u64,
    /// Times that overflows would not end and all counters were stopped and started.
    pub recoveries: u64,
    /// Accesses to registers that raised #GP.
    pub bus_errors: u64,
}

/// What a PMU offers, or why it does not: one generic event, for `nmiprof list`.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `name` | text | | the event |
/// | `counters` | u64 | bits | counters that can count it: general-purpose ones from bit 0, fixed ones from bit 32 |
/// | `select` | u64 | bits | what an event-select register would be programmed with |
/// | `formula` | text | | what stands in for it on a virtual PMU |
/// | `refused` | text | | why it is not offered; empty where it is |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Offer<'a> {
    /// The event.
    pub name: &'a str,
    /// Counters that can count it.
    pub counters: u64,
    /// What an event-select register would be programmed with.
    pub select: u64,
    /// What stands in for it.
    pub formula: &'a str,
    /// Why it is not offered.
    pub refused: &'a str,
}

/// What the self-test found out about one counter.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `counter` | u8 | number | general-purpose counters from 0, fixed ones from 32 |
/// | `verdict` | [`CounterVerdict`] | | whether it can be used |
/// | `counted` | u64 | events | over the known piece of work |
/// | `work` | u64 | instructions | of that piece |
/// | `overflows` | u64 | PMIs | that came |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct CounterReport {
    /// The counter.
    pub counter: u8,
    /// Whether it can be used.
    pub verdict: CounterVerdict,
    /// Events over the known piece of work.
    pub counted: u64,
    /// Instructions of that piece.
    pub work: u64,
    /// PMIs that came.
    pub overflows: u64,
}

/// Whether a counter can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum CounterVerdict {
    /// It counts and interrupts.
    Works,
    /// It did not count.
    Dead,
    /// It counted and did not interrupt.
    Silent,
    /// It was not tested: it counts no event that the test knows.
    Untested,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_scaled_to_the_time_that_it_was_wanted() {
        let counts =
            EventCounts { count: 100, enabled_ticks: 300, running_ticks: 100, ..EventCounts::default() };
        assert_eq!(counts.scaled(), Some((300, true)));
        assert_eq!(EventCounts { running_ticks: 300, ..counts }.scaled(), Some((100, false)));
        assert_eq!(EventCounts { running_ticks: 0, ..counts }.scaled(), None, "never counted");
        let hostile = EventCounts { count: u64::MAX, enabled_ticks: u64::MAX, running_ticks: 1, ..counts };
        assert_eq!(hostile.scaled(), Some((u64::MAX, true)));
    }
}
