//! Captures: the bytes off the wire, verbatim, and everything that can be read out of them.
//!
//! - [`Decoder`]: bytes to frames;
//! - [`Stream`]: frames to blocks of samples and a [`Record`] of the rest; incremental, for live lines;
//! - [`Capture`]: a file, or the standard input, whose run is known before its first sample is read;
//! - [`Accounts`]: the accounting identity;
//! - [`Joined`]: what a reader missed who joined in the middle of a run;
//! - [`ChainTree`]: call chains;
//! - [`Processes`]: the user programs that ran, and what became of them;
//! - [`PmuRecord`]: what the PMU counted, offers and was found to do;
//! - [`Histogram`]: samples counted by where they fell;
//! - [`writer`]: the reference writer, for tests and benches.
//!
//! A capture is hostile input. Frames that are damaged or make no sense are counted and skipped, every
//! allocation has a stated bound, and no text gets past [`clean`] with a control character in it.

mod accounts;
mod chains;
mod continuity;
mod cpus;
mod decoder;
mod error;
mod histogram;
mod messages;
mod pmu;
mod processes;
mod record;
mod run;
mod source;
mod start;
mod stream;
mod text;
pub mod writer;

pub use accounts::{Accounts, Balance, CpuAccount, Identity};
pub use chains::{CHAINS_MAX, ChainId, ChainTree, DEPTH_MAX, EPOCH_NODES_MAX};
pub use cpus::Cpus;
pub use decoder::{DamagedFrame, Decoder, FrameEvent};
pub use error::CaptureError;
pub use histogram::{Histogram, PLACES_MAX, Place};
pub use messages::{
    CASES_MAX, FatalReport, LOGS_MAX, LogLine, Messages, PAIRS_MAX, PLACEMENTS_MAX, WORKLOADS_MAX,
    WorkloadOutcome,
};
pub use pmu::{EventTotal, OFFERS_MAX, OfferedEvent, PmuRecord};
pub use processes::{OUTPUT_BYTES_MAX, Owner, PROCESSES_MAX, ProcessInfo, ProcessOutput, Processes};
pub use record::Record;
pub use run::{CPUS_MAX, RunInfo, SampledEvent};
pub use source::{Capture, SEARCH_BYTES_MAX};
pub use start::Joined;
pub use stream::{Sample, SampleBlock, SampleTime, Stream};
pub use text::clean;

/// What could not be used: bytes that are no frame, and frames that make no sense where they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Number of damaged stretches between two zeros.
    pub frames: u64,
    /// Their bytes, the ending zeros included.
    pub bytes: u64,
    /// Offset of the first one in the stream.
    pub first_offset: Option<u64>,
}

impl Damage {
    fn count(&mut self, offset: u64, bytes: u64) {
        self.frames += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.first_offset.get_or_insert(offset);
    }
}
