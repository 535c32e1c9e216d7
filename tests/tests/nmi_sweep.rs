//! A second NMI at every instruction: of the entry, the handler, the fault path inside it, and the exit; and a
//! third one at every pair of those of the entry and the exit.
//!
//! Method: what `nmiprof selftest nmi --json` finds for every form of every entry, known defects included, and
//! its outcome. Where no NMI can nest, and where nesting must break NMI-once, the self-test image is asked
//! itself, without the host's idea of what is reachable.

use clap::Parser;
use nmiprof::commands::{Outcome, selftest};
use nmiprof::images::Image;
use nmiprof::sweep::{Combination, dispatch};
use nmiprof_tests::{Boot, Failure as Failed, Run, Verdict, qemu};
use nmiprof_wire::{Failure, FatalCause, FaultReturn, NmiEntry, Options};
use serde_json::Value;

/// Placements: the last ones land hundreds of instructions after the return.
const LAST_TICKS: u32 = 1200;

#[derive(Parser)]
struct SelftestCommand {
    #[command(flatten)]
    args: selftest::Args,
}

fn selftest_nmi(flag: &str) -> (Outcome, Vec<Value>) {
    let command = SelftestCommand::parse_from(["selftest", "nmi", "--json", "--quiet", flag]);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = selftest::run(&command.args, &mut out, &mut notes).expect("the sweep can be done");
    (outcome, serde_json::from_slice(&out).expect("a JSON array"))
}

fn check(swept: &Value) {
    assert!(swept["runs"].as_u64() > Some(0), "{swept:#}");
    let is_clean = swept["missed"].as_array().is_some_and(Vec::is_empty) && swept["failures"] == 0;
    assert_eq!(swept["sound"].as_bool(), Some(is_clean), "{swept:#}");
    assert_eq!(swept["mutants"]["caught"], swept["mutants"]["total"], "{swept:#}");
}

fn check_pairs(swept: &Value) {
    let pairs = &swept["pairs"];
    assert!(pairs["total"].as_u64() > Some(500) && pairs["hit"] == pairs["total"], "{pairs:#}");
    assert!(pairs["runs"].as_u64() > Some(10_000) && pairs["failures"] == 0, "{pairs:#}");
}

// cases 1 to 11, 13
#[test]
fn a_third_nmi_at_every_pair_of_the_windows_breaks_no_sound_entry() {
    if let Err(skip) = qemu() {
        return skip.register();
    }
    let (outcome, combinations) = selftest_nmi("--quick");
    assert_eq!(outcome, Outcome::Good, "{combinations:#?}");
    combinations.iter().filter(|swept| swept["sound"] == true).for_each(check_pairs);
}

// cases 1 to 10, 13, 18, 19
#[test]
fn every_entry_is_as_sound_as_it_claims_and_every_known_defect_shows() {
    if let Err(skip) = qemu() {
        return skip.register();
    }
    let (outcome, combinations) = selftest_nmi("--no-pairs");
    combinations.iter().for_each(check);
    let tried: u64 = combinations.iter().filter_map(|swept| swept["mutants"]["total"].as_u64()).sum();
    let defects = |one: &Combination| one.mutants().len() + dispatch::mutants(one).len();
    let known: usize = Combination::all().iter().map(defects).sum();
    println!("{} combinations, {tried} mutants", combinations.len());
    assert_eq!((combinations.len(), tried), (Combination::all().len(), known as u64));
    assert_eq!(outcome, Outcome::Good, "{combinations:#?}");
}

fn sweep(options: &Options<'_>) -> Run {
    let options = Options { sweep_first: 1, sweep_last: LAST_TICKS, selftest: "sweep", ..*options };
    Boot::image(Image::Selftest).options(&options).run()
}

// case 24
#[test]
fn without_iret_no_nmi_nests_and_even_the_naive_entry_is_safe() {
    for nmi_entry in NmiEntry::ALL {
        let options = Options { nmi_entry: *nmi_entry, fault_return: FaultReturn::Ret, ..Options::default() };
        let Some(run) = sweep(&options).passed() else { return };
        let placements = run.record.messages().placements();
        assert_eq!(placements.len(), LAST_TICKS as usize);
        assert!(
            placements.iter().all(|placement| placement.failures == 0 && placement.nested == 0),
            "{options}"
        );
    }
}

#[test]
fn the_naive_entry_breaks_nmi_once_wherever_a_second_nmi_can_reach_it() {
    let naive = Options { nmi_entry: NmiEntry::Naive, unsafe_nmi: true, ..Options::default() };
    let Some(run) = sweep(&naive).passed() else { return };
    let failed = run.record.messages().placements().iter().filter(|placement| placement.failures != 0);
    let once = failed.filter(|placement| placement.failures & Failure::Once.bit() != 0).count();
    println!("NMI-once broken in {once} placements");
    assert!(once > 200, "{once}");
}

#[test]
fn the_image_that_records_has_no_entry_with_a_known_defect() {
    for combination in Combination::all() {
        let Some(mutant) = combination.mutants().first() else { continue };
        let Combination { entry, nested_return, unmask, .. } = combination;
        let words =
            format!("nmi={entry} nested_return={nested_return} unmask={unmask} mutant={}", mutant.name);
        let run = Boot::image(Image::Main).append(&words).run();
        let Some(verdict) = run.verdict() else { return };
        let Verdict::Fail(Failed::GaveUp(report)) = verdict else { panic!("{words}: {verdict}") };
        assert_eq!(report.cause, FatalCause::Configuration, "{words}: {}", report.message);
        assert!(report.message.contains(mutant.name), "{words}: {}", report.message);
    }
}

#[test]
fn a_machine_that_takes_no_interrupt_ends_with_its_budget_of_instructions() {
    let boot = Boot::image(Image::Selftest).append("selftest=spin").qemu_arg("-device").qemu_arg("ib700");
    let run = boot.limit(std::time::Duration::from_secs(180)).run();
    let Some(verdict) = run.verdict() else { return };
    // QEMU resets the machine, as it does for a triple fault.
    assert_eq!(*verdict, Verdict::Fail(Failed::TripleFault));
}
