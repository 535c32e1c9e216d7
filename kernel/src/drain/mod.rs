//! The drain: from the ring to the line, in thread context, while sampling goes on.
//!
//! It takes records, interns their call chains, numbers the samples and sends them in blocks. The number
//! of a sample is how many the drain sent before it: it knows nothing of overflows or drops, so a sample
//! that got lost before the ring can't hide.

mod chains;

use core::ops::ControlFlow;

use nmiprof_ring::{Consumer, Record};
use nmiprof_wire::{BlockEncoder, BlockHeader, CpuTotals, Drops, Frame, Sample};

use crate::arch::cpu;
use crate::arch::percpu::PerCpu;
use crate::memory::ring_memory::RingMemory;
use crate::sampler::FIXED_WORDS;
use crate::stream;
use chains::Chains;

/// The drain of one CPU's ring.
pub struct Drain {
    cpu: &'static PerCpu,
    ring: Consumer<'static, RingMemory>,
    samples: Samples,
}

impl Drain {
    /// Creates the drain of `ring`, which `cpu` fills.
    pub fn new(cpu: &'static PerCpu, ring: Consumer<'static, RingMemory>, chains: bool) -> Self {
        Self { cpu, ring, samples: Samples::new(cpu.index, chains) }
    }

    /// Sends what waits, if it fills a block.
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn poll(&mut self) {
        let block_words = usize::from(BlockEncoder::SAMPLES_MAX) * (1 + FIXED_WORDS);
        if self.ring.used_words() >= block_words as u64 {
            self.take_all();
        }
    }

    /// Sends everything that waits.
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn flush(&mut self) {
        self.take_all();
        self.samples.send();
    }

    /// Starts a new epoch: call chains are defined anew, for a reader who missed their definitions.
    pub fn next_epoch(&mut self) {
        self.samples.next_epoch();
    }

    /// Discards everything that waits, after showing it to `look`: samples of the self-test.
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn discard(&mut self, mut look: impl FnMut(Sample)) {
        let taken = self.ring.drain(usize::MAX, |record| {
            look(sample_of(&record, 0));
            ControlFlow::Continue(())
        });
        taken.expect("the ring holds whole records");
    }

    /// Reads all counters of the CPU.
    pub fn totals(&self) -> CpuTotals {
        let dropped = self.ring.drops();
        let census = self.ring.memory().census();
        let reserve = self.cpu.reserve.counts();
        let counters = &self.cpu.nmi.counters;
        CpuTotals {
            cpu: self.cpu.index,
            time: cpu::timestamp(),
            overflows: counters.overflows.read(),
            sent: self.samples.sent,
            dropped: Drops {
                ring_full: dropped.ring_full,
                no_frame: dropped.no_frame,
                throttled: 0,
                fault: dropped.fault,
            },
            nmi: self.cpu.nmi.snapshot(),
            ring_pages: census.pages,
            ring_tables: census.tables,
            table_frames: counters.table_frames.read(),
            decommitted: 0,
            thread_syncs: counters.thread_syncs.read(),
            reserve_frames: reserve.frames,
            reserve_frames_min: reserve.frames_min,
            reserve_refilled: reserve.refilled,
        }
    }

    fn take_all(&mut self) {
        let Self { ring, samples, .. } = self;
        samples.dropped = ring.drops().total();
        let taken = ring.drain(usize::MAX, |record| {
            samples.push(&record);
            ControlFlow::Continue(())
        });
        taken.expect("the ring holds whole records");
    }
}

fn sample_of(record: &Record<'_, RingMemory>, stack: u32) -> Sample {
    Sample { time: record.word(0).unwrap_or_default(), ip: record.word(1).unwrap_or_default(), stack }
}

/// Samples on their way out.
struct Samples {
    cpu: u16,
    /// Samples sent so far: the number of the next one.
    sent: u64,
    /// Drops of this CPU so far.
    dropped: u64,
    block: BlockEncoder,
    chains: Option<Chains>,
}

impl Samples {
    fn new(cpu: u16, chains: bool) -> Self {
        let block = BlockEncoder::new(chains);
        Self { cpu, sent: 0, dropped: 0, block, chains: chains.then(|| Chains::new(cpu)) }
    }

    fn push(&mut self, record: &Record<'_, RingMemory>) {
        if self.chains.as_ref().is_some_and(Chains::is_nearly_full) {
            self.next_epoch();
        }
        let stack = self.chains.as_mut().map_or(0, |chains| chains.intern(record));
        let sample = sample_of(record, stack);
        if self.block.push(sample).is_err() {
            self.send();
            let pushed = self.block.push(sample);
            debug_assert!(pushed.is_ok(), "an empty block takes a sample");
        }
    }

    /// Sends the block, after the definitions of the chains that it names.
    fn send(&mut self) {
        if let Some(chains) = &mut self.chains {
            chains.send();
        }
        if self.block.count() == 0 {
            return;
        }
        let header = BlockHeader {
            cpu: self.cpu,
            event: 0,
            first_sample: self.sent,
            dropped: self.dropped,
            chains: self.chains.as_ref().map(Chains::epoch),
        };
        stream::send(&Frame::Block(self.block.block(header)));
        self.sent += u64::from(self.block.count());
        self.block.clear();
    }

    fn next_epoch(&mut self) {
        self.send();
        if let Some(chains) = &mut self.chains {
            chains.next_epoch();
        }
    }
}
