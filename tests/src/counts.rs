//! What a run said of its PMU: the events and their formulas, what they counted, and what the driver counted.

use std::ops::RangeInclusive;

use nmiprof_wire::{CounterReport, EventCounts, Frame, Offer, PmuCounters, PmuKind, decode};

/// The frames of a capture that are about its PMU.
#[derive(Clone, Debug)]
pub struct PmuRecord {
    /// Whether hardware counted.
    pub kind: PmuKind,
    /// Name of the driver.
    pub name: String,
    /// Why nothing better was used.
    pub fallback: String,
    /// Name of each event, and the formula that stands in for it.
    pub events: Vec<(String, String)>,
    /// Ticks per second of the clock.
    pub clock_hz: u64,
    /// What each event came to.
    pub counts: Vec<EventCounts>,
    /// What the driver counted.
    pub counters: PmuCounters,
    /// What the self-test of each counter found.
    pub reports: Vec<CounterReport>,
    /// Names of the events that are offered.
    pub offered: Vec<String>,
    /// Names of the events that are not, and why.
    pub refused: Vec<(String, String)>,
}

impl PmuRecord {
    /// Reads a capture.
    ///
    /// # Panics
    /// If it does not introduce itself.
    #[must_use]
    pub fn of(capture: &[u8]) -> Self {
        let mut record = None;
        for line in capture.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            if let Ok(frame) = decode(&mut line.to_vec()) {
                take(&mut record, &frame);
            }
        }
        record.expect("the run introduced itself")
    }

    /// Returns the names of the events.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.events.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Returns the events that a formula of `events` per `ticks` gives while the event was to be counted, as what a
    /// count can be that begins and ends anywhere: one more or less.
    #[must_use]
    pub fn expected(&self, event: usize, events: u64, ticks: u64) -> RangeInclusive<u64> {
        let exact = self.counts[event].running_ticks * events / ticks;
        exact.saturating_sub(1)..=exact + 1
    }
}

fn take(record: &mut Option<PmuRecord>, frame: &Frame<'_>) {
    if let (Frame::Hello(hello), None) = (frame, &record) {
        let events = hello.events.iter().map(|event| (event.name.to_owned(), event.formula.to_owned()));
        *record = Some(PmuRecord {
            kind: hello.pmu.kind,
            name: hello.pmu.name.to_owned(),
            fallback: hello.pmu.fallback.to_owned(),
            events: events.collect(),
            clock_hz: hello.clock_hz,
            counts: Vec::new(),
            counters: PmuCounters::default(),
            reports: Vec::new(),
            offered: Vec::new(),
            refused: Vec::new(),
        });
    }
    let Some(record) = record else { return };
    match frame {
        Frame::Counts(counts) => record.counts.push(*counts),
        Frame::Pmu(counters) => record.counters = *counters,
        Frame::Counter(report) => record.reports.push(*report),
        Frame::Offer(Offer { name, refused: "", .. }) => record.offered.push((*name).to_owned()),
        Frame::Offer(Offer { name, refused, .. }) => {
            record.refused.push(((*name).to_owned(), (*refused).to_owned()));
        }
        _ => {}
    }
}
