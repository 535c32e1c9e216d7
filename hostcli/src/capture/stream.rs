//! Bytes to samples, and a [`Record`] of everything else.
//!
//! [`Stream`] is the whole decoder, incremental: `record` pushes bytes as they come, the other commands
//! push a file. Samples are handed out by the block and not kept.

use super::chains::{ChainId, ChainTree};
use super::decoder::Decoder;
use super::processes::Processes;
use super::{CaptureError, Record, RunInfo};

/// One sample, or several of one place that the kernel counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub time: SampleTime,
    /// The interrupted instruction.
    pub ip: u64,
    /// Its call chain.
    pub chain: ChainId,
    /// Number of the process in whose address space it was taken; 0 for none.
    pub process: u32,
    /// How many samples it stands for: never 0, and 1 where its time is known.
    pub count: u32,
}

/// When a sample was taken, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleTime {
    /// At this time.
    At(u64),
    /// Somewhere in this span: the kernel counted the samples by where they fell and sent no times.
    Within {
        /// When the first sample of all that were counted together was taken.
        first: u64,
        /// When the last one was.
        last: u64,
    },
}

impl SampleTime {
    /// Returns the span that the sample was taken in.
    #[must_use]
    pub const fn span(self) -> (u64, u64) {
        match self {
            Self::At(time) => (time, time),
            Self::Within { first, last } => (first, last),
        }
    }

    /// Returns the time itself, where it is known.
    #[must_use]
    pub const fn exact(self) -> Option<u64> {
        match self {
            Self::At(time) => Some(time),
            Self::Within { .. } => None,
        }
    }
}

/// Samples of one CPU and one event: in the order in which they were taken, or of places, in no order.
#[derive(Clone, Copy, Debug)]
pub struct SampleBlock<'a> {
    /// The CPU that took them.
    pub cpu: u16,
    /// Index of the event in [`RunInfo::events`].
    pub event: u8,
    /// Whether they carry call chains.
    pub has_chains: bool,
    /// The samples.
    pub samples: &'a [Sample],
    /// The tree that their chains are in.
    pub chains: &'a ChainTree,
    /// The processes that they name.
    pub processes: &'a Processes,
}

/// Incremental decoder of a whole stream.
#[derive(Debug)]
pub struct Stream {
    decoder: Decoder,
    record: Record,
}

impl Stream {
    /// Creates a decoder for a stream whose run is not known yet. `name` is what errors call it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { decoder: Decoder::new(), record: Record::new(name) }
    }

    /// Creates a decoder for a stream whose run was found before.
    pub(super) fn for_run(name: &str, run: RunInfo) -> Self {
        Self { decoder: Decoder::new(), record: Record::for_run(name, run) }
    }

    /// Decodes the next bytes and hands every block of samples to `on_block`.
    ///
    /// # Errors
    /// A [`CaptureError`] where the stream is of another version or holds a second run, and whatever
    /// `on_block` returns. Damage is no error: it is counted.
    pub fn push<E: From<CaptureError>>(
        &mut self,
        mut bytes: &[u8],
        mut on_block: impl FnMut(&SampleBlock<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.record.count_bytes(bytes.len());
        while let Some(event) = self.decoder.next_frame(&mut bytes) {
            if let Some(block) = self.record.take(event)? {
                on_block(&block)?;
            }
        }
        Ok(())
    }

    /// Returns the record so far.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Ends the stream: a frame that was cut is counted as damage.
    #[must_use]
    pub fn finish(mut self) -> Record {
        if let Some(cut) = self.decoder.finish() {
            self.record.count_cut(&cut);
        }
        self.record
    }
}
