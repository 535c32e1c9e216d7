//! The reference writer: captures of runs that never were.
//!
//! It states, as simply as it can, in which order a sound kernel sends what. Tests and benches make
//! their input with it; the kernel's drain is another implementation of the same order.

use std::collections::{BTreeMap, HashMap};

use nmiprof_wire::{
    Aggregate, BlockEncoder, BlockHeader, BuildId, ClockKind, CpuTotals, EncodeError, EventInfo, Frame,
    Hello, LINE_BYTES_MAX, NmiCounters, Options, PmuInfo, PmuKind, SCHEMA_HASH, Sample, Sampling,
    StacksEncoder, TallyEncoder, TallyEntry, WIRE_VERSION, encode, stacks,
};

/// Returns the description of a plain run: one CPU, virtual PMU, instructions, a gigahertz.
#[must_use]
pub fn hello() -> Hello<'static> {
    let event = EventInfo { name: "instructions", sampling: Sampling::Period(100_003), formula: "" };
    Hello {
        wire_version: WIRE_VERSION,
        schema: SCHEMA_HASH,
        build_id: BuildId([0xab; 20]),
        time: 0,
        clock_hz: 1_000_000_000,
        clock: ClockKind::Instructions,
        cpus: 1,
        cpu_name: "synthetic CPU",
        pmu: PmuInfo { kind: PmuKind::Virtual, name: "lapic-timer", fallback: "" },
        events: std::iter::once(event).collect(),
        sample_instructions: Some(178),
        deterministic: true,
        options: Options::default(),
    }
}

/// Writer of one capture.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    cpus: Vec<CpuWriter>,
}

/// A sample to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyntheticSample<'a> {
    /// The CPU that takes it.
    pub cpu: u16,
    /// Index of the event.
    pub event: u8,
    /// When, in clock ticks.
    pub time: u64,
    /// The interrupted instruction.
    pub ip: u64,
    /// Return addresses, outermost first; nothing is sent of them unless the run has call chains.
    pub callers: &'a [u64],
    /// Whether there were more callers above those.
    pub is_cut: bool,
}

#[derive(Debug)]
struct CpuWriter {
    totals: CpuTotals,
    blocks: BlockEncoder,
    nodes: StacksEncoder,
    interned: HashMap<(u32, u64), u32>,
    event: u8,
    has_chains: bool,
    /// What is counted instead of being sent, where the run does that.
    counted: Option<Counted>,
}

/// Samples by event, address and chain, and the span that they were taken in.
#[derive(Debug, Default)]
struct Counted {
    places: BTreeMap<(u8, u64, u32), u32>,
    span: Option<(u64, u64)>,
}

impl Writer {
    /// Creates a writer and sends the `Hello`.
    ///
    /// # Errors
    /// Only where the texts in `hello` are too long for a frame.
    pub fn new(hello: &Hello<'_>) -> Result<Self, EncodeError> {
        let is_counted = hello.options.aggregate == Aggregate::On;
        let cpu = |cpu| CpuWriter::new(cpu, hello.options.chains, is_counted);
        let cpus = (0..hello.cpus).map(cpu).collect();
        let mut writer = Self { bytes: Vec::new(), cpus };
        writer.frame(&Frame::Hello(hello.clone()))?;
        Ok(writer)
    }

    /// Sends any frame as it is.
    ///
    /// # Errors
    /// Only where it is too long.
    pub fn frame(&mut self, frame: &Frame<'_>) -> Result<(), EncodeError> {
        send(&mut self.bytes, frame)
    }

    /// Takes a sample.
    ///
    /// # Errors
    /// Only where there is no such CPU.
    pub fn sample(&mut self, sample: &SyntheticSample<'_>) -> Result<(), EncodeError> {
        let cpu = self.cpus.get_mut(usize::from(sample.cpu)).ok_or(EncodeError)?;
        cpu.sample(&mut self.bytes, sample)
    }

    /// Changes the counters of a CPU.
    pub fn totals(&mut self, cpu: u16, change: impl FnOnce(&mut CpuTotals)) {
        if let Some(writer) = self.cpus.get_mut(usize::from(cpu)) {
            change(&mut writer.totals);
        }
    }

    /// Sends the samples that wait, and their call chains before them.
    ///
    /// # Errors
    /// Never on frames of its own making.
    pub fn flush(&mut self) -> Result<(), EncodeError> {
        let bytes = &mut self.bytes;
        self.cpus.iter_mut().try_for_each(|cpu| cpu.flush(bytes))
    }

    /// Forgets the call chains of all CPUs, as the kernel does when its table is full.
    ///
    /// # Errors
    /// Never on frames of its own making.
    pub fn next_epoch(&mut self) -> Result<(), EncodeError> {
        self.flush()?;
        for cpu in &mut self.cpus {
            cpu.nodes.next_epoch();
            cpu.interned.clear();
        }
        Ok(())
    }

    /// Sends the counters of all CPUs while the run goes on.
    ///
    /// # Errors
    /// Never on frames of its own making.
    pub fn sync(&mut self) -> Result<(), EncodeError> {
        let totals: Vec<_> = self.cpus.iter().map(CpuWriter::totals).collect();
        totals.into_iter().try_for_each(|totals| self.frame(&Frame::Sync(totals)))
    }

    /// Sends the samples that wait and every CPU's `End`, and returns the capture.
    ///
    /// # Errors
    /// Never on frames of its own making.
    pub fn end(mut self) -> Result<Vec<u8>, EncodeError> {
        self.flush()?;
        for cpu in &self.cpus {
            send(&mut self.bytes, &Frame::End(cpu.totals()))?;
        }
        Ok(self.bytes)
    }

    /// Returns how many bytes were sent so far.
    #[must_use]
    pub fn bytes_so_far(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the capture without the `End`s, as a kernel that was switched off leaves it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl CpuWriter {
    fn new(cpu: u16, has_chains: bool, is_counted: bool) -> Self {
        Self {
            totals: CpuTotals { cpu, ..CpuTotals::default() },
            blocks: BlockEncoder::new(has_chains),
            nodes: StacksEncoder::new(),
            interned: HashMap::new(),
            event: 0,
            has_chains,
            counted: is_counted.then(Counted::default),
        }
    }

    /// Returns the counters, with one NMI for each overflow unless NMIs were counted otherwise.
    fn totals(&self) -> CpuTotals {
        let mut totals = self.totals;
        if totals.nmi == NmiCounters::default() {
            totals.nmi.entries = totals.overflows;
            totals.nmi.runs = totals.overflows;
            totals.nmi.handled = totals.overflows;
        }
        totals
    }

    fn sample(&mut self, bytes: &mut Vec<u8>, sample: &SyntheticSample<'_>) -> Result<(), EncodeError> {
        if self.counted.is_none() && (self.blocks.is_full() || self.event != sample.event) {
            self.flush(bytes)?;
        }
        self.event = sample.event;
        self.totals.overflows += 1;
        self.totals.time = sample.time;
        let stack = self.stack(bytes, sample)?;
        let (time, ip) = (sample.time, sample.ip);
        if let Some(counted) = &mut self.counted {
            counted.count((sample.event, ip, stack), time);
            return Ok(());
        }
        self.blocks.push(Sample { time, ip, stack, process: 0 }).map_err(|_| EncodeError)
    }

    /// Returns the node of the innermost caller, after defining what is not defined yet.
    fn stack(&mut self, bytes: &mut Vec<u8>, sample: &SyntheticSample<'_>) -> Result<u32, EncodeError> {
        if !self.has_chains {
            return Ok(stacks::ROOT_COMPLETE);
        }
        let root = if sample.is_cut { stacks::ROOT_TRUNCATED } else { stacks::ROOT_COMPLETE };
        let mut callers = sample.callers.iter();
        callers.try_fold(root, |parent, ip| self.intern(bytes, parent, *ip))
    }

    fn intern(&mut self, bytes: &mut Vec<u8>, parent: u32, ip: u64) -> Result<u32, EncodeError> {
        if let Some(node) = self.interned.get(&(parent, ip)) {
            return Ok(*node);
        }
        if self.nodes.is_full() {
            self.flush(bytes)?;
        }
        let node = self.nodes.push(parent, ip).ok_or(EncodeError)?;
        self.interned.insert((parent, ip), node);
        Ok(node)
    }

    fn flush(&mut self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        if !self.nodes.is_empty() {
            send(bytes, &Frame::Stacks(self.nodes.stacks(self.totals.cpu)))?;
            self.nodes.clear();
        }
        if self.blocks.count() > 0 {
            send(bytes, &Frame::Block(self.blocks.block(self.header(self.event))))?;
            self.totals.sent += u64::from(self.blocks.count());
            self.blocks.clear();
        }
        let counted = self.counted.as_mut().map(std::mem::take);
        counted.map_or(Ok(()), |counted| self.send_counted(bytes, &counted))
    }

    /// Sends tallies, each of one event.
    fn send_counted(&mut self, bytes: &mut Vec<u8>, counted: &Counted) -> Result<(), EncodeError> {
        let (first_time, last_time) = counted.span.unwrap_or_default();
        let mut places = counted.places.iter().peekable();
        while let Some(&(&(event, ..), _)) = places.peek() {
            let mut encoder = TallyEncoder::new(self.has_chains, false);
            let is_next = |encoder: &TallyEncoder, of: u8| of == event && !encoder.is_full();
            while let Some((&(_, ip, stack), &samples)) =
                places.next_if(|((of, ..), _)| is_next(&encoder, *of))
            {
                let entry = TallyEntry { ip, stack, process: 0, samples };
                encoder.push(entry).map_err(|_| EncodeError)?;
            }
            send(bytes, &Frame::Tally(encoder.tally(self.header(event), first_time, last_time)))?;
            self.totals.sent += encoder.samples();
        }
        Ok(())
    }

    fn header(&self, event: u8) -> BlockHeader {
        BlockHeader {
            cpu: self.totals.cpu,
            event,
            first_sample: self.totals.sent,
            dropped: self.totals.dropped.total(),
            chains: self.has_chains.then(|| self.nodes.epoch()),
            processes: false,
        }
    }
}

impl Counted {
    fn count(&mut self, place: (u8, u64, u32), time: u64) {
        *self.places.entry(place).or_default() += 1;
        let (first, last) = self.span.unwrap_or((time, time));
        self.span = Some((first.min(time), last.max(time)));
    }
}

fn send(bytes: &mut Vec<u8>, frame: &Frame<'_>) -> Result<(), EncodeError> {
    let mut line = [0; LINE_BYTES_MAX];
    bytes.extend_from_slice(encode(frame, &mut line)?);
    Ok(())
}
