//! The nmiprof stream: what travels over the serial line, shared by the kernel, which encodes it, and
//! the host, which decodes it.
//!
//! A line carries [`Frame`]s. Each is serialized with postcard, followed by its CRC-32, COBS-encoded
//! and ended by one zero byte ([`framing`]), so a reader that lost its place finds the next frame at
//! the next zero. Every frame decodes alone: deltas never reach across a frame.
//!
//! - [`frame`]: the frames and their fields;
//! - [`process`]: what is said of a process;
//! - [`placement`]: reports of the NMI sweep;
//! - [`cpu`]: which CPUs a run uses, and what is said of each;
//! - [`totals`]: the per-CPU counters and the accounting identity's terms;
//! - [`block`]: the delta coding of samples inside a [`Block`];
//! - [`tally`]: the coding of samples that the kernel counted, inside a [`Tally`];
//! - [`stacks`]: the delta coding of interned call chains inside a [`Stacks`];
//! - [`case`]: the report on one forced situation;
//! - [`line`]: the rate of the line, and what its sender counts;
//! - [`queue`]: frames that wait for the line;
//! - [`options`]: the kernel command line, which is the host's half of the protocol;
//! - [`choices`]: the options that are one of several names;
//! - [`exit`]: the codes that the kernel gives to the debug-exit device.
//!
//! Everything here is hostile input to its reader: decoding allocates nothing, and any byte string
//! gives a value or an error.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod block;
pub mod case;
pub mod choices;
pub mod cpu;
pub mod exit;
pub mod frame;
pub mod framing;
pub mod line;
pub mod options;
pub mod placement;
pub mod pmu;
pub mod process;
pub mod queue;
pub mod stacks;
pub mod tally;
pub mod totals;

pub use block::{Block, BlockEncoder, BlockHeader, Sample, SampleIter};
pub use case::CaseReport;
pub use choices::{
    Aggregate, Dispatch, FaultReturn, Job, Line, LvtpcUnmask, NestedReturn, NmiEntry, PmuChoice, RingMode,
    SourceChoice, Stress, UnknownPolicy, Unmask,
};
pub use cpu::{CpuInfo, CpuList};
pub use exit::ExitCode;
pub use frame::{
    BuildId, ClockKind, EVENTS_MAX, Fatal, FatalCause, Frame, Hello, Log, LogLevel, WorkloadResult,
};
pub use framing::{DecodeError, EncodeError, FRAME_BYTES_MAX, LINE_BYTES_MAX, decode, encode};
pub use line::{LineCounters, Rate, RateError, UART_HZ};
pub use options::{OptionError, Options};
pub use placement::{Failure, Landing, Pair, Placement};
pub use pmu::{
    CounterReport, CounterVerdict, EventCounts, EventInfo, Offer, PmuCounters, PmuInfo, PmuKind, Sampling,
};
pub use process::{Output, Process, ProcessEnd, ProcessOutcome};
pub use queue::{FrameQueue, QueueError};
pub use stacks::{StackNode, StackNodeIter, Stacks, StacksEncoder};
pub use tally::{Tally, TallyEncoder, TallyEntry, TallyIter};
pub use totals::{CpuTotals, CutChains, Drops, MemoryCounters, NmiCounters};

/// Version of the stream. A reader refuses any other one.
pub const WIRE_VERSION: u16 = 1;

/// Hash of the frames' schema: two builds with equal [`WIRE_VERSION`] but different frames differ here.
pub const SCHEMA_HASH: u64 =
    u64::from_le_bytes(postcard_schema::key::Key::for_path::<Frame<'static>>("nmiprof/frame").to_bytes());
