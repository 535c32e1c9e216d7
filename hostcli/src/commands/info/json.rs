//! The machine-readable form of `info`. Its names are a contract: add, never rename.

use nmiprof_wire::{
    ClockKind, CpuInfo, CutChains, Drops, LineCounters, LogLevel, MemoryCounters, NmiCounters, PmuCounters,
    Sampling, WIRE_VERSION,
};
use serde::Serialize;

use crate::capture::{
    Balance, CpuAccount, EventTotal, Identity, Joined, LogLine, Record, RunInfo, SampledEvent,
    WorkloadOutcome,
};
use crate::commands::pmu::JsonPmu;
use crate::commands::processes::{JsonProcess, json_processes};

/// Version of this form; raised when a name changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

/// Everything that `info` says.
#[derive(Debug, Serialize)]
pub(super) struct Info {
    schema_version: u32,
    wire_version: u16,
    build_id: String,
    cpus: u16,
    cpu_name: String,
    pmu: JsonPmu,
    clock_hz: u64,
    icount: bool,
    deterministic: bool,
    /// What a flat sample costs in instructions; null where the clock does not count them.
    sample_instructions: Option<u64>,
    nmi_entry: &'static str,
    fault_return: &'static str,
    ring: Ring,
    command_line: String,
    events: Vec<Event>,
    samples: u64,
    /// Of these, those that the kernel counted by where they fell.
    #[serde(skip_serializing_if = "is_zero")]
    counted_samples: u64,
    totals: Totals,
    nmi: Nmi,
    ring_pages: u64,
    per_cpu: Vec<Cpu>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<Line>,
    pub(super) bytes_per_sample: Option<f64>,
    pub(super) unresolved_pct: Option<f64>,
    pub(super) truncated_chains_pct: Option<f64>,
    damaged: Damaged,
    /// What was missed by joining in the middle of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<Joined>,
    identity: Identity,
    nmi_consistent: bool,
    workloads: Vec<WorkloadOutcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    processes: Vec<JsonProcess>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logs: Vec<Log>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fatal: Option<Fatal>,
}

#[derive(Debug, Serialize)]
struct Ring {
    mode: &'static str,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Event {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    freq: Option<u64>,
    /// What stood in for it on a virtual PMU.
    #[serde(skip_serializing_if = "String::is_empty")]
    formula: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    counted: Option<Counted>,
}

/// What an event came to on all CPUs.
#[derive(Debug, Serialize)]
struct Counted {
    count: u64,
    /// Estimate for the whole enabled time; null where no counter ever had the event.
    scaled: Option<u64>,
    enabled_ticks: u64,
    running_ticks: u64,
    overflows: u64,
    skipped_periods: u64,
    /// Events between samples, at last.
    period_last: u64,
}

/// What the PMU's driver counted on one CPU.
#[derive(Debug, Serialize)]
struct Driver {
    throttles: u64,
    throttled_ticks: u64,
    rotations: u64,
    late: u64,
    merged: u64,
    stopped_overflows: u64,
    recoveries: u64,
    bus_errors: u64,
}

#[derive(Debug, Serialize)]
struct Totals {
    overflows: u64,
    received: u64,
    dropped: Dropped,
    link_lost: u64,
}

#[derive(Debug, Serialize)]
struct Dropped {
    ring_full: u64,
    no_frame: u64,
    throttled: u64,
    fault: u64,
}

#[derive(Debug, Serialize)]
struct Nmi {
    entries: u64,
    runs: u64,
    nested: u64,
    rerun: u64,
    handled: u64,
    swallowed: u64,
    unknown: u64,
    external: u64,
    reason_busy: u64,
    back_to_back: u64,
    page_faults: u64,
    first_touches: u64,
    space_syncs: u64,
    other_faults: u64,
    /// Times that a CPU halted while it sampled.
    halts: u64,
}

#[derive(Debug, Serialize)]
struct Memory {
    ring_tables: u64,
    table_frames: u64,
    decommitted: u64,
    thread_syncs: u64,
    reserve_frames: u32,
    reserve_refilled: u64,
    frames_left: u64,
}

#[derive(Debug, Serialize)]
struct Cut {
    depth: u64,
    pointer: u64,
    fault: u64,
}

#[derive(Debug, Serialize)]
struct Cpu {
    cpu: u16,
    #[serde(flatten)]
    place: Option<Place>,
    totals: Totals,
    nmi: Nmi,
    ring_pages: u64,
    reserve_frames_min: u32,
    memory: Memory,
    cut_chains: Cut,
    #[serde(skip_serializing_if = "Option::is_none")]
    pmu: Option<Driver>,
    identity: Identity,
}

/// What the sender of the line counted.
#[derive(Debug, Serialize)]
struct Line {
    bytes_sent: u64,
    interrupt_bytes: u64,
    stalls: u64,
    stall_ticks_max: u64,
    frames_dropped: u64,
}

/// What was said of a CPU.
#[derive(Debug, Serialize)]
struct Place {
    apic_id: u32,
    /// It did not work or sample.
    parked: bool,
    /// Ticks of its clock less those of CPU 0's, as measured.
    clock_offset: i64,
    /// How wrong that may be.
    clock_uncertainty: u64,
    /// What was subtracted from its samples' times.
    clock_correction: i64,
}

#[derive(Debug, Serialize)]
struct Damaged {
    frames: u64,
    bytes: u64,
    first_offset: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Log {
    time: u64,
    level: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct Fatal {
    cause: &'static str,
    cpu: u16,
    time: u64,
    message: String,
    file: String,
    line: u32,
}

impl Info {
    pub(super) fn new(run: &RunInfo, record: &Record, unresolved_pct: Option<f64>) -> Self {
        let accounts = record.accounts();
        let total = accounts.total();
        Self {
            schema_version: SCHEMA_VERSION,
            wire_version: WIRE_VERSION,
            build_id: run.build_id.to_string(),
            cpus: run.cpus,
            cpu_name: run.cpu_name.clone(),
            pmu: JsonPmu::new(run),
            clock_hz: run.clock_hz,
            icount: run.clock == ClockKind::Instructions,
            deterministic: run.deterministic,
            sample_instructions: run.sample_instructions,
            nmi_entry: run.nmi_entry.name(),
            fault_return: run.fault_return.name(),
            ring: Ring { mode: run.ring.name(), bytes: run.ring_bytes },
            command_line: run.command_line.clone(),
            events: (0..=u8::MAX).zip(&run.events).map(|event| Event::new(event, record)).collect(),
            samples: record.samples(),
            counted_samples: record.counted_samples(),
            totals: Totals::new(&total),
            nmi: Nmi::new(&total.nmi),
            ring_pages: total.ring_pages,
            per_cpu: (0..=u16::MAX).zip(accounts.cpus()).map(|cpu| Cpu::new(cpu, record)).collect(),
            bytes: record.bytes(),
            line: record.line().map(Line::new),
            bytes_per_sample: record.bytes_per_sample(),
            unresolved_pct,
            truncated_chains_pct: record.truncated_chains_pct(),
            damaged: Damaged::new(record),
            joined: record.joined(),
            identity: accounts.identity(),
            nmi_consistent: !accounts.is_nmi_inconsistent(),
            workloads: record.messages().workloads().to_vec(),
            processes: json_processes(record),
            logs: record.messages().logs().iter().map(Log::new).collect(),
            fatal: Fatal::new(record),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Event {
    fn new((index, event): (u8, &SampledEvent), record: &Record) -> Self {
        let (period, freq) = match event.sampling {
            Sampling::Period(events) => (Some(events), None),
            Sampling::Frequency(hz) => (None, Some(hz)),
            Sampling::Count => (None, None),
        };
        let counted = record.pmu().total(index).as_ref().map(Counted::new);
        Self { name: event.name.clone(), period, freq, formula: event.formula.clone(), counted }
    }
}

impl Counted {
    const fn new(total: &EventTotal) -> Self {
        Self {
            count: total.count,
            scaled: total.scaled,
            enabled_ticks: total.enabled_ticks,
            running_ticks: total.running_ticks,
            overflows: total.overflows,
            skipped_periods: total.skipped_periods,
            period_last: total.period_events,
        }
    }
}

impl Driver {
    const fn new(counters: &PmuCounters) -> Self {
        Self {
            throttles: counters.throttles,
            throttled_ticks: counters.throttled_ticks,
            rotations: counters.rotations,
            late: counters.late,
            merged: counters.merged,
            stopped_overflows: counters.stopped_overflows,
            recoveries: counters.recoveries,
            bus_errors: counters.bus_errors,
        }
    }
}

impl Totals {
    fn new(balance: &Balance) -> Self {
        let Drops { ring_full, no_frame, throttled, fault } = balance.dropped;
        Self {
            overflows: balance.overflows,
            received: balance.received,
            dropped: Dropped { ring_full, no_frame, throttled, fault },
            link_lost: balance.link_lost,
        }
    }
}

impl Nmi {
    fn new(nmi: &NmiCounters) -> Self {
        Self {
            entries: nmi.entries,
            runs: nmi.runs,
            nested: nmi.nested,
            rerun: nmi.rerun,
            handled: nmi.handled,
            swallowed: nmi.swallowed,
            unknown: nmi.unknown,
            external: nmi.external,
            reason_busy: nmi.reason_busy,
            back_to_back: nmi.back_to_back,
            page_faults: nmi.page_faults,
            first_touches: nmi.first_touches,
            space_syncs: nmi.space_syncs,
            other_faults: nmi.other_faults,
            halts: nmi.halts,
        }
    }
}

impl Memory {
    fn new(memory: &MemoryCounters) -> Self {
        Self {
            ring_tables: memory.ring_tables,
            table_frames: memory.table_frames,
            decommitted: memory.decommitted,
            thread_syncs: memory.thread_syncs,
            reserve_frames: memory.reserve_frames,
            reserve_refilled: memory.reserve_refilled,
            frames_left: memory.frames_left,
        }
    }
}

impl Cut {
    fn new(&CutChains { depth, pointer, fault }: &CutChains) -> Self {
        Self { depth, pointer, fault }
    }
}

impl Cpu {
    fn new((cpu, account): (u16, &CpuAccount), record: &Record) -> Self {
        let balance = account.balance();
        let driver = record.pmu().counters().find(|counters| counters.cpu == cpu);
        Self {
            cpu,
            place: record.cpus().get(cpu).map(Place::new),
            totals: Totals::new(&balance),
            nmi: Nmi::new(&balance.nmi),
            ring_pages: balance.ring_pages,
            reserve_frames_min: balance.reserve_frames_min,
            memory: Memory::new(&balance.memory),
            cut_chains: Cut::new(&balance.cut_chains),
            pmu: driver.map(Driver::new),
            identity: account.identity(),
        }
    }
}

impl Line {
    const fn new(
        &LineCounters { bytes, interrupt_bytes, stalls, stall_ticks_max, frames_dropped, .. }: &LineCounters,
    ) -> Self {
        Self { bytes_sent: bytes, interrupt_bytes, stalls, stall_ticks_max, frames_dropped }
    }
}

impl Place {
    const fn new(info: &CpuInfo) -> Self {
        Self {
            apic_id: info.apic_id,
            parked: !info.samples,
            clock_offset: info.clock_offset,
            clock_uncertainty: info.clock_uncertainty,
            clock_correction: info.clock_correction(),
        }
    }
}

impl Damaged {
    fn new(record: &Record) -> Self {
        let damage = record.damage();
        Self { frames: damage.frames, bytes: damage.bytes, first_offset: damage.first_offset }
    }
}

impl Log {
    fn new(log: &LogLine) -> Self {
        Self {
            time: log.time,
            level: match log.level {
                LogLevel::Warning => "warning",
                LogLevel::Info => "info",
            },
            text: log.text.clone(),
        }
    }
}

impl Fatal {
    fn new(record: &Record) -> Option<Self> {
        record.messages().fatal().map(|fatal| Self {
            cause: fatal.cause_name(),
            cpu: fatal.cpu,
            time: fatal.time,
            message: fatal.message.clone(),
            file: fatal.file.clone(),
            line: fatal.line,
        })
    }
}
