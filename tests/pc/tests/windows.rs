//! Goal: the entries are sound against a second NMI, two in a row and a third one later, at every instruction, on a CPU
//! whose faulting `iret` unmasks NMIs and on one whose does not; and each known defect of an entry breaks something.
//!
//! Method: the experiment of [`nmiprof_pc::nest`], which judges from outside. The sound entries are those of the image
//! that samples in earnest. The mutants are those of the self-test image; that boots with the sound form, and then
//! vector 2 is pointed to the mutant's code. The experiment that has to catch each is that which catches it under QEMU:
//! two NMIs (`Sweep`), or only three (`Storm`). That two do *not* suffice there is asserted too; the sound entry of the
//! same image has to pass both. `NMIPROF_SWEEP=full` tries the third NMI at far more pairs.

use std::collections::BTreeMap;
use std::env;

use nmiprof::images::Image;
use nmiprof::sweep::{Combination, Mutant, ShownBy};
use nmiprof_pc::IretFault;
use nmiprof_pc::nest::{Bench, Broken, Plan, Stage};
use nmiprof_pmu::profiles::SKYLAKE;
use nmiprof_wire::{FaultReturn, NestedReturn, NmiEntry, Unmask};

const SEMANTICS: [IretFault; 2] = [IretFault::Unmasks, IretFault::Keeps];
/// Places before the return from which a third NMI is tried: the exit window and what leads to it.
const LAST_PLACES: usize = 12;
/// Instructions after the second NMI at which it is tried: more than it takes to the next run's handler.
const GAPS: u64 = 90;

/// Lists the forms in which NMIs reach nearly everything.
fn forms() -> Vec<Combination> {
    let is_open = |one: &Combination| one.unmask == Unmask::Early && one.fault_return == FaultReturn::Iret;
    Combination::all().into_iter().filter(|one| is_open(one) && one.entry != NmiEntry::Naive).collect()
}

fn boot(form: &Combination, image: Image) -> Bench {
    let Combination { entry, nested_return, unmask, .. } = form;
    Bench::boot(&SKYLAKE, image, &format!("nmi={entry} nested_return={nested_return} unmask={unmask}"))
}

/// Returns the label of a mutant's entry.
fn label(form: &Combination, mutant: &Mutant) -> String {
    let nret = if form.nested_return == NestedReturn::Ret { "_nret" } else { "" };
    format!("nmi_{}{nret}_mutant_{}", form.entry, mutant.name.replace('-', "_"))
}

fn one(second: u64) -> Plan {
    Plan { second, more: 0, third: None }
}

/// Lists every place, those in the entry's own code first: defects show there if anywhere.
fn places(stage: &Stage<'_>) -> Vec<u64> {
    let assembly = stage.places_in_assembly();
    let others = (0..stage.trace().len() as u64).filter(|place| !assembly.contains(place));
    assembly.iter().copied().chain(others).collect()
}

fn seconds(stage: &Stage<'_>) -> Vec<Plan> {
    places(stage).into_iter().map(one).collect()
}

fn rows(stage: &Stage<'_>) -> Vec<Plan> {
    places(stage).into_iter().map(|place| Plan { more: 1, ..one(place) }).collect()
}

fn thirds(stage: &Stage<'_>) -> Vec<Plan> {
    let assembly = stage.places_in_assembly();
    let is_full = env::var_os("NMIPROF_SWEEP").is_some_and(|value| value == "full");
    let (last, gaps) = if is_full { (assembly.len(), 3 * GAPS) } else { (LAST_PLACES, GAPS) };
    let last = assembly.iter().rev().take(last);
    last.flat_map(|place| (1..=gaps).map(|gap| Plan { third: Some(gap), ..one(*place) })).collect()
}

/// Does experiments until one breaks something.
fn first_broken(stage: &mut Stage<'_>, plans: &[Plan]) -> Option<(Plan, Broken)> {
    plans.iter().find_map(|plan| stage.play(*plan).err().map(|broken| (*plan, broken)))
}

fn check_sound(experiment: &str, plans: fn(&Stage<'_>) -> Vec<Plan>) {
    for form in forms() {
        let mut bench = boot(&form, Image::Main);
        for iret_fault in SEMANTICS {
            let mut stage = bench.stage(&form.label(), iret_fault);
            let plans = plans(&stage);
            let broken = first_broken(&mut stage, &plans);
            let count = plans.len();
            println!("{form}, {iret_fault:?}: {experiment}: {count} experiments, broken: {broken:x?}");
            assert!(count > 500, "{form}: {count} experiments");
            assert_eq!(broken, None, "{form}, {iret_fault:?}: {experiment}");
        }
    }
}

// cases 1, 3, 4, 5, 7, 8, 9, 13
#[test]
fn a_second_nmi_at_any_instruction_breaks_no_sound_entry() {
    check_sound("a second one", seconds);
}

// cases 2, 6
#[test]
fn two_nmis_in_a_row_at_any_instruction_break_no_sound_entry() {
    check_sound("two in a row", rows);
}

// cases 9, 10
#[test]
fn a_third_nmi_after_one_at_the_exit_breaks_no_sound_entry() {
    check_sound("a third one", thirds);
}

#[test]
fn the_naive_entry_is_broken_by_a_second_nmi() {
    let all = Combination::all();
    let naive = |one: &&Combination| one.entry == NmiEntry::Naive && one.unmask == Unmask::Early;
    let form = all.iter().find(naive).expect("listed");
    let mut bench = boot(form, Image::Main);
    let mut stage = bench.stage(&form.label(), IretFault::Unmasks);
    let plans = seconds(&stage);
    assert!(first_broken(&mut stage, &plans).is_some());
}

/// Tells which experiment catches a mutant first.
fn caught_by(stage: &mut Stage<'_>) -> Option<(ShownBy, Plan, Broken)> {
    let plans = seconds(stage);
    if let Some((plan, broken)) = first_broken(stage, &plans) {
        return Some((ShownBy::Sweep, plan, broken));
    }
    let plans = thirds(stage);
    first_broken(stage, &plans).map(|(plan, broken)| (ShownBy::Storm, plan, broken))
}

fn check_mutants(entry: NmiEntry) {
    let mut kinds: BTreeMap<Broken, u32> = BTreeMap::new();
    for form in forms().iter().filter(|form| form.entry == entry) {
        let mut bench = boot(form, Image::Selftest);
        for iret_fault in SEMANTICS {
            let caught = caught_by(&mut bench.stage(&form.label(), iret_fault));
            assert_eq!(caught, None, "{form}, {iret_fault:?}: the sound entry of the same image");
        }
        for mutant in form.mutants() {
            for iret_fault in SEMANTICS {
                let mut stage = bench.stage(&label(form, mutant), iret_fault);
                let caught = caught_by(&mut stage);
                println!("{form} {}, {iret_fault:?}: {caught:x?}", mutant.name);
                let shown_by = caught.map(|(shown_by, ..)| shown_by);
                assert_eq!(shown_by, Some(mutant.shown_by), "{form} {}, {iret_fault:?}", mutant.name);
                *kinds.entry(caught.expect("caught").2).or_default() += 1;
            }
        }
    }
    println!("{entry}: {kinds:?}");
}

#[test]
fn every_defect_of_rostedt_breaks_something() {
    check_mutants(NmiEntry::Rostedt);
}

#[test]
fn every_defect_of_latched_breaks_something() {
    check_mutants(NmiEntry::Latched);
}

#[test]
fn every_defect_of_softmask_breaks_something() {
    check_mutants(NmiEntry::Softmask);
}

#[test]
fn every_defect_of_tristate_breaks_something() {
    check_mutants(NmiEntry::Tristate);
}
