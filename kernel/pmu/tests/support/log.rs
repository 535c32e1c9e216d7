//! What happened last: printed with a failure.

use std::collections::VecDeque;
use std::fmt;

use nmiprof_pmu::CounterSet;
use nmiprof_pmu::model::{Privilege, Signal};

use super::program::Operation;

/// Entries that are kept: some thirty operations with their accesses.
const KEPT: usize = 150;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entry {
    Did(Operation),
    Happened(Signal, u64, Privilege),
    /// Between two accesses of the driver.
    HappenedInside(Signal, u64),
    NmiBegins,
    NmiEnds,
    Took(CounterSet),
    Read(u32, u64),
    Wrote(u32, u64),
    Faulted,
    WroteLvt(u32),
    /// The engine was told so, at this time.
    Engine(&'static str, u64),
}

/// The last entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(VecDeque<Entry>);

impl Log {
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| match entry {
            Entry::Did(operation) => writeln!(f, "{operation:?}"),
            Entry::Read(msr, value) => writeln!(f, "        read {msr:#x}: {value:#x}"),
            Entry::Wrote(msr, value) => writeln!(f, "        write {msr:#x}, {value:#x}"),
            Entry::WroteLvt(value) => writeln!(f, "        write LVT, {value:#x}"),
            Entry::Took(set) => writeln!(f, "    took {:#x}", set.0),
            Entry::Happened(signal, count, privilege) => {
                writeln!(f, "    {count} {signal:?} happen in {privilege:?}")
            }
            Entry::HappenedInside(signal, count) => writeln!(f, "        {count} {signal:?} happen"),
            Entry::Engine(what, number) => writeln!(f, "{what} {number}"),
            other => writeln!(f, "    {other:?}"),
        })
    }
}
