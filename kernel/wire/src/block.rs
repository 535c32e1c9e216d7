//! The delta coding of samples.
//!
//! Samples of one CPU come at nearly constant intervals and from nearby addresses, so a sample is sent
//! as two to four varints: the change of its time interval, the change of its address, with call chains the
//! number of its chain, and with processes the number of its process. One is about 4 bytes instead of 16 or more.
//! All arithmetic wraps modulo 2^64, so every pair of samples has a delta and no input can overflow.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Samples of one CPU and one event, in the order in which they were taken.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `header.cpu` | u16 | index | the CPU |
/// | `header.event` | u8 | index | into `Hello.events` |
/// | `header.first_sample` | u64 | samples | cumulative number, on this CPU, of the first sample here |
/// | `header.dropped` | u64 | samples | cumulative drops of this CPU, all causes |
/// | `header.chains` | option u32 | epoch | set where each sample names a call chain of that epoch |
/// | `header.processes` | bool | | set where each sample names a process |
/// | `base_time` | u64 | clock ticks | time that the first delta starts from |
/// | `base_interval` | u64 | clock ticks | interval that the first delta starts from |
/// | `base_ip` | u64 | address | address that the first delta starts from |
/// | `count` | u16 | samples | how many follow |
/// | `samples` | bytes | | `count` times: interval delta (zigzag varint), address delta (zigzag varint), chain (varint, with `chains` only), process (varint, with `processes` only) |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Block<'a> {
    /// Whose samples they are.
    pub header: BlockHeader,
    /// Time that the first delta starts from, in clock ticks.
    pub base_time: u64,
    /// Interval that the first delta starts from, in clock ticks.
    pub base_interval: u64,
    /// Address that the first delta starts from.
    pub base_ip: u64,
    /// Number of samples.
    pub count: u16,
    /// The coded samples.
    pub samples: &'a [u8],
}

impl<'a> Block<'a> {
    /// Decodes the samples.
    #[must_use]
    pub fn samples(&self) -> SampleIter<'a> {
        let state = Predictor { time: self.base_time, interval: self.base_interval, ip: self.base_ip };
        let BlockHeader { chains, processes, .. } = self.header;
        SampleIter { left: self.count, bytes: self.samples, chains: chains.is_some(), processes, state }
    }
}

/// Whose samples a [`Block`] carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct BlockHeader {
    /// The CPU that took the samples.
    pub cpu: u16,
    /// Index of the event in `Hello.events`.
    pub event: u8,
    /// Cumulative number, on this CPU, of the first sample of the block.
    pub first_sample: u64,
    /// Cumulative drops of this CPU, all causes.
    pub dropped: u64,
    /// Epoch of the call chains that the samples name; `None` where samples carry no chain.
    pub chains: Option<u32>,
    /// Whether samples name processes.
    pub processes: bool,
}

/// One sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken, in clock ticks.
    pub time: u64,
    /// The interrupted instruction.
    pub ip: u64,
    /// Number of its call chain's innermost node; see [`stacks`](crate::stacks).
    pub stack: u32,
    /// Number of the process in whose address space it was taken; 0 for none, the kernel's own.
    pub process: u32,
}

/// What both ends know before a sample.
#[derive(Clone, Copy, Debug, Default)]
struct Predictor {
    time: u64,
    interval: u64,
    ip: u64,
}

impl Predictor {
    fn deltas_to(&mut self, sample: &Sample) -> (i64, i64) {
        let interval = sample.time.wrapping_sub(self.time);
        let deltas = (
            interval.wrapping_sub(self.interval).cast_signed(),
            sample.ip.wrapping_sub(self.ip).cast_signed(),
        );
        *self = Self { time: sample.time, interval, ip: sample.ip };
        deltas
    }

    fn apply(&mut self, interval_delta: i64, ip_delta: i64) {
        self.interval = self.interval.wrapping_add_signed(interval_delta);
        self.time = self.time.wrapping_add(self.interval);
        self.ip = self.ip.wrapping_add_signed(ip_delta);
    }
}

/// Iterator over the samples of a [`Block`].
///
/// Yields `None` early where the bytes end before the count does: [`SampleIter::is_whole`] tells.
#[derive(Clone, Debug)]
pub struct SampleIter<'a> {
    left: u16,
    bytes: &'a [u8],
    chains: bool,
    processes: bool,
    state: Predictor,
}

impl SampleIter<'_> {
    /// Tells whether the whole block was decoded: no sample is missing and no byte is left over.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left == 0 && self.bytes.is_empty()
    }
}

impl Iterator for SampleIter<'_> {
    type Item = Sample;

    #[inline]
    fn next(&mut self) -> Option<Sample> {
        self.left.checked_sub(1)?;
        let ((interval, ip), rest) = postcard::take_from_bytes::<(i64, i64)>(self.bytes).ok()?;
        let (stack, rest) = take_number(rest, self.chains)?;
        let (process, rest) = take_number(rest, self.processes)?;
        self.left -= 1;
        self.bytes = rest;
        self.state.apply(interval, ip);
        Some(Sample { time: self.state.time, ip: self.state.ip, stack, process })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

/// Takes a number off, where there is one.
#[inline]
fn take_number(bytes: &[u8], is_there: bool) -> Option<(u32, &[u8])> {
    if is_there { postcard::take_from_bytes::<u32>(bytes).ok() } else { Some((0, bytes)) }
}

/// Builder of one [`Block`] after another on one CPU, without allocation.
///
/// The predictor survives from block to block, so that the first deltas of a block are as small as the
/// others; each block carries the state that it starts from.
#[derive(Debug)]
pub struct BlockEncoder {
    chains: bool,
    processes: bool,
    base: Predictor,
    state: Predictor,
    count: u16,
    len: usize,
    bytes: [u8; Self::BYTES_MAX],
}

impl BlockEncoder {
    /// Most bytes of coded samples in one block.
    pub const BYTES_MAX: usize = 1024;
    /// Most samples in one block.
    pub const SAMPLES_MAX: u16 = 128;

    const SAMPLE_BYTES_MAX: usize = 10 + 10 + 5 + 5;

    /// Creates an encoder for samples with or without call chains.
    #[must_use]
    pub const fn new(chains: bool) -> Self {
        let zero = Predictor { time: 0, interval: 0, ip: 0 };
        let bytes = [0; Self::BYTES_MAX];
        Self { chains, processes: false, base: zero, state: zero, count: 0, len: 0, bytes }
    }

    /// Lets samples name processes, from the first one on.
    #[must_use]
    pub const fn with_processes(self, processes: bool) -> Self {
        Self { processes, ..self }
    }

    /// Returns the number of samples waiting.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Tells whether the block must be taken before another sample is pushed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count == Self::SAMPLES_MAX || self.len + Self::SAMPLE_BYTES_MAX > Self::BYTES_MAX
    }

    /// Adds one sample.
    ///
    /// # Errors
    /// Gives the sample back where the block is full; take it first.
    pub fn push(&mut self, sample: Sample) -> Result<(), Sample> {
        if self.is_full() {
            return Err(sample);
        }
        let mut state = self.state;
        let (interval, ip) = state.deltas_to(&sample);
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let Sample { stack, process, .. } = sample;
        let coded = match (self.chains, self.processes) {
            (false, false) => postcard::to_slice(&(interval, ip), free),
            (true, false) => postcard::to_slice(&(interval, ip, stack), free),
            (false, true) => postcard::to_slice(&(interval, ip, process), free),
            (true, true) => postcard::to_slice(&(interval, ip, stack, process), free),
        };
        self.len += coded.map_err(|_| sample)?.len();
        self.state = state;
        self.count += 1;
        Ok(())
    }

    /// Returns the block of what was pushed.
    #[must_use]
    pub fn block(&self, header: BlockHeader) -> Block<'_> {
        Block {
            header,
            base_time: self.base.time,
            base_interval: self.base.interval,
            base_ip: self.base.ip,
            count: self.count,
            samples: self.bytes.get(..self.len).unwrap_or_default(),
        }
    }

    /// Starts the next block.
    pub fn clear(&mut self) {
        self.base = self.state;
        self.count = 0;
        self.len = 0;
    }
}
