//! The frames of the stream.
//!
//! A run sends [`Log`] lines while it boots, [`Hello`] as soon as its clock is known and then about every second, [`Stacks`] before the [`Block`]s that
//! name them, [`Frame::Sync`] about every second, and one [`Frame::End`] for each CPU as its last frames.
//! A capture without all of its `End` frames is incomplete.

use heapless::Vec;
use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::{
    Block, CaseReport, CounterReport, CpuTotals, EventCounts, EventInfo, Offer, Options, PmuCounters,
    PmuInfo, Stacks,
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
}

/// Identity of a kernel image: the GNU build-id that its linker wrote (SHA-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub struct BuildId(pub [u8; 20]);

impl core::fmt::Display for BuildId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A process that samples may name: repeated with every [`Hello`] while it lives.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `number` | u32 | | what samples call it; never 0, and never used again in a run |
/// | `name` | text | | the program's first argument |
/// | `build_id` | option 20 bytes | | the program's ELF, where its linker gave it an identity |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Process<'a> {
    /// What samples call it.
    pub number: u32,
    /// The program's first argument.
    pub name: &'a str,
    /// Identity of the program's ELF.
    pub build_id: Option<BuildId>,
}

/// Bytes that a process wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Output<'a> {
    /// The process.
    pub process: u32,
    /// When, in clock ticks.
    pub time: u64,
    /// The bytes, which may be anything.
    pub bytes: &'a [u8],
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct ProcessEnd {
    /// The process.
    pub process: u32,
    /// When, in clock ticks.
    pub time: u64,
    /// How.
    pub outcome: ProcessOutcome,
}

/// How a process can end.
///
/// | outcome | field | type | unit | meaning |
/// |---|---|---|---|---|
/// | `Exited` | | u64 | | its exit status |
/// | `Killed` | `vector` | u8 | | the exception that it raised |
/// | | `error` | u64 | | the error code, 0 where there is none |
/// | | `address` | u64 | address | what it accessed, for a page fault |
/// | | `rip` | u64 | address | the instruction that raised it |
/// | `Stopped` | | | | it still ran when the run was over |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub enum ProcessOutcome {
    /// By itself.
    Exited(u64),
    /// By an exception.
    Killed {
        /// The exception.
        vector: u8,
        /// Its error code.
        error: u64,
        /// What was accessed, for a page fault.
        address: u64,
        /// The instruction.
        rip: u64,
    },
    /// With the run.
    Stopped,
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
/// | `cpus` | u16 | count | CPUs that sample |
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
    /// Number of CPUs that sample.
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

/// One placement of the NMI sweep: a first NMI, and a second one so many ticks later.
///
/// With 8 ticks (`ENTRY_TICKS` in the kernel's `arch/experiment.rs`, which has the details) the second one is raised before the first instruction of the
/// first one's entry, with `8 + n` when `n` instructions of the first one have retired. With fewer it comes before the self-NMI, which is the last arrival
/// then. The first arrival's accounts are in the counts; a further, third NMI that checks NMI-live is not.
///
/// `arrivals` above 2 and NMI-live failed: the entry went in circles until the watchdog's NMI. If NMI-once or NMI-live failed inside, the NMI was abandoned: its
/// run may have no outcome in the final totals, whose equations don't hold then.
///
/// A sweep of the switch between two address spaces (`selftest=switch`) sends these as well: `ticks` is the period
/// after which the one overflow comes, and `last_rip` the address of its sample.
///
/// A storm (`selftest=storm`) sends these as reports: `ticks` are the nested arrivals so far, the other counts are those since the report before.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `ticks` | u32 | timer ticks | what the timer of the second NMI was armed with |
/// | `last_rip` | u64 | address | instruction that the last arrival interrupted, from the frame that the CPU pushed |
/// | `arrivals` | u16 | NMIs | arrivals at vector 2 |
/// | `runs` | u16 | runs | of the handler |
/// | `nested` | u16 | NMIs | arrivals that found an NMI in progress |
/// | `failures` | u32 | bits | what did not hold: [`Failure`] |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Placement {
    /// What the timer of the second NMI was armed with.
    pub ticks: u32,
    /// The instruction that the last arrival interrupted.
    pub last_rip: u64,
    /// Arrivals at vector 2.
    pub arrivals: u16,
    /// Runs of the handler.
    pub runs: u16,
    /// Arrivals that found an NMI in progress.
    pub nested: u16,
    /// What did not hold, as bits of [`Failure`].
    pub failures: u32,
}

/// One pair of the NMI sweep: a first NMI, a second one so many ticks later, and a third one after that.
///
/// `ticks` are those of a [`Placement`]. The third one is raised `gap` ticks after the second, by another device; with a gap of 0 the two are raised at once and
/// are one NMI. NMI-live is checked by a further, fourth NMI that is in no count.
///
/// There are hundreds of thousands of these on one line, so addresses are offsets: about 22 bytes on the line, where two full addresses alone would take 20.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `ticks` | u32 | timer ticks | what the timer of the second NMI was armed with |
/// | `gap` | u32 | timer ticks | from the second NMI to the third |
/// | `second` | [`Landing`] | | what the second arrival interrupted |
/// | `third` | [`Landing`] | | what the third arrival interrupted; if there was none, the default |
/// | `arrivals` | u16 | NMIs | arrivals at vector 2 |
/// | `runs` | u16 | runs | of the handler |
/// | `nested` | u16 | NMIs | arrivals that found an NMI in progress |
/// | `failures` | u32 | bits | what did not hold: [`Failure`] |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Pair {
    /// What the timer of the second NMI was armed with.
    pub ticks: u32,
    /// Ticks from the second NMI to the third.
    pub gap: u32,
    /// What the second arrival interrupted.
    pub second: Landing,
    /// What the third arrival interrupted.
    pub third: Landing,
    /// Arrivals at vector 2.
    pub arrivals: u16,
    /// Runs of the handler.
    pub runs: u16,
    /// Arrivals that found an NMI in progress.
    pub nested: u16,
    /// What did not hold, as bits of [`Failure`].
    pub failures: u32,
}

/// What an arrival of an NMI interrupted.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `offset` | u32 | bytes | the interrupted instruction, from [`Landing::BASE`] on; [`Landing::ELSEWHERE`] if it is not in the image |
/// | `runs` | u16 | runs | of the handler that had begun by then |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, Schema)]
pub struct Landing {
    /// The interrupted instruction, as an offset.
    pub offset: u32,
    /// Runs of the handler that had begun by then.
    pub runs: u16,
}

impl Landing {
    /// The address of offset 0: the image lies in the 2 GiB from here on.
    pub const BASE: u64 = 0xffff_ffff_8000_0000;
    /// The offset of everything that is not in the image.
    pub const ELSEWHERE: u32 = u32::MAX;

    /// Creates a landing at an address.
    #[must_use]
    pub fn at(address: u64, runs: u16) -> Self {
        let offset = address.checked_sub(Self::BASE).and_then(|offset| u32::try_from(offset).ok());
        Self { offset: offset.unwrap_or(Self::ELSEWHERE), runs }
    }

    /// Returns the address.
    #[must_use]
    pub const fn address(self) -> u64 {
        Self::BASE + self.offset as u64
    }
}

/// What can fail in a placement or a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Failure {
    /// NMI-once: the handler was entered while it was running.
    Once = 1 << 0,
    /// NMI-latch: an NMI was lost, or caused more than one run.
    Latch = 1 << 1,
    /// NMI-transparent: a general-purpose register changed.
    Registers = 1 << 2,
    /// NMI-transparent: a flag changed.
    Flags = 1 << 3,
    /// NMI-transparent: the stack pointer, or a word on the stack, changed.
    Stack = 1 << 4,
    /// NMI-transparent: CR2 changed.
    Cr2 = 1 << 5,
    /// NMI-transparent: DR7 changed.
    Dr7 = 1 << 6,
    /// The lowest words of the NMI stack, which nothing may reach, changed.
    Canary = 1 << 7,
    /// NMI-live: NMIs were still masked after the return.
    Live = 1 << 8,
    /// Invariant Dispatch: an NMI had another outcome than the situation allows, or the situation did not arise.
    Dispatch = 1 << 9,
    /// The address space that was loaded did not get the ring's area, or another one did, or CR3 changed.
    Space = 1 << 10,
}

impl Failure {
    /// Every failure, with its name.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Once, "NMI-once"),
        (Self::Latch, "NMI-latch"),
        (Self::Registers, "registers"),
        (Self::Flags, "flags"),
        (Self::Stack, "stack"),
        (Self::Cr2, "CR2"),
        (Self::Dr7, "DR7"),
        (Self::Canary, "canary"),
        (Self::Live, "NMI-live"),
        (Self::Dispatch, "dispatch"),
        (Self::Space, "address space"),
    ];

    /// Returns the bit.
    #[must_use]
    pub const fn bit(self) -> u32 {
        self as u32
    }
}
