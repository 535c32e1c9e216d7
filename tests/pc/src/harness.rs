//! A run on the emulated PC, decoded as the host command decodes it.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::machine::{Machine, Stopped};
use nmiprof::capture::{CaptureError, Identity, Record, Stream};
use nmiprof_pmu::detect;
use nmiprof_pmu::event::{GenericEvent, generic_events, offer};
use nmiprof_pmu::model::Model;
use nmiprof_pmu::profiles::{self, Profile, Registers};
use nmiprof_wire::{ExitCode, NmiCounters};

/// Boundaries that a run may take: some ten times what one needs.
pub const LIMIT: u64 = 1_000_000_000;

/// A sample, as far as tests look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Index of its event.
    pub event: u8,
    /// The interrupted instruction.
    pub ip: u64,
    /// Number of the process; 0 for none.
    pub process: u32,
    /// When it was taken, by the machine's clock; the first time, where only a span is known.
    pub time: u64,
}

/// A finished run.
#[derive(Debug)]
pub struct Run {
    /// The machine, after it.
    pub machine: Machine,
    /// Why it ended.
    pub stopped: Stopped,
    /// What the kernel sent.
    pub capture: Vec<u8>,
    /// The same, decoded.
    pub record: Record,
    /// Its samples, in order.
    pub samples: Vec<Sample>,
}

/// Describes a machine with this CPU and these words on its command line, unthrottled.
#[must_use]
pub fn config(profile: &'static Profile, words: &str) -> Config {
    let command_line = format!("line=file cpu_percent_max=0 {words}");
    Config { profile, command_line, memory_mib: 32, ..Config::default() }
}

/// Lists the CPUs of a vendor that have a PMU.
pub fn with_pmu(is_intel: bool) -> impl Iterator<Item = &'static Profile> {
    let has_pmu = |profile: &&Profile| !matches!(profile.registers, Registers::Forgotten);
    profiles::ALL.into_iter().filter(has_pmu).filter(move |profile| profile.is_intel() == is_intel)
}

/// Lists the generic events that a CPU offers, as the kernel's own crate finds them.
///
/// # Panics
/// If it announces no PMU.
#[must_use]
pub fn offered(profile: &'static Profile) -> Vec<GenericEvent> {
    let mut model = Model::new(profile);
    let capabilities = detect(&profile, &mut model).expect("it announces a PMU");
    generic_events().iter().filter(|event| offer(**event, &capabilities).is_ok()).copied().collect()
}

/// Runs a machine to its end.
#[must_use]
pub fn run(config: &Config) -> Run {
    finish(Machine::new(config))
}

/// Runs a machine on to its end.
///
/// # Panics
/// If the stream is of another version.
#[must_use]
pub fn finish(mut machine: Machine) -> Run {
    let stopped = machine.run(LIMIT);
    let capture = machine.take_sent();
    let (mut stream, mut samples) = (Stream::new("the emulated PC"), Vec::new());
    let pushed = stream.push(&capture, |block| {
        let of_block = block.samples.iter();
        samples.extend(of_block.map(|sample| Sample {
            event: block.event,
            ip: sample.ip,
            process: sample.process,
            time: sample.time.span().0,
        }));
        Ok::<(), CaptureError>(())
    });
    pushed.expect("the kernel's stream is of this version");
    Run { machine, stopped, capture, record: stream.finish(), samples }
}

impl Run {
    /// Checks that the kernel came to its end, that every frame decodes, and that every overflow is accounted for.
    ///
    /// # Panics
    /// Where one of these is not so.
    pub fn assert_sound(&self, what: &str) {
        let log = self.log();
        assert_eq!(self.stopped, Stopped::Exit(ExitCode::Success as u32), "{what}: {log}");
        assert_eq!(self.record.damage().frames, 0, "{what}: {log}");
        assert_eq!(self.record.accounts().identity(), Identity::Holds, "{what}: {log}");
        assert!(!self.record.accounts().is_nmi_inconsistent(), "{what}: {log}");
        let taken = self.machine.watch().nmi.taken;
        assert_eq!(self.nmi().entries, taken, "{what}: NMIs that the kernel and the CPU counted");
    }

    /// Returns the counters of the NMI path.
    #[must_use]
    pub fn nmi(&self) -> NmiCounters {
        self.record.accounts().total().nmi
    }

    /// Returns what the kernel said in words.
    #[must_use]
    pub fn log(&self) -> String {
        self.record.messages().logs().iter().map(|line| line.text.clone()).collect::<Vec<_>>().join("\n")
    }

    /// Counts the samples of an event by the function that they fell into; those in none are at `?`.
    #[must_use]
    pub fn by_function(&self, event: u8) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.event == event) {
            let found = self
                .machine
                .kernel()
                .symbols()
                .find(|(_, range)| range.contains(&sample.ip) && range.end - range.start > 1);
            *counts.entry(found.map_or("?", |(name, _)| name)).or_default() += 1;
        }
        counts
    }
}
