//! What the stream says of a process: that it lives, what it wrote, and how it ended.
//!
//! A [`Process`] comes before the first sample that names it, and its [`ProcessEnd`] after the last one.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

use crate::BuildId;

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
