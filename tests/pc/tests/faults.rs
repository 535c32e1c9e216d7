//! Goal: the fault in the handler, whose `iret` unmasks NMIs while that still runs, breaks no sound entry, wherever a
//! second NMI arrives; it breaks the naive one everywhere; and a fault that returns without `iret` leaves nothing to
//! break.
//!
//! Method: the experiment of [`nmiprof_pc::nest`], at the first NMI whose handler touches a page of the ring that is
//! not mapped. Nothing else unmasks NMIs here: the forms with early unmasking, in which an NMI is taken inside the
//! fault's handler as well, have a test of their own. An NMI that arrives while they are masked is latched, and taken
//! right after the fault's `iret`. Each experiment asks for the page and for the record in it; a part of them is
//! repeated with nothing dressed up, and runs to its end, where every overflow has to be accounted for.
//! `NMIPROF_SWEEP=full` does everything with both kinds of faulting `iret`, and early forms with two NMIs in a row.

use std::collections::BTreeMap;
use std::env;

use nmiprof::images::Image;
use nmiprof::sweep::Combination;
use nmiprof_pc::IretFault;
use nmiprof_pc::nest::{Bench, Broken, Plan, Stage};
use nmiprof_pmu::profiles::SKYLAKE;
use nmiprof_wire::{FaultReturn, NmiEntry, Unmask};

/// Places in the whole runs of one form.
const WHOLE_RUNS: usize = 8;
/// Instructions after the second NMI at which a third one is tried: more than it takes to the end of the nested one.
const GAPS: u64 = 90;
/// Places after the fault's `iret` from which that is done in full.
const LATER_PLACES: usize = 24;

fn forms(fault_return: FaultReturn, unmask: Unmask) -> impl Iterator<Item = Combination> {
    let all = Combination::all().into_iter();
    all.filter(move |one| one.fault_return == fault_return && one.unmask == unmask)
}

fn is_full() -> bool {
    env::var_os("NMIPROF_SWEEP").is_some_and(|value| value == "full")
}

/// Lists the kinds of faulting `iret` that make a difference: only one entry has one that faults.
fn semantics(form: &Combination) -> &'static [IretFault] {
    if is_full() || form.entry == NmiEntry::Softmask {
        &[IretFault::Unmasks, IretFault::Keeps]
    } else {
        &[IretFault::Unmasks]
    }
}

fn boot(form: &Combination) -> Bench {
    let Combination { entry, fault_return, nested_return, unmask } = form;
    let words =
        format!("nmi={entry} fault_return={fault_return} nested_return={nested_return} unmask={unmask}");
    Bench::boot(&SKYLAKE, Image::Main, &words)
}

/// Does an experiment at each place; lists what broke.
fn broken(stage: &mut Stage<'_>, more: u32) -> Vec<(u64, Broken)> {
    let places = 0..stage.trace().len() as u64;
    let plan = |second| Plan { second, more, third: None };
    places.filter_map(|place| stage.play(plan(place)).err().map(|broken| (place, broken))).collect()
}

fn describe(stage: &Stage<'_>) -> String {
    let (places, unmasked, fault) = (stage.trace().len(), stage.unmasked().len(), stage.fault());
    let nested = stage.nested();
    format!("{places} places, fault at {fault:?}, {unmasked} unmasked, {nested} NMIs nested")
}

/// Checks that the fault's `iret` has unmasked NMIs, and nothing before; else the sweep would prove nothing.
fn assert_unmasked_by_fault(stage: &Stage<'_>, what: &str) {
    let fault = stage.fault().expect("a page fault");
    let first = *stage.unmasked().first().unwrap_or_else(|| panic!("{what}: NMIs stay masked"));
    assert!(first > fault, "{what}: unmasked at {first}, before the fault at {fault}");
    let rest = stage.trace().len() as u64 - first;
    assert!(rest > 100 && stage.unmasked().len() as u64 == rest, "{what}: from {first} to the return");
}

fn check_sound(more: u32) {
    let mut experiments = 0;
    for form in forms(FaultReturn::Iret, Unmask::Fault).filter(Combination::is_sound) {
        let mut bench = boot(&form);
        for iret_fault in semantics(&form) {
            let what = format!("{form}, {iret_fault:?}, {more} more");
            let mut stage = bench.faulting_stage(&form.label(), *iret_fault);
            assert_unmasked_by_fault(&stage, &what);
            let broken = broken(&mut stage, more);
            println!("{what}: {}", describe(&stage));
            assert_eq!(broken, [], "{what}");
            assert!(stage.nested() > 0, "{what}");
            experiments += stage.trace().len();
        }
    }
    println!("{experiments} experiments");
    assert!(experiments > 5000, "{experiments} experiments");
}

// cases 3, 13, 18
#[test]
fn a_second_nmi_at_any_instruction_of_one_whose_handler_faults_breaks_no_sound_entry() {
    check_sound(0);
}

// case 2
#[test]
fn two_nmis_in_a_row_there_break_no_sound_entry() {
    check_sound(1);
}

/// Does an experiment with a third NMI at each distance from one right after the fault's `iret`; in full also from
/// those that come some instructions later.
fn broken_by_a_third(stage: &mut Stage<'_>) -> Vec<(Plan, Broken)> {
    let places = if is_full() { LATER_PLACES } else { 1 };
    let seconds = stage.unmasked().iter().copied().take(places).collect::<Vec<_>>();
    let plan = |second, gap| Plan { second, more: 0, third: Some(gap) };
    let plans = seconds.into_iter().flat_map(|second| (1..=GAPS).map(move |gap| plan(second, gap)));
    plans.filter_map(|plan| stage.play(plan).err().map(|broken| (plan, broken))).collect()
}

// case 6
#[test]
fn a_third_nmi_after_one_right_after_the_faults_return_breaks_no_sound_entry() {
    for form in forms(FaultReturn::Iret, Unmask::Fault).filter(Combination::is_sound) {
        let mut bench = boot(&form);
        for iret_fault in semantics(&form) {
            let mut stage = bench.faulting_stage(&form.label(), *iret_fault);
            assert_eq!(broken_by_a_third(&mut stage), [], "{form}, {iret_fault:?}");
            let nested = stage.nested();
            println!("{form}, {iret_fault:?}: {nested} NMIs nested");
            assert!(nested >= GAPS, "{form}, {iret_fault:?}: each second NMI is nested");
        }
    }
}

// case 19
#[test]
fn where_nmis_are_unmasked_before_the_fault_one_inside_the_faults_own_handler_breaks_no_sound_entry() {
    for form in forms(FaultReturn::Iret, Unmask::Early).filter(Combination::is_sound) {
        let mut bench = boot(&form);
        for iret_fault in semantics(&form) {
            let what = format!("{form}, {iret_fault:?}");
            let mut stage = bench.faulting_stage(&form.label(), *iret_fault);
            let fault = stage.fault().expect("a page fault");
            assert!(stage.unmasked().contains(&fault), "{what}: masked in the fault's handler");
            for more in 0..=u32::from(is_full()) {
                assert_eq!(broken(&mut stage, more), [], "{what}, {more} more");
            }
            println!("{what}: {}", describe(&stage));
        }
    }
}

#[test]
fn the_naive_entry_is_broken_by_a_second_nmi_anywhere_but_only_where_its_handler_faults() {
    let form = forms(FaultReturn::Iret, Unmask::Fault).find(|form| form.entry == NmiEntry::Naive);
    let form = form.expect("listed");
    let mut bench = boot(&form);
    let mut stage = bench.stage_after_fault(&form.label(), IretFault::Unmasks);
    println!("{form}, no fault: {}", describe(&stage));
    assert_eq!((stage.fault(), stage.unmasked().len()), (None, 0), "the page is mapped");
    assert_eq!(broken(&mut stage, 0), [], "nothing unmasks NMIs");
    let mut stage = bench.faulting_stage(&form.label(), IretFault::Unmasks);
    assert_unmasked_by_fault(&stage, "naive");
    let broken = broken(&mut stage, 0);
    let mut kinds: BTreeMap<Broken, Vec<u64>> = BTreeMap::new();
    broken.iter().for_each(|(place, broken)| kinds.entry(*broken).or_default().push(*place));
    let kinds: Vec<_> = kinds.iter().map(|(kind, at)| (kind, at.len(), at[0], at[at.len() - 1])).collect();
    println!("{form}: {}; broken: {kinds:?}", describe(&stage));
    assert_eq!(broken.len(), stage.trace().len(), "latched until the fault's return, or taken after it");
}

// case 24
#[test]
fn a_fault_that_returns_without_iret_unmasks_nothing_and_breaks_no_entry_at_all() {
    for form in forms(FaultReturn::Ret, Unmask::Fault) {
        let mut bench = boot(&form);
        let mut stage = bench.faulting_stage(&form.label(), IretFault::Unmasks);
        assert!(stage.unmasked().is_empty(), "{form}: {}", describe(&stage));
        assert_eq!(broken(&mut stage, 0), [], "{form}");
        println!("{form}: {}", describe(&stage));
        assert_eq!(stage.nested(), 0, "{form}: each second NMI waits for the return of the first");
    }
}

#[test]
fn whole_runs_with_an_nmi_after_the_faults_return_account_for_every_overflow() {
    for form in forms(FaultReturn::Iret, Unmask::Fault).filter(Combination::is_sound) {
        let mut bench = boot(&form);
        let mut stage = bench.faulting_stage(&form.label(), IretFault::Unmasks);
        let unmasked = stage.unmasked().to_vec();
        let (mut nested, mut samples) = (0, 0);
        for place in unmasked.iter().step_by(unmasked.len().div_ceil(WHOLE_RUNS)) {
            let (what, run) = (format!("{form} at {place}"), stage.finish(*place));
            run.assert_sound(&what);
            let total = run.record.accounts().total();
            assert_eq!(total.overflows, run.samples.len() as u64, "{what}: {total:?}");
            nested += run.nmi().nested;
            samples += run.samples.len();
        }
        println!("{form}: {samples} samples, {nested} NMIs nested");
        assert!(nested > 0, "{form}");
    }
}
