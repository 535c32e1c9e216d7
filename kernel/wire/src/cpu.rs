//! CPUs: which of them a run uses, and what is said of each.

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// A list of CPUs as Linux and perf write it: numbers and ranges, separated by commas (`0,2-3`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuList<'a>(&'a str);

impl<'a> CpuList<'a> {
    /// Every CPU.
    pub const ALL: Self = Self("");

    /// Parses a list; an empty one has every CPU.
    ///
    /// # Errors
    /// Says what a list looks like.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "a list of CPUs such as 0,2-3";
        let list = Self(text);
        if list.ranges().all(|range| range.is_some()) { Ok(list) } else { Err(EXPECTED) }
    }

    /// Returns the list as it was written.
    #[must_use]
    pub const fn text(self) -> &'a str {
        self.0
    }

    /// Tells whether a CPU is in the list.
    #[must_use]
    pub fn contains(self, cpu: u16) -> bool {
        self.0.is_empty() || self.ranges().flatten().any(|(first, last)| (first..=last).contains(&cpu))
    }

    /// Returns the highest number in the list; `None` where the list is empty.
    #[must_use]
    pub fn highest(self) -> Option<u16> {
        self.ranges().flatten().map(|(_, last)| last).max()
    }

    /// Returns first and last number of each range; `None` for what is no range.
    fn ranges(self) -> impl Iterator<Item = Option<(u16, u16)>> {
        let words = (!self.0.is_empty()).then(|| self.0.split(',')).into_iter().flatten();
        words.map(|word| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        })
    }
}

/// What one CPU is and does in a run: repeated after every [`Hello`](crate::Hello), before samples of the CPU.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `cpu` | u16 | index | the CPU |
/// | `apic_id` | u32 | | its local APIC |
/// | `samples` | bool | | it works and samples; else it is parked |
/// | `clock_offset` | i64 | clock ticks | its clock less that of CPU 0, as it was measured |
/// | `clock_uncertainty` | u64 | clock ticks | the offset may be wrong by so much; one that is no greater is none |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct CpuInfo {
    /// The CPU.
    pub cpu: u16,
    /// Its local APIC.
    pub apic_id: u32,
    /// Whether it works and samples.
    pub samples: bool,
    /// Its clock less that of CPU 0.
    pub clock_offset: i64,
    /// How wrong that may be.
    pub clock_uncertainty: u64,
}

impl CpuInfo {
    /// Returns what to subtract from this CPU's times so that they are CPU 0's: nothing that may be noise.
    #[must_use]
    pub const fn clock_correction(&self) -> i64 {
        if self.clock_offset.unsigned_abs() <= self.clock_uncertainty { 0 } else { self.clock_offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_numbers_and_ranges() {
        let list = CpuList::parse("0,2-3,7").expect("a sound list");
        let inside: Vec<_> = (0..10).filter(|cpu| list.contains(*cpu)).collect();
        assert_eq!(inside, [0, 2, 3, 7]);
        assert_eq!(list.highest(), Some(7));
    }

    #[test]
    fn an_empty_list_has_every_cpu() {
        let list = CpuList::parse("").expect("a sound list");
        assert!(list.contains(0) && list.contains(u16::MAX));
        assert_eq!(list.highest(), None);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for wrong in [",", "1,", "3-2", "a", "1-", "-1", "65536", "1 2", "0--1"] {
            assert!(CpuList::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_offset_within_its_uncertainty_corrects_nothing() {
        let info = CpuInfo { clock_offset: -40, clock_uncertainty: 40, ..CpuInfo::default() };
        assert_eq!(info.clock_correction(), 0);
        assert_eq!(CpuInfo { clock_uncertainty: 39, ..info }.clock_correction(), -40);
        assert_eq!(CpuInfo { clock_offset: i64::MIN, ..info }.clock_correction(), i64::MIN);
    }
}
