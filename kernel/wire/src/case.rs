//! What came of one situation that the self-test image forced on the NMI path.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// One forced situation.
///
/// `hits` is what makes the report worth something: how often the situation did arise. A report without
/// failures and without hits shows nothing.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `case` | u16 | number | the situation, by its number in `tests/CASES.md` |
/// | `hits` | u64 | count | how often it arose; the kernel's `selftest/cases.rs` says what is counted |
/// | `arrivals` | u64 | NMIs | arrivals at vector 2 |
/// | `runs` | u64 | runs | of the handler |
/// | `nested` | u64 | NMIs | arrivals that found an NMI in progress |
/// | `stack_bytes` | u32 | bytes | deepest use of an NMI stack; 0 where it was not measured |
/// | `failures` | u32 | bits | what did not hold: [`Failure`](crate::Failure) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct CaseReport {
    /// The situation, by its number.
    pub case: u16,
    /// How often it arose.
    pub hits: u64,
    /// Arrivals at vector 2.
    pub arrivals: u64,
    /// Runs of the handler.
    pub runs: u64,
    /// Arrivals that found an NMI in progress.
    pub nested: u64,
    /// Deepest use of an NMI stack; 0 where it was not measured.
    pub stack_bytes: u32,
    /// What did not hold, as bits of [`Failure`](crate::Failure).
    pub failures: u32,
}
