//! Every source of a timer's NMIs samples, is named, and is passed over with a reason where it does not work.
//!
//! Method: machines that have the sources, or lack one: QEMU's `pc`, whose HPET shares the interval timer's input; `q35`,
//! whose HPET has inputs of its own; either without an HPET; `microvm`, which has none and routes its interval timer
//! differently. That the local APIC refuses a timer that raises NMIs, as hardware does, the self-test image pretends. A
//! line ticks in time, so the number of samples is known: rate times duration. Where time counts instructions the shares
//! of workloads have to be those that the local APIC's timer finds.
//!
//! Under `-icount` QEMU's HPET raises each tick twice; the second is counted as a late NMI.

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_tests::counts::PmuRecord;
use nmiprof_tests::injection::run_with_injection;
use nmiprof_tests::samples::samples;
use nmiprof_tests::shares::{percent, sample_counts};
use nmiprof_tests::{Boot, Completed, Failure, Verdict};
use nmiprof_wire::{FatalCause, NmiCounters, PmuKind, ProcessOutcome};

const LINES: [&str; 2] = ["hpet", "pit"];
const NO_LAPIC: &str = "selftest=no-lapic-nmi";
/// How far the number of samples may be off rate times duration, in percent and in samples.
const RATE_TOLERANCE: (u64, u64) = (2, 3);
const SHARE_TOLERANCE_POINTS: f64 = 4.0;

/// Checks what holds for every sound run, and returns what it says of its PMU.
fn sound(run: &Completed, what: &str) -> PmuRecord {
    let accounts = run.record.accounts();
    let total = accounts.total();
    assert_eq!(accounts.identity(), Identity::Holds, "{what}: {total:?}");
    assert!(!accounts.is_nmi_inconsistent(), "{what}: {total:?}");
    assert_eq!((total.link_lost, total.received), (0, total.overflows), "{what}: nothing is dropped");
    let workloads = run.record.messages().workloads();
    assert!(workloads.iter().all(|workload| workload.wrong_results == 0), "{what}");
    PmuRecord::of(&run.capture)
}

fn nmis(run: &Completed) -> NmiCounters {
    run.record.accounts().total().nmi
}

/// Checks that a run was a timer's, of this name.
fn assert_timer(record: &PmuRecord, name: &str, what: &str) {
    let event = if name == "lapic-timer" { "instructions" } else { "virtual-clock" };
    assert_eq!((record.kind, record.name.as_str()), (PmuKind::Virtual, name), "{what}");
    assert_eq!(record.names(), [event], "{what}: time is never called instructions");
}

fn assert_rate(run: &Completed, expected: u64, what: &str) {
    let (percent, few) = RATE_TOLERANCE;
    let (samples, off_max) = (run.record.samples(), expected * percent / 100 + few);
    assert!(samples.abs_diff(expected) <= off_max, "{what}: {samples} samples, not {expected}");
}

fn refused(boot: Boot, texts: &[&str]) {
    let run = boot.run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Configuration);
    assert!(texts.iter().all(|text| report.message.contains(text)), "{}", report.message);
}

#[test]
fn every_source_samples_at_its_rate_and_finds_the_shares_of_the_workloads() {
    let mut truth = None;
    for (source, name) in [("lapic", "lapic-timer"), ("hpet", "hpet"), ("pit", "pit")] {
        let words =
            format!("source={source} freq=1000 chains=on duration_ns=1500000000 workload=matrix,sort");
        let Some(run) = Boot::image(Image::Main).append(&words).run().passed() else { return };
        let record = sound(&run, source);
        assert_timer(&record, name, source);
        assert_eq!(record.fallback, "", "{source}: it was asked for");
        assert_rate(&run, 1500, source);
        assert_eq!(nmis(&run).unknown, 0, "{source}: every NMI has an owner");
        let counts = sample_counts(&run, ["workloads::matrix", "workloads::sort"]);
        let shares = percent(counts.map(|count| count as u64));
        println!("{source}: {counts:?}, {shares:.2?} %, {:?}, {:?}", nmis(&run), record.counters);
        let truth = *truth.get_or_insert(shares);
        for (share, truth) in shares.iter().zip(truth) {
            assert!(
                (share - truth).abs() <= SHARE_TOLERANCE_POINTS,
                "{source}: {share}, lapic has {truth} %"
            );
        }
    }
}

// case 59
#[test]
fn a_source_that_does_not_work_is_passed_over_with_the_reason() {
    const REFUSED: &str = "the APIC timer raises no NMI here";
    const NO_HPET: &str = "the HPET can't be used: ACPI's table of it: there is none";
    for (machine, name, reasons) in [
        ("pc", "hpet", &[REFUSED][..]),
        ("q35", "hpet", &[REFUSED]),
        ("pc,hpet=off", "pit", &[REFUSED, NO_HPET]),
        ("q35,hpet=off", "pit", &[REFUSED, NO_HPET]),
    ] {
        for pmu in ["auto", "timer"] {
            let words = format!("{NO_LAPIC} pmu={pmu} freq=500 duration_ns=200000000 workload=sort");
            let boot = Boot::image(Image::Selftest).append(&words).qemu_arg("-M").qemu_arg(machine);
            let Some(run) = boot.run().passed() else { return };
            let what = format!("{machine}, pmu={pmu}");
            let record = sound(&run, &what);
            assert_timer(&record, name, &what);
            assert!(reasons.iter().all(|reason| record.fallback.contains(reason)), "{}", record.fallback);
            assert_eq!(record.fallback.contains("no counter counts"), pmu == "auto", "{}", record.fallback);
            assert_rate(&run, 100, &what);
        }
    }
}

// case 59
#[test]
fn a_source_that_was_asked_for_and_does_not_work_is_refused() {
    let selftest = |words: &str| Boot::image(Image::Selftest).append(&format!("{NO_LAPIC} {words}"));
    refused(selftest("source=lapic"), &["the APIC timer raises no NMI here", "no overflow source"]);
    refused(selftest("pmu=model-intel"), &["the APIC timer raises no NMI here", "a model needs one"]);
    let without_hpet = Boot::image(Image::Main).append("source=hpet").qemu_arg("-M").qemu_arg("pc,hpet=off");
    refused(without_hpet, &["the HPET can't be used", "there is none"]);
    // Its interval timer is at another input than its tables say.
    let microvm = selftest("").qemu_arg("-M").qemu_arg("microvm,acpi=on");
    refused(microvm, &["the interval timer can't be used: its line raises no NMI", "no overflow source"]);
    let timeless = Boot::image(Image::Main).qemu_arg("-M").qemu_arg("microvm,acpi=on,pit=off");
    refused(timeless, &["no interval timer", "pit=on"]);
    let without_tables =
        Boot::image(Image::Main).append("source=pit").qemu_arg("-M").qemu_arg("microvm,acpi=off");
    refused(without_tables, &["the interval timer can't be used"]);
}

#[test]
fn a_machine_with_nothing_but_a_local_apic_and_an_interval_timer_samples() {
    let boot = Boot::image(Image::Main).append("duration_ns=100000000 workload=sort");
    let Some(run) = boot.qemu_arg("-M").qemu_arg("microvm,acpi=on").run().passed() else { return };
    assert_timer(&sound(&run, "microvm"), "lapic-timer", "microvm");
}

#[test]
fn words_that_contradict_each_other_are_refused() {
    for (words, texts) in [
        ("pmu=hardware source=hpet", ["source=hpet", "choose pmu=timer"]),
        ("pmu=timer source=pmu", ["source=pmu", "choose pmu=hardware"]),
        ("pmu=model-amd source=pit", ["source=pit", "source=lapic"]),
        ("source=pmu", ["pmu=hardware", "no counter counts"]),
        ("source=hpet job=stat", ["pmu=timer", "choose pmu=model-intel"]),
    ] {
        refused(Boot::image(Image::Main).append(words), &texts);
    }
}

#[test]
fn a_line_ticks_as_often_as_it_is_asked_to() {
    // The interval timer can't tick 10 times a second itself: several of its ticks make an overflow.
    for source in LINES {
        for hz in [10, 19, 997, 5000] {
            let words = format!("source={source} freq={hz} duration_ns=1000000000 workload=sort");
            let Some(run) = Boot::image(Image::Main).append(&words).run().passed() else { return };
            sound(&run, &words);
            assert_rate(&run, hz, &words);
        }
    }
    // Periods are in ticks of the line's clock: 10 ns in QEMU's HPET, 838 ns in an interval timer.
    for (source, period, expected) in [("hpet", 200_000, 250), ("pit", 100_000, 6)] {
        let words = format!("source={source} period={period} duration_ns=500000000 workload=sort");
        let Some(run) = Boot::image(Image::Main).append(&words).run().passed() else { return };
        sound(&run, &words);
        assert_rate(&run, expected, &words);
    }
}

#[test]
fn a_rate_that_could_take_too_much_of_a_cpu_is_refused_with_one_that_can_not() {
    for source in LINES {
        let boot = |words: &str| Boot::image(Image::Main).append(&format!("source={source} {words}"));
        refused(boot("freq=20001"), &["cpu_percent_max=100", "freq=20000"]);
        refused(boot("freq=5100 cpu_percent_max=25"), &["cpu_percent_max=25", "freq=5000"]);
        refused(boot("period=10 cpu_percent_max=25"), &["cpu_percent_max=25", "period="]);
    }
}

#[test]
fn self_nmis_that_merge_with_ticks_are_told_apart() {
    // Every first touch of a ring page sends one, inside the handler of a tick.
    for source in LINES {
        let words = format!(
            "source={source} freq=10000 stress=nest ring_bytes=65536 decommit=2 duration_ns=500000000 workload=sort"
        );
        let Some(run) = Boot::image(Image::Main).append(&words).run().passed() else { return };
        let record = sound(&run, source);
        let nmi = nmis(&run);
        println!("{source}: {nmi:?}, {:?}", record.counters);
        assert_rate(&run, 5000, source);
        assert!(nmi.nested > 10 && nmi.unknown == 0, "{source}: {nmi:?}");
    }
}

#[test]
fn injected_nmis_are_no_ticks() {
    // They come at any time. One in the half period before a tick of the interval timer is taken for it, and the tick's
    // own NMI is a late one; the number of samples is right all the same.
    for source in LINES {
        let words = format!("source={source} freq=1000 duration_ns=3000000000 workload=sort");
        let (run, injected) = run_with_injection(&words);
        let Some(run) = run.passed() else { return };
        let record = sound(&run, source);
        let nmi = nmis(&run);
        println!("{source}: {injected} injected, {nmi:?}, {:?}", record.counters);
        assert_rate(&run, 3000, source);
        assert!(injected > 1000 && nmi.unknown > 100, "{source}: nobody claims them: {nmi:?}");
        assert!(record.counters.late > 0, "{source}: {:?}", record.counters);
    }
}

#[test]
fn the_scheduler_ticks_beside_every_source() {
    // On `pc` both need the interval timer's input, and the scheduler ticks by the real-time clock.
    for (machine, source) in [("pc", "hpet"), ("pc", "pit"), ("q35", "hpet")] {
        let words = format!("source={source} freq=10000 tick_hz=2000 duration_ns=20000000000");
        let boot = Boot::image(Image::Main).append(&words).qemu_arg("-M").qemu_arg(machine);
        let Some(run) = boot.user_program("sieve 5 30").user_program("tree 1000 300").run().passed() else {
            return;
        };
        let what = format!("{source} on {machine}");
        sound(&run, &what);
        let outcomes: Vec<_> = run.record.processes().all().iter().map(|process| process.outcome).collect();
        assert_eq!(outcomes, [Some(ProcessOutcome::Exited(0)); 2], "{what}");
        let samples = samples(&run.capture);
        let switches = samples.windows(2).filter(|pair| pair[0].process != pair[1].process).count();
        assert!(switches >= 10, "{what}: {switches} switches in {} samples", samples.len());
    }
}

#[test]
fn lines_work_where_time_passes_by_itself() {
    for source in LINES {
        let words = format!("source={source} freq=200 duration_ns=500000000 workload=sort");
        let Some(run) = Boot::image(Image::Main).append(&words).without_icount().run().passed() else {
            return;
        };
        let record = sound(&run, source);
        println!("{source}: {} samples, {:?}, {:?}", run.record.samples(), nmis(&run), record.counters);
        assert_timer(&record, source, source);
        // A busy host lets ticks merge.
        let ticks = run.record.samples() + record.counters.merged;
        assert!(run.record.samples() > 5 && ticks.abs_diff(100) <= 15, "{source}: {ticks} ticks");
    }
}
