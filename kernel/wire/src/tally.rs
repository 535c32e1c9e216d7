//! The coding of samples that the kernel counted by where they fell.
//!
//! At a high rate most samples fell where others did before. Where the line is slow, the kernel counts them in a table
//! and sends its content now and then: one entry is two to four bytes, however many samples it stands for. What gets
//! lost by that is the time of each sample; a tally has the time of the first and of the last.
//!
//! Entries that come sorted by call chain and then by address cost least, but any order is coded. The samples behind them are numbered like
//! those of a block, so the number in the next tally tells how many a lost one stood for.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::BlockHeader;

/// Samples of one CPU and one event, counted by where they fell.
///
/// The samples of a tally have consecutive numbers, like those of a [`Block`](crate::Block), but no order.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `header` | [`BlockHeader`] | | as for a [`Block`](crate::Block) |
/// | `first_time` | u64 | clock ticks | no sample is older |
/// | `last_time` | u64 | clock ticks | no sample is younger |
/// | `samples` | u64 | samples | sum of all entries' samples |
/// | `count` | u16 | entries | how many follow |
/// | `entries` | bytes | | `count` times: address delta (zigzag varint), samples (varint, never 0), chain delta modulo 2^32 (varint, with `header.chains` only), process (varint, with `header.processes` only); the first deltas are from 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Tally<'a> {
    /// Whose samples they are.
    pub header: BlockHeader,
    /// Time before which no sample was taken, in clock ticks.
    pub first_time: u64,
    /// Time after which no sample was taken, in clock ticks.
    pub last_time: u64,
    /// Samples of all entries together.
    pub samples: u64,
    /// Number of entries.
    pub count: u16,
    /// The coded entries.
    pub entries: &'a [u8],
}

impl<'a> Tally<'a> {
    /// Decodes the entries.
    #[must_use]
    pub const fn entries(&self) -> TallyIter<'a> {
        let BlockHeader { chains, processes, .. } = self.header;
        TallyIter {
            left: self.count,
            bytes: self.entries,
            chains: chains.is_some(),
            processes,
            ip: 0,
            stack: 0,
        }
    }
}

/// One place, and how many samples fell there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TallyEntry {
    /// The interrupted instruction.
    pub ip: u64,
    /// Number of the call chain's innermost node; see [`stacks`](crate::stacks).
    pub stack: u32,
    /// Number of the process; 0 for none, the kernel's own.
    pub process: u32,
    /// Samples that fell here: never 0.
    pub samples: u32,
}

/// Iterator over the entries of a [`Tally`]; ends early where the bytes make no sense.
#[derive(Clone, Debug)]
pub struct TallyIter<'a> {
    left: u16,
    bytes: &'a [u8],
    chains: bool,
    processes: bool,
    ip: u64,
    stack: u32,
}

impl TallyIter<'_> {
    /// Tells whether all entries were decoded and no byte is left over.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.left == 0 && self.bytes.is_empty()
    }
}

impl Iterator for TallyIter<'_> {
    type Item = TallyEntry;

    fn next(&mut self) -> Option<TallyEntry> {
        let left = self.left.checked_sub(1)?;
        let ((delta, samples), rest) = postcard::take_from_bytes::<(i64, u32)>(self.bytes).ok()?;
        let (stack_delta, rest) = take_number(rest, self.chains)?;
        let (process, rest) = take_number(rest, self.processes)?;
        if samples == 0 {
            return None;
        }
        (self.left, self.bytes) = (left, rest);
        self.ip = self.ip.wrapping_add_signed(delta);
        self.stack = self.stack.wrapping_add(stack_delta);
        Some(TallyEntry { ip: self.ip, stack: self.stack, process, samples })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

/// Takes a number off, where there is one.
fn take_number(bytes: &[u8], is_there: bool) -> Option<(u32, &[u8])> {
    if is_there { postcard::take_from_bytes::<u32>(bytes).ok() } else { Some((0, bytes)) }
}

/// Builder of one [`Tally`] after another on one CPU, without allocation.
#[derive(Debug)]
pub struct TallyEncoder {
    chains: bool,
    processes: bool,
    ip: u64,
    stack: u32,
    samples: u64,
    count: u16,
    len: usize,
    bytes: [u8; Self::BYTES_MAX],
}

impl TallyEncoder {
    /// Most bytes of coded entries in one tally.
    pub const BYTES_MAX: usize = 1024;

    const ENTRY_BYTES_MAX: usize = 10 + 5 + 5 + 5;

    /// Creates an encoder for samples with or without call chains and processes.
    #[must_use]
    pub const fn new(chains: bool, processes: bool) -> Self {
        Self { chains, processes, ip: 0, stack: 0, samples: 0, count: 0, len: 0, bytes: [0; Self::BYTES_MAX] }
    }

    /// Tells whether the tally must be taken before another entry is pushed.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.len + Self::ENTRY_BYTES_MAX > Self::BYTES_MAX
    }

    /// Returns the samples of the entries that wait.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Adds one entry.
    ///
    /// # Errors
    /// Gives the entry back where the tally is full, or nothing fell there.
    pub fn push(&mut self, entry: TallyEntry) -> Result<(), TallyEntry> {
        if self.is_full() || entry.samples == 0 {
            return Err(entry);
        }
        let free = self.bytes.get_mut(self.len..).unwrap_or_default();
        let TallyEntry { ip, stack, process, samples } = entry;
        let delta = ip.wrapping_sub(self.ip).cast_signed();
        let stack_delta = stack.wrapping_sub(self.stack);
        let coded = match (self.chains, self.processes) {
            (false, false) => postcard::to_slice(&(delta, samples), free),
            (true, false) => postcard::to_slice(&(delta, samples, stack_delta), free),
            (false, true) => postcard::to_slice(&(delta, samples, process), free),
            (true, true) => postcard::to_slice(&(delta, samples, stack_delta, process), free),
        };
        self.len += coded.map_err(|_| entry)?.len();
        (self.ip, self.stack) = (ip, stack);
        self.count += 1;
        self.samples += u64::from(samples);
        Ok(())
    }

    /// Returns the tally of what was pushed; all of it was taken from `first_time` to `last_time`.
    #[must_use]
    pub fn tally(&self, header: BlockHeader, first_time: u64, last_time: u64) -> Tally<'_> {
        Tally {
            header,
            first_time,
            last_time,
            samples: self.samples,
            count: self.count,
            entries: self.bytes.get(..self.len).unwrap_or_default(),
        }
    }

    /// Starts the next tally.
    pub fn clear(&mut self) {
        *self = Self { bytes: self.bytes, ..Self::new(self.chains, self.processes) };
    }
}
