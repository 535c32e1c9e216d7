//! Goal: a PMU that is not what CPUID says is found out by the kernel on the machine itself, or is survived; and a PMU
//! whose NMIs come late loses none.
//!
//! Method: machines with a flaw each (those of the model), and machines whose NMIs take their time. What the kernel
//! says and how it ends is checked; no run may hang: its limit is a number of instructions. What takes the place of a PMU
//! that is found out is `fallback.rs`'s matter.

use nmiprof_pc::harness::{Run, config, run};
use nmiprof_pc::{Config, Latency, Stopped};
use nmiprof_pmu::Counter;
use nmiprof_pmu::model::Flaw;
use nmiprof_pmu::profiles::{PENRYN, Profile, SKYLAKE, ZEN2, ZEN4};
use nmiprof_wire::ExitCode;

const WORDS: &str = "duration_ns=20000000 period=5003 workload=sort,chase";

fn flawed(profile: &'static Profile, flaw: Flaw, words: &str) -> Run {
    run(&Config { flaw: Some(flaw), ..config(profile, words) })
}

/// Says that the kernel gave up, and why. A slow clock makes the waits for interrupts that never come short.
fn assert_refused(config: &Config, reasons: &[&str]) {
    let what = format!("{} {:?} {}", config.profile.id, config.flaw, config.command_line);
    let run = run(&Config { clock_hz: 20_000_000, ..config.clone() });
    let said = String::from_utf8_lossy(&run.capture).into_owned();
    assert_eq!(run.stopped, Stopped::Exit(ExitCode::Configuration as u32), "{what}: {said}");
    assert!(reasons.iter().all(|reason| said.contains(reason)), "{what}: {said}");
}

// case 59
#[test]
fn a_pmu_that_is_announced_and_dead_is_refused_where_nothing_else_may_be_used() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        for insisting in ["pmu=hardware", "source=pmu"] {
            let config = config(profile, &format!("{WORDS} {insisting}"));
            let config = Config { flaw: Some(Flaw::Dead), ..config };
            assert_refused(&config, &["pmu=hardware: ", "no counter counts", "choose pmu=auto"]);
        }
    }
}

// case 59
#[test]
fn a_pmu_that_counts_and_never_interrupts_is_refused_where_nothing_else_may_be_used() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        for flaw in [Flaw::Silent, Flaw::MaskSticks] {
            let config = Config { flaw: Some(flaw), ..config(profile, &format!("{WORDS} pmu=hardware")) };
            assert_refused(&config, &["pmu=hardware: ", "no counter interrupts", "choose pmu=auto"]);
        }
    }
}

// case 59
#[test]
fn a_machine_on_which_nothing_is_left_is_refused_with_every_reason() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let config =
            Config { flaw: Some(Flaw::Dead), has_io_apic: false, has_hpet: false, ..config(profile, WORDS) };
        assert_refused(
            &config,
            &[
                "is announced, but no counter counts",
                "the APIC timer raises no NMI here",
                "the HPET can't be used: no ACPI root pointer",
                "the interval timer can't be used: no ACPI root pointer",
                "no overflow source",
            ],
        );
    }
}

#[test]
fn one_broken_counter_is_left_out_and_the_others_do_the_work() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        let broken = Counter::general(1).expect("exists");
        let run = flawed(profile, Flaw::Stuck(broken), WORDS);
        run.assert_sound(profile.id);
        assert!(run.samples.len() > 100, "{}: {} samples", profile.id, run.samples.len());
        let tested = flawed(profile, Flaw::Stuck(broken), "job=pmu-test");
        let failed: Vec<_> =
            tested.record.pmu().tests().iter().filter(|report| report.counted == 0).collect();
        assert_eq!(failed.len(), 1, "{}: {failed:?}", profile.id);
        assert_eq!(failed[0].counter, broken.number(), "{}", profile.id);
    }
}

#[test]
fn what_else_a_pmu_may_lie_about_ends_in_a_verdict() {
    let flaws = [
        (&PENRYN, Flaw::NoGlobal),
        (&SKYLAKE, Flaw::StatusHidden),
        (&SKYLAKE, Flaw::StatusSticks),
        (&SKYLAKE, Flaw::FreezeForgotten),
        (&SKYLAKE, Flaw::NoDebugControl),
        (&SKYLAKE, Flaw::FullWidthForgotten),
        (&SKYLAKE, Flaw::RaisesOnUnmask),
        (&ZEN4, Flaw::StatusHidden),
        (&ZEN4, Flaw::StatusSticks),
        (&ZEN4, Flaw::FreezeForgotten),
    ];
    for (profile, flaw) in flaws {
        let run = flawed(profile, flaw, WORDS);
        let what = format!("{} {flaw:?}", profile.id);
        println!("{what}: {:?}, {} samples, NMIs {:?}", run.stopped, run.samples.len(), run.nmi());
        if run.stopped == Stopped::Exit(ExitCode::Success as u32) {
            run.assert_sound(&what);
        } else {
            let refused = Stopped::Exit(ExitCode::Configuration as u32);
            assert_eq!(run.stopped, refused, "{what}: {}", String::from_utf8_lossy(&run.capture));
        }
    }
}

#[test]
fn nmis_that_come_late_lose_no_overflow_and_are_all_known() {
    let mut late = 0;
    for profile in [&PENRYN, &SKYLAKE, &ZEN2, &ZEN4] {
        for (least, spread) in [(3, 0), (40, 0), (700, 0), (0, 700)] {
            let words = format!("{WORDS} events=instructions,cycles tick_hz=2000");
            let run = run(&Config { latency: Latency { least, spread }, ..config(profile, &words) });
            let what = format!("{} {least} to {}", profile.id, least + spread);
            run.assert_sound(&what);
            let nmi = run.nmi();
            assert_eq!(nmi.unknown, 0, "{what}: {nmi:?}");
            late += nmi.swallowed;
            late += run.record.pmu().counters().map(|counters| counters.late).sum::<u64>();
            println!("{what}: {} samples, {nmi:?}", run.samples.len());
        }
    }
    println!(
        "{late} NMIs came for an overflow that another one had brought, or after their counter was stopped"
    );
    assert!(late > 0, "NMIs did come late");
}
