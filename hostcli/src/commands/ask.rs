//! Machines that are booted for what their kernel tells, not for samples: `stat`, `list`, `selftest pmu`.
//!
//! Nothing of the stream is kept but its record. Anything but a completed run is an error. What a kernel told elsewhere,
//! on a machine with a PMU of its own, is read from the capture of its line.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use nmiprof_wire::LogLevel;

use super::Error;
use super::flags::MachineArgs;
use super::record::EndedError;
use super::record::display::Noise;
use crate::capture::{Capture, LogLine, Record, RunInfo};
use crate::images;
use crate::machine::{CommandLine, Consent, Ending, MachineConfig, Observer, Program, boot, find_or_install};

/// What is asked of a kernel.
pub(super) struct Ask<'a> {
    /// The machine.
    pub(super) machine: &'a MachineArgs,
    /// What the boot loader hands over; empty for nothing.
    pub(super) module: Vec<u8>,
    /// The kernel command line.
    pub(super) command_line: String,
    /// Wall time after which the machine is ended.
    pub(super) limit: Duration,
    /// How much the user wants to see meanwhile.
    pub(super) noise: Noise,
}

/// What a kernel told.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its description of the run.
    pub(super) run: RunInfo,
    /// Everything else.
    pub(super) record: Record,
}

impl Answer {
    /// Reads what a kernel told from a capture.
    ///
    /// # Errors
    /// [`Error::Capture`] where it can't be read or is no capture.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let capture = Capture::open(path)?;
        let announced = capture.run().clone();
        let record = capture.read(|_| Ok::<(), Error>(()))?;
        let run = record.run().cloned().unwrap_or(announced);
        Ok(Self { run, record })
    }
}

impl Ask<'_> {
    /// Reads the answer from a capture, or boots a machine for it where there is none.
    ///
    /// # Errors
    /// [`Error`] where there is no answer.
    pub(super) fn answer(&self, capture: Option<&Path>, notes: &mut dyn Write) -> Result<Answer, Error> {
        match capture {
            Some(path) => Answer::read(path),
            None => self.boot(&self.program(notes)?, notes),
        }
    }

    /// Finds the program that machines run under.
    ///
    /// # Errors
    /// [`Error::Program`] where there is none.
    pub(super) fn program(&self, notes: &mut dyn Write) -> Result<Program, Error> {
        Ok(find_or_install(Consent::from_yes(self.machine.yes), notes)?)
    }

    /// Boots a machine and returns what its kernel told.
    ///
    /// # Errors
    /// [`Error`] where the machine did not run, or not to its end.
    pub(super) fn boot(&self, program: &Program, notes: &mut dyn Write) -> Result<Answer, Error> {
        let line = temporary()?;
        let config = MachineConfig {
            module: self.module.clone(),
            kernel_command_line: self.command_line.clone(),
            limit: self.limit,
            ..self.machine.config(images::MAIN, line.to_path_buf())
        };
        let boot = boot(program, &config, &mut Listener { noise: self.noise, notes })?;
        match (&boot.ending, boot.record.run().cloned()) {
            (Ending::Completed, Some(run)) => Ok(Answer { run, record: boot.record }),
            _ => Err(EndedError::new(boot, None).into()),
        }
    }
}

fn temporary() -> Result<tempfile::TempPath, Error> {
    let file = tempfile::Builder::new().prefix("nmiprof-").suffix(".data").tempfile();
    Ok(file.map_err(|source| Error::output(&std::env::temp_dir(), source))?.into_temp_path())
}

/// What a user sees while a kernel is asked.
struct Listener<'a> {
    noise: Noise,
    notes: &'a mut dyn Write,
}

impl Listener<'_> {
    /// Prints a line. A display that can't be written to is no reason to end a run.
    fn print(&mut self, line: &dyn std::fmt::Display) {
        drop(writeln!(self.notes, "{line}"));
    }
}

impl Observer for Listener<'_> {
    fn started(&mut self, command_line: &CommandLine) {
        if self.noise == Noise::Verbose {
            self.print(command_line);
        }
    }

    fn log(&mut self, line: &LogLine) {
        match line.level {
            LogLevel::Warning => self.print(&format_args!("kernel: warning: {}", line.text)),
            LogLevel::Info if self.noise == Noise::Verbose => {
                self.print(&format_args!("kernel: {}", line.text))
            }
            LogLevel::Info => {}
        }
    }

    fn output(&mut self, program: &str, text: &str) {
        if self.noise != Noise::Quiet {
            self.print(&format_args!("{program}: {text}"));
        }
    }
}

/// Writes a JSON form and ends its line.
///
/// # Errors
/// What the writer says.
pub(super) fn write_json(form: &impl serde::Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, form)?;
    writeln!(out)?;
    out.flush()
}
