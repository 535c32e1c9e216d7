//! What a run says of itself: the owned, checked and cleaned content of its first [`Hello`].

use nmiprof_wire::{BuildId, ClockKind, FaultReturn, Hello, Job, NmiEntry, PmuKind, RingMode, Sampling};

use super::clean;

/// Most CPUs that a capture may announce.
pub const CPUS_MAX: u16 = 4096;

/// Description of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// The kernel image that ran.
    pub build_id: BuildId,
    /// Ticks per second of the clock of every sample; never 0.
    pub clock_hz: u64,
    /// What one tick is.
    pub clock: ClockKind,
    /// Ticks were said to be instructions, but a CPU has halted while it sampled: that was taken back.
    pub is_withdrawn: bool,
    /// Number of CPUs that sampled; never 0 and at most [`CPUS_MAX`].
    pub cpus: u16,
    /// Brand string of the CPU.
    pub cpu_name: String,
    /// Whether hardware counted.
    pub pmu_kind: PmuKind,
    /// Name of the PMU driver.
    pub pmu_name: String,
    /// Why nothing better counted; empty where nothing better was asked for.
    pub pmu_fallback: String,
    /// What the run was for.
    pub job: Job,
    /// What was sampled or counted; a block names its event by index.
    pub events: Vec<SampledEvent>,
    /// Whether the same command line gives the same samples again.
    pub deterministic: bool,
    /// What a flat sample costs in instructions, where the clock counts them.
    pub sample_instructions: Option<u64>,
    /// Entry strategy at vector 2.
    pub nmi_entry: NmiEntry,
    /// How faults inside an NMI returned.
    pub fault_return: FaultReturn,
    /// How ring pages were mapped.
    pub ring: RingMode,
    /// Address space of each CPU's ring.
    pub ring_bytes: u64,
    /// Whether samples carry call chains.
    pub has_chains: bool,
    /// The kernel command line in force.
    pub command_line: String,
}

/// One event that was sampled or counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledEvent {
    /// The event's name, as perf would write it.
    pub name: String,
    /// How often it was sampled.
    pub sampling: Sampling,
    /// What stood in for it on a virtual PMU, as a formula of the clock; empty where nothing did.
    pub formula: String,
}

impl RunInfo {
    /// Copies the content of a `Hello`.
    ///
    /// # Errors
    /// Says what makes no sense in it.
    pub fn from_hello(hello: &Hello<'_>) -> Result<Self, &'static str> {
        check(hello)?;
        let events = hello.events.iter().map(|event| SampledEvent {
            name: clean(event.name).into_owned(),
            sampling: event.sampling,
            formula: clean(event.formula).into_owned(),
        });
        Ok(Self {
            build_id: hello.build_id,
            clock_hz: hello.clock_hz,
            clock: hello.clock,
            is_withdrawn: false,
            cpus: hello.cpus,
            cpu_name: clean(hello.cpu_name).into_owned(),
            pmu_kind: hello.pmu.kind,
            pmu_name: clean(hello.pmu.name).into_owned(),
            pmu_fallback: clean(hello.pmu.fallback).into_owned(),
            job: hello.options.job,
            events: events.collect(),
            deterministic: hello.deterministic,
            sample_instructions: hello.sample_instructions,
            nmi_entry: hello.options.nmi_entry,
            fault_return: hello.options.fault_return,
            ring: hello.options.ring,
            ring_bytes: hello.options.ring_bytes,
            has_chains: hello.options.chains,
            command_line: clean(&hello.options.to_string()).into_owned(),
        })
    }

    /// Takes back that ticks of the clock are instructions: the CPU has halted while it sampled, and the clock went on.
    ///
    /// What a timer counts is named after the clock. A model's events are formulas of the clock anyway.
    pub(super) fn withdraw_exactness(&mut self) {
        if self.clock != ClockKind::Instructions {
            return;
        }
        (self.clock, self.is_withdrawn, self.deterministic) = (ClockKind::Time, true, false);
        if self.pmu_kind != PmuKind::Virtual {
            return;
        }
        for event in self.events.iter_mut().filter(|event| event.formula.is_empty()) {
            if let Some(modifier) = event.name.strip_prefix("instructions") {
                event.name = format!("virtual-clock{modifier}");
            }
        }
    }

    /// Returns the name of an event.
    #[must_use]
    pub fn event_name(&self, event: u8) -> &str {
        self.events.get(usize::from(event)).map_or("[unknown event]", |event| &event.name)
    }

    /// Converts clock ticks to whole seconds and the microseconds above them.
    #[must_use]
    pub fn seconds_and_us(&self, ticks: u64) -> (u64, u64) {
        let hz = self.clock_hz.max(1);
        let us = u128::from(ticks % hz) * 1_000_000 / u128::from(hz);
        (ticks / hz, u64::try_from(us).unwrap_or(999_999))
    }
}

fn check(hello: &Hello<'_>) -> Result<(), &'static str> {
    if hello.cpus == 0 {
        return Err("it announces no CPU");
    }
    if hello.cpus > CPUS_MAX {
        return Err("it announces more than 4096 CPUs");
    }
    if hello.clock_hz == 0 {
        return Err("its clock does not run");
    }
    if hello.events.is_empty() {
        return Err("it samples no event");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::writer;

    #[test]
    fn names_are_cleaned_on_the_way_in() {
        let mut hello = writer::hello();
        hello.cpu_name = "Intel\x1b]0;title\x07";
        hello.pmu.fallback = "no\x07 PMU";
        let run = RunInfo::from_hello(&hello).expect("a sound Hello");
        assert_eq!(run.cpu_name, "Intel\\u{1b}]0;title\\u{7}");
        assert_eq!(run.pmu_fallback, "no\\u{7} PMU");
    }

    #[test]
    fn a_hello_that_makes_no_sense_is_refused() {
        let sound = writer::hello();
        assert!(RunInfo::from_hello(&sound).is_ok());
        for cpus in [0, CPUS_MAX + 1] {
            let mut hello = sound.clone();
            hello.cpus = cpus;
            assert!(RunInfo::from_hello(&hello).is_err(), "{cpus} CPUs");
        }
        let mut hello = sound.clone();
        hello.clock_hz = 0;
        assert!(RunInfo::from_hello(&hello).is_err(), "a clock of 0 Hz");
    }

    #[test]
    fn ticks_become_seconds_at_any_frequency() {
        let mut run = RunInfo::from_hello(&writer::hello()).expect("a sound Hello");
        run.clock_hz = 3_000_000_000;
        assert_eq!(run.seconds_and_us(7_500_003_000), (2, 500_001));
        run.clock_hz = u64::MAX;
        assert_eq!(run.seconds_and_us(u64::MAX - 1), (0, 999_999));
    }
}
