//! What the benchmarks share: synthetic captures and memory for a ring.
//!
//! | benchmark | question |
//! |---|---|
//! | `nmi_cost` | what does an NMI cost with each entry, in instructions, by phase? (QEMU, `-icount`: exact) |
//! | `ring` | what does a record cost the producer and the consumer? |
//! | `decode` | how many samples does the host decode in a second? |
//!
//! Times are of the machine at hand; compare them within one run only.

use nmiprof_ring::sync::AtomicU64;
use nmiprof_ring::{Memory, PAGE_WORDS, PageIndex, Pages, TouchError, WordIndex, WordRange};
use nmiprof_wire::{BlockEncoder, BlockHeader, Frame, LINE_BYTES_MAX, Sample, encode};

/// Memory of a ring that is always there.
pub struct PresentMemory(Vec<AtomicU64>);

impl PresentMemory {
    /// Allocates `pages` pages.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        Self((0..pages * PAGE_WORDS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Memory for PresentMemory {
    fn pages(&self) -> usize {
        self.0.len() / PAGE_WORDS
    }

    #[inline]
    fn word(&self, index: WordIndex) -> &AtomicU64 {
        &self.0[index.get()]
    }

    #[inline]
    fn words(&self, range: WordRange) -> &[AtomicU64] {
        &self.0[range.get()]
    }

    fn touch(&self, _page: PageIndex) -> Result<(), TouchError> {
        Ok(())
    }

    fn release(&self, _pages: Pages) {}
}

/// Encodes `samples` samples as a kernel would, without call chains: regular times, nearby addresses.
#[must_use]
pub fn flat_line(samples: u64) -> Vec<u8> {
    let mut line = vec![0];
    let mut encoder = BlockEncoder::new(false);
    let mut first_sample = 0;
    for number in 0..samples {
        let sample = Sample {
            time: number * 100_183,
            ip: 0xffff_ffff_8010_0000 + (number * 7919) % 65_536,
            ..Sample::default()
        };
        if encoder.push(sample).is_err() {
            send(&mut line, &encoder, first_sample);
            first_sample += u64::from(encoder.count());
            encoder.clear();
            // An empty block takes any sample.
            let _ = encoder.push(sample);
        }
    }
    send(&mut line, &encoder, first_sample);
    line
}

fn send(line: &mut Vec<u8>, encoder: &BlockEncoder, first_sample: u64) {
    let mut buffer = [0; LINE_BYTES_MAX];
    let block = encoder.block(BlockHeader { first_sample, ..BlockHeader::default() });
    if let Ok(bytes) = encode(&Frame::Block(block), &mut buffer) {
        line.extend_from_slice(bytes);
    }
}
