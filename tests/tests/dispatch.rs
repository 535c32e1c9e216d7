//! Every NMI is accounted for, whoever raised it.
//!
//! Method, from outside: NMIs injected through QEMU's monitor, as fast as it takes them, while the kernel samples.
//! They arrive at the CPU's NMI pin, no handler claims them, and many merge; what counts is that the two
//! equations between the NMI counters, and the accounting identity, hold all the same.
//!
//! Method, from inside: the self-test image raises NMIs at known instructions and compares what the dispatcher
//! counted with what the situation allows. A situation that did not arise has no hits, and fails.
//!
//! What can't arise here: another CPU that starts (case 41), looks at port 0x61 at the same time (case 50) or is
//! parked (case 53): the kernel has one CPU. For the port the thread holds its lock instead. No emulated device
//! raises SERR or IOCHK: the self-test image raises the port's status bits itself, behind the same interface as the
//! chipset's. Late NMIs (case 52) are in `pmu_limits.rs`.

use std::collections::BTreeSet;

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof::sweep::dispatch::CASES;
use nmiprof_tests::injection::run_with_injection;
use nmiprof_tests::{Boot, Completed, Failure, Verdict};
use nmiprof_wire::{CaseReport, Dispatch, FatalCause, Options};

const INJECTED: u64 = 100_000;

// cases 45, 47, 51
#[test]
fn a_hundred_thousand_injected_nmis_are_accounted_for() {
    let words = "duration_ns=14000000000 period=200003 stress=nest";
    inject_and_account(words, INJECTED);
}

// cases 45, 47
#[test]
fn injected_nmis_are_accounted_for_when_the_dispatcher_stops_early() {
    let words = "duration_ns=3000000000 period=200003 stress=nest dispatch=stop-early";
    inject_and_account(words, INJECTED / 20);
}

fn inject_and_account(words: &str, injected_min: u64) {
    let (run, injected) = run_with_injection(words);
    let Some(run) = run.passed() else { return };
    let accounts = run.record.accounts();
    let nmi = accounts.total().nmi;
    println!("{injected} injected; {nmi:?}");
    assert!(injected >= injected_min, "only {injected} injected");
    assert_eq!(accounts.identity(), Identity::Holds);
    assert!(!accounts.is_nmi_inconsistent(), "{nmi:?}");
    assert!(nmi.unknown > 100, "no handler claims them: {nmi:?}");
    assert!(nmi.unknown < injected, "they merge: {nmi:?}");
}

// case 51
#[test]
fn an_unknown_nmi_stops_the_machine_where_that_is_the_policy() {
    let (run, injected) = run_with_injection("duration_ns=3000000000 unknown=stop");
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}, {injected} injected") };
    assert_eq!(report.cause, FatalCause::Invariant);
    assert!(report.message.contains("unknown NMI"), "{}", report.message);
}

/// Boots with the dispatcher's situations, whose names and counters go to the test's output.
fn staged(options: &Options<'_>) -> Option<(Completed, Vec<CaseReport>)> {
    let options = Options { selftest: "dispatch", ..*options };
    let run = Boot::image(Image::Selftest).options(&options).run().passed()?;
    let cases = run.record.messages().cases().to_vec();
    assert!(!run.record.accounts().is_nmi_inconsistent(), "{options}");
    Some((run, cases))
}

fn failed(cases: &[CaseReport]) -> Vec<u16> {
    cases.iter().filter(|report| report.failures != 0).map(|report| report.case).collect()
}

fn of_case(cases: &[CaseReport], number: u16) -> impl Iterator<Item = &CaseReport> {
    cases.iter().filter(move |report| report.case == number)
}

// cases 40, 41, 42, 44, 45, 46, 47, 48, 49, 50, 51
#[test]
fn every_staged_situation_has_its_one_right_outcome_however_the_handlers_are_asked() {
    for &dispatch in Dispatch::ALL {
        let options = Options { dispatch, ..Options::default() };
        let Some((run, cases)) = staged(&options) else { return };
        assert_eq!(failed(&cases), [0; 0], "{dispatch}");
        let reported: BTreeSet<u16> = cases.iter().map(|report| report.case).collect();
        assert_eq!(reported, CASES.into(), "{dispatch}");
        assert!(cases.iter().all(|report| report.hits > 0), "{dispatch}: {cases:?}");
        // The overflows were real samples.
        assert_eq!(run.record.accounts().identity(), Identity::Holds, "{dispatch}");
        let overflows = if dispatch == Dispatch::WalkAll { 2 } else { 3 };
        assert_eq!(run.record.accounts().total().overflows, overflows, "{dispatch}");
    }
}

// case 44
#[test]
fn two_events_and_the_nmi_that_was_latched_for_one_are_a_handled_pair_and_a_swallowed_nmi() {
    let Some((_, cases)) = staged(&Options::default()) else { return };
    let pair = of_case(&cases, 44).next().expect("it was staged");
    assert_eq!(
        (pair.arrivals, pair.runs, pair.hits),
        (2, 2, 2),
        "the second one interrupted the same address"
    );
}

// case 49
#[test]
fn an_ipi_that_merged_with_an_overflow_is_lost_by_stop_early_and_kept_by_walk_all() {
    for (dispatch, nmis_until_it_was_claimed) in [(Dispatch::WalkAll, 1), (Dispatch::StopEarly, 3)] {
        let Some((_, cases)) = staged(&Options { dispatch, ..Options::default() }) else { return };
        let arrivals: u64 = of_case(&cases, 49).map(|report| report.arrivals).sum();
        assert_eq!(arrivals, nmis_until_it_was_claimed, "{dispatch}");
        assert_eq!(of_case(&cases, 49).map(|report| report.failures).sum::<u32>(), 0, "{dispatch}");
    }
}

// case 41
#[test]
fn nmis_come_at_every_instruction_that_loads_a_table_and_all_over_a_frame_that_is_sent() {
    let Some((run, cases)) = staged(&Options::default()) else { return };
    let [loading, sending] = of_case(&cases, 41).collect::<Vec<_>>()[..] else { panic!("{cases:?}") };
    assert_eq!(loading.hits, 10, "addresses, from `lgdt` to `lidt`");
    assert!(sending.hits > 100, "{sending:?}");
    let lines =
        run.record.messages().logs().iter().filter(|line| line.text.contains("are whole all the same"));
    assert_eq!(lines.count(), 16);
    assert_eq!(run.record.damage().frames, 0, "every frame is whole");
}

// case 41
#[test]
fn a_panic_is_reported_whole_while_nmis_come() {
    let run = Boot::image(Image::Selftest).append("selftest=panic-in-rain").run();
    let Some(verdict) = run.verdict() else { return };
    // The kernel leaves with another code if hardly any NMI came meanwhile.
    let Verdict::Fail(Failure::Panic(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.message, "a panic on request, in a rain of NMIs");
    assert!(report.file.ends_with("selftest/image.rs") && report.line > 0, "{}:{}", report.file, report.line);
}

// case 43
#[test]
fn an_nmi_vector_without_its_own_stack_is_refused() {
    let run = Boot::image(Image::Selftest).append("selftest=no-nmi-stack").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Invariant);
    assert!(report.message.contains("vector 2 has no stack of its own"), "{}", report.message);
}

// cases 44, 45
#[test]
fn a_broken_dispatcher_is_caught_by_the_situation_that_it_gets_wrong() {
    for (mutant, case) in
        [("dispatch-keep-swallow", 45), ("dispatch-wrong-rip", 44), ("dispatch-always-b2b", 45)]
    {
        for &dispatch in Dispatch::ALL {
            let Some((_, cases)) = staged(&Options { mutant, dispatch, ..Options::default() }) else {
                return;
            };
            let failed = failed(&cases);
            println!("{mutant}, {dispatch}: {failed:?}");
            assert!(failed.contains(&case), "{mutant}, {dispatch}: {failed:?}");
        }
    }
}

#[test]
fn the_main_image_knows_no_broken_dispatcher() {
    let run = Boot::image(Image::Main).append("mutant=dispatch-keep-swallow").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Configuration);
}
