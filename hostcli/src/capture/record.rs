//! What a stream says, frame by frame: which frames are believed, and what they add up to.
//!
//! A frame that can't be is counted as damage and otherwise ignored; only another version of the stream,
//! or a second run in it, is an error. The record is bounded whatever comes in.

use nmiprof_wire::{
    Block, BlockHeader, CpuTotals, DecodeError, EventCounts, Frame, Hello, LineCounters, SCHEMA_HASH, Stacks,
    Tally, WIRE_VERSION,
};

use super::accounts::{Accounts, CpuAccount};
use super::chains::{ChainId, ChainTree, Epochs};
use super::cpus::Cpus;
use super::decoder::{DamagedFrame, FrameEvent};
use super::messages::Messages;
use super::pmu::PmuRecord;
use super::processes::Processes;
use super::run::{CPUS_MAX, RunInfo};
use super::start::{Joined, Start};
use super::stream::{Sample, SampleBlock, SampleTime};
use super::{CaptureError, Damage};

/// Everything that a stream said, but for the samples.
#[derive(Debug)]
pub struct Record {
    name: String,
    run: Option<RunInfo>,
    /// Time of the first description of the run.
    first_hello_time: Option<u64>,
    /// Time of the last one.
    hello_time: Option<u64>,
    cpus: Cpus,
    start: Start,
    accounts: Accounts,
    chains: ChainTree,
    epochs: Epochs,
    messages: Messages,
    processes: Processes,
    pmu: PmuRecord,
    /// What the sender of the line counted, at last.
    line: Option<LineCounters>,
    damage: Damage,
    bytes: u64,
    frames: u64,
    sample_line_bytes: u64,
    samples: u64,
    counted_samples: u64,
    partial_chains: u64,
    scratch: Vec<Sample>,
}

impl Record {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            run: None,
            first_hello_time: None,
            hello_time: None,
            cpus: Cpus::default(),
            start: Start::default(),
            accounts: Accounts::default(),
            chains: ChainTree::new(),
            epochs: Epochs::default(),
            messages: Messages::default(),
            processes: Processes::default(),
            pmu: PmuRecord::default(),
            line: None,
            damage: Damage::default(),
            bytes: 0,
            frames: 0,
            sample_line_bytes: 0,
            samples: 0,
            counted_samples: 0,
            partial_chains: 0,
            scratch: Vec::new(),
        }
    }

    /// Creates the record of a stream whose run was found before.
    pub(super) fn for_run(name: &str, run: RunInfo) -> Self {
        let mut record = Self::new(name);
        record.accounts.expect(run.cpus);
        record.run = Some(run);
        record
    }

    /// Returns the description of the run, once it is known. What it said of its clock is taken back as soon as a CPU is
    /// known to have halted while it sampled.
    #[must_use]
    pub fn run(&self) -> Option<&RunInfo> {
        self.run.as_ref()
    }

    /// Returns what was said of the CPUs.
    #[must_use]
    pub fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// Returns the accounts of all CPUs.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Returns the call chains of all samples.
    #[must_use]
    pub fn chains(&self) -> &ChainTree {
        &self.chains
    }

    /// Returns what the kernel said in words.
    #[must_use]
    pub fn messages(&self) -> &Messages {
        &self.messages
    }

    /// Returns the processes that ran.
    #[must_use]
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Returns what the PMU counted, and what else was said of it.
    #[must_use]
    pub fn pmu(&self) -> &PmuRecord {
        &self.pmu
    }

    /// Returns what the sender of the line counted, by the last time that it said so.
    #[must_use]
    pub fn line(&self) -> Option<&LineCounters> {
        self.line.as_ref()
    }

    /// Returns what could not be used.
    #[must_use]
    pub fn damage(&self) -> Damage {
        self.start.with_head(self.damage)
    }

    /// Returns what was missed by joining in the middle of a run; `None` where the stream begins with it.
    #[must_use]
    pub fn joined(&self) -> Option<Joined> {
        self.start.joined()
    }

    /// Returns the time of the first description of the run.
    pub(super) const fn first_hello_time(&self) -> Option<u64> {
        self.first_hello_time
    }

    /// Returns the time of the last description of the run.
    pub(super) const fn hello_time(&self) -> Option<u64> {
        self.hello_time
    }

    /// Returns the number of bytes pushed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of frames that were decoded.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Returns the number of samples received.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Returns how many of these the kernel counted by where they fell, so that their times are not known.
    #[must_use]
    pub fn counted_samples(&self) -> u64 {
        self.counted_samples
    }

    /// Returns the samples not received although they were taken, so far: drops and link losses.
    #[must_use]
    pub fn lost_so_far(&self) -> u64 {
        let lost = |cpu: &CpuAccount| cpu.dropped_so_far().saturating_add(cpu.balance().link_lost);
        self.accounts.cpus().iter().map(lost).fold(0, u64::saturating_add)
    }

    /// Returns the samples that the line lost, so far, but for those that were sent before the stream began.
    #[must_use]
    pub fn lost_on_the_line(&self) -> u64 {
        let before = self.joined().map_or(0, |joined| joined.samples_before);
        self.accounts.total().link_lost.saturating_sub(before)
    }

    /// Returns the line bytes of sample and chain frames per sample: CRC, COBS and the zero included.
    #[must_use]
    pub fn bytes_per_sample(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.sample_line_bytes as f64 / self.samples as f64)
    }

    /// Returns the share of samples whose call chain was cut by the kernel or lost on the line.
    #[must_use]
    pub fn truncated_chains_pct(&self) -> Option<f64> {
        (self.samples > 0).then(|| 100.0 * self.partial_chains as f64 / self.samples as f64)
    }

    pub(super) fn count_bytes(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_add(count as u64);
    }

    /// Counts the frame inside which the stream ended.
    pub(super) fn count_cut(&mut self, cut: &DamagedFrame) {
        self.damage.count(cut.offset, cut.bytes);
    }

    /// Takes one frame in and returns its samples, if it has any.
    pub(super) fn take(
        &mut self,
        event: Result<FrameEvent<'_>, DamagedFrame>,
    ) -> Result<Option<SampleBlock<'_>>, CaptureError> {
        let event = match event {
            Ok(event) => event,
            Err(damaged) => return self.take_damage(&damaged).map(|()| None),
        };
        self.frames += 1;
        let is_used = match &event.frame {
            Frame::Hello(hello) => self.take_hello(hello, event.offset).map(|()| true)?,
            Frame::Block(block) => self.take_block(block, event.line_bytes),
            Frame::Tally(tally) => self.take_tally(tally, event.line_bytes),
            Frame::Stacks(stacks) => self.take_stacks(stacks, event.line_bytes),
            Frame::Sync(totals) => self.take_sync(totals),
            Frame::End(totals) => self.take_end(totals),
            Frame::Log(log) => self.messages.take_log(log),
            Frame::Workload(result) => self.messages.take_workload(result),
            Frame::Fatal(fatal) => self.messages.take_fatal(fatal),
            Frame::Placement(placement) => self.messages.take_placement(placement),
            Frame::Pair(pair) => self.messages.take_pair(pair),
            Frame::Case(case) => self.messages.take_case(case),
            Frame::Process(process) => self.processes.take(process),
            Frame::Output(output) => self.processes.take_output(output),
            Frame::ProcessEnd(end) => self.processes.take_end(end),
            Frame::Counts(counts) => self.take_counts(counts),
            Frame::Pmu(counters) => counters.cpu < self.cpus_max() && self.pmu.take_counters(counters),
            Frame::Offer(offer) => self.pmu.take_offer(offer),
            Frame::Counter(report) => self.pmu.take_test(report),
            Frame::Cpu(info) => self.cpus.take(info, self.cpus_max()),
            Frame::Line(counters) => self.take_line(counters),
        };
        if !is_used {
            self.damage.count(event.offset, event.line_bytes);
        }
        let block = match &event.frame {
            Frame::Block(Block { header, .. }) | Frame::Tally(Tally { header, .. }) if is_used => {
                Some(self.sample_block(header))
            }
            _ => None,
        };
        Ok(block)
    }

    fn take_damage(&mut self, damaged: &DamagedFrame) -> Result<(), CaptureError> {
        if let Some(DecodeError::Version(found)) = damaged.cause {
            return Err(self.foreign_hello(damaged.offset, |name, offset| CaptureError::Version {
                name,
                offset,
                found,
            }));
        }
        if !self.start.keep_head(damaged) {
            self.damage.count(damaged.offset, damaged.bytes);
        }
        Ok(())
    }

    /// Takes the first description of the run, and compares every later one with it.
    fn take_hello(&mut self, hello: &Hello<'_>, offset: u64) -> Result<(), CaptureError> {
        self.check_version(hello, offset)?;
        let mut run = RunInfo::from_hello(hello).map_err(|reason| CaptureError::SenselessHello {
            name: self.name.clone(),
            offset,
            reason,
        })?;
        if self.run.as_ref().is_some_and(|first| first.is_withdrawn) {
            run.withdraw_exactness();
        }
        let is_another = self.run.as_ref().is_some_and(|first| *first != run);
        if is_another || self.is_from_the_start(hello.time) {
            return Err(CaptureError::SecondRun { name: self.name.clone(), offset });
        }
        self.first_hello_time.get_or_insert(hello.time);
        self.hello_time = Some(hello.time);
        self.accounts.expect(run.cpus);
        self.run.get_or_insert(run);
        Ok(())
    }

    /// Tells whether a repeated description is as old as the last one, or older: time began anew. Two runs
    /// that repeat each other exactly describe themselves at the same time, but only with samples between.
    fn is_from_the_start(&self, time: u64) -> bool {
        self.hello_time.is_some_and(|last| time < last || (time == last && self.samples > 0))
    }

    fn check_version(&self, hello: &Hello<'_>, offset: u64) -> Result<(), CaptureError> {
        if hello.wire_version != WIRE_VERSION {
            let found = hello.wire_version;
            return Err(self.foreign_hello(offset, |name, offset| CaptureError::Version {
                name,
                offset,
                found,
            }));
        }
        if hello.schema != SCHEMA_HASH {
            let found = hello.schema;
            return Err(self.foreign_hello(offset, |name, offset| CaptureError::Schema {
                name,
                offset,
                found,
            }));
        }
        Ok(())
    }

    /// Says what a `Hello` of another build means: all is foreign, or a second run begins.
    fn foreign_hello(&self, offset: u64, first: impl FnOnce(String, u64) -> CaptureError) -> CaptureError {
        let name = self.name.clone();
        match self.run {
            None => first(name, offset),
            Some(_) => CaptureError::SecondRun { name, offset },
        }
    }

    /// Books the counters of a CPU; takes back what a halt makes untrue.
    fn take_sync(&mut self, totals: &CpuTotals) -> bool {
        let is_used = self.account(totals.cpu).is_some_and(|cpu| cpu.book_sync(*totals));
        self.note_halts(totals, is_used)
    }

    fn take_end(&mut self, totals: &CpuTotals) -> bool {
        let is_used = self.book(totals.cpu, |cpu| cpu.book_end(*totals));
        self.note_halts(totals, is_used)
    }

    /// Withdraws what was said of the clock where a CPU has halted while it sampled.
    fn note_halts(&mut self, totals: &CpuTotals, is_used: bool) -> bool {
        if is_used && totals.nmi.halts > 0 {
            self.run.iter_mut().for_each(RunInfo::withdraw_exactness);
        }
        is_used
    }

    /// Decodes and books a block; refuses it where a CPU, an event, a number or a byte can't be.
    fn take_block(&mut self, block: &Block<'_>, line_bytes: u64) -> bool {
        self.may_carry(&block.header) && self.decode(block) && self.book_samples(&block.header, line_bytes)
    }

    /// Does the same with a tally, whose total and whose times must make sense as well.
    fn take_tally(&mut self, tally: &Tally<'_>, line_bytes: u64) -> bool {
        let is_sound = self.may_carry(&tally.header)
            && tally.first_time <= tally.last_time
            && self.decode_tally(tally)
            && tally.samples == self.scratch_samples();
        let is_used = is_sound && self.book_samples(&tally.header, line_bytes);
        if is_used {
            self.counted_samples = self.counted_samples.saturating_add(tally.samples);
        }
        is_used
    }

    /// Tells whether there may be samples of this CPU and this event.
    fn may_carry(&self, header: &BlockHeader) -> bool {
        header.cpu < self.cpus_max() && self.may_be_event(header.event)
    }

    /// Books the samples in the scratch buffer; refuses them where their numbers can't be.
    fn book_samples(&mut self, header: &BlockHeader, line_bytes: u64) -> bool {
        let count = self.scratch_samples();
        if !self.book(header.cpu, |cpu| cpu.book_block(header.first_sample, count, header.dropped)) {
            return false;
        }
        self.sample_line_bytes = self.sample_line_bytes.saturating_add(line_bytes);
        self.samples = self.samples.saturating_add(count);
        if header.chains.is_some() {
            let partial = self.scratch.iter().filter(|sample| self.chains.is_partial(sample.chain));
            let partial: u64 = partial.map(|sample| u64::from(sample.count)).sum();
            self.partial_chains = self.partial_chains.saturating_add(partial);
        }
        true
    }

    /// Returns how many samples the scratch buffer stands for.
    fn scratch_samples(&self) -> u64 {
        self.scratch.iter().map(|sample| u64::from(sample.count)).sum()
    }

    /// Decodes a block's samples into the scratch buffer; tells whether it was whole.
    fn decode(&mut self, block: &Block<'_>) -> bool {
        self.scratch.clear();
        let mut samples = block.samples();
        let common_time = |time| self.cpus.common_time(block.header.cpu, time);
        match block.header.chains {
            None => self.scratch.extend(samples.by_ref().map(|sample| Sample {
                time: SampleTime::At(common_time(sample.time)),
                ip: sample.ip,
                chain: ChainId::COMPLETE,
                process: sample.process,
                count: 1,
            })),
            Some(epoch) => {
                let nodes = self.epochs.lookup(block.header.cpu, epoch);
                self.scratch.extend(samples.by_ref().map(|sample| Sample {
                    time: SampleTime::At(common_time(sample.time)),
                    ip: sample.ip,
                    chain: nodes.chain(sample.stack),
                    process: sample.process,
                    count: 1,
                }));
            }
        }
        samples.is_whole()
    }

    /// Decodes a tally's entries into the scratch buffer; tells whether it was whole.
    fn decode_tally(&mut self, tally: &Tally<'_>) -> bool {
        self.scratch.clear();
        let mut entries = tally.entries();
        let common_time = |time| self.cpus.common_time(tally.header.cpu, time);
        let (first, last) = (common_time(tally.first_time), common_time(tally.last_time));
        let time = SampleTime::Within { first, last };
        let nodes = tally.header.chains.map(|epoch| self.epochs.lookup(tally.header.cpu, epoch));
        self.scratch.extend(entries.by_ref().map(|entry| Sample {
            time,
            ip: entry.ip,
            chain: nodes.map_or(ChainId::COMPLETE, |nodes| nodes.chain(entry.stack)),
            process: entry.process,
            count: entry.samples,
        }));
        entries.is_whole()
    }

    fn take_stacks(&mut self, stacks: &Stacks<'_>, line_bytes: u64) -> bool {
        let is_used = stacks.cpu < self.cpus_max() && self.epochs.define(&mut self.chains, stacks);
        if is_used {
            self.sample_line_bytes = self.sample_line_bytes.saturating_add(line_bytes);
        }
        is_used
    }

    /// Takes the counters of the line; refuses them where one goes back.
    fn take_line(&mut self, counters: &LineCounters) -> bool {
        let terms = |line: &LineCounters| {
            [
                line.time,
                line.bytes,
                line.interrupt_bytes,
                line.stalls,
                line.stall_ticks_max,
                line.frames_dropped,
            ]
        };
        let (last, now) = (self.line.unwrap_or_default(), *counters);
        let only_rises = terms(&last).iter().zip(terms(&now)).all(|(last, now)| *last <= now);
        if only_rises {
            self.line = Some(now);
        }
        only_rises
    }

    fn take_counts(&mut self, counts: &EventCounts) -> bool {
        counts.cpu < self.cpus_max() && self.may_be_event(counts.event) && self.pmu.take_counts(counts)
    }

    fn sample_block(&self, header: &BlockHeader) -> SampleBlock<'_> {
        SampleBlock {
            cpu: header.cpu,
            event: header.event,
            has_chains: header.chains.is_some(),
            samples: &self.scratch,
            chains: &self.chains,
            processes: &self.processes,
        }
    }

    /// Books what has sample numbers, and learns from the first one of a CPU where the stream begins.
    fn book(&mut self, cpu: u16, book: impl FnOnce(&mut CpuAccount) -> bool) -> bool {
        let is_whole_so_far = self.damage.frames == 0;
        let Some(account) = self.account(cpu) else {
            return false;
        };
        let is_first = account.first_sample().is_none();
        let is_booked = book(account);
        let first = account.first_sample().filter(|_| is_first && is_whole_so_far);
        if let Some(number) = first {
            self.start.first_sample(number);
        }
        is_booked
    }

    fn account(&mut self, cpu: u16) -> Option<&mut CpuAccount> {
        let cpus_max = self.cpus_max();
        self.accounts.of(cpu, cpus_max)
    }

    /// Tells whether an event is one of the announced ones, once they are known.
    fn may_be_event(&self, event: u8) -> bool {
        self.run.as_ref().is_none_or(|run| usize::from(event) < run.events.len())
    }

    /// Returns the number of CPUs that frames may name: the announced ones, once they are.
    fn cpus_max(&self) -> u16 {
        self.run.as_ref().map_or(CPUS_MAX, |run| run.cpus)
    }
}
