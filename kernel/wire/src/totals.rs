//! Per-CPU counters, and the terms of the accounting identity.
//!
//! **Identity**, per CPU: `overflows = received + dropped + link_lost`. Its terms are counted by
//! different parts, so that no part can hide its own loss:
//!
//! | term | counted by |
//! |---|---|
//! | `overflows` | the PMU driver, before the ring is tried |
//! | `dropped` | the ring, by cause |
//! | `received` | the host: samples that it decoded |
//! | `link_lost` | the host: gaps in the cumulative sample numbers of [`Block`](crate::Block)s and of the last totals |

use postcard_schema::Schema;
use serde::{Deserialize, Serialize};

/// Samples that were not stored, by cause. All are cumulative counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct Drops {
    /// The ring had no room for one more record.
    pub ring_full: u64,
    /// The ring page was not mapped yet and the frame reserve was empty.
    pub no_frame: u64,
    /// Sampling was throttled because the handler took too large a share of the CPU.
    pub throttled: u64,
    /// The ring could not be written for any other reason.
    pub fault: u64,
}

impl Drops {
    /// Returns the sum over all causes.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.no_frame, self.throttled, self.fault].into_iter().fold(self.ring_full, u64::saturating_add)
    }
}

/// Call chains that were cut, by cause: their samples are stored. All are cumulative counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct CutChains {
    /// The chain is longer than a record.
    pub depth: u64,
    /// A frame pointer or a return address made no sense.
    pub pointer: u64,
    /// A frame was not mapped: reading it faulted.
    pub fault: u64,
}

/// Counters of the NMI path of one CPU. All are cumulative counts.
///
/// Three equations hold on every consistent snapshot:
/// `entries = runs - rerun + nested`,
/// `runs = handled + swallowed + unknown + external + reason_busy` and
/// `page_faults = first_touches + space_syncs + other_faults`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct NmiCounters {
    /// Arrivals at vector 2, nested ones included.
    pub entries: u64,
    /// Runs of the dispatcher.
    pub runs: u64,
    /// Arrivals that found an NMI in progress on their CPU.
    pub nested: u64,
    /// Runs caused by nested arrivals, after the run that they interrupted.
    pub rerun: u64,
    /// Runs in which at least one handler claimed an event.
    pub handled: u64,
    /// Empty runs that were explained by an earlier run which handled more than one event.
    pub swallowed: u64,
    /// Empty runs that nothing explains.
    pub unknown: u64,
    /// Runs that system control port B (0x61) explains by SERR or IOCHK, and no handler claimed.
    pub external: u64,
    /// Runs that could not look at port 0x61 because another CPU was looking.
    pub reason_busy: u64,
    /// Runs that interrupted the same RIP as the run before them.
    pub back_to_back: u64,
    /// Page faults taken while an NMI was in progress.
    pub page_faults: u64,
    /// Of these, first touches of a lazily mapped page.
    pub first_touches: u64,
    /// Of these, those that copied a missing top-level entry into the address space in CR3.
    pub space_syncs: u64,
    /// Of these, those that did neither: no frame was left, the address was bad, or another CPU was first.
    pub other_faults: u64,
    /// Times that the CPU halted while it sampled: the clock went on, and no instruction was executed. Counted by its
    /// thread.
    pub halts: u64,
}

impl NmiCounters {
    /// Tells whether the equations between the counters hold.
    #[must_use]
    pub fn are_consistent(&self) -> bool {
        let outcomes = [self.swallowed, self.unknown, self.external, self.reason_busy];
        let explained = outcomes.into_iter().try_fold(self.handled, u64::checked_add);
        let arrivals = self.runs.checked_sub(self.rerun).and_then(|first| first.checked_add(self.nested));
        let resolved = self.first_touches.checked_add(self.space_syncs);
        let faults = resolved.and_then(|resolved| resolved.checked_add(self.other_faults));
        explained == Some(self.runs) && arrivals == Some(self.entries) && faults == Some(self.page_faults)
    }
}

/// Where the pages of one CPU's ring come from and go to.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `ring_tables` | u64 | frames | page tables of the ring, counted in the page table |
/// | `table_frames` | u64 | frames | page tables that page faults inside NMIs made: frames of the reserve, as `nmi.first_touches` are |
/// | `decommitted` | u64 | pages | ring pages whose frames the drain has given back |
/// | `thread_syncs` | u64 | faults | page faults outside NMIs that copied a missing top-level entry |
/// | `reserve_frames` | u32 | frames | size of the frame reserve |
/// | `reserve_refilled` | u64 | frames | frames that the reserve was refilled with since it was made |
/// | `frames_left` | u64 | frames | free memory of the whole machine, whichever CPU counted |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct MemoryCounters {
    /// Page tables of the ring, counted by walking them.
    pub ring_tables: u64,
    /// Page tables that page faults inside NMIs made.
    pub table_frames: u64,
    /// Ring pages whose frames the drain has given back.
    pub decommitted: u64,
    /// Page faults outside NMIs that copied a missing top-level entry into the address space in CR3.
    pub thread_syncs: u64,
    /// Frames that the NMI-safe reserve holds when it is full.
    pub reserve_frames: u32,
    /// Frames that the reserve was refilled with since it was made.
    pub reserve_refilled: u64,
    /// Frames that nobody has, of the whole machine.
    pub frames_left: u64,
}

/// Everything that one CPU counted, as of one moment.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `cpu` | u16 | index | the CPU |
/// | `time` | u64 | clock ticks | when the counters were read |
/// | `overflows` | u64 | events | overflows that the PMU driver saw while sampling |
/// | `sent` | u64 | samples | number of the next sample that the drain will send |
/// | `dropped` | [`Drops`] | samples | by cause |
/// | `nmi` | [`NmiCounters`] | NMIs | the NMI path |
/// | `cut_chains` | [`CutChains`] | call chains | by cause |
/// | `ring_pages` | u64 | pages | present leaf pages of the ring, counted in the page table |
/// | `reserve_frames_min` | u32 | frames | low-water mark of the frame reserve |
/// | `memory` | [`MemoryCounters`] | | where the ring's pages come from and go to |
///
/// Where nothing but the ring is lazy, `nmi.first_touches = ring_pages + memory.decommitted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Schema)]
pub struct CpuTotals {
    /// The CPU that counted.
    pub cpu: u16,
    /// When the counters were read, in clock ticks.
    pub time: u64,
    /// Overflows that the PMU driver saw while sampling.
    pub overflows: u64,
    /// Number of the next sample that the drain will send: how many it has sent so far.
    pub sent: u64,
    /// Samples that were not stored.
    pub dropped: Drops,
    /// The NMI path.
    pub nmi: NmiCounters,
    /// Call chains that were cut.
    pub cut_chains: CutChains,
    /// Present leaf pages of the ring, counted by walking the page table.
    pub ring_pages: u64,
    /// Fewest frames that the NMI-safe reserve ever held.
    pub reserve_frames_min: u32,
    /// Where the ring's pages come from and go to.
    pub memory: MemoryCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_nested_pair_are_consistent() {
        let counters =
            NmiCounters { entries: 2, runs: 2, nested: 1, rerun: 1, handled: 2, ..NmiCounters::default() };
        assert!(counters.are_consistent());
        assert!(!NmiCounters { handled: 1, ..counters }.are_consistent(), "a run without an outcome");
        assert!(!NmiCounters { entries: 3, ..counters }.are_consistent(), "an arrival without a run");
    }

    #[test]
    fn hostile_counters_do_not_overflow() {
        let counters = NmiCounters { handled: u64::MAX, swallowed: 1, rerun: 1, ..NmiCounters::default() };
        assert!(!counters.are_consistent());
        let drops = Drops { ring_full: u64::MAX, no_frame: 7, ..Drops::default() };
        assert_eq!(drops.total(), u64::MAX);
    }
}
