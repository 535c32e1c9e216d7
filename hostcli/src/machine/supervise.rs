//! The loop between start and end of a machine: wait, read the line, show, and judge the clock.
//!
//! Two clocks end a machine that does not end by itself. While the kernel has something left to say, the
//! limit of its [`MachineConfig`] counts. From its last word on, [`GRACE`] counts instead: a kernel that
//! has said everything and still runs has no exit device.

use std::io;
use std::time::{Duration, Instant};

use super::command_line::CommandLine;
use super::config::MachineConfig;
use super::ending::{Ending, Evidence};
use super::line::{Line, LineError, Progress, is_final};
use super::process::{Exit, Machine, StartError};
use super::program::Program;
use crate::capture::{CaptureError, LogLine, Record};

/// How often the line is read while the machine runs.
const TICK: Duration = Duration::from_millis(100);

/// Wall time between the kernel's last word and the end of the machine that is still no fault.
pub const GRACE: Duration = Duration::from_secs(5);

/// Boots a machine and waits for its end.
///
/// # Errors
/// [`BootError`] where the machine did not start, or could not be followed. Everything that a machine
/// itself can do wrong is an [`Ending`].
pub fn boot(
    program: &Program,
    config: &MachineConfig<'_>,
    observer: &mut dyn Observer,
) -> Result<Boot, BootError> {
    let start = Instant::now();
    let mut line = Line::create(&config.line).map_err(|error| BootError::line(config, error.into()))?;
    let mut machine = Machine::start(program, config)?;
    observer.started(machine.command_line());
    let stop = supervise(&mut machine, &mut line, config, observer)?;
    let stderr = machine.stderr().map_err(BootError::Process)?;
    let record = line.finish();
    Ok(Boot {
        ending: Ending::of(&Evidence { stop, record: &record, stderr: &stderr }),
        stop,
        record,
        stderr,
        command_line: machine.command_line().clone(),
        elapsed: start.elapsed(),
    })
}

fn supervise(
    machine: &mut Machine,
    line: &mut Line,
    config: &MachineConfig<'_>,
    observer: &mut dyn Observer,
) -> Result<Stop, BootError> {
    let mut clock = Clock::start(config.limit);
    loop {
        let exit = machine.wait(TICK).map_err(BootError::Process)?;
        line.follow(observer).map_err(|error| BootError::line(config, error))?;
        let progress = line.progress();
        observer.progress(&progress);
        if let Some(exit) = exit {
            return Ok(Stop::Exited(exit));
        }
        if let Some(stop) = clock.check(Instant::now(), is_final(progress.record)) {
            machine.kill().map_err(BootError::Process)?;
            return Ok(stop);
        }
        if progress.record.run().is_some() {
            machine.release_image();
        }
    }
}

/// The two clocks of a machine.
#[derive(Clone, Copy, Debug)]
struct Clock {
    limit: Instant,
    grace: Option<Instant>,
}

impl Clock {
    fn start(limit: Duration) -> Self {
        let now = Instant::now();
        Self { limit: now.checked_add(limit).unwrap_or(now), grace: None }
    }

    fn check(&mut self, now: Instant, is_final: bool) -> Option<Stop> {
        if is_final {
            let grace = *self.grace.get_or_insert(now + GRACE);
            return (now >= grace).then_some(Stop::Lingered);
        }
        (now >= self.limit).then_some(Stop::LimitPassed)
    }
}

/// What is told while a machine runs. Every method may be left out; `()` leaves out all.
pub trait Observer {
    /// The machine runs.
    fn started(&mut self, _command_line: &CommandLine) {}

    /// These bytes came over the line.
    ///
    /// # Errors
    /// An error ends the machine, and comes back from [`boot`] as [`BootError::Line`].
    fn bytes(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    /// The kernel wrote a line of text.
    fn log(&mut self, _line: &LogLine) {}

    /// A user program wrote this line.
    fn output(&mut self, _program: &str, _text: &str) {}

    /// Something has become of the line itself.
    fn line(&mut self, _text: &str) {}

    /// Some time has passed.
    fn progress(&mut self, _progress: &Progress<'_>) {}
}

impl Observer for () {}

/// A machine that has ended.
#[derive(Debug)]
pub struct Boot {
    /// What its end means.
    pub ending: Ending,
    /// How it came to its end.
    pub stop: Stop,
    /// What came over the line.
    pub record: Record,
    /// What QEMU wrote to stderr.
    pub stderr: String,
    /// The command that was run.
    pub command_line: CommandLine,
    /// Wall time from start to end.
    pub elapsed: Duration,
}

/// How a machine came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The process ended by itself.
    Exited(Exit),
    /// It was ended when its time was up, and the kernel had not said its last word.
    LimitPassed,
    /// It was ended because it still ran [`GRACE`] after the kernel's last word.
    Lingered,
}

/// Why a machine did not run, or could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file of its line can't be written or read, or its copy can't be written.
    #[error(
        "can't write the stream to `{file}`: {source}; check the place and the space left, or choose another file with -o"
    )]
    Line {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// What comes over its line is not what this build decodes.
    #[error(transparent)]
    Capture(CaptureError),
    /// The process can't be waited for.
    #[error("lost control of QEMU: {0}; it was ended, try again")]
    Process(io::Error),
}

impl BootError {
    fn line(config: &MachineConfig<'_>, error: LineError) -> Self {
        match error {
            LineError::Capture(error) => Self::Capture(error),
            LineError::Io(source) => Self::Line { file: config.line.display().to_string(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn the_limit_counts_until_the_last_word() {
        let mut clock = Clock::start(LIMIT);
        let start = Instant::now();
        assert_eq!(clock.check(start, false), None);
        assert_eq!(clock.check(start + LIMIT, false), Some(Stop::LimitPassed));
    }

    #[test]
    fn the_grace_counts_from_the_last_word_even_past_the_limit() {
        let mut clock = Clock::start(LIMIT);
        let last_word = Instant::now() + LIMIT - Duration::from_millis(1);
        assert_eq!(clock.check(last_word, true), None);
        assert_eq!(clock.check(last_word + GRACE / 2, true), None, "past the limit");
        assert_eq!(clock.check(last_word + GRACE, true), Some(Stop::Lingered));
    }
}
