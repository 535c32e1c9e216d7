//! What a sample costs while other CPUs sample, too.
//!
//! Two ways to the same answer, which is that it costs the same:
//! - a trace of one sample, of a machine with so many CPUs: the same instructions, one after the other;
//! - the time that the handler takes on each CPU, by its own clock. With several CPUs one tick of that is an instruction of
//!   any of them, so only the *shortest* of many times is the handler's own.

use nmiprof_wire::{Line, NmiEntry, Options, Sampling};
use serde_json::{Value, json};

use super::{CostError, Scenario, trace};
use crate::capture::Record;
use crate::images::Image;
use crate::machine::{Ending, MachineConfig, Program, boot};

/// Numbers of CPUs that are compared.
pub const CPUS: [u16; 4] = [1, 2, 4, 8];
/// Times of the handler that a minimum is taken of, at least.
pub const TIMES_MIN: u64 = 1000;

/// Ticks of the clock between two samples of a CPU: enough for a sample of each.
const PERIOD_TICKS: u64 = 20_011;
/// Time in which each CPU takes more than [`TIMES_MIN`] samples.
const DURATION_NS: u64 = 60_000_000;
/// How the kernel's line about one CPU begins.
const LINE: &str = "in the handler: ";

/// What a sample costs in a machine with several CPUs that all sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// CPUs of the machine.
    pub cpus: u16,
    /// Addresses of the instructions of one flat sample.
    pub trace: Vec<u64>,
    /// What each CPU's handler took.
    pub times: Vec<Times>,
}

/// How long the handler of one CPU took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The shortest, in ticks of the clock.
    pub ticks_min: u64,
    /// How many there were.
    pub samples: u64,
}

impl Crowd {
    /// Measures in a machine with so many CPUs.
    ///
    /// # Errors
    /// [`CostError`] where the machine can't be followed, or fails.
    pub fn measure(program: &Program, entry: NmiEntry, cpus: u16) -> Result<Self, CostError> {
        let trace = trace(program, entry, Scenario::Flat, cpus)?;
        Ok(Self { cpus, trace, times: times(program, entry, cpus)? })
    }

    /// Returns the shortest time of any CPU, and the longest of the CPUs' shortest ones.
    #[must_use]
    pub fn ticks_min(&self) -> (u64, u64) {
        let all = || self.times.iter().map(|times| times.ticks_min);
        (all().min().unwrap_or_default(), all().max().unwrap_or_default())
    }

    /// Returns of how many times the shortest was taken, on the CPU that had fewest.
    #[must_use]
    pub fn samples_min(&self) -> u64 {
        self.times.iter().map(|times| times.samples).min().unwrap_or_default()
    }

    /// Returns the measurement as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let times: Vec<_> = self
            .times
            .iter()
            .map(|times| json!({ "ticks_min": times.ticks_min, "samples": times.samples }))
            .collect();
        json!({ "cpus": self.cpus, "instructions": self.trace.len(), "handler": times })
    }
}

/// Lets all CPUs sample, with the image that looks at its clock at both ends of the handler.
fn times(program: &Program, entry: NmiEntry, cpus: u16) -> Result<Vec<Times>, CostError> {
    let list = format!("0-{}", cpus.saturating_sub(1));
    let options = Options {
        nmi_entry: entry,
        // Sound here: the faults unmask NMIs, but none comes.
        unsafe_nmi: entry == NmiEntry::Naive,
        cpu_list: &list,
        workloads: "hash",
        duration_ns: DURATION_NS,
        sampling: Sampling::Period(PERIOD_TICKS),
        cpu_percent_max: 0,
        line: Line::File,
        selftest: "handler-times",
        ..Options::default()
    };
    let directory = tempfile::tempdir()?;
    let config = MachineConfig {
        kernel_command_line: options.to_string(),
        cpus,
        ..MachineConfig::new(Image::Selftest.elf(), directory.path().join("line"))
    };
    let boot = boot(program, &config, &mut ()).map_err(|error| CostError::Boot(Box::new(error)))?;
    if boot.ending != Ending::Completed {
        return Err(CostError::Died { cpus, reason: boot.ending.to_string() });
    }
    Ok(of_record(&boot.record))
}

fn of_record(record: &Record) -> Vec<Times> {
    record.messages().logs().iter().filter_map(|line| of_line(&line.text)).collect()
}

/// Reads `in the handler: CPU 3, 2987 samples, at least 212 ticks`.
fn of_line(text: &str) -> Option<Times> {
    let mut numbers = text
        .strip_prefix(LINE)?
        .split(", ")
        .skip(1)
        .map(|part| part.split(' ').find_map(|word| word.parse().ok()));
    Some(Times { samples: numbers.next()??, ticks_min: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_has_samples_and_ticks() {
        let line = "in the handler: CPU 3, 2987 samples, at least 212 ticks";
        assert_eq!(of_line(line), Some(Times { samples: 2987, ticks_min: 212 }));
        assert_eq!(of_line("clock: 1000 MHz"), None);
        assert_eq!(of_line("in the handler: CPU 3, no samples"), None);
    }
}
