//! One sweep: placement after placement, over machines that may die at any of them.

use nmiprof_wire::Placement;

use super::combination::{Combination, Request};
use super::placer::{ChunkEnd, PlaceError, Placer};

/// Placements of one machine.
pub const CHUNK_PLACEMENTS: u32 = 1024;

/// A placement at which the machine died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The placement.
    pub ticks: u32,
    /// How the machine ended.
    pub reason: String,
}

/// Everything that was seen of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// The placements that were reported, in ascending order.
    pub placements: Vec<Placement>,
    /// Those at which a machine died.
    pub deaths: Vec<Death>,
    /// Whether nothing was left out.
    pub is_whole: bool,
}

/// How far a sweep goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// What is swept.
    pub combination: &'a Combination,
    /// Known defect of the entry; empty for none.
    pub mutant: &'a str,
    /// The last placement that is done in any case.
    pub ticks: u32,
    /// The last placement that is done while the second NMI still lands before the return.
    pub ticks_max: u32,
    /// Deaths after which there is no point in going on.
    pub deaths_max: usize,
    /// Whether the first chunk with a failed placement is the last.
    pub stops_at_failure: bool,
}

/// Why a sweep came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The kernel refuses what it was asked for.
    #[error("{0}")]
    Refused(String),
    /// There was no machine to judge by.
    #[error(transparent)]
    Place(#[from] PlaceError),
}

impl Plan<'_> {
    /// Does the sweep. `has_returned` tells whether a second NMI like this one landed after the return;
    /// `on_progress` is told the number of placements of each chunk.
    ///
    /// # Errors
    /// [`SweepError`] where the kernel refuses, or the host fails.
    pub fn sweep(
        &self,
        placer: &dyn Placer,
        has_returned: &dyn Fn(&[Placement]) -> bool,
        on_progress: &dyn Fn(u64),
    ) -> Result<Sweep, SweepError> {
        let (mut sweep, mut first) = (Sweep::default(), 1);
        while !self.is_done(first, &sweep, has_returned) {
            if sweep.deaths.len() >= self.deaths_max || (self.stops_at_failure && sweep.has_failed()) {
                return Ok(sweep);
            }
            let before = first;
            first = self.chunk(first, placer, &mut sweep)?;
            on_progress(u64::from(first - before));
        }
        sweep.is_whole = true;
        Ok(sweep)
    }

    fn is_done(&self, first: u32, sweep: &Sweep, has_returned: &dyn Fn(&[Placement]) -> bool) -> bool {
        first > self.ticks_max || (first > self.ticks && has_returned(&sweep.placements))
    }

    /// Does the placements from `first` on in one machine, and returns where the next one goes on.
    fn chunk(&self, first: u32, placer: &dyn Placer, sweep: &mut Sweep) -> Result<u32, SweepError> {
        let goal = if first > self.ticks { self.ticks_max } else { self.ticks };
        let last = goal.min(first.saturating_add(CHUNK_PLACEMENTS - 1));
        let request = Request { mutant: self.mutant, first, last };
        let chunk = placer.place(self.combination, &request)?;
        let next = chunk.placements.last().map_or(first, |placement| placement.ticks + 1);
        sweep.placements.extend(chunk.placements);
        match chunk.end {
            ChunkEnd::Complete => Ok(last + 1),
            ChunkEnd::Refused(why) => Err(SweepError::Refused(why)),
            ChunkEnd::Died(_) if next > last => {
                // It died after its last placement: that one did not end well.
                Ok(sweep.die(last, chunk.end))
            }
            ChunkEnd::Died(_) => Ok(sweep.die(next, chunk.end)),
        }
    }
}

impl Sweep {
    /// Tells whether anything was seen to fail.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        !self.deaths.is_empty() || self.placements.iter().any(|placement| placement.failures != 0)
    }

    fn die(&mut self, ticks: u32, end: ChunkEnd) -> u32 {
        if let ChunkEnd::Died(reason) = end {
            self.deaths.push(Death { ticks, reason });
        }
        ticks + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::combination::PairRequest;
    use crate::sweep::dispatch::{Staged, Staging};
    use crate::sweep::placer::{Chunk, PairChunk};
    use std::sync::Mutex;

    /// Reports every placement, but dies at some.
    #[derive(Default)]
    struct StandIn {
        dies_at: Vec<u32>,
        fails_at: Vec<u32>,
        refuses: bool,
        requests: Mutex<Vec<(u32, u32)>>,
    }

    impl Placer for StandIn {
        fn place(&self, _: &Combination, request: &Request<'_>) -> Result<Chunk, PlaceError> {
            self.requests.lock().expect("one thread").push((request.first, request.last));
            let death = self.dies_at.iter().find(|ticks| (request.first..=request.last).contains(ticks));
            let end = death.map_or(request.last + 1, |ticks| *ticks);
            let failures = |ticks| u32::from(self.fails_at.contains(&ticks));
            let placements = (request.first..end)
                .map(|ticks| Placement { ticks, failures: failures(ticks), ..Placement::default() })
                .collect();
            let end = match (self.refuses, death) {
                (true, _) => ChunkEnd::Refused("no such mutant".to_owned()),
                (false, Some(_)) => ChunkEnd::Died("a reset".to_owned()),
                (false, None) => ChunkEnd::Complete,
            };
            Ok(Chunk { placements, end })
        }

        fn storm(&self, _: &Combination, _: &str) -> Result<Chunk, PlaceError> {
            Ok(Chunk { placements: Vec::new(), end: ChunkEnd::Complete })
        }

        fn pairs(&self, _: &Combination, _: &PairRequest<'_>) -> Result<PairChunk, PlaceError> {
            unreachable!("a sweep asks for no pairs")
        }

        fn stage(&self, _: &Combination, _: &Staging<'_>) -> Result<Staged, PlaceError> {
            unreachable!("a sweep stages nothing")
        }
    }

    fn plan(combination: &Combination) -> Plan<'_> {
        Plan { combination, mutant: "", ticks: 10, ticks_max: 30, deaths_max: 5, stops_at_failure: false }
    }

    fn sweep(stand_in: &StandIn, change: impl Fn(&mut Plan<'_>)) -> Result<Sweep, SweepError> {
        let combination = Combination::all()[0];
        let mut plan = plan(&combination);
        change(&mut plan);
        plan.sweep(stand_in, &|_| true, &|_| {})
    }

    #[test]
    fn a_sweep_goes_on_after_a_death_in_a_fresh_machine() {
        let stand_in = StandIn { dies_at: vec![3, 4, 10], ..StandIn::default() };
        let sweep = sweep(&stand_in, |_| {}).expect("a sweep");
        assert_eq!(sweep.deaths.iter().map(|death| death.ticks).collect::<Vec<_>>(), [3, 4, 10]);
        let done: Vec<_> = sweep.placements.iter().map(|placement| placement.ticks).collect();
        assert_eq!(done, [1, 2, 5, 6, 7, 8, 9]);
        assert!(sweep.is_whole && sweep.has_failed());
        assert_eq!(*stand_in.requests.lock().expect("one thread"), [(1, 10), (4, 10), (5, 10)]);
    }

    #[test]
    fn a_sweep_is_extended_until_the_second_nmi_lands_after_the_return() {
        let combination = Combination::all()[0];
        let returned = |placements: &[Placement]| placements.len() >= 20;
        let sweep = plan(&combination).sweep(&StandIn::default(), &returned, &|_| {}).expect("a sweep");
        assert_eq!(sweep.placements.len(), 30);
        let never = plan(&combination).sweep(&StandIn::default(), &|_| false, &|_| {}).expect("a sweep");
        assert_eq!(never.placements.len(), 30, "but not for ever");
    }

    #[test]
    fn too_many_deaths_end_a_sweep_that_is_not_whole() {
        let stand_in = StandIn { dies_at: (1..=10).collect(), ..StandIn::default() };
        let sweep = sweep(&stand_in, |_| {}).expect("a sweep");
        assert_eq!((sweep.deaths.len(), sweep.is_whole), (5, false));
    }

    #[test]
    fn a_mutant_is_left_alone_once_it_is_caught() {
        let stand_in = StandIn { fails_at: vec![2], ..StandIn::default() };
        let sweep = sweep(&stand_in, |plan| {
            plan.ticks = 5000;
            plan.ticks_max = 5000;
            plan.stops_at_failure = true;
        });
        let sweep = sweep.expect("a sweep");
        assert_eq!((sweep.placements.len(), sweep.is_whole), (CHUNK_PLACEMENTS as usize, false));
        assert!(sweep.has_failed());
    }

    #[test]
    fn a_refusal_is_no_death() {
        let stand_in = StandIn { refuses: true, ..StandIn::default() };
        let error = sweep(&stand_in, |_| {}).expect_err("refused");
        assert!(matches!(error, SweepError::Refused(why) if why == "no such mutant"));
    }

    #[test]
    fn progress_adds_up_to_every_placement() {
        let combination = Combination::all()[0];
        let total = Mutex::new(0);
        let stand_in = StandIn { dies_at: vec![7], ..StandIn::default() };
        let count = |placements| *total.lock().expect("one thread") += placements;
        plan(&combination).sweep(&stand_in, &|_| true, &count).expect("a sweep");
        assert_eq!(*total.lock().expect("one thread"), 10);
    }
}
