//! The events of a run: from the command line's text to what the counters are asked for.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use nmiprof_pmu::event::{self, Event, Privilege, encode, parse_list};
use nmiprof_pmu::{Capabilities, Rate, Request};
use nmiprof_wire::{EventInfo, Job, Options, Sampling};

use super::Pmu;
use crate::sampler::Kept;

/// What is counted where the command line names nothing and registers count.
const DEFAULT_RECORD: &str = "cycles";
/// The same for a run that counts.
const DEFAULT_STAT: &str = "cycles,instructions,branches,branch-misses";

/// One event of a run.
#[derive(Debug)]
pub struct RunEvent {
    /// As perf would write it.
    name: String,
    sampling: Sampling,
    /// What stands in for it.
    formula: &'static str,
}

impl RunEvent {
    /// Names an event that is counted as it is.
    pub fn new(name: &str, sampling: Sampling) -> Self {
        Self { name: name.to_string(), sampling, formula: "" }
    }

    /// Names an event that something stands in for.
    pub fn with_formula(name: &str, sampling: Sampling, formula: &'static str) -> Self {
        Self { formula, ..Self::new(name, sampling) }
    }

    /// Describes it.
    pub fn info(&self) -> EventInfo<'_> {
        EventInfo { name: &self.name, sampling: self.sampling, formula: self.formula }
    }
}

/// The events of a run, ready to be counted.
pub struct Wanted {
    /// For the counters.
    pub requests: Vec<Request>,
    /// For the host.
    pub events: Vec<RunEvent>,
    /// Which samples are kept.
    pub kept: Kept,
}

impl Wanted {
    /// Finds out what the counters are to be asked for.
    ///
    /// A virtual PMU counts ticks, whoever runs: there, a modifier chooses among samples, and a count can't have one.
    ///
    /// # Errors
    /// A text that says what is wrong with the events, and what would be right.
    pub fn new(options: &Options<'_>, pmu: &Pmu, capabilities: &Capabilities) -> Result<Self, String> {
        let text = match (options.events, options.job) {
            ("", Job::Stat) => DEFAULT_STAT,
            ("", _) => DEFAULT_RECORD,
            (text, _) => text,
        };
        let list = parse_list(text).map_err(|error| format!("events={text}: {error}"))?;
        let kept = Kept { user: 0, kernel: 0 };
        let mut wanted = Self { requests: Vec::new(), events: Vec::new(), kept };
        for event in list.iter() {
            wanted.add(options, pmu, capabilities, event)?;
        }
        Ok(wanted)
    }

    fn add(
        &mut self,
        options: &Options<'_>,
        pmu: &Pmu,
        capabilities: &Capabilities,
        event: &Event<'_>,
    ) -> Result<(), String> {
        let sampling = sampling_of(options, event);
        let is_virtual = pmu.is_virtual();
        if is_virtual && sampling == Sampling::Count && event.privilege != Privilege::ALL {
            return Err(format!(
                "event {event}: a virtual PMU counts ticks of the clock, in user code and in the kernel: leave the \
                 modifier out, or record samples, which can be told apart"
            ));
        }
        let asked = if is_virtual { Event { privilege: Privilege::ALL, ..*event } } else { *event };
        let encoding = encode(&asked, capabilities).map_err(|error| format!("event {event}: {error}"))?;
        let index = self.events.len();
        let Privilege { user, kernel } = if is_virtual { event.privilege } else { Privilege::ALL };
        self.kept.user |= u16::from(user) << index;
        self.kept.kernel |= u16::from(kernel) << index;
        self.requests.push(Request { encoding, rate: rate_of(sampling), group: event.group });
        let formula = pmu.formula(&encoding);
        self.events.push(RunEvent { name: event.to_string(), sampling, formula });
        Ok(())
    }
}

/// Returns how often an event is sampled: as it says itself, else as the run says.
fn sampling_of(options: &Options<'_>, event: &Event<'_>) -> Sampling {
    match event.rate {
        _ if options.job == Job::Stat => Sampling::Count,
        Some(event::Rate::Period(events)) => Sampling::Period(events),
        Some(event::Rate::Frequency(hz)) => Sampling::Frequency(hz),
        None => options.sampling,
    }
}

const fn rate_of(sampling: Sampling) -> Rate {
    match sampling {
        Sampling::Period(events) => Rate::Period(events),
        Sampling::Frequency(hz) => Rate::Frequency(hz),
        Sampling::Count => Rate::Count,
    }
}
