//! The drain: from the ring to the line, in thread context, while sampling goes on.
//!
//! It takes records, as many as the line has room for, interns their call chains, numbers the samples and sends them in
//! blocks, or counts them first (`aggregate`). The number
//! of a sample is how many the drain sent before it: it knows nothing of overflows or drops, so a sample
//! that got lost before the ring can't hide.

mod aggregate;
mod chains;
mod turns;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use nmiprof_ring::{Consumer, Drops as RingDrops, Record};
use nmiprof_wire::{
    Aggregate, BlockEncoder, BlockHeader, CpuTotals, CutChains, Drops, Frame, MemoryCounters, Sample,
};

use crate::arch::cpu;
use crate::arch::percpu::PerCpu;
use crate::memory::frames;
use crate::memory::ring_memory::RingMemory;
use crate::sampler::{FIXED_WORDS, Tag};
use crate::stream;
use aggregate::Tallies;
use chains::Chains;
pub use turns::Drains;

/// The drain of one CPU's ring.
pub struct Drain {
    cpu: &'static PerCpu,
    ring: Consumer<'static, RingMemory>,
    samples: Samples,
    /// Drops before sampling began: those of the self-test.
    dropped_before: RingDrops,
}

impl Drain {
    /// Creates the drain of `ring`, which `cpu` fills, for samples of these processes.
    pub fn new(
        cpu: &'static PerCpu,
        ring: Consumer<'static, RingMemory>,
        chains: bool,
        spaces: Vec<Space>,
    ) -> Self {
        Self {
            cpu,
            ring,
            samples: Samples::new(cpu.index, chains, spaces),
            dropped_before: RingDrops::default(),
        }
    }

    /// Counts samples by where they fall, beside or instead of sending them.
    pub fn aggregating(mut self, aggregate: Aggregate) -> Self {
        self.samples.aggregate(aggregate);
        self
    }

    /// Begins to account for drops, and for the samples of so many events.
    pub fn begin(&mut self, events: usize) {
        self.dropped_before = self.ring.drops();
        self.samples.set_events(events);
    }

    /// Reads the drops since the accounts began.
    fn dropped(&self) -> Drops {
        let (now, before) = (self.ring.drops(), self.dropped_before);
        Drops {
            ring_full: now.ring_full - before.ring_full,
            no_frame: now.no_frame - before.no_frame,
            throttled: self.cpu.nmi.counters.throttled.read(),
            fault: now.fault - before.fault,
        }
    }

    /// Returns the CPU whose ring this is.
    pub const fn cpu(&self) -> &'static PerCpu {
        self.cpu
    }

    /// Sends what waits, at most so many records, if it fills a block and the line has room; tells whether it did.
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn poll(&mut self, records_max: usize) -> bool {
        let block_words = usize::from(BlockEncoder::SAMPLES_MAX) * (1 + FIXED_WORDS);
        let is_due = self.samples.has_room() && self.ring.used_words() >= block_words as u64;
        if is_due {
            self.take(records_max, |_| ());
        }
        if stream::has_room() {
            self.samples.send_tally();
        }
        is_due
    }

    /// Sends everything that waits; `false` where the line has no room for it and nobody may wait for that.
    ///
    /// # Panics
    /// If the ring is corrupt.
    #[must_use = "some samples may be left"]
    pub fn flush(&mut self) -> bool {
        self.flush_seen(|_| ())
    }

    /// Gives up what waits: it has its numbers and is sent to nobody, so the host counts it as lost on the line.
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn abandon(&mut self) {
        let left = self.ring.drain(usize::MAX, |_| ControlFlow::Continue(()));
        let left = left.expect("the ring holds whole records");
        self.samples.abandon(left as u64);
    }

    /// Starts a new epoch: call chains are defined anew, for a reader who missed their definitions. Where samples are
    /// counted, that waits until the line has room for what was counted.
    pub fn next_epoch(&mut self) {
        if self.samples.has_line_for_epoch() {
            self.samples.next_epoch();
        }
    }

    /// Discards everything that waits, after showing it to `look`: samples of the self-test.
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn discard(&mut self, mut look: impl FnMut(Sample)) {
        let taken = self.ring.drain(usize::MAX, |record| {
            look(sample_of(&record));
            ControlFlow::Continue(())
        });
        taken.expect("the ring holds whole records");
    }

    /// Reads all counters of the CPU.
    pub fn totals(&self) -> CpuTotals {
        let census = self.ring.memory().census();
        let reserve = self.cpu.reserve.counts();
        let counters = &self.cpu.nmi.counters;
        CpuTotals {
            cpu: self.cpu.index,
            time: cpu::timestamp(),
            overflows: counters.overflows.read(),
            sent: self.samples.numbered(),
            dropped: self.dropped(),
            nmi: self.cpu.nmi.snapshot(),
            cut_chains: self.samples.cut_chains(),
            ring_pages: census.pages,
            reserve_frames_min: reserve.frames_min,
            memory: MemoryCounters {
                ring_tables: census.tables,
                table_frames: counters.table_frames.read(),
                decommitted: self.ring.pages_released(),
                thread_syncs: counters.thread_syncs.read(),
                reserve_frames: reserve.frames,
                reserve_refilled: reserve.refilled,
                frames_left: frames::left(),
            },
        }
    }

    /// Sends everything that waits, after showing it to `look`; see [`Drain::flush`].
    ///
    /// # Panics
    /// If the ring is corrupt.
    pub fn flush_seen(&mut self, mut look: impl FnMut(Sample)) -> bool {
        while !self.take(usize::MAX, &mut look) {
            if !stream::wait_for_room() {
                return false;
            }
            self.samples.send_tally();
        }
        if !stream::wait_for_room() {
            return false;
        }
        self.samples.send();
        self.flush_tallies()
    }

    /// Sends what was counted: the table that is on its way, and then the open one.
    fn flush_tallies(&mut self) -> bool {
        let is_first_sent = self.flush_closed_table();
        if is_first_sent {
            self.samples.close_tallies();
        }
        is_first_sent && self.flush_closed_table()
    }

    fn flush_closed_table(&mut self) -> bool {
        while self.samples.has_closed_table() {
            if !stream::wait_for_room() {
                return false;
            }
            self.samples.send_tally();
        }
        true
    }

    /// Returns where the ring is.
    #[cfg(feature = "selftest")]
    pub fn ring_address(&self) -> u64 {
        self.ring.memory().start()
    }

    /// Takes records, at most so many, while the line has room; tells whether it had.
    fn take(&mut self, records_max: usize, mut look: impl FnMut(Sample)) -> bool {
        self.samples.dropped = self.dropped().total();
        let Self { ring, samples, .. } = self;
        let mut has_room = true;
        let taken = ring.drain(records_max, |record| {
            has_room = samples.has_room();
            if !has_room {
                return ControlFlow::Break(());
            }
            look(sample_of(&record));
            samples.push(&record);
            ControlFlow::Continue(())
        });
        taken.expect("the ring holds whole records");
        has_room
    }
}

/// Reads what every sample has.
fn sample_of(record: &Record<'_, RingMemory>) -> Sample {
    let [time, ip] = [0, 1].map(|index| record.word(index).unwrap_or_default());
    Sample { time, ip, ..Sample::default() }
}

/// The address space of a process.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Number of the process.
    pub process: u32,
    /// Frame number of its top-level table.
    pub root: u64,
}

/// Samples on their way out.
struct Samples {
    cpu: u16,
    /// Samples sent so far: the number of the next one.
    sent: u64,
    /// Drops of this CPU so far.
    dropped: u64,
    /// What waits, by event.
    blocks: Vec<BlockEncoder>,
    chains: Option<Chains>,
    /// Samples that are counted, where they are.
    tallies: Option<Box<Tallies>>,
    /// What the samples' address spaces may be. None is freed before all samples of it were sent.
    spaces: Vec<Space>,
}

impl Samples {
    fn new(cpu: u16, chains: bool, spaces: Vec<Space>) -> Self {
        let chains = chains.then(|| Chains::new(cpu));
        let mut samples =
            Self { cpu, sent: 0, dropped: 0, blocks: Vec::new(), chains, tallies: None, spaces };
        samples.set_events(1);
        samples
    }

    fn set_events(&mut self, events: usize) {
        let [chains, processes] = [self.chains.is_some(), !self.spaces.is_empty()];
        self.blocks.resize_with(events, || BlockEncoder::new(chains).with_processes(processes));
    }

    fn cut_chains(&self) -> CutChains {
        self.chains.as_ref().map_or(CutChains::default(), Chains::cut)
    }

    fn push(&mut self, record: &Record<'_, RingMemory>) {
        if self.chains.as_ref().is_some_and(Chains::is_nearly_full) {
            self.next_epoch();
        }
        let stack = self.chains.as_mut().map_or(0, |chains| chains.intern(record));
        let Tag { event, space, .. } = Tag::from_bits(record.tag());
        let sample = Sample { stack, process: self.process_of(space), ..sample_of(record) };
        if self.tally(event, sample) {
            return;
        }
        let pushed = self.push_sample(event, sample).or_else(|sample| {
            self.send_event(event);
            self.push_sample(event, sample)
        });
        debug_assert!(pushed.is_ok(), "an empty block takes a sample");
    }

    /// Tells whether one more record has room: on the line, or in the table where it is counted.
    fn has_room(&self) -> bool {
        let must_close = self.chains.as_ref().is_some_and(Chains::is_nearly_full);
        match &self.tallies {
            None => stream::has_room(),
            Some(tallies) => tallies.has_room(must_close),
        }
    }

    /// Gives up what waits here, and so many samples besides.
    fn abandon(&mut self, besides: u64) {
        let waiting: u64 = self.blocks.iter().map(|block| u64::from(block.count())).sum();
        self.blocks.iter_mut().for_each(BlockEncoder::clear);
        self.sent += waiting + besides;
        self.abandon_tallies(besides);
    }

    /// Finds the process of an address space; 0 for the kernel's own.
    fn process_of(&self, root: u64) -> u32 {
        self.spaces.iter().find(|space| space.root == root).map_or(0, |space| space.process)
    }

    fn push_sample(&mut self, event: u8, sample: Sample) -> Result<(), Sample> {
        self.blocks.get_mut(usize::from(event)).ok_or(sample)?.push(sample)
    }

    /// Sends everything that waits.
    fn send(&mut self) {
        for event in 0..self.blocks.len() {
            self.send_event(u8::try_from(event).unwrap_or(u8::MAX));
        }
    }

    /// Sends the block of an event, after the definitions of the chains that it names. Its samples get their numbers
    /// now: the events of a CPU share one row of them.
    fn send_event(&mut self, event: u8) {
        if let Some(chains) = &mut self.chains {
            chains.send();
        }
        let Some(block) = self.blocks.get_mut(usize::from(event)).filter(|block| block.count() > 0) else {
            return;
        };
        let header = BlockHeader {
            cpu: self.cpu,
            event,
            first_sample: self.sent,
            dropped: self.dropped,
            chains: self.chains.as_ref().map(Chains::epoch),
            processes: !self.spaces.is_empty(),
        };
        stream::send(&Frame::Block(block.block(header)));
        self.sent += u64::from(block.count());
        block.clear();
    }

    fn next_epoch(&mut self) {
        self.send();
        self.close_tallies();
        if let Some(chains) = &mut self.chains {
            chains.next_epoch();
        }
    }
}
