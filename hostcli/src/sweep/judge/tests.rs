//! Tests with a trace made by hand, and with placements as an ideal or a broken machine would report them.

use super::*;
use crate::sweep::run::Death;
use crate::sweep::trace::{Step, StepKind, Trace};
use StepKind::{Faulted, Iret, Retired};
use nmiprof_wire::Unmask;

/// Ticks at which a second NMI is due at the first boundary.
const OFFSET: u32 = 5;

/// The interrupted instruction.
const BACK: u64 = 7;

/// An entry that calls 300 before and after a fault at 301, and goes twice around a loop at 102.
const STEPS: [(u64, StepKind); 12] = [
    (100, Retired),
    (300, Retired),
    (301, Faulted),
    (400, Retired),
    (401, Iret),
    (301, Retired),
    (300, Retired),
    (102, Retired),
    (103, Retired),
    (102, Retired),
    (104, Iret),
    (BACK, Retired),
];

fn boundaries() -> Boundaries {
    let steps = STEPS.iter().map(|(address, kind)| Step { address: *address, kind: *kind });
    Boundaries::of(&Trace::new(steps.collect()), &(100..200), Unmask::Fault)
}

fn placement(ticks: u32, last_rip: u64) -> Placement {
    Placement { ticks, last_rip, arrivals: 2, runs: 2, nested: 1, failures: 0 }
}

/// Reports what the model of masking says.
fn ideal(boundaries: &Boundaries) -> Sweep {
    let lands = |ticks: u32| {
        let all = boundaries.all().iter();
        let mut open = all.filter(|boundary| boundary.class != Class::Masked);
        let landed = open.find(|boundary| boundary.tick + OFFSET >= ticks);
        placement(ticks, landed.map_or(BACK + u64::from(ticks), |boundary| boundary.address))
    };
    Sweep { placements: (1..60).map(lands).collect(), deaths: Vec::new(), is_whole: true }
}

fn judged(change: impl Fn(&mut Sweep)) -> Judgement {
    let boundaries = boundaries();
    let mut sweep = ideal(&boundaries);
    change(&mut sweep);
    Judge::new(&boundaries).judge(&sweep)
}

fn set(sweep: &mut Sweep, position: u32, change: impl Fn(&mut Placement)) {
    let tick = boundaries().all()[position as usize].tick;
    let ticks = tick + OFFSET;
    sweep.placements.iter_mut().filter(|placement| placement.ticks == ticks).for_each(change);
}

#[test]
fn an_ideal_sweep_hits_every_boundary_that_is_not_masked_and_no_other() {
    let judgement = judged(|_| {});
    assert_eq!((judgement.hit, judgement.missed.as_slice()), (7, &[][..]));
    assert_eq!((judgement.runs, judgement.failures), (59, 0));
}

#[test]
fn a_boundary_that_no_nmi_reached_is_missed_by_name() {
    let judgement = judged(|sweep| set(sweep, 8, |placement| placement.last_rip = 104));
    let missed: Vec<_> = judgement.missed.iter().map(|one| (one.address, one.occurrence)).collect();
    assert_eq!(missed, [(103, 0)]);
    assert_eq!(judgement.hit, 6);
}

#[test]
fn each_time_around_a_loop_counts_for_itself() {
    let judgement = judged(|sweep| set(sweep, 9, |placement| placement.last_rip = 103));
    let missed: Vec<_> = judgement.missed.iter().map(|one| (one.address, one.occurrence)).collect();
    assert_eq!(missed, [(102, 1)]);
}

#[test]
fn a_second_occurrence_does_not_stand_for_a_masked_first_one() {
    let boundaries = boundaries();
    let judge = Judge::new(&boundaries);
    let at_first = placement(OFFSET + 1, 300);
    assert_eq!(judge.landing(&at_first, i64::from(OFFSET)), Landing::At(6));
}

#[test]
fn an_nmi_where_all_is_masked_is_a_failure() {
    for masked in [100, 400, 401] {
        let judgement = judged(|sweep| set(sweep, 3, |placement| placement.last_rip = masked));
        assert_eq!(judgement.failures_by_kind, BTreeMap::from([(MASKED, 1)]), "{masked}");
        assert_eq!(judgement.first_failures[0].last_rip, Some(masked));
    }
}

#[test]
fn failures_are_counted_by_kind_and_a_placement_once() {
    let judgement = judged(|sweep| {
        set(sweep, 8, |placement| placement.failures = Failure::Once.bit() | Failure::Cr2.bit());
        set(sweep, 10, |placement| placement.failures = Failure::Once.bit() | 1 << 31);
    });
    let kinds = BTreeMap::from([("NMI-once", 2), ("CR2", 1), ("unknown", 1)]);
    assert_eq!((judgement.failures, judgement.failures_by_kind), (2, kinds));
}

#[test]
fn what_lands_inside_is_two_nmis_and_two_runs() {
    for (arrivals, runs) in [(2, 1), (2, 3), (1, 2), (3, 2)] {
        let judgement = judged(|sweep| {
            set(sweep, 8, |placement| (placement.arrivals, placement.runs) = (arrivals, runs));
        });
        assert_eq!(judgement.failures_by_kind, BTreeMap::from([(RUNS, 1)]));
    }
    let merged = judged(|sweep| {
        let first = &mut sweep.placements[0];
        *first = Placement { arrivals: 1, runs: 1, ..placement(1, BACK) };
    });
    assert_eq!(merged.failures, 0, "before the first NMI was delivered");
}

#[test]
fn a_death_is_a_failure_and_leaves_its_boundary_missed() {
    let judgement = judged(|sweep| {
        let tick = boundaries().all()[8].tick;
        let ticks = tick + OFFSET;
        sweep.placements.retain(|placement| placement.ticks != ticks);
        sweep.deaths.push(Death { ticks, reason: "a reset".to_owned() });
    });
    assert_eq!(judgement.failures_by_kind, BTreeMap::from([(DIED, 1)]));
    assert_eq!((judgement.runs, judgement.missed.len()), (59, 1));
    assert_eq!(judgement.first_failures[0].reason.as_deref(), Some("a reset"));
}

#[test]
fn a_sweep_has_returned_when_all_of_its_end_is_outside() {
    let boundaries = boundaries();
    let judge = Judge::new(&boundaries);
    let sweep = ideal(&boundaries);
    assert!(judge.has_returned(&sweep.placements));
    assert!(!judge.has_returned(&sweep.placements[..25]), "too few after the return");
    assert!(!judge.has_returned(&[]));
}

#[test]
fn no_report_makes_the_judge_panic() {
    let judgement = judged(|sweep| {
        for placement in &mut sweep.placements {
            *placement = Placement {
                ticks: u32::MAX,
                last_rip: 300,
                arrivals: u16::MAX,
                runs: 0,
                nested: u16::MAX,
                failures: u32::MAX,
            };
        }
    });
    assert_eq!(judgement.failures, 59);
}
