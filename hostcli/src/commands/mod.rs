//! The verbs of the command line, as library functions.
//!
//! Every command is one module with `Args`, which clap fills, and `run`, which writes its product to
//! `out` and everything else to `notes` (the binary's stderr). What a command found is an [`Outcome`],
//! why it could not work is an [`Error`]; the two decide the exit status:
//!
//! | status | meaning |
//! |---|---|
//! | 0 | [`Outcome::Good`]; also where the reader of the output went away (a broken pipe) |
//! | 1 | [`Outcome::Findings`]: the product was written, but something in it needs attention |
//! | 2 | [`Error`]: there is no product, or not all of it |

mod ask;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod flags;
pub mod image;
pub mod info;
pub mod input;
pub mod list;
mod paths;
mod pmu;
mod processes;
pub mod record;
pub mod report;
pub mod script;
pub mod selftest;
pub mod stat;
mod summary;
mod words;

use std::io;
use std::path::Path;

use crate::attach::OpenError;
use crate::capture::{CaptureError, clean};
use crate::cost::CostError;
use crate::iso::IsoError;
use crate::machine::{BootError, ProgramError};
use crate::sweep::ExamineError;
use crate::symbols::SymbolError;

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Good,
    /// There is something to look at, or there was nothing to show.
    Findings,
}

impl Outcome {
    /// Returns the exit status of the process.
    #[must_use]
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Findings => 1,
        }
    }
}

/// Why a command could not work. The exit status is [`Error::EXIT_STATUS`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The capture can't be used.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Addresses can't be turned into symbols.
    #[error(transparent)]
    Symbols(#[from] SymbolError),
    /// The product can't be written.
    #[error("can't write {target}: {source}; check the place and the space left, or name another one")]
    Output {
        /// Where it was to go.
        target: String,
        /// What the system said.
        source: io::Error,
    },
    /// The product can't be written to the standard output.
    #[error("can't write the output: {0}")]
    Write(#[from] io::Error),
    /// A flag asks for what this command can't do.
    #[error("{0}")]
    Usage(String),
    /// There is no QEMU to boot a machine with.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The machine did not run, or could not be followed.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The run did not complete.
    #[error(transparent)]
    Ended(#[from] record::EndedError),
    /// The line can't be opened.
    #[error(transparent)]
    Attach(#[from] OpenError),
    /// What was attached to did not speak to its end.
    #[error(transparent)]
    Detached(#[from] record::DetachedError),
    /// There is no boot image.
    #[error(transparent)]
    Iso(#[from] IsoError),
    /// A self-test could not be done.
    #[error(transparent)]
    Selftest(#[from] ExamineError),
    /// The cost of an NMI could not be measured.
    #[error(transparent)]
    Cost(#[from] CostError),
}

impl Error {
    /// Exit status of the process.
    pub const EXIT_STATUS: u8 = 2;

    /// Says that `path` can't be written.
    #[must_use]
    pub fn output(path: &Path, source: io::Error) -> Self {
        Self::Output { target: clean(&path.display().to_string()).into_owned(), source }
    }

    /// Tells whether the reader of the output went away.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Write(error) | Self::Boot(BootError::Line { source: error, .. }) => {
                error.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }
}

/// Makes a broken pipe a good outcome: `nmiprof script | head` has done what was asked for.
pub(crate) fn forgive_broken_pipe(result: Result<Outcome, Error>) -> Result<Outcome, Error> {
    match result {
        Err(error) if error.is_broken_pipe() => Ok(Outcome::Good),
        result => result,
    }
}
