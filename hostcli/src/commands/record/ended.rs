//! The error of a run that did not complete, with what to do next.

use std::fmt;
use std::path::{Path, PathBuf};

use nmiprof_wire::FatalCause;

use crate::machine::{Boot, Ending};

/// A run that did not complete.
#[derive(Debug)]
pub struct EndedError {
    boot: Box<Boot>,
    /// The capture, where one was to be kept.
    file: Option<PathBuf>,
}

impl EndedError {
    /// Says that a run did not complete; `file` is its capture, if it is kept.
    pub(in crate::commands) fn new(boot: Boot, file: Option<&Path>) -> Self {
        Self { boot: Box::new(boot), file: file.map(Path::to_path_buf) }
    }

    /// Returns how the machine ended.
    #[must_use]
    pub fn ending(&self) -> &Ending {
        &self.boot.ending
    }

    fn advice(&self) -> String {
        let file = self.file.as_deref().map(Path::display);
        match self.ending() {
            Ending::Fatal(report) if report.cause == FatalCause::Configuration => {
                "correct what it names, and try again".to_owned()
            }
            Ending::Fatal(_) | Ending::Speechless(_) => {
                let keep = file.map(|file| format!("keep {file} and ")).unwrap_or_default();
                format!("that is a defect of the kernel: {keep}report it")
            }
            Ending::Hang { has_begun: true } => {
                "give it more time by --timeout, or less to do by --duration or -c".to_owned()
            }
            Ending::Hang { has_begun: false } => "ask `nmiprof doctor`, and see the machine by -v".to_owned(),
            Ending::Reset => {
                "see the last exceptions by --qemu-arg=-d --qemu-arg=int --qemu-arg=-D --qemu-arg=qemu.log"
                    .to_owned()
            }
            Ending::NoExitDevice | Ending::QemuFailed(_) => {
                "correct --qemu-arg or --memory; -v shows the whole command line".to_owned()
            }
            Ending::Completed | Ending::Unfinished | Ending::Interrupted => {
                let see = file.map(|file| format!("`nmiprof info -i {file}` shows what arrived; "));
                format!("{}try again", see.unwrap_or_default())
            }
        }
    }
}

impl fmt::Display for EndedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boot = &self.boot;
        write!(f, "{}", boot.ending)?;
        if matches!(boot.ending, Ending::Hang { .. }) {
            let (samples, bytes) = (boot.record.samples(), boot.record.bytes());
            write!(f, " ({:.0} s, {samples} samples, {bytes} bytes)", boot.elapsed.as_secs_f64())?;
        }
        write!(f, "; {}", self.advice())?;
        if boot.stderr.is_empty() { Ok(()) } else { write!(f, "\nQEMU says: {}", boot.stderr) }
    }
}

impl std::error::Error for EndedError {}
