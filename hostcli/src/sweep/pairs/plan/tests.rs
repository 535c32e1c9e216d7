//! Tests with a stand-in for the machines, which may die at any pair.

use std::sync::Mutex;

use super::*;
use crate::sweep::combination::Request;
use crate::sweep::dispatch::{Staged, Staging};
use crate::sweep::placer::{Chunk, PairChunk, PlaceError};

const RETURN: u64 = Landing::BASE + 7;
/// Gap from which on the third NMI lands after the return.
const RETURNED: u32 = 10;

/// Reports every pair, row by row, but dies at some.
#[derive(Default)]
struct StandIn {
    dies_at: Vec<Place>,
    fails_at: Vec<Place>,
    /// Pairs after which the line is silent.
    silent_after: Option<usize>,
    requests: Mutex<Vec<(Place, u32)>>,
}

impl Placer for StandIn {
    fn place(&self, _: &Combination, _: &Request<'_>) -> Result<Chunk, PlaceError> {
        unreachable!("pairs ask for no placements")
    }

    fn storm(&self, _: &Combination, _: &str) -> Result<Chunk, PlaceError> {
        unreachable!("nor for storms")
    }

    fn stage(&self, _: &Combination, _: &Staging<'_>) -> Result<Staged, PlaceError> {
        unreachable!("nor for situations")
    }

    fn pairs(&self, _: &Combination, request: &PairRequest<'_>) -> Result<PairChunk, PlaceError> {
        let mut requests = self.requests.lock().expect("one thread");
        requests.push(((request.first, request.gaps.0), request.last));
        let mut pairs = Vec::new();
        for ticks in request.first..=request.last {
            let mut row = 0;
            for gap in request.gaps.0..=request.gaps.1 {
                if self.dies_at.contains(&(ticks, gap)) {
                    return Ok(PairChunk { pairs, end: ChunkEnd::Died("a reset".to_owned()) });
                }
                let third = Landing::at(RETURN + u64::from(gap.saturating_sub(RETURNED)), 2);
                let failures = u32::from(self.fails_at.contains(&(ticks, gap)));
                pairs.push(Pair { ticks, gap, third, failures, ..Pair::default() });
                row = if third.address() > RETURN { row + 1 } else { 0 };
                if row == AFTER_RETURN {
                    break;
                }
            }
        }
        pairs.truncate(self.silent_after.unwrap_or(usize::MAX));
        Ok(PairChunk { pairs, end: ChunkEnd::Complete })
    }
}

fn run(stand_in: &StandIn, change: impl Fn(&mut PairsPlan<'_>)) -> (Vec<Place>, PairsEnd) {
    let combination = Combination::all()[0];
    let mut plan = PairsPlan {
        combination: &combination,
        mutant: "",
        gap_first: 0,
        gap_max: 40,
        return_address: RETURN,
        deaths_max: 5,
        stops_at_failure: false,
    };
    change(&mut plan);
    let mut places = Vec::new();
    let rows = [Rows { first: 3, last: 4 }, Rows { first: 8, last: 8 }];
    let end = plan.run(&rows, stand_in, &mut |pairs| {
        places.extend(pairs.iter().map(|pair| (pair.ticks, pair.gap)));
    });
    (places, end.expect("nobody refuses"))
}

/// Pairs of a row that goes on until well after the return.
fn row(ticks: u32) -> Vec<Place> {
    (0..=RETURNED + 16).map(|gap| (ticks, gap)).collect()
}

#[test]
fn rows_that_follow_each_other_are_done_in_one_machine() {
    let stand_in = StandIn::default();
    let (places, end) = run(&stand_in, |_| {});
    assert_eq!(places, [row(3), row(4), row(8)].concat());
    assert_eq!(*stand_in.requests.lock().expect("one thread"), [((3, 0), 4), ((8, 0), 8)]);
    assert!(end.is_whole && !end.has_failed && end.deaths.is_empty());
    assert_eq!(ranges([3, 4, 8]), [Rows { first: 3, last: 4 }, Rows { first: 8, last: 8 }]);
}

#[test]
fn a_row_goes_on_after_a_death_in_a_fresh_machine() {
    let stand_in = StandIn { dies_at: vec![(3, 5), (4, 0)], ..StandIn::default() };
    let (places, end) = run(&stand_in, |_| {});
    let expected: Vec<_> = [row(3), row(4), row(8)].concat();
    let lived: Vec<_> = expected.into_iter().filter(|place| !stand_in.dies_at.contains(place)).collect();
    assert_eq!(places, lived);
    let died: Vec<_> = end.deaths.iter().map(|(death, gap)| (death.ticks, *gap)).collect();
    assert_eq!(died, stand_in.dies_at);
    assert!(end.is_whole && end.has_failed);
}

#[test]
fn a_death_between_two_rows_is_that_of_the_second() {
    let stand_in = StandIn { dies_at: vec![(4, 0)], ..StandIn::default() };
    let (_, end) = run(&stand_in, |_| {});
    assert_eq!((end.deaths[0].0.ticks, end.deaths[0].1), (4, 0));
}

#[test]
fn a_report_that_is_missing_is_a_death_there() {
    let stand_in = StandIn { silent_after: Some(2), ..StandIn::default() };
    let (places, end) = run(&stand_in, |plan| plan.deaths_max = 1);
    assert_eq!(places, [(3, 0), (3, 1)]);
    assert_eq!((end.deaths[0].0.ticks, end.deaths[0].1, end.is_whole), (3, 2, false));
}

#[test]
fn a_mutant_is_left_alone_once_it_is_caught() {
    let stand_in = StandIn { fails_at: vec![(3, 1)], ..StandIn::default() };
    let (places, end) = run(&stand_in, |plan| plan.stops_at_failure = true);
    assert_eq!(places.last(), row(4).last(), "the first machine is the last");
    assert!(end.has_failed && !end.is_whole);
}

#[test]
fn a_trial_has_one_pair_in_each_row() {
    let (places, end) = run(&StandIn::default(), |plan| plan.gap_first = plan.gap_max);
    assert_eq!(places, [(3, 40), (4, 40), (8, 40)]);
    assert!(end.is_whole);
}

#[test]
fn many_pairs_are_spread_over_several_machines() {
    let stand_in = StandIn::default();
    run(&stand_in, |plan| plan.gap_max = CHUNK_PAIRS);
    assert_eq!(stand_in.requests.lock().expect("one thread").len(), 3);
}

#[test]
fn a_row_has_returned_when_its_end_goes_on_address_by_address() {
    let pairs: Vec<_> = (1..=AFTER_RETURN as u64)
        .map(|step| Pair { third: Landing::at(RETURN + step, 2), ..Pair::default() })
        .collect();
    assert!(has_returned(&pairs, RETURN));
    assert!(!has_returned(&pairs[1..], RETURN), "too few");
    assert!(!has_returned(&pairs, RETURN + 1), "the first one may be latched from before");
    let same = vec![pairs[3]; AFTER_RETURN];
    assert!(!has_returned(&same, RETURN), "it hangs there");
}
