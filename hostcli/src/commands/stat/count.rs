//! What the events of one or more runs came to.

use super::metric::{Metric, metric};
use super::spread::Spread;
use crate::capture::{EventTotal, RunInfo};
use crate::commands::Error;
use crate::commands::ask::Answer;
use crate::commands::pmu::event_title;

/// Everything that is shown.
#[derive(Debug)]
pub(super) struct Stat {
    /// What ran.
    pub(super) title: String,
    /// Description of the first run; the others had the same command line.
    pub(super) run: RunInfo,
    /// Length of the counted part in seconds of the target's clock.
    pub(super) seconds: Spread,
    /// The events, in the order of the command line.
    pub(super) events: Vec<Counted>,
}

/// What one event came to.
#[derive(Debug)]
pub(super) struct Counted {
    /// Its name.
    pub(super) name: String,
    /// Its name, marked where no hardware counted it.
    pub(super) title: String,
    /// What stood in for it on a virtual PMU; empty where nothing did.
    pub(super) formula: String,
    /// Count of every run; `None` where no counter ever had the event.
    pub(super) runs: Vec<Option<u64>>,
    /// Those that are counts.
    pub(super) value: Spread,
    /// Nanoseconds in which a counter had the event, and in which it was to be counted: means over the runs.
    pub(super) running_ns: f64,
    /// See `running_ns`.
    pub(super) enabled_ns: f64,
    /// What it means beside the other events.
    pub(super) metric: Option<Metric>,
}

impl Stat {
    /// Adds up what runs of one command line came to; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::Usage`] where they counted different things, or the same ones with different PMUs.
    pub(super) fn new(title: &str, answers: &[Answer]) -> Result<Option<Self>, Error> {
        let Some(first) = answers.first() else { return Ok(None) };
        let run = first.run.clone();
        let is_other = |other: &RunInfo| {
            (&other.events, &other.pmu_name, other.pmu_kind) != (&run.events, &run.pmu_name, run.pmu_kind)
        };
        if answers.iter().any(|answer| is_other(&answer.run)) {
            return Err(Error::Usage(
                "the runs are of different events or PMUs, so there is no mean of their counts; show them one by one"
                    .to_owned(),
            ));
        }
        let mut events: Vec<Counted> = (0..=u8::MAX)
            .zip(&run.events)
            .map(|(event, about)| {
                let mut counted = Counted::new(answers, event);
                about.name.clone_into(&mut counted.name);
                about.formula.clone_into(&mut counted.formula);
                counted.title = event_title(&run, about);
                counted
            })
            .collect();
        let values: Vec<(String, Option<f64>)> =
            events.iter().map(|event| (event.name.clone(), event.mean())).collect();
        for event in &mut events {
            event.metric = metric(&event.name, &values);
        }
        let seconds = answers.iter().map(seconds).collect();
        Ok(Some(Self { title: title.to_owned(), run, seconds, events }))
    }

    /// Tells whether more than one run was asked for.
    pub(super) const fn is_repeated(&self) -> bool {
        self.seconds.count() > 1
    }
}

impl Counted {
    fn new(answers: &[Answer], event: u8) -> Self {
        let totals: Vec<(EventTotal, f64)> = answers
            .iter()
            .map(|answer| (answer.record.pmu().total(event).unwrap_or_default(), ns_per_tick(&answer.run)))
            .collect();
        let runs: Vec<Option<u64>> = totals.iter().map(|(total, _)| total.scaled).collect();
        let mean = |ticks: fn(&EventTotal) -> u64| {
            totals.iter().map(|(total, ns)| ticks(total) as f64 * ns).collect::<Spread>().mean()
        };
        Self {
            name: String::new(),
            title: String::new(),
            formula: String::new(),
            value: runs.iter().flatten().map(|count| *count as f64).collect(),
            running_ns: mean(|total| total.running_ticks),
            enabled_ns: mean(|total| total.enabled_ticks),
            runs,
            metric: None,
        }
    }

    /// Returns the mean of the counts; `None` where it was counted in no run.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.value.count() > 0).then(|| self.value.mean())
    }

    /// Returns the share of the time in which a counter had the event.
    pub(super) fn running_pct(&self) -> f64 {
        if self.enabled_ns > 0.0 { (100.0 * self.running_ns / self.enabled_ns).min(100.0) } else { 0.0 }
    }

    /// Tells whether the count is an estimate: the event had to share its counter.
    pub(super) fn is_estimate(&self) -> bool {
        self.running_ns < self.enabled_ns
    }
}

fn ns_per_tick(run: &RunInfo) -> f64 {
    1e9 / run.clock_hz.max(1) as f64
}

/// Returns the length of a run's counted part: of its events', the longest.
fn seconds(answer: &Answer) -> f64 {
    let longest = answer.record.pmu().counts().map(|counts| counts.enabled_ticks).max();
    longest.unwrap_or(0) as f64 * ns_per_tick(&answer.run) / 1e9
}
