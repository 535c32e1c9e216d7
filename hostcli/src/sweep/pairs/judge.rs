//! Pairs against the demand: what was hit, what was missed, and what may not be.
//!
//! Where the second and the third NMI landed is read from the frames that the CPU pushed, and which run the third
//! one interrupted from the number of runs that the handler had begun by then. A demanded pair is hit if both are
//! right.

use std::collections::{BTreeMap, HashSet};

use nmiprof_wire::{Failure, Landing, Pair};

use super::align::Scope;
use super::demand::{Demand, Pass, Side, Wanted};
use super::plan::{PairsEnd, has_returned};
use crate::sweep::judge::{DIED, MASKED, RUNS};

/// What a pair is counted as whose second NMI did not land where it was due, or that did not have all its NMIs.
pub const ASTRAY: &str = "astray";
/// Most failed pairs that are kept one by one.
const FIRST_FAILURES_MAX: usize = 20;
/// Most missed pairs that are kept one by one.
pub const MISSED_MAX: usize = 20;
/// The handler counts a run within so many of its instructions. An NMI before that may be one more run.
const START_STEPS_MAX: usize = 32;

/// Judges the pairs of one combination, in the order in which they come.
#[derive(Debug)]
pub struct PairJudge<'a> {
    demand: &'a Demand<'a>,
    /// Position at which the second NMI of each row is due, by its ticks.
    rows: BTreeMap<u32, usize>,
    wanted: HashSet<Wanted>,
    judgement: PairJudgement,
    /// The row that is going on.
    row: Vec<Pair>,
    /// Rows that went on up to well after the return.
    returned: HashSet<u32>,
}

/// What pairs showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairJudgement {
    /// Pairs of boundaries that had to be hit.
    pub total: usize,
    /// Those that were.
    pub hit: usize,
    /// The first of those that were not.
    pub missed: Vec<Wanted>,
    /// Ordered pairs of boundaries of the entry's own code that no third NMI can reach.
    pub unreachable: usize,
    /// Pairs of ticks that were done, those at which a machine died included.
    pub runs: u64,
    /// Those that failed in any way.
    pub failures: u64,
    /// The same by kind.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub first_failures: Vec<FailedPair>,
    /// Whether every row was done up to well after the return.
    pub is_whole: bool,
}

/// A pair that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPair {
    /// What the timer was armed with.
    pub ticks: u32,
    /// Ticks from the second NMI to the third.
    pub gap: u32,
    /// Where the two landed; `None` where nobody lived to tell.
    pub landed: Option<[u64; 2]>,
    /// What failed.
    pub kinds: Vec<&'static str>,
    /// How the machine ended, if it died.
    pub reason: Option<String>,
}

impl<'a> PairJudge<'a> {
    /// Starts with the rows that are asked for: the ticks and the position of each second NMI.
    ///
    /// Everything that the demand has in this scope is wanted, whether there is a row for it or not.
    #[must_use]
    pub fn new(demand: &'a Demand<'a>, scope: Scope, rows: BTreeMap<u32, usize>) -> Self {
        let (mut wanted, mut judgement) = (HashSet::new(), PairJudgement::default());
        let all = demand.rows().into_iter().map(|(second, _)| second);
        for second in all.filter(|second| scope.holds(demand.side(*second))) {
            let (of_row, unreachable) = demand.of_row(second);
            wanted.extend(of_row);
            judgement.unreachable += unreachable;
        }
        judgement.total = wanted.len();
        Self { demand, rows, wanted, judgement, row: Vec::new(), returned: HashSet::new() }
    }

    /// Takes pairs in.
    pub fn take(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            if self.row.last().is_some_and(|last| last.ticks != pair.ticks) {
                self.end_row();
            }
            self.row.push(*pair);
            self.judge(pair);
        }
        self.end_row();
    }

    /// Says what all of it showed.
    #[must_use]
    pub fn finish(mut self, end: &PairsEnd) -> PairJudgement {
        for (death, gap) in &end.deaths {
            let (ticks, gap, reason) = (death.ticks, *gap, Some(death.reason.clone()));
            self.judgement.runs += 1;
            self.judgement.count(FailedPair { ticks, gap, landed: None, kinds: vec![DIED], reason });
        }
        let mut missed: Vec<_> = self.wanted.into_iter().collect();
        missed.sort_unstable_by_key(|one| (one.second, one.third));
        self.judgement.hit = self.judgement.total - missed.len();
        missed.truncate(MISSED_MAX);
        self.judgement.missed = missed;
        self.judgement.is_whole = end.is_whole && self.rows.keys().all(|row| self.returned.contains(row));
        self.judgement
    }

    fn end_row(&mut self) {
        if let Some(last) = self.row.last()
            && has_returned(&self.row, self.demand.return_address())
        {
            self.returned.insert(last.ticks);
        }
        self.row.clear();
    }

    fn judge(&mut self, pair: &Pair) {
        self.judgement.runs += 1;
        let named = Failure::ALL.iter().filter(|(failure, _)| pair.failures & failure.bit() != 0);
        let mut kinds: Vec<_> = named.map(|(_, name)| *name).collect();
        let known = Failure::ALL.iter().fold(0, |bits, (failure, _)| bits | failure.bit());
        if pair.failures & !known != 0 {
            kinds.push("unknown");
        }
        match self.rows.get(&pair.ticks).copied() {
            Some(second) if self.demand.is_at(pair.second, second) && has_its_nmis(pair) => {
                kinds.extend(self.landing(pair, second));
            }
            _ => kinds.push(ASTRAY),
        }
        if !kinds.is_empty() {
            let landed = Some([pair.second, pair.third].map(Landing::address));
            let Pair { ticks, gap, .. } = *pair;
            self.judgement.count(FailedPair { ticks, gap, landed, kinds, reason: None });
        }
    }

    /// Judges where the third NMI landed, or the second one if it was the last, and what became of it.
    fn landing(&mut self, pair: &Pair, second: usize) -> Option<&'static str> {
        let last = if pair.gap == 0 { pair.second } else { pair.third };
        if !self.has_its_runs(pair.runs, last) {
            return Some(RUNS);
        }
        if pair.gap == 0 {
            return None;
        }
        let address = pair.third.address();
        let Some(third) = self.demand.window_position(address) else {
            if let (Some(third), 1) = (self.demand.body_position(address), pair.third.runs) {
                self.wanted.remove(&Wanted { second, third, pass: Pass::Outer });
            }
            return None;
        };
        let pass = match pair.third.runs.checked_sub(self.demand.runs_before(third)) {
            Some(0) => Pass::Outer,
            Some(1) => Pass::Next,
            _ => return Some(MASKED),
        };
        self.wanted.remove(&Wanted { second, third, pass });
        (!self.demand.can_land(second, third, pass)).then_some(MASKED)
    }

    /// Tells whether there were as many runs as the last arrival asks for: one more than had begun by then. One that
    /// comes before a run has begun may share it, and may as well cause one more.
    fn has_its_runs(&self, runs: u16, last: Landing) -> bool {
        let (address, one_more) = (last.address(), last.runs.saturating_add(1));
        let is_before_run = match self.demand.window_position(address) {
            Some(position) => self.demand.side(position) == Side::Entry,
            None => self.demand.is_entry(address) || self.demand.is_start_of_body(address, START_STEPS_MAX),
        };
        runs == one_more || (is_before_run && runs == one_more.saturating_add(1))
    }
}

/// Tells whether three NMIs arrived: two where the third one was raised together with the second.
fn has_its_nmis(pair: &Pair) -> bool {
    pair.arrivals == if pair.gap == 0 { 2 } else { 3 }
}

impl PairJudgement {
    fn count(&mut self, failed: FailedPair) {
        self.failures += 1;
        for kind in &failed.kinds {
            *self.failures_by_kind.entry(kind).or_default() += 1;
        }
        if self.first_failures.len() < FIRST_FAILURES_MAX {
            self.first_failures.push(failed);
        }
    }
}

#[cfg(test)]
mod tests;
