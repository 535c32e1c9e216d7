//! Placements against boundaries: what was hit, what was missed, and what may not be.
//!
//! A placement tells the address that its last NMI interrupted. Where that address stands at one boundary
//! only, the boundary is known. Where it stands at several, it is the one that is nearest in time: one tick
//! of the timer is one instruction, so ticks and instructions differ by a constant, which is read off the
//! addresses that are not ambiguous.
//!
//! The address can't tell a masked boundary from an unmasked one at the same instruction; an NMI never
//! counts for the masked one then. That is so for the instruction that faulted and comes again, and for a
//! function that runs both before and after the `iretq`.

use std::collections::{BTreeMap, HashMap};

use nmiprof_wire::{Failure, Placement};

use super::boundary::{Boundaries, Boundary, Class};
use super::run::Sweep;

/// Placements at the end of a sweep that must all have landed after the return.
const AFTER_RETURN: usize = 16;
/// What a placement that killed its machine is counted as.
pub const DIED: &str = "died";
/// What an NMI at a masked boundary is counted as.
pub const MASKED: &str = "masked";
/// What a placement is counted as that landed inside without two arrivals and two runs.
pub const RUNS: &str = "runs";

/// Where a second NMI landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// At the boundary with this position.
    At(usize),
    /// At an address that is masked wherever it stands in the trace.
    Masked,
    /// At no instruction of the trace.
    Outside,
}

/// Boundaries, arranged for being looked up.
#[derive(Debug)]
pub struct Judge<'a> {
    boundaries: &'a Boundaries,
    positions: HashMap<u64, Vec<usize>>,
}

/// What a sweep showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Boundaries that are not masked and were hit.
    pub hit: usize,
    /// Boundaries that are not masked and were not hit.
    pub missed: Vec<Boundary>,
    /// Placements that were done, those at which a machine died included.
    pub runs: u64,
    /// Placements that failed in any way.
    pub failures: u64,
    /// The same by kind; a placement may fail in several ways.
    pub failures_by_kind: BTreeMap<&'static str, u64>,
    /// The placements that failed first, for a reader to try again.
    pub first_failures: Vec<FailedPlacement>,
}

/// A placement that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPlacement {
    /// What the timer was armed with.
    pub ticks: u32,
    /// Where the last NMI landed; `None` where nobody lived to tell.
    pub last_rip: Option<u64>,
    /// What failed.
    pub kinds: Vec<&'static str>,
    /// How the machine ended, if it died.
    pub reason: Option<String>,
}

/// Most failed placements that are kept one by one.
const FIRST_FAILURES_MAX: usize = 20;

impl<'a> Judge<'a> {
    /// Arranges boundaries.
    #[must_use]
    pub fn new(boundaries: &'a Boundaries) -> Self {
        let mut positions: HashMap<u64, Vec<usize>> = HashMap::new();
        for (position, boundary) in boundaries.all().iter().enumerate() {
            positions.entry(boundary.address).or_default().push(position);
        }
        Self { boundaries, positions }
    }

    /// Tells whether the last placements all landed after the return.
    #[must_use]
    pub fn has_returned(&self, placements: &[Placement]) -> bool {
        let last = self.boundaries.all().last().map(|boundary| boundary.address);
        let is_after = |placement: &Placement| {
            Some(placement.last_rip) == last || !self.positions.contains_key(&placement.last_rip)
        };
        placements.len() >= AFTER_RETURN && placements.iter().rev().take(AFTER_RETURN).all(is_after)
    }

    /// Judges a sweep.
    #[must_use]
    pub fn judge(&self, sweep: &Sweep) -> Judgement {
        let offset = self.offset(&sweep.placements);
        let mut is_hit = vec![false; self.boundaries.all().len()];
        let mut judgement = Judgement::default();
        for placement in &sweep.placements {
            let landing = self.landing(placement, offset);
            if let Landing::At(position) = landing
                && let Some(hit) = is_hit.get_mut(position)
            {
                *hit = true;
            }
            judgement.take(placement, &self.kinds(placement, landing));
        }
        for death in &sweep.deaths {
            judgement.count(FailedPlacement {
                ticks: death.ticks,
                last_rip: None,
                kinds: vec![DIED],
                reason: Some(death.reason.clone()),
            });
        }
        self.count_hits(&is_hit, &mut judgement);
        judgement
    }

    /// Finds the boundary at which the last NMI of a placement landed.
    #[must_use]
    pub fn landing(&self, placement: &Placement, offset: i64) -> Landing {
        let Some(positions) = self.positions.get(&placement.last_rip) else {
            return Landing::Outside;
        };
        let time = i64::from(placement.ticks) - offset;
        let open = positions.iter().copied().filter(|position| self.is_open(*position));
        let nearest = open.min_by_key(|position| self.tick(*position).abs_diff(time));
        nearest.map_or(Landing::Masked, Landing::At)
    }

    /// Returns the ticks that a placement at position 0 would have: what most addresses that are not
    /// ambiguous say.
    pub(super) fn offset(&self, placements: &[Placement]) -> i64 {
        let mut votes: BTreeMap<i64, u32> = BTreeMap::new();
        for placement in placements {
            if let Some([position]) = self.positions.get(&placement.last_rip).map(Vec::as_slice) {
                *votes.entry(i64::from(placement.ticks) - self.tick(*position)).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(offset, _)| offset)
    }

    /// Returns everything that failed in a placement.
    pub(super) fn kinds(&self, placement: &Placement, landing: Landing) -> Vec<&'static str> {
        let named = Failure::ALL.iter().filter(|(failure, _)| placement.failures & failure.bit() != 0);
        let mut kinds: Vec<_> = named.map(|(_, name)| *name).collect();
        let known = Failure::ALL.iter().fold(0, |bits, (failure, _)| bits | failure.bit());
        if placement.failures & !known != 0 {
            kinds.push("unknown");
        }
        if landing == Landing::Masked {
            kinds.push(MASKED);
        }
        if self.is_before_return(landing) && !self.has_its_runs(placement, landing) {
            kinds.push(RUNS);
        }
        kinds
    }

    /// Tells whether two NMIs, the second of which landed inside, had their runs: one each; or one for both
    /// where early unmasking let the second one in before the handler had begun, whose run then serves both.
    fn has_its_runs(&self, placement: &Placement, landing: Landing) -> bool {
        let is_early = match landing {
            Landing::At(position) => {
                self.boundaries.all().get(position).is_some_and(|boundary| boundary.class == Class::Early)
            }
            _ => false,
        };
        let joined = is_early && (placement.runs, placement.nested) == (1, 1);
        placement.arrivals == 2 && (placement.runs == 2 || joined)
    }

    fn count_hits(&self, is_hit: &[bool], judgement: &mut Judgement) {
        let mut before = None;
        for (boundary, is_hit) in self.boundaries.all().iter().zip(is_hit) {
            // The delivery of a fault takes no time: an NMI due at the handler's first instruction is due at
            // the faulting one as well, and is taken there.
            let is_hit = *is_hit || before == Some((boundary.tick, true));
            match (boundary.class, is_hit) {
                (Class::Masked, _) => {}
                (_, true) => judgement.hit += 1,
                (_, false) => judgement.missed.push(*boundary),
            }
            before = Some((boundary.tick, is_hit));
        }
    }

    /// Tells whether the first NMI had not returned yet. At the interrupted instruction the two may have
    /// merged before the first one was delivered.
    fn is_before_return(&self, landing: Landing) -> bool {
        let returned = self.boundaries.all().len().saturating_sub(1);
        landing == Landing::Masked || matches!(landing, Landing::At(position) if position < returned)
    }

    fn is_open(&self, position: usize) -> bool {
        self.boundaries.all().get(position).is_some_and(|boundary| boundary.class != Class::Masked)
    }

    fn tick(&self, position: usize) -> i64 {
        self.boundaries.all().get(position).map_or(0, |boundary| i64::from(boundary.tick))
    }
}

impl Judgement {
    fn take(&mut self, placement: &Placement, kinds: &[&'static str]) {
        if kinds.is_empty() {
            self.runs += 1;
            return;
        }
        self.count(FailedPlacement {
            ticks: placement.ticks,
            last_rip: Some(placement.last_rip),
            kinds: kinds.to_vec(),
            reason: None,
        });
    }

    fn count(&mut self, failed: FailedPlacement) {
        self.runs += 1;
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
