//! Tests with a trace made by hand, which the judge's tests use as well.

use super::*;
use crate::sweep::trace::{Step, StepKind, Trace};
use StepKind::{Faulted, Iret, Retired};

/// An entry that unmasks early, calls 300, where there is a fault, and leaves.
const STEPS: [(u64, StepKind); 13] = [
    (100, Retired),
    (101, Iret),
    (102, Retired),
    (103, Retired),
    (300, Retired),
    (301, Faulted),
    (400, Iret),
    (301, Retired),
    (302, Retired),
    (104, Retired),
    (105, Retired),
    (106, Iret),
    (BASE + 7, Retired),
];
/// What is interrupted must be an address that a landing can hold.
pub(crate) const BASE: u64 = Landing::BASE;

pub(crate) fn boundaries() -> Boundaries {
    let at = |address: u64| if address < BASE { BASE + address } else { address };
    let steps = STEPS.iter().map(|(address, kind)| Step { address: at(*address), kind: *kind });
    Boundaries::of(&Trace::new(steps.collect()), &(BASE + 100..BASE + 200), Unmask::Early)
}

/// The next run starts at 102.
pub(crate) fn demand(boundaries: &Boundaries) -> Demand<'_> {
    let mut demand = Demand::arrange(boundaries, BASE + 100..BASE + 200).expect("it has a body");
    demand.habits = Habits { starts_at: 2, is_early: true, faults_unmask: true, ..Habits::default() };
    demand
}

fn wanted(demand: &Demand<'_>, second: usize) -> Vec<(usize, Pass)> {
    demand.of_row(second).0.into_iter().map(|one| (one.third, one.pass)).collect()
}

#[test]
fn the_sides_are_those_of_the_call() {
    let boundaries = boundaries();
    let demand = demand(&boundaries);
    let sides: Vec<_> = (0..12).map(|position| demand.side(position)).collect();
    assert_eq!(sides[..4], [Side::Entry; 4]);
    assert_eq!(sides[4..9], [Side::Body; 5]);
    assert_eq!(sides[9..], [Side::Exit; 3]);
    assert_eq!(demand.body_position(BASE + 301), None, "it stands there twice");
}

#[test]
fn a_row_is_where_an_nmi_lands_and_the_delivery_of_a_fault_is_none() {
    let boundaries = boundaries();
    let rows: Vec<_> = demand(&boundaries).rows().into_iter().map(|(position, _)| position).collect();
    assert_eq!(rows, [2, 3, 4, 5, 7, 8, 9, 10, 11]);
}

#[test]
fn every_later_window_boundary_is_wanted_in_the_outer_run() {
    let boundaries = boundaries();
    let demand = demand(&boundaries);
    let outer = |positions: &[usize]| positions.iter().map(|at| (*at, Pass::Outer)).collect::<Vec<_>>();
    assert_eq!(wanted(&demand, 2), outer(&[3, 9, 10, 11]));
    assert_eq!(wanted(&demand, 4), outer(&[9, 10, 11]), "before the fault the body may differ");
    assert_eq!(wanted(&demand, 7), outer(&[8, 9, 10, 11]), "after it, it does not");
    assert_eq!(wanted(&demand, 11), []);
}

#[test]
fn what_is_masked_in_the_outer_run_is_wanted_in_the_next() {
    let boundaries = boundaries();
    let mut demand = demand(&boundaries);
    demand.habits.stays_masked = true;
    let (in_outer, in_next) = (Pass::Outer, Pass::Next);
    assert_eq!(wanted(&demand, 2), [(3, in_next), (9, in_outer), (10, in_outer), (11, in_outer)]);
    assert_eq!(wanted(&demand, 9), [(10, in_next), (11, in_next)]);
    assert!(!demand.can_land(9, 10, Pass::Outer));
}

#[test]
fn a_run_that_is_joined_has_no_next_one() {
    let boundaries = boundaries();
    let mut demand = demand(&boundaries);
    demand.habits.joins = BASE + 102..BASE + 103;
    demand.habits.stays_masked = true;
    assert_eq!(demand.of_row(2).1, 1, "103 is masked, and not passed again");
    assert_eq!(demand.of_row(3).1, 0);
    assert!(!demand.can_land(2, 10, Pass::Next));
}

#[test]
fn a_run_that_is_taken_over_or_has_decided_goes_on_in_the_next() {
    let boundaries = boundaries();
    let mut demand = demand(&boundaries);
    demand.habits.takes_over = BASE + 104..BASE + 107;
    demand.habits.decides = Some(10);
    assert_eq!(wanted(&demand, 9), [(10, Pass::Next), (11, Pass::Next)]);
    assert_eq!(wanted(&demand, 8), [(9, Pass::Outer), (10, Pass::Outer), (11, Pass::Next)]);
}

#[test]
fn without_a_fault_the_exit_of_the_next_run_is_unmasked_only_if_its_start_is() {
    let boundaries = boundaries();
    let mut demand = demand(&boundaries);
    assert!(demand.can_land(9, 9, Pass::Next));
    demand.habits.is_early = false;
    assert!(demand.can_land(9, 9, Pass::Next), "its own fault unmasks");
    assert!(!demand.can_land(9, 2, Pass::Next));
    demand.habits.faults_unmask = false;
    assert!(!demand.can_land(9, 9, Pass::Next));
}

#[test]
fn every_entry_has_the_labels_of_its_habits() {
    let code = Code::parse(crate::images::SELFTEST).expect("an ELF file");
    for combination in Combination::all().iter().filter(|one| one.entry != NmiEntry::Naive) {
        let windows = code.windows(&combination.label()).expect("it is built in");
        let entry = code.entry(&combination.label()).expect("it is built in");
        let mut steps: Vec<_> = entry.clone().map(|address| Step { address, kind: Retired }).collect();
        steps.insert(1, Step { address: 7, kind: Retired });
        steps.push(Step { address: 7, kind: Retired });
        let boundaries = Boundaries::of(&Trace::new(steps), &entry, combination.unmask);
        assert!(Demand::of(combination, &boundaries, &code).is_some(), "{combination}: {windows:#?}");
    }
}
