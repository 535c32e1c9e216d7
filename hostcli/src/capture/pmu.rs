//! What the PMU counted, what it offers, and what its self-test found.
//!
//! All of it is bounded: one account for each announced CPU and event, [`OFFERS_MAX`] offers, one report for each
//! counter number. Counts are cumulative, so a later one replaces an earlier one, and one that goes back is refused.

use std::collections::BTreeMap;

use nmiprof_wire::{CounterReport, EventCounts, Offer, PmuCounters};

use super::clean;

/// Most offers that are kept.
pub const OFFERS_MAX: usize = 256;
/// Numbers that a counter can have: general-purpose counters from 0, fixed ones from 32.
const COUNTER_NUMBERS: u8 = 64;

/// One event that the PMU offers, or refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedEvent {
    /// The event.
    pub name: String,
    /// Counters that can count it: general-purpose ones from bit 0, fixed ones from bit 32.
    pub counters: u64,
    /// What an event-select register would be programmed with.
    pub select: u64,
    /// What stands in for it on a virtual PMU.
    pub formula: String,
    /// Why it is not offered; empty where it is.
    pub refused: String,
}

/// What one event came to on all CPUs. The sums saturate: hostile counts must not wrap to plausible ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventTotal {
    /// Events counted while a counter had the event.
    pub count: u64,
    /// Estimate for the whole enabled time; `None` where no counter ever had the event.
    pub scaled: Option<u64>,
    /// Clock ticks while the event was to be counted.
    pub enabled_ticks: u64,
    /// Clock ticks while a counter had it.
    pub running_ticks: u64,
    /// Overflows that are samples.
    pub overflows: u64,
    /// Periods that were over without an overflow of their own.
    pub skipped_periods: u64,
    /// Events between samples, at last; of all CPUs the most.
    pub period_events: u64,
}

impl EventTotal {
    fn add(&mut self, counts: &EventCounts) {
        if let Some((scaled, _)) = counts.scaled() {
            self.scaled = Some(self.scaled.unwrap_or(0).saturating_add(scaled));
        }
        for (sum, term) in [
            (&mut self.count, counts.count),
            (&mut self.enabled_ticks, counts.enabled_ticks),
            (&mut self.running_ticks, counts.running_ticks),
            (&mut self.overflows, counts.overflows),
            (&mut self.skipped_periods, counts.skipped_periods),
        ] {
            *sum = sum.saturating_add(term);
        }
        self.period_events = self.period_events.max(counts.period_events);
    }

    /// Returns the share of the enabled time in which a counter had the event, if it was enabled at all.
    #[must_use]
    pub fn running_pct(&self) -> Option<f64> {
        let share = self.running_ticks.min(self.enabled_ticks) as f64 / self.enabled_ticks as f64;
        (self.enabled_ticks > 0).then_some(100.0 * share)
    }

    /// Tells whether a counter had the event for only a part of the time.
    #[must_use]
    pub const fn is_estimate(&self) -> bool {
        self.running_ticks < self.enabled_ticks
    }
}

/// Everything that a kernel said of its PMU after its first description.
#[derive(Debug, Default)]
pub struct PmuRecord {
    counts: BTreeMap<(u16, u8), EventCounts>,
    counters: BTreeMap<u16, PmuCounters>,
    offers: Vec<OfferedEvent>,
    tests: Vec<CounterReport>,
}

impl PmuRecord {
    /// Returns what every event came to on every CPU, by CPU and event.
    pub fn counts(&self) -> impl Iterator<Item = &EventCounts> {
        self.counts.values()
    }

    /// Returns what an event came to on all CPUs; `None` where nothing was said of it.
    #[must_use]
    pub fn total(&self, event: u8) -> Option<EventTotal> {
        let mut counts = self.counts.values().filter(|counts| counts.event == event).peekable();
        counts.peek()?;
        let mut total = EventTotal::default();
        counts.for_each(|counts| total.add(counts));
        Some(total)
    }

    /// Returns what the driver counted on every CPU that said so, by CPU.
    pub fn counters(&self) -> impl Iterator<Item = &PmuCounters> {
        self.counters.values()
    }

    /// Returns what the PMU offers and refuses, in the order of the capture; at most [`OFFERS_MAX`].
    #[must_use]
    pub fn offers(&self) -> &[OfferedEvent] {
        &self.offers
    }

    /// Returns what the self-test found about every counter, in the order of the capture.
    #[must_use]
    pub fn tests(&self) -> &[CounterReport] {
        &self.tests
    }

    /// Takes the counts of an event; refuses them where they go back. The CPU and the event must have been announced.
    pub(super) fn take_counts(&mut self, counts: &EventCounts) -> bool {
        let last = self.counts.entry((counts.cpu, counts.event)).or_insert(*counts);
        let pairs = [
            (last.count, counts.count),
            (last.enabled_ticks, counts.enabled_ticks),
            (last.running_ticks, counts.running_ticks),
            (last.overflows, counts.overflows),
        ];
        let goes_on = pairs.iter().all(|(last, now)| last <= now);
        if goes_on {
            *last = *counts;
        }
        goes_on
    }

    /// Takes the counters of a driver. The CPU must have been announced.
    pub(super) fn take_counters(&mut self, counters: &PmuCounters) -> bool {
        self.counters.insert(counters.cpu, *counters);
        true
    }

    /// Takes an offer; refuses it where there are too many.
    pub(super) fn take_offer(&mut self, offer: &Offer<'_>) -> bool {
        let has_room = self.offers.len() < OFFERS_MAX;
        if has_room {
            self.offers.push(OfferedEvent {
                name: clean(offer.name).into_owned(),
                counters: offer.counters,
                select: offer.select,
                formula: clean(offer.formula).into_owned(),
                refused: clean(offer.refused).into_owned(),
            });
        }
        has_room
    }

    /// Takes the report on a counter; refuses a second one, and numbers that no counter has.
    pub(super) fn take_test(&mut self, report: &CounterReport) -> bool {
        let is_new = self.tests.iter().all(|other| other.counter != report.counter);
        let is_used = is_new && report.counter < COUNTER_NUMBERS;
        if is_used {
            self.tests.push(*report);
        }
        is_used
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nmiprof_wire::CounterVerdict;

    fn counts(cpu: u16, count: u64, running_ticks: u64) -> EventCounts {
        EventCounts { cpu, count, running_ticks, enabled_ticks: 300, ..EventCounts::default() }
    }

    #[test]
    fn every_cpu_is_scaled_by_its_own_time() {
        let mut pmu = PmuRecord::default();
        assert!(pmu.take_counts(&counts(0, 100, 300)) && pmu.take_counts(&counts(1, 100, 100)));
        let total = pmu.total(0).expect("both are of event 0");
        assert_eq!((total.count, total.scaled, total.is_estimate()), (200, Some(400), true));
        assert_eq!(pmu.total(1), None, "nothing was said of it");
    }

    #[test]
    fn an_event_that_no_counter_had_has_no_count() {
        let mut pmu = PmuRecord::default();
        assert!(pmu.take_counts(&counts(0, 0, 0)));
        let total = pmu.total(0).expect("it was said");
        assert_eq!((total.scaled, total.running_pct()), (None, Some(0.0)));
        assert_eq!(EventTotal::default().running_pct(), None, "never enabled");
    }

    #[test]
    fn later_counts_replace_earlier_ones_unless_they_go_back() {
        let mut pmu = PmuRecord::default();
        assert!(pmu.take_counts(&counts(0, 5, 10)) && pmu.take_counts(&counts(0, 7, 10)));
        assert!(!pmu.take_counts(&counts(0, 6, 20)));
        assert_eq!(pmu.total(0).map(|total| total.count), Some(7));
    }

    #[test]
    fn sums_of_hostile_counts_saturate() {
        let mut pmu = PmuRecord::default();
        for cpu in 0..2 {
            assert!(pmu.take_counts(&counts(cpu, u64::MAX, 300)));
        }
        let total = pmu.total(0).expect("both");
        assert_eq!((total.count, total.scaled), (u64::MAX, Some(u64::MAX)));
    }

    #[test]
    fn offers_are_cleaned_and_bounded() {
        let mut pmu = PmuRecord::default();
        let offer = Offer { name: "cy\x1bcles", counters: 3, select: 0x3c, formula: "", refused: "" };
        assert!((0..OFFERS_MAX).all(|_| pmu.take_offer(&offer)));
        assert!(!pmu.take_offer(&offer), "one too many");
        assert_eq!(pmu.offers()[0].name, "cy\\u{1b}cles");
    }

    #[test]
    fn a_counter_is_reported_once() {
        let mut pmu = PmuRecord::default();
        let report =
            CounterReport { counter: 33, verdict: CounterVerdict::Works, counted: 1, work: 1, overflows: 1 };
        assert!(pmu.take_test(&report) && !pmu.take_test(&report));
        assert!(!pmu.take_test(&CounterReport { counter: 64, ..report }), "no such number");
    }
}
