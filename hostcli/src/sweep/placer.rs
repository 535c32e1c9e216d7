//! Machines that do placements.
//!
//! A [`Placer`] takes a range of placements and returns those that were reported, and how it ended. The
//! real one boots a machine for each request; tests have their own.

use std::time::Duration;
use std::{fmt, io};

use nmiprof_wire::{FatalCause, Pair, Placement};

use super::combination::{Combination, PairRequest, Request};
use super::dispatch::{Staged, Staging};
use crate::machine::{Boot, BootError, Ending, MachineConfig, Program, boot};

/// The device that ends a machine which goes round in circles: the kernel renews its budget of instructions before
/// each placement, and QEMU resets the machine when that is used up.
const BUDGET: [&str; 2] = ["-device", "ib700"];
/// Wall time of a machine: for what the budget does not see, such as a QEMU that hangs.
const LIMIT: Duration = Duration::from_secs(180);

/// Wall time of one pair: several times what it takes on a busy host, which was 0.25 ms.
const LIMIT_PER_PAIR: Duration = Duration::from_millis(1);
/// What lets the HPET send the third NMI.
const HPET_SENDS_MESSAGES: [&str; 2] = ["-global", "hpet.msi=on"];

/// Does placements and pairs.
pub trait Placer: Sync {
    /// Does the placements of `request`, up to the one at which the machine dies.
    ///
    /// # Errors
    /// [`PlaceError`] where there was no machine to judge by: that is the host's fault.
    fn place(&self, combination: &Combination, request: &Request<'_>) -> Result<Chunk, PlaceError>;

    /// Runs a storm with the known defect `mutant`, or without one where that is empty. The chunk holds its
    /// reports, up to the one after which the machine died.
    ///
    /// # Errors
    /// As [`Placer::place`].
    fn storm(&self, combination: &Combination, mutant: &str) -> Result<Chunk, PlaceError>;

    /// Does the pairs of `request`, up to the one at which the machine dies.
    ///
    /// # Errors
    /// As [`Placer::place`].
    fn pairs(&self, combination: &Combination, request: &PairRequest<'_>) -> Result<PairChunk, PlaceError>;

    /// Stages the dispatcher's situations.
    ///
    /// # Errors
    /// As [`Placer::place`].
    fn stage(&self, combination: &Combination, staging: &Staging<'_>) -> Result<Staged, PlaceError>;
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The placements that were reported, in ascending order of their ticks.
    pub placements: Vec<Placement>,
    /// How the machine ended.
    pub end: ChunkEnd,
}

/// What came of a request for pairs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairChunk {
    /// The pairs that were reported, in the order of the line.
    pub pairs: Vec<Pair>,
    /// How the machine ended.
    pub end: ChunkEnd,
}

/// How the machine of a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEnd {
    /// As it should.
    Complete,
    /// The kernel does not know, or does not do, what it was asked for.
    Refused(String),
    /// It died, at the placement after the last one that it reported.
    Died(String),
}

impl ChunkEnd {
    /// Judges a machine that has ended.
    ///
    /// # Errors
    /// [`PlaceError::Machine`] where it is QEMU that failed, or somebody ended it.
    pub fn of(boot: &Boot) -> Result<Self, PlaceError> {
        let says = boot.ending.to_string();
        let messages = boot.record.messages();
        let end = match &boot.ending {
            Ending::Completed => Self::Complete,
            Ending::Fatal(report) if report.cause == FatalCause::Configuration => Self::Refused(says),
            Ending::Reset => Self::Died(format!("{says}, or its budget of instructions was used up")),
            Ending::Fatal(_) | Ending::Speechless(_) | Ending::Unfinished | Ending::Hang { .. } => {
                Self::Died(says)
            }
            Ending::NoExitDevice | Ending::Interrupted | Ending::QemuFailed(_) => {
                return Err(PlaceError::Machine {
                    says,
                    stderr: boot.stderr.clone(),
                    command: boot.command_line.to_string(),
                });
            }
        };
        Ok(end.after(messages.placements().len() + messages.pairs().len()))
    }

    /// Takes into account how many reports there were: the kernel refuses before the first one. What it can't go on
    /// with after that, such as a reserve that abandoned NMIs have used up, is its death.
    fn after(self, reports: usize) -> Self {
        match self {
            Self::Refused(why) if reports > 0 => Self::Died(why),
            end => end,
        }
    }
}

impl Chunk {
    /// Keeps the placements that were asked for, up to the first that is out of order.
    ///
    /// A machine that ends well without all of them has lost one, which is no better than to die there.
    #[must_use]
    pub fn checked(reported: &[Placement], end: ChunkEnd, request: &Request<'_>) -> Self {
        let in_order = (request.first..=request.last).zip(reported);
        let placements: Vec<_> = in_order
            .take_while(|(ticks, placement)| placement.ticks == *ticks)
            .map(|(_, placement)| *placement)
            .collect();
        let asked = u64::from(request.last - request.first) + 1;
        let end = match end {
            ChunkEnd::Complete if (placements.len() as u64) < asked => {
                ChunkEnd::Died("the report of a placement did not come".to_owned())
            }
            end => end,
        };
        Self { placements, end }
    }
}

/// Boots a machine for each request.
#[derive(Clone, Copy, Debug)]
pub struct QemuPlacer<'a> {
    /// The QEMU to use.
    pub program: &'a Program,
    /// The image to boot.
    pub image: &'static [u8],
}

impl QemuPlacer<'_> {
    fn boot(&self, kernel_command_line: String, limit: Duration) -> Result<Boot, PlaceError> {
        let directory = tempfile::tempdir()?;
        let config = MachineConfig {
            kernel_command_line,
            extra_args: BUDGET.iter().chain(&HPET_SENDS_MESSAGES).map(|word| (*word).to_owned()).collect(),
            limit,
            ..MachineConfig::new(self.image, directory.path().join("line"))
        };
        Ok(boot(self.program, &config, &mut ())?)
    }
}

impl Placer for QemuPlacer<'_> {
    fn place(&self, combination: &Combination, request: &Request<'_>) -> Result<Chunk, PlaceError> {
        let boot = self.boot(combination.command_line(request), LIMIT)?;
        Ok(Chunk::checked(boot.record.messages().placements(), ChunkEnd::of(&boot)?, request))
    }

    fn storm(&self, combination: &Combination, mutant: &str) -> Result<Chunk, PlaceError> {
        let boot = self.boot(combination.storm_command_line(mutant), LIMIT)?;
        Ok(Chunk { placements: boot.record.messages().placements().to_vec(), end: ChunkEnd::of(&boot)? })
    }

    fn pairs(&self, combination: &Combination, request: &PairRequest<'_>) -> Result<PairChunk, PlaceError> {
        let (gap_first, gap_last) = request.gaps;
        let pairs_max = (request.last - request.first + 1) * (gap_last - gap_first + 1);
        let limit = LIMIT + LIMIT_PER_PAIR * pairs_max;
        let boot = self.boot(combination.command_line_of_pairs(request), limit)?;
        Ok(PairChunk { pairs: boot.record.messages().pairs().to_vec(), end: ChunkEnd::of(&boot)? })
    }

    fn stage(&self, combination: &Combination, staging: &Staging<'_>) -> Result<Staged, PlaceError> {
        let boot = self.boot(staging.command_line(combination), LIMIT)?;
        Ok(Staged { cases: boot.record.messages().cases().to_vec(), end: ChunkEnd::of(&boot)? })
    }
}

/// Why there was no machine to judge by.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It did not start, or could not be followed.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// It ended in a way that is not the kernel's.
    #[error("{says}; run it by hand to see why: {command}{}", Said(.stderr))]
    Machine {
        /// How it ended.
        says: String,
        /// What QEMU wrote to stderr.
        stderr: String,
        /// What was run.
        command: String,
    },
    /// There is no place for temporary files.
    #[error("can't make a temporary file: {0}; make room, or name another directory by TMPDIR")]
    Io(#[from] io::Error),
}

/// What QEMU said, on a line of its own, if anything.
struct Said<'a>(&'a str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "\nQEMU says: {}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(ticks: u32) -> Placement {
        Placement { ticks, ..Placement::default() }
    }

    fn checked(ticks: &[u32], end: ChunkEnd) -> Chunk {
        let reported: Vec<_> = ticks.iter().map(|ticks| placement(*ticks)).collect();
        Chunk::checked(&reported, end, &Request { mutant: "", first: 3, last: 5 })
    }

    #[test]
    fn all_that_was_asked_for_is_complete() {
        let chunk = checked(&[3, 4, 5], ChunkEnd::Complete);
        assert_eq!((chunk.placements.len(), chunk.end), (3, ChunkEnd::Complete));
    }

    #[test]
    fn a_report_that_is_missing_is_a_death_there() {
        for ticks in [&[3, 5][..], &[3], &[3, 3, 4], &[3, 9, 4]] {
            let chunk = checked(ticks, ChunkEnd::Complete);
            assert_eq!(chunk.placements, [placement(3)], "{ticks:?}");
            assert!(matches!(chunk.end, ChunkEnd::Died(_)), "{ticks:?}");
        }
    }

    #[test]
    fn a_refusal_after_a_report_is_a_death() {
        let refused = || ChunkEnd::Refused("no frame".to_owned());
        assert_eq!(refused().after(0), refused());
        assert_eq!(refused().after(1), ChunkEnd::Died("no frame".to_owned()));
        assert_eq!(ChunkEnd::Complete.after(1), ChunkEnd::Complete);
    }

    #[test]
    fn more_than_was_asked_for_is_left_out() {
        let chunk = checked(&[3, 4, 5, 6, 7], ChunkEnd::Complete);
        assert_eq!((chunk.placements.len(), chunk.end), (3, ChunkEnd::Complete));
        let died = checked(&[], ChunkEnd::Died("so".to_owned()));
        assert_eq!((died.placements.len(), died.end), (0, ChunkEnd::Died("so".to_owned())));
    }
}
