//! What a run said of its PMU: the events and their formulas, what they counted, and what the driver counted.

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_wire::{
    CounterReport, CpuTotals, EventCounts, Frame, NmiCounters, Offer, PmuCounters, PmuKind, decode,
};

use crate::{Boot, Completed};

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
    /// What had been counted when sampling began.
    pub at_start: Option<CpuTotals>,
    /// What each event came to.
    pub counts: Vec<EventCounts>,
    /// What the driver counted; of several CPUs, on the last one.
    pub counters: PmuCounters,
    /// What the driver of each CPU counted.
    pub drivers: Vec<PmuCounters>,
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

    /// Returns a count of the NMI path since sampling began: without what the tests of the counters raised.
    ///
    /// # Panics
    /// If the run did not say where it began.
    #[must_use]
    pub fn since_start(&self, run: &Completed, count: impl Fn(&NmiCounters) -> u64) -> u64 {
        let at_start = self.at_start.expect("sampling began");
        count(&run.record.accounts().total().nmi) - count(&at_start.nmi)
    }
}

/// Boots the main image with words for the kernel, and checks what holds of every run; `None` where the test is skipped.
#[must_use = "a skipped test has to return"]
pub fn counted(words: &str) -> Option<(Completed, PmuRecord)> {
    checked(Boot::image(Image::Main).append(words), words)
}

/// Boots, and checks what holds of every run of a sound machine: the identity, the equations of the NMI path, no NMI
/// that nothing explains, no access that raised #GP, and that the counts of each event are those of its overflows.
///
/// # Panics
/// If something does not hold.
#[must_use = "a skipped test has to return"]
pub fn checked(boot: Boot, words: &str) -> Option<(Completed, PmuRecord)> {
    let run = boot.run().passed()?;
    let accounts = run.record.accounts();
    assert_eq!(accounts.identity(), Identity::Holds, "{words}");
    assert!(!accounts.is_nmi_inconsistent(), "{words}: {:?}", accounts.total().nmi);
    assert_eq!(accounts.total().nmi.unknown, 0, "{words}");
    let record = PmuRecord::of(&run.capture);
    assert!(record.drivers.iter().all(|driver| driver.bus_errors == 0), "{words}: {:?}", record.drivers);
    record.counts.iter().for_each(|counts| check_periods(counts, words));
    Some((run, record))
}

/// Checks that a count at a fixed period is whole periods and the beginning of one.
fn check_periods(counts: &EventCounts, words: &str) {
    if counts.period_events == 0 || words.contains("freq=") {
        return;
    }
    let periods = counts.count / counts.period_events;
    let ended = counts.overflows + counts.skipped_periods;
    assert_eq!(periods, ended, "{words}: {counts:?}");
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
            at_start: None,
            counts: Vec::new(),
            counters: PmuCounters::default(),
            drivers: Vec::new(),
            reports: Vec::new(),
            offered: Vec::new(),
            refused: Vec::new(),
        });
    }
    let Some(record) = record else { return };
    match frame {
        Frame::Counts(counts) => record.counts.push(*counts),
        Frame::Sync(totals) if record.at_start.is_none() => record.at_start = Some(*totals),
        Frame::Pmu(counters) => {
            record.counters = *counters;
            record.drivers.push(*counters);
        }
        Frame::Counter(report) => record.reports.push(*report),
        Frame::Offer(Offer { name, refused: "", .. }) => record.offered.push((*name).to_owned()),
        Frame::Offer(Offer { name, refused, .. }) => {
            record.refused.push(((*name).to_owned(), (*refused).to_owned()));
        }
        _ => {}
    }
}
