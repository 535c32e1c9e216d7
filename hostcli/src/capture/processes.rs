//! The user programs of a run: who they were, what they wrote, how they ended.
//!
//! All of it is bounded: [`PROCESSES_MAX`] programs, [`OUTPUT_BYTES_MAX`] of their output.

use nmiprof_wire::{BuildId, Output, Process, ProcessEnd, ProcessOutcome};

use super::clean;

/// Most processes that are kept.
pub const PROCESSES_MAX: usize = 256;
/// Most bytes of output that are kept.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Where the kernel half of every address space begins.
const KERNEL_HALF: u64 = 1 << 63;

/// A user program that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// What samples call it.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// Identity of its ELF.
    pub build_id: Option<BuildId>,
    /// How it ended, if that is known.
    pub outcome: Option<ProcessOutcome>,
}

/// Text that a program wrote with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessOutput {
    /// Number of the process.
    pub process: u32,
    /// When, in clock ticks.
    pub time: u64,
    /// The text, made fit for a terminal.
    pub text: String,
}

/// Whose code is at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The kernel's.
    Kernel,
    /// That of the program with this identity.
    Program(BuildId),
    /// That of a program without identity, or of a process that was never introduced.
    Unknown,
}

/// Every user program of a run.
#[derive(Debug, Default)]
pub struct Processes {
    known: Vec<ProcessInfo>,
    output: Vec<ProcessOutput>,
    output_bytes: usize,
}

impl Processes {
    /// Returns the processes, in the order in which they were introduced.
    #[must_use]
    pub fn all(&self) -> &[ProcessInfo] {
        &self.known
    }

    /// Returns what they wrote, oldest first.
    #[must_use]
    pub fn output(&self) -> &[ProcessOutput] {
        &self.output
    }

    /// Finds a process by its number.
    #[must_use]
    pub fn find(&self, number: u32) -> Option<&ProcessInfo> {
        self.known.iter().find(|process| process.number == number)
    }

    /// Tells whose code is at an address of a process; process 0 is the kernel's own.
    #[must_use]
    pub fn owner(&self, process: u32, address: u64) -> Owner {
        if process == 0 || address >= KERNEL_HALF {
            return Owner::Kernel;
        }
        let build_id = self.find(process).and_then(|process| process.build_id);
        build_id.map_or(Owner::Unknown, Owner::Program)
    }

    /// Takes an introduction; refuses one that contradicts another, and one too many.
    pub(super) fn take(&mut self, process: &Process<'_>) -> bool {
        let Process { number, name, build_id } = *process;
        let name = clean(name).into_owned();
        if let Some(known) = self.find(number) {
            return known.name == name && known.build_id == build_id;
        }
        let is_used = number != 0 && self.known.len() < PROCESSES_MAX;
        if is_used {
            self.known.push(ProcessInfo { number, name, build_id, outcome: None });
        }
        is_used
    }

    /// Takes output; what is too much is left out.
    pub(super) fn take_output(&mut self, output: &Output<'_>) -> bool {
        if self.output_bytes + output.bytes.len() <= OUTPUT_BYTES_MAX
            && self.output.len() < OUTPUT_BYTES_MAX / 16
        {
            self.output_bytes += output.bytes.len();
            let text = String::from_utf8_lossy(output.bytes);
            let text = clean(text.trim_end_matches('\n')).into_owned();
            self.output.push(ProcessOutput { process: output.process, time: output.time, text });
        }
        true
    }

    /// Takes an end; refuses that of a process that is not known or has ended.
    pub(super) fn take_end(&mut self, end: &ProcessEnd) -> bool {
        let known = self.known.iter_mut().find(|process| process.number == end.process);
        let Some(process) = known.filter(|process| process.outcome.is_none()) else {
            return false;
        };
        process.outcome = Some(end.outcome);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(number: u32, name: &str) -> Process<'_> {
        Process { number, name, build_id: Some(BuildId([7; 20])) }
    }

    #[test]
    fn a_process_is_introduced_again_and_again_and_ends_once() {
        let mut processes = Processes::default();
        assert!(processes.take(&process(1, "a")) && processes.take(&process(1, "a")));
        assert!(!processes.take(&process(1, "b")), "another one of that number");
        assert!(!processes.take(&process(0, "kernel")), "that number is the kernel's");
        let end = ProcessEnd { process: 1, time: 5, outcome: ProcessOutcome::Exited(3) };
        assert!(processes.take_end(&end) && !processes.take_end(&end));
        assert!(!processes.take_end(&ProcessEnd { process: 2, ..end }), "never introduced");
        assert_eq!(processes.find(1).and_then(|process| process.outcome), Some(ProcessOutcome::Exited(3)));
    }

    #[test]
    fn addresses_belong_to_the_kernel_or_to_the_program() {
        let mut processes = Processes::default();
        assert!(processes.take(&process(1, "a")));
        assert_eq!(processes.owner(1, 0x20_0000), Owner::Program(BuildId([7; 20])));
        assert_eq!(processes.owner(1, u64::MAX), Owner::Kernel);
        assert_eq!(processes.owner(0, 0x20_0000), Owner::Kernel);
        assert_eq!(processes.owner(2, 0x20_0000), Owner::Unknown);
    }

    #[test]
    fn hostile_introductions_and_output_are_bounded_and_cleaned() {
        let mut processes = Processes::default();
        for number in (1..).take(2 * PROCESSES_MAX) {
            let _ = processes.take(&process(number, "\x1b[2J"));
        }
        assert_eq!(processes.all().len(), PROCESSES_MAX);
        assert_eq!(processes.all()[0].name, "\\u{1b}[2J");
        let bytes = [0xff; 1024];
        for _ in 0..2 * OUTPUT_BYTES_MAX / bytes.len() {
            assert!(processes.take_output(&Output { process: 1, time: 0, bytes: &bytes }));
        }
        assert!(processes.output().len() <= OUTPUT_BYTES_MAX / bytes.len());
    }
}
