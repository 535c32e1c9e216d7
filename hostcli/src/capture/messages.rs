//! What the kernel says in words: log lines, workload outcomes, the reason for giving up.
//!
//! Texts are cleaned on the way in and their number is bounded.

use nmiprof_wire::{CaseReport, Fatal, FatalCause, Log, LogLevel, Placement, WorkloadResult};

use super::clean;

/// Most log lines that are kept.
pub const LOGS_MAX: usize = 1000;
/// Most workload outcomes that are kept.
pub const WORKLOADS_MAX: usize = 256;

/// One line of text from the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written, in clock ticks.
    pub time: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The text.
    pub text: String,
}

/// Outcome of one workload.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WorkloadOutcome {
    /// The workload's name.
    pub name: String,
    /// Steps that were run while sampling.
    pub steps: u64,
    /// Length of one step in instructions, where the clock counts them.
    pub instructions_per_step: Option<u64>,
    /// Steps whose result was wrong.
    pub wrong_results: u64,
}

/// Why the kernel gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FatalReport {
    /// The kind of reason.
    pub cause: FatalCause,
    /// The CPU that found it.
    pub cpu: u16,
    /// When, in clock ticks.
    pub time: u64,
    /// The message.
    pub message: String,
    /// Source file, empty where none is known.
    pub file: String,
    /// Source line, 0 where none is known.
    pub line: u32,
}

impl FatalReport {
    /// Returns the kind of reason in words.
    #[must_use]
    pub const fn cause_name(&self) -> &'static str {
        match self.cause {
            FatalCause::Panic => "panic",
            FatalCause::Invariant => "broken invariant",
            FatalCause::Configuration => "configuration",
            FatalCause::Exception => "unhandled exception",
        }
    }
}

/// Most placements of an NMI sweep that are kept.
pub const PLACEMENTS_MAX: usize = 1 << 20;
/// Most reports on forced situations that are kept.
pub const CASES_MAX: usize = 1 << 10;

/// Everything that the kernel said about itself.
#[derive(Debug, Default)]
pub struct Messages {
    logs: Vec<LogLine>,
    logs_left_out: u64,
    workloads: Vec<WorkloadOutcome>,
    fatal: Option<FatalReport>,
    placements: Vec<Placement>,
    cases: Vec<CaseReport>,
}

impl Messages {
    /// Returns the log lines, oldest first; at most [`LOGS_MAX`].
    #[must_use]
    pub fn logs(&self) -> &[LogLine] {
        &self.logs
    }

    /// Returns how many log lines there were beyond those.
    #[must_use]
    pub fn logs_left_out(&self) -> u64 {
        self.logs_left_out
    }

    /// Returns the outcomes of the workloads; at most [`WORKLOADS_MAX`].
    #[must_use]
    pub fn workloads(&self) -> &[WorkloadOutcome] {
        &self.workloads
    }

    /// Returns why the kernel gave up, if it did; the first reason where there are several.
    #[must_use]
    pub fn fatal(&self) -> Option<&FatalReport> {
        self.fatal.as_ref()
    }

    /// Returns the placements of an NMI sweep, in the order of the capture; at most [`PLACEMENTS_MAX`].
    #[must_use]
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Returns the reports on forced situations, in the order of the capture; at most [`CASES_MAX`].
    #[must_use]
    pub fn cases(&self) -> &[CaseReport] {
        &self.cases
    }

    /// Takes a report on a forced situation; refuses it where there are too many.
    pub(super) fn take_case(&mut self, case: &CaseReport) -> bool {
        let has_room = self.cases.len() < CASES_MAX;
        if has_room {
            self.cases.push(*case);
        }
        has_room
    }

    /// Takes a placement; refuses it where there are too many.
    pub(super) fn take_placement(&mut self, placement: &Placement) -> bool {
        let has_room = self.placements.len() < PLACEMENTS_MAX;
        if has_room {
            self.placements.push(*placement);
        }
        has_room
    }

    pub(super) fn take_log(&mut self, log: &Log<'_>) -> bool {
        if self.logs.len() == LOGS_MAX {
            self.logs_left_out += 1;
            return true;
        }
        self.logs.push(LogLine { time: log.time, level: log.level, text: clean(log.text).into_owned() });
        true
    }

    /// Takes an outcome; refuses it where there are too many.
    pub(super) fn take_workload(&mut self, result: &WorkloadResult<'_>) -> bool {
        let has_room = self.workloads.len() < WORKLOADS_MAX;
        if has_room {
            self.workloads.push(WorkloadOutcome {
                name: clean(result.name).into_owned(),
                steps: result.steps,
                instructions_per_step: result.instructions_per_step,
                wrong_results: result.wrong_results,
            });
        }
        has_room
    }

    pub(super) fn take_fatal(&mut self, fatal: &Fatal<'_>) -> bool {
        self.fatal.get_or_insert_with(|| FatalReport {
            cause: fatal.cause,
            cpu: fatal.cpu,
            time: fatal.time,
            message: clean(fatal.message).into_owned(),
            file: clean(fatal.file).into_owned(),
            line: fatal.line,
        });
        true
    }
}
