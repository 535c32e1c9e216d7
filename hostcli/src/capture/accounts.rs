//! The accounting identity: `overflows = received + dropped + link_lost`, per CPU and in total.
//!
//! The kernel counts overflows in the PMU driver and drops in the ring. The host counts what it
//! received, and infers what the line lost from the cumulative sample numbers alone, so that no term
//! can be made to fit by another one.
//!
//! Sample numbers only rise on an honest line. A block that goes back, overlaps an earlier one, comes
//! after its CPU's `End` or runs past 2^64 is refused whole: none of its samples counts as received,
//! and it is reported as damage. An `End` that admits to fewer samples than arrived breaks the identity.

use nmiprof_wire::{CpuTotals, CutChains, Drops, MemoryCounters, NmiCounters};

/// Whether the terms of the identity agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Every overflow is accounted for.
    Holds,
    /// Overflows are missing, or there are more samples than overflows.
    Broken,
    /// The final counters did not arrive, so that what the line lost is a lower bound.
    Incomplete,
}

/// Accounts of one CPU.
#[derive(Clone, Debug, Default)]
pub struct CpuAccount {
    received: u64,
    link_lost: u64,
    /// Number that the next sample has if none is lost.
    next_sample: u64,
    /// Number of the first sample that is known of: received, or counted by the `End`.
    first_sample: Option<u64>,
    /// Overflows by the first counters that arrived.
    first_overflows: Option<u64>,
    /// Drops that the last block reported.
    dropped_seen: u64,
    totals: Option<CpuTotals>,
    is_ended: bool,
    is_contradicted: bool,
}

/// The terms of the identity, of one CPU or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Overflows that the PMU driver saw.
    pub overflows: u64,
    /// Samples that the host decoded.
    pub received: u64,
    /// Samples that were not stored, by cause.
    pub dropped: Drops,
    /// Samples that were sent but never arrived.
    pub link_lost: u64,
    /// Counters of the NMI path.
    pub nmi: NmiCounters,
    /// Present leaf pages of the ring.
    pub ring_pages: u64,
    /// Fewest frames that the reserve ever held; of all CPUs, the least.
    pub reserve_frames_min: u32,
    /// Where the rings' pages come from and go to; `frames_left` is the machine's, of all CPUs the least.
    pub memory: MemoryCounters,
    /// Call chains that were cut, by cause.
    pub cut_chains: CutChains,
}

impl CpuAccount {
    /// Books a block of `count` samples; refuses it where its numbers can't be.
    #[must_use]
    pub(super) fn book_block(&mut self, first_sample: u64, count: u64, dropped: u64) -> bool {
        let end = first_sample.checked_add(count);
        let (Some(gap), Some(end), false) = (first_sample.checked_sub(self.next_sample), end, self.is_ended)
        else {
            return false;
        };
        self.received += count;
        self.link_lost = self.link_lost.saturating_add(gap);
        self.first_sample.get_or_insert(first_sample);
        self.next_sample = end;
        self.dropped_seen = self.dropped_seen.max(dropped);
        true
    }

    /// Books the counters of a running CPU; refuses them after its `End`.
    #[must_use]
    pub(super) fn book_sync(&mut self, totals: CpuTotals) -> bool {
        if !self.is_ended {
            self.keep(totals);
        }
        !self.is_ended
    }

    /// Books the final counters. A second `End` is refused unless it says the same again.
    #[must_use]
    pub(super) fn book_end(&mut self, totals: CpuTotals) -> bool {
        if self.is_ended {
            return self.totals == Some(totals);
        }
        self.is_ended = true;
        self.keep(totals);
        self.first_sample.get_or_insert(totals.sent);
        match totals.sent.checked_sub(self.next_sample) {
            Some(gap) => self.link_lost = self.link_lost.saturating_add(gap),
            None => self.is_contradicted = true,
        }
        true
    }

    fn keep(&mut self, totals: CpuTotals) {
        self.first_overflows.get_or_insert(totals.overflows);
        self.totals = Some(totals);
    }

    /// Returns the number of the first sample that is known of; with none received, how many were sent.
    pub(super) const fn first_sample(&self) -> Option<u64> {
        self.first_sample
    }

    /// Returns the number that the next sample has if none is lost.
    pub(super) const fn next_sample(&self) -> u64 {
        self.next_sample
    }

    /// Returns the overflows by the first and by the last counters that arrived.
    pub(super) fn first_and_last_overflows(&self) -> Option<(u64, u64)> {
        self.first_overflows.zip(self.totals.map(|totals| totals.overflows))
    }

    /// Tells whether the final counters came.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Returns the terms, from the final counters or else from the last ones that arrived.
    #[must_use]
    pub fn balance(&self) -> Balance {
        let totals = self.totals.unwrap_or_default();
        Balance {
            overflows: totals.overflows,
            received: self.received,
            dropped: totals.dropped,
            link_lost: self.link_lost,
            nmi: totals.nmi,
            ring_pages: totals.ring_pages,
            reserve_frames_min: totals.reserve_frames_min,
            memory: totals.memory,
            cut_chains: totals.cut_chains,
        }
    }

    /// Judges the identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        if !self.is_ended {
            Identity::Incomplete
        } else if self.balance().adds_up() && !self.is_contradicted {
            Identity::Holds
        } else {
            Identity::Broken
        }
    }

    /// Tells whether the final NMI counters contradict each other. Counters read while the CPU runs may.
    #[must_use]
    pub fn is_nmi_inconsistent(&self) -> bool {
        self.is_ended && !self.balance().nmi.are_consistent()
    }

    /// Returns the drops known so far, all causes: for progress displays.
    #[must_use]
    pub fn dropped_so_far(&self) -> u64 {
        self.dropped_seen.max(self.balance().dropped.total())
    }
}

impl Balance {
    /// Tells whether `overflows = received + dropped + link_lost`.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let Drops { ring_full, no_frame, throttled, fault } = self.dropped;
        [ring_full, no_frame, throttled, fault, self.link_lost]
            .into_iter()
            .try_fold(self.received, u64::checked_add)
            == Some(self.overflows)
    }

    /// Adds another CPU's terms, saturating: sums of hostile counters must not wrap to plausible ones.
    fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.overflows, other.overflows),
            (&mut self.received, other.received),
            (&mut self.dropped.ring_full, other.dropped.ring_full),
            (&mut self.dropped.no_frame, other.dropped.no_frame),
            (&mut self.dropped.throttled, other.dropped.throttled),
            (&mut self.dropped.fault, other.dropped.fault),
            (&mut self.link_lost, other.link_lost),
            (&mut self.ring_pages, other.ring_pages),
            (&mut self.nmi.entries, other.nmi.entries),
            (&mut self.nmi.runs, other.nmi.runs),
            (&mut self.nmi.nested, other.nmi.nested),
            (&mut self.nmi.rerun, other.nmi.rerun),
            (&mut self.nmi.handled, other.nmi.handled),
            (&mut self.nmi.swallowed, other.nmi.swallowed),
            (&mut self.nmi.unknown, other.nmi.unknown),
            (&mut self.nmi.external, other.nmi.external),
            (&mut self.nmi.reason_busy, other.nmi.reason_busy),
            (&mut self.nmi.back_to_back, other.nmi.back_to_back),
            (&mut self.nmi.page_faults, other.nmi.page_faults),
            (&mut self.nmi.first_touches, other.nmi.first_touches),
            (&mut self.nmi.space_syncs, other.nmi.space_syncs),
            (&mut self.nmi.other_faults, other.nmi.other_faults),
            (&mut self.nmi.halts, other.nmi.halts),
            (&mut self.memory.ring_tables, other.memory.ring_tables),
            (&mut self.memory.table_frames, other.memory.table_frames),
            (&mut self.memory.decommitted, other.memory.decommitted),
            (&mut self.memory.thread_syncs, other.memory.thread_syncs),
            (&mut self.memory.reserve_refilled, other.memory.reserve_refilled),
            (&mut self.cut_chains.depth, other.cut_chains.depth),
            (&mut self.cut_chains.pointer, other.cut_chains.pointer),
            (&mut self.cut_chains.fault, other.cut_chains.fault),
        ];
        for (sum, term) in sums {
            *sum = sum.saturating_add(term);
        }
        let frames = &mut self.memory.reserve_frames;
        *frames = frames.saturating_add(other.memory.reserve_frames);
    }
}

/// Accounts of all CPUs.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    cpus: Vec<CpuAccount>,
}

impl Accounts {
    /// Makes sure that every one of the first `cpus` CPUs has an account.
    pub(super) fn expect(&mut self, cpus: u16) {
        if self.cpus.len() < usize::from(cpus) {
            self.cpus.resize_with(usize::from(cpus), CpuAccount::default);
        }
    }

    /// Returns the account of a CPU below `cpus_max`, opening it if need be.
    pub(super) fn of(&mut self, cpu: u16, cpus_max: u16) -> Option<&mut CpuAccount> {
        if cpu >= cpus_max {
            return None;
        }
        self.expect(cpu + 1);
        self.cpus.get_mut(usize::from(cpu))
    }

    /// Returns the accounts, indexed by CPU.
    #[must_use]
    pub fn cpus(&self) -> &[CpuAccount] {
        &self.cpus
    }

    /// Returns the sums over all CPUs.
    #[must_use]
    pub fn total(&self) -> Balance {
        let mut total = Balance::default();
        for account in &self.cpus {
            total.add(&account.balance());
        }
        let least = self.cpus.iter().map(|cpu| cpu.balance().reserve_frames_min).min();
        total.reserve_frames_min = least.unwrap_or_default();
        let left = self.cpus.iter().map(|cpu| cpu.balance().memory.frames_left).min();
        total.memory.frames_left = left.unwrap_or_default();
        total
    }

    /// Judges the identity of all CPUs: one broken account breaks it, and one open account leaves it
    /// incomplete.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let has = |identity| self.cpus.iter().any(|cpu| cpu.identity() == identity);
        if has(Identity::Broken) {
            Identity::Broken
        } else if self.cpus.is_empty() || has(Identity::Incomplete) {
            Identity::Incomplete
        } else {
            Identity::Holds
        }
    }

    /// Tells whether any CPU's final NMI counters contradict each other.
    #[must_use]
    pub fn is_nmi_inconsistent(&self) -> bool {
        self.cpus.iter().any(CpuAccount::is_nmi_inconsistent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(overflows: u64, sent: u64, ring_full: u64) -> CpuTotals {
        let dropped = Drops { ring_full, ..Drops::default() };
        CpuTotals { overflows, sent, dropped, ..CpuTotals::default() }
    }

    #[test]
    fn what_arrives_in_order_loses_nothing() {
        let mut account = CpuAccount::default();
        assert!(account.book_block(0, 10, 0) && account.book_block(10, 5, 3));
        assert_eq!(account.identity(), Identity::Incomplete, "no End yet");
        assert!(account.book_end(totals(18, 15, 3)));
        assert_eq!(account.identity(), Identity::Holds);
        assert_eq!(account.balance().link_lost, 0);
    }

    #[test]
    fn gaps_at_the_start_in_the_middle_and_at_the_end_are_link_losses() {
        let mut account = CpuAccount::default();
        assert!(account.book_block(2, 10, 0) && account.book_block(15, 5, 0));
        assert!(account.book_end(totals(27, 27, 0)));
        assert_eq!(account.balance().link_lost, 2 + 3 + 7);
        assert_eq!(account.identity(), Identity::Holds);
    }

    #[test]
    fn an_overflow_that_nobody_stored_breaks_the_identity() {
        let mut account = CpuAccount::default();
        assert!(account.book_block(0, 10, 0) && account.book_end(totals(11, 10, 0)));
        assert_eq!(account.identity(), Identity::Broken);
    }

    #[test]
    fn a_block_that_goes_back_is_refused_whole() {
        let mut account = CpuAccount::default();
        assert!(account.book_block(0, 10, 0));
        assert!(!account.book_block(0, 10, 0), "the same again");
        assert!(!account.book_block(9, 10, 0), "overlapping");
        assert!(!account.book_block(u64::MAX, 2, 0), "past the last number");
        assert_eq!((account.received, account.link_lost), (10, 0));
        assert!(account.book_end(totals(10, 10, 0)) && !account.book_block(10, 1, 0));
        assert_eq!(account.identity(), Identity::Holds);
    }

    #[test]
    fn an_end_that_admits_to_fewer_samples_than_arrived_breaks_the_identity() {
        let mut account = CpuAccount::default();
        assert!(account.book_block(0, 10, 0) && account.book_end(totals(10, 9, 0)));
        assert_eq!(account.identity(), Identity::Broken);
    }

    #[test]
    fn the_last_counters_win_and_the_final_ones_stay() {
        let mut account = CpuAccount::default();
        assert!(account.book_sync(totals(1, 1, 0)) && account.book_sync(totals(5, 5, 0)));
        assert_eq!(account.balance().overflows, 5);
        assert!(account.book_end(totals(6, 6, 0)));
        assert!(!account.book_sync(totals(7, 7, 0)) && !account.book_end(totals(7, 7, 0)));
        assert!(account.book_end(totals(6, 6, 0)), "the same End again");
        assert_eq!(account.balance().overflows, 6);
    }

    #[test]
    fn one_broken_cpu_breaks_all_and_one_open_cpu_leaves_them_incomplete() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.identity(), Identity::Incomplete, "nothing is known");
        accounts.expect(2);
        let _ = accounts.of(0, 2).expect("in range").book_end(totals(0, 0, 0));
        assert_eq!(accounts.identity(), Identity::Incomplete);
        let _ = accounts.of(1, 2).expect("in range").book_end(totals(1, 0, 0));
        assert_eq!(accounts.identity(), Identity::Broken);
        assert!(accounts.of(2, 2).is_none(), "a CPU that was not announced");
    }

    #[test]
    fn hostile_counters_do_not_overflow() {
        let mut accounts = Accounts::default();
        for cpu in 0..2 {
            let account = accounts.of(cpu, 2).expect("in range");
            let _ = account.book_block(u64::MAX - 1, 1, u64::MAX);
            let _ = account.book_end(totals(u64::MAX, u64::MAX, u64::MAX));
        }
        assert_eq!(accounts.total().overflows, u64::MAX);
        assert_eq!(accounts.identity(), Identity::Broken);
    }
}
