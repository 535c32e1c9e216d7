//! Tests with the trace of the demand's, and with pairs as an ideal or a broken machine would report them.

use super::*;
use crate::sweep::pairs::demand::tests::{BASE, boundaries, demand};
use crate::sweep::pairs::plan::AFTER_RETURN;
use crate::sweep::run::Death;

/// Ticks at which a second NMI is due at the first boundary.
const OFFSET: u32 = 8;
/// Ticks of a nested NMI, in which NMIs are masked.
const NESTED: usize = 3;

/// Returns the row of an ideal machine, whose nested NMI goes back by `iretq`.
fn row(demand: &Demand<'_>, second: usize, ticks: u32) -> Vec<Pair> {
    let rows = demand.rows();
    let runs = |position: usize| match demand.side(position) {
        Side::Entry => 0,
        Side::Body => u16::from(position > 4),
        Side::Exit => 1,
    };
    let at = |position: usize, before: u16| Landing::at(demand.address(position), runs(position) + before);
    let outer = rows.iter().filter(|(position, _)| *position >= second).map(|(position, _)| at(*position, 0));
    let next = rows.iter().map(|(position, _)| at(*position, 1));
    let line = (0..40).map(|offset| Landing::at(demand.return_address() + offset, 2));
    let way: Vec<_> = outer.chain(next).chain(line).collect();
    let third = |gap: usize| way[gap.saturating_sub(NESTED).min(way.len() - 1)];
    let pair = |gap: usize| {
        let third = if gap == 0 { Landing::default() } else { third(gap) };
        let last = if gap == 0 { at(second, 0) } else { third };
        let is_before_run = [100, 101, 102, 103, 300].contains(&(last.address() - BASE));
        let runs = last.runs + 1 + u16::from(is_before_run);
        let (gap, arrivals) = (u32::try_from(gap).expect("few"), if gap == 0 { 2 } else { 3 });
        Pair { ticks, gap, second: at(second, 0), third, arrivals, runs, nested: 1, failures: 0 }
    };
    (0..NESTED + way.len() - 40 + AFTER_RETURN + 1).map(pair).collect()
}

fn judged(change: impl Fn(&mut Vec<Pair>)) -> PairJudgement {
    let boundaries = boundaries();
    let demand = demand(&boundaries);
    let rows: BTreeMap<_, _> =
        demand.rows().into_iter().map(|(position, tick)| (tick + OFFSET, position)).collect();
    let mut pairs: Vec<_> =
        rows.iter().flat_map(|(ticks, position)| row(&demand, *position, *ticks)).collect();
    change(&mut pairs);
    let mut judge = PairJudge::new(&demand, Scope::Everything, rows);
    judge.take(&pairs);
    judge.finish(&PairsEnd { is_whole: true, ..PairsEnd::default() })
}

/// Changes the pairs whose NMIs land at these addresses, the third one in this run.
fn set(pairs: &mut [Pair], second: u64, third: Landing, change: impl Fn(&mut Pair)) {
    let is_it =
        |pair: &&mut Pair| pair.second.address() == BASE + second && pair.third == third && pair.gap > 0;
    assert!(pairs.iter_mut().filter(is_it).map(change).count() > 0, "there is such a pair");
}

#[test]
fn an_ideal_machine_has_everything_hit_and_nothing_failed() {
    let judgement = judged(|_| {});
    assert_eq!((judgement.failures_by_kind, judgement.failures), (BTreeMap::new(), 0));
    assert_eq!((judgement.hit, judgement.missed.as_slice()), (judgement.total, &[][..]));
    assert!(judgement.total > 20 && judgement.is_whole, "{}", judgement.total);
}

#[test]
fn a_pair_that_was_not_hit_is_missed_by_name() {
    let lost = Landing::at(BASE + 105, 1);
    let judgement = judged(|pairs| set(pairs, 102, lost, |pair| pair.third.offset = 106));
    assert_eq!(judgement.missed, [Wanted { second: 2, third: 10, pass: Pass::Outer }]);
    assert_eq!((judgement.hit + 1, judgement.failures), (judgement.total, 0));
}

#[test]
fn the_next_run_does_not_stand_for_the_outer_one() {
    let outer = Landing::at(BASE + 105, 1);
    let judgement = judged(|pairs| {
        set(pairs, 102, outer, |pair| (pair.third.runs, pair.runs) = (2, 3));
    });
    assert_eq!(judgement.missed, [Wanted { second: 2, third: 10, pass: Pass::Outer }]);
}

#[test]
fn a_third_nmi_where_none_can_arrive_is_a_failure() {
    let outer = Landing::at(BASE + 105, 1);
    let back = judged(|pairs| set(pairs, 106, Landing::at(BASE + 106, 1), |pair| pair.third = outer));
    assert_eq!(back.failures_by_kind, BTreeMap::from([(MASKED, NESTED as u64)]), "the outer run goes back");
    let third_run = judged(|pairs| set(pairs, 102, outer, |pair| (pair.third.runs, pair.runs) = (3, 4)));
    assert_eq!(third_run.failures_by_kind, BTreeMap::from([(MASKED, 1)]));
}

#[test]
fn a_second_nmi_elsewhere_and_a_lost_arrival_are_astray() {
    let outer = Landing::at(BASE + 105, 1);
    let elsewhere = judged(|pairs| set(pairs, 102, outer, |pair| pair.second.offset = 103));
    assert_eq!(elsewhere.failures_by_kind, BTreeMap::from([(ASTRAY, 1)]));
    let lost = judged(|pairs| set(pairs, 102, outer, |pair| pair.arrivals = 2));
    assert_eq!(lost.failures_by_kind, BTreeMap::from([(ASTRAY, 1)]));
    assert_eq!(lost.missed.len(), 1, "what is astray hits nothing");
}

#[test]
fn a_run_too_many_or_too_few_is_a_failure() {
    for runs in [1, 3] {
        let judgement = judged(|pairs| set(pairs, 102, Landing::at(BASE + 105, 1), |pair| pair.runs = runs));
        assert_eq!(judgement.failures_by_kind, BTreeMap::from([(RUNS, 1)]), "{runs}");
    }
    let shared = judged(|pairs| set(pairs, 102, Landing::at(BASE + 103, 0), |pair| pair.runs = 1));
    assert_eq!(shared.failures, 0, "before the run has begun it may serve both");
}

#[test]
fn what_the_kernel_noticed_is_counted_by_kind() {
    let bits = Failure::Once.bit() | 1 << 31;
    let judgement = judged(|pairs| set(pairs, 102, Landing::at(BASE + 105, 1), |pair| pair.failures = bits));
    assert_eq!(judgement.failures_by_kind, BTreeMap::from([("NMI-once", 1), ("unknown", 1)]));
    let failed = &judgement.first_failures[0];
    assert_eq!((judgement.failures, failed.landed), (1, Some([BASE + 102, BASE + 105])));
}

#[test]
fn a_row_that_ends_before_the_return_is_not_whole() {
    assert!(!judged(|pairs| pairs.truncate(pairs.len() - 1)).is_whole);
    assert!(!judged(|pairs| pairs.last_mut().expect("a pair").third.offset += 1).is_whole);
}

#[test]
fn a_death_is_a_failure() {
    let boundaries = boundaries();
    let demand = demand(&boundaries);
    let death = (Death { ticks: 9, reason: "a reset".to_owned() }, 4);
    let end = PairsEnd { deaths: vec![death], ..PairsEnd::default() };
    let judgement = PairJudge::new(&demand, Scope::Windows, BTreeMap::new()).finish(&end);
    assert_eq!((judgement.failures, judgement.runs, judgement.hit), (1, 1, 0));
    let failed = &judgement.first_failures[0];
    assert_eq!((failed.ticks, failed.gap, failed.reason.as_deref()), (9, 4, Some("a reset")));
    assert!(!judgement.is_whole && judgement.total > 0);
}

#[test]
fn no_report_makes_the_judge_panic() {
    let wild = Landing { offset: u32::MAX, runs: u16::MAX };
    let judgement = judged(|pairs| {
        for pair in pairs {
            *pair = Pair { second: wild, third: wild, arrivals: u16::MAX, runs: u16::MAX, ..*pair };
        }
    });
    assert_eq!(judgement.hit, 0);
    assert_eq!(judgement.failures, judgement.runs);
}
