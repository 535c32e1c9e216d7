//! What came of a combination's pairs. A part of the [outcome](crate::sweep::outcome), and of the JSON form that is a
//! contract: add names, never rename.

use std::collections::BTreeMap;

use serde::Serialize;

use super::demand::{Demand, Pass, Wanted};
use super::judge::{FailedPair, PairJudgement};
use crate::sweep::code::Code;
use crate::sweep::outcome::Address;

/// What a third NMI showed: the second one at one boundary of the NMI entry or the handler, the third at another.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pairs {
    /// Ordered pairs of boundaries that have to be hit.
    pub total: usize,
    /// Those that were.
    pub hit: usize,
    /// The first of those that were not.
    pub missed: Vec<MissedPair>,
    /// Ordered pairs of boundaries of the entry's own code that no third NMI can reach.
    pub unreachable: usize,
    /// Pairs of ticks that were done.
    pub runs: u64,
    /// Those that failed in any way.
    pub failures: u64,
    /// The same by kind.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// The first of them.
    pub first_failures: Vec<FailedPairing>,
    /// Whether the third NMI was at every instruction from the second one's until after the last return.
    pub complete: bool,
}

/// A pair of boundaries that was not hit.
#[derive(Clone, Debug, Serialize)]
pub struct MissedPair {
    /// Where the second NMI should have landed.
    pub second: Address,
    /// The nearest label, and the distance.
    pub second_place: String,
    /// Where the third one should have landed.
    pub third: Address,
    /// The nearest label, and the distance.
    pub third_place: String,
    /// In which run: `outer`, which the second one interrupted, or `next`, which it caused.
    pub run: &'static str,
}

/// A pair of ticks that failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailedPairing {
    /// What the timer of the second NMI was armed with.
    pub ticks: u32,
    /// Ticks from the second NMI to the third.
    pub gap: u32,
    /// Where the two landed, with the nearest labels.
    pub places: Vec<String>,
    /// What failed.
    pub kinds: Vec<&'static str>,
    /// How the machine ended, if it died.
    pub reason: Option<String>,
}

impl Pairs {
    /// Takes what pairs showed.
    #[must_use]
    pub fn new(judgement: &PairJudgement, demand: &Demand<'_>, code: &Code) -> Self {
        Self {
            total: judgement.total,
            hit: judgement.hit,
            missed: judgement.missed.iter().map(|wanted| MissedPair::new(wanted, demand, code)).collect(),
            unreachable: judgement.unreachable,
            runs: judgement.runs,
            failures: judgement.failures,
            failures_by_kind: judgement.failures_by_kind.clone(),
            first_failures: judgement
                .first_failures
                .iter()
                .map(|one| FailedPairing::new(one, code))
                .collect(),
            complete: judgement.is_whole,
        }
    }

    /// Tells whether all was done, all was hit, and nothing failed.
    #[must_use]
    pub fn are_clean(&self) -> bool {
        self.complete && self.hit == self.total && self.failures == 0
    }
}

impl MissedPair {
    fn new(wanted: &Wanted, demand: &Demand<'_>, code: &Code) -> Self {
        let [second, third] = [wanted.second, wanted.third].map(|position| demand.address(position));
        Self {
            second: Address(second),
            second_place: code.describe(second),
            third: Address(third),
            third_place: code.describe(third),
            run: match wanted.pass {
                Pass::Outer => "outer",
                Pass::Next => "next",
            },
        }
    }
}

impl FailedPairing {
    fn new(failed: &FailedPair, code: &Code) -> Self {
        Self {
            ticks: failed.ticks,
            gap: failed.gap,
            places: failed.landed.iter().flatten().map(|address| code.describe(*address)).collect(),
            kinds: failed.kinds.clone(),
            reason: failed.reason.clone(),
        }
    }
}
