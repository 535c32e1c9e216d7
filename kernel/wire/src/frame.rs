//! The frames of the stream.
//!
//! A run sends [`Log`] lines while it boots, [`Hello`] as soon as its clock is known and then about every second, [`Stacks`] before the [`Block`]s or
//! [`Tally`]s that name them, [`Frame::Sync`] about every second, and one [`Frame::End`] for each CPU as its last frames.
//! A capture without all of its `End` frames is incomplete.
//!
//! What is about a process stands in [`process`](crate::process), what the NMI sweep reports in
//! [`placement`](crate::placement).

use heapless::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::{
    Block, CaseReport, CounterReport, CpuInfo, CpuTotals, EventCounts, EventInfo, LineCounters, Offer,
    Options, Output, Pair, Placement, PmuCounters, PmuInfo, Process, ProcessEnd, Stacks, Tally,
};

/// Most events that one run samples.
pub const EVENTS_MAX: usize = 16;

/// One unit of the stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
#[expect(
    clippy::large_enum_variant,
    reason = "a frame lives on the stack of its coder, one at a time; no heap"
)]
pub enum Frame<'a> {
    /// Describes the run. Keep this variant first: its first field is the wire version.
    #[serde(borrow)]
    Hello(Hello<'a>),
    /// Carries samples of one CPU.
    #[serde(borrow)]
    Block(Block<'a>),
    /// Defines call chains that later blocks name.
    #[serde(borrow)]
    Stacks(Stacks<'a>),
    /// Carries the counters of one CPU while the run goes on.
    Sync(CpuTotals),
    /// Carries one line of text.
    #[serde(borrow)]
    Log(Log<'a>),
    /// Reports the outcome of one workload.
    #[serde(borrow)]
    Workload(WorkloadResult<'a>),
    /// Reports why the kernel gave up. Nothing follows it.
    #[serde(borrow)]
    Fatal(Fatal<'a>),
    /// Carries the final counters of one CPU.
    End(CpuTotals),
    /// Reports one placement of the NMI sweep.
    Placement(Placement),
    /// Reports one pair of the NMI sweep.
    Pair(Pair),
    /// Reports one situation that the self-test image forced.
    Case(CaseReport),
    /// Introduces a process that samples may name.
    #[serde(borrow)]
    Process(Process<'a>),
    /// Carries bytes that a process wrote.
    #[serde(borrow)]
    Output(Output<'a>),
    /// Reports how a process ended. No later sample names it.
    ProcessEnd(ProcessEnd),
    /// Carries what one event came to on one CPU: before its [`Frame::End`].
    Counts(EventCounts),
    /// Carries what the PMU's driver counted on one CPU: before its [`Frame::End`].
    Pmu(PmuCounters),
    /// Says whether the PMU offers an event.
    #[serde(borrow)]
    Offer(Offer<'a>),
    /// Reports the self-test of one counter.
    Counter(CounterReport),
    /// Says what one CPU is and does.
    Cpu(CpuInfo),
    /// Carries what the sender of the line counted: with every [`Frame::Sync`], and before the [`Frame::End`]s.
    Line(LineCounters),
    /// Carries samples of one CPU that the kernel counted by where they fell.
    #[serde(borrow)]
    Tally(Tally<'a>),
}

/// Identity of a kernel image: the GNU build-id that its linker wrote (SHA-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub struct BuildId(pub [u8; 20]);

impl core::fmt::Display for BuildId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Description of a run, repeated so that a reader may join at any time.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `wire_version` | u16 | | [`WIRE_VERSION`](crate::WIRE_VERSION) of the sender |
/// | `schema` | u64 | | [`SCHEMA_HASH`](crate::SCHEMA_HASH) of the sender |
/// | `build_id` | 20 bytes | | the kernel image |
/// | `time` | u64 | clock ticks | when this frame was made |
/// | `clock_hz` | u64 | ticks/s | frequency of the clock of every `time` |
/// | `clock` | [`ClockKind`] | | what one tick is |
/// | `cpus` | u16 | count | CPUs that run, whether they sample or are parked |
/// | `cpu_name` | text | | brand string |
/// | `pmu` | [`PmuInfo`] | | the source of overflows |
/// | `events` | list | | what is sampled; a block names its event by index |
/// | `sample_instructions` | option u64 | instructions | what a flat sample on a warm page costs, from the first instruction of the NMI entry to the last of its exit, as the self-test measured it |
/// | `deterministic` | bool | | the run repeats exactly: clock is `Instructions` and the line never blocks |
/// | `options` | [`Options`] | | the command line in force |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Schema)]
pub struct Hello<'a> {
    /// Wire version of the sender. Keep this field first: a reader of another version finds it here.
    pub wire_version: u16,
    /// Schema hash of the sender.
    pub schema: u64,
    /// The kernel image that runs.
    pub build_id: BuildId,
    /// When this frame was made, in clock ticks.
    pub time: u64,
    /// Frequency of the clock of every `time` field, in ticks per second.
    pub clock_hz: u64,
    /// What one tick of that clock is.
    pub clock: ClockKind,
    /// Number of CPUs that run.
    pub cpus: u16,
    /// Brand string of the CPU.
    pub cpu_name: &'a str,
    /// The source of overflows.
    #[serde(borrow)]
    pub pmu: PmuInfo<'a>,
    /// The sampled events.
    #[serde(borrow)]
    pub events: Vec<EventInfo<'a>, EVENTS_MAX>,
    /// What a flat sample costs in instructions, where the clock counts them.
    pub sample_instructions: Option<u64>,
    /// Whether the same command line gives the same samples again, address for address.
    pub deterministic: bool,
    /// The command line in force.
    #[serde(borrow)]
    pub options: Options<'a>,
}

/// What one tick of the clock is, as the kernel's self-test found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum ClockKind {
    /// One retired instruction of the only CPU: QEMU TCG with `-icount shift=0`.
    Instructions,
    /// Time: the TSC has no fixed relation to instructions.
    Time,
}

/// One line of text from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Log<'a> {
    /// When it was written, in clock ticks.
    pub time: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// The text, without a line end.
    pub text: &'a str,
}

/// How much a line of text matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Schema)]
pub enum LogLevel {
    /// The run goes on, but not as it was asked for.
    Warning,
    /// What the kernel does.
    Info,
}

/// Outcome of one workload.
///
/// `instructions_per_step` is measured with sampling off, so it is a second opinion on the shares that
/// the samples show. It is `None` where the clock does not count instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct WorkloadResult<'a> {
    /// The workload's name.
    pub name: &'a str,
    /// Steps that were run while sampling. Every step does the same work.
    pub steps: u64,
    /// Length of one step in instructions, where the clock counts them.
    pub instructions_per_step: Option<u64>,
    /// Steps whose result was wrong: 0 on a healthy machine.
    pub wrong_results: u64,
}

/// The reason for which the kernel gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Fatal<'a> {
    /// The kind of reason.
    pub cause: FatalCause,
    /// The CPU that found it.
    pub cpu: u16,
    /// When, in clock ticks.
    pub time: u64,
    /// The message.
    pub message: &'a str,
    /// Source file, empty where none is known.
    pub file: &'a str,
    /// Source line, 0 where none is known.
    pub line: u32,
}

/// Kinds of reasons for giving up. They match [`ExitCode`](crate::ExitCode).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum FatalCause {
    /// A Rust panic.
    Panic,
    /// A named NMI invariant was found broken.
    Invariant,
    /// The command line can't be honoured.
    Configuration,
    /// A CPU exception that nothing handles.
    Exception,
}
