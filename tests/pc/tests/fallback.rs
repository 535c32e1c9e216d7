//! Goal: where a PMU lies, the same image falls back to a timer of the machine, its samples are sound, and `nmiprof info`
//! names the liar and the reason.
//!
//! Method: machines with a flaw each, whose local APIC lets no timer raise NMIs (as hardware), with an I/O APIC and
//! ACPI tables, with and without a HPET. The machine knows when its lines sent NMIs: each of them has to be a sample, with
//! its time, and the kernel's accounts have to be the machine's. What `info` says is what the command prints of the
//! capture. The clock is slow, for the kernel waits a tenth of a second for interrupts of each counter that never come.
//!
//! A line ticks in time, so the number of samples is known: the duration divided by the period, and at most those of one
//! more step of a workload.

use std::ops::RangeInclusive;

use nmiprof::commands::info::{self, Args};
use nmiprof::commands::input::InputArgs;
use nmiprof::commands::{Error, Outcome};
use nmiprof::images::Example;
use nmiprof_pc::devices::pit::PIT_HZ;
use nmiprof_pc::harness::{Run, config, finish, run};
use nmiprof_pc::{Config, Machine, Stopped};
use nmiprof_pmu::Counter;
use nmiprof_pmu::model::Flaw;
use nmiprof_pmu::profiles::{Profile, QEMU64, SKYLAKE, ZEN2, ZEN4};
use nmiprof_program::archive;
use nmiprof_wire::{ExitCode, PmuKind, ProcessOutcome};

const CLOCK_HZ: u64 = 20_000_000;
const DURATION_CYCLES: u64 = CLOCK_HZ / 10;
/// A tenth of a second, 2000 samples in each whole one.
const WORDS: &str = "duration_ns=100000000 freq=2000 workload=hash,parse";
/// Longest step of a workload: the run ends after the one in which its time is over.
const STEP_CYCLES_MAX: u64 = 1_500_000;
/// Longest way from a line to the time of a sample: a fifth of a period. The first touch of a page comes before.
const LATENCY_CYCLES_MAX: u64 = 2_000;
/// NMIs of a line in its self-test: those that it waits for, and one that may come before it stops.
const TESTED: RangeInclusive<usize> = 20..=21;

/// One CPU of each interface, and the name that the kernel has for that.
const CPUS: [(&Profile, &str); 3] =
    [(&SKYLAKE, "intel-v4"), (&ZEN2, "amd-core-extension"), (&ZEN4, "amd-perfmon-v2")];

/// Each liar whose counters are all useless, and what is said of it.
const LIARS: [(Flaw, &str); 3] = [
    (Flaw::Dead, "is announced, but no counter counts"),
    (Flaw::Silent, "is announced, but no counter interrupts"),
    (Flaw::MaskSticks, "is announced, but no counter interrupts"),
];
const NO_LAPIC: &str = "the APIC timer raises no NMI here";
const NO_HPET: &str = "the HPET can't be used: ACPI's table of it: there is none";

/// A line, and the cycles between two NMIs of it at 2000 a second.
#[derive(Clone, Copy)]
struct Line {
    name: &'static str,
    period_cycles: f64,
}

/// Both devices count whole ticks of their clocks.
const HPET: Line = Line { name: "hpet", period_cycles: cycles(14_318_179 / 2000, 1e15 / 69_841_279.0) };
const PIT: Line = Line { name: "pit", period_cycles: cycles(PIT_HZ / 2000, PIT_HZ as f64) };

const fn cycles(ticks: u64, hz: f64) -> f64 {
    ticks as f64 / hz * CLOCK_HZ as f64
}

fn slow(profile: &'static Profile, words: &str) -> Config {
    Config { clock_hz: CLOCK_HZ, ..config(profile, words) }
}

/// Returns what the command says of a run.
fn info(run: &Run) -> Result<String, Error> {
    let directory = tempfile::tempdir().expect("a place for the capture");
    let input = directory.path().join("capture");
    std::fs::write(&input, &run.capture).expect("it can be written");
    let input = InputArgs { input, vmlinux: None, programs: Vec::new() };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = info::run(&Args { input, json: false }, &mut out, &mut notes)?;
    let said = String::from_utf8([out, notes].concat()).expect("text");
    assert_eq!(outcome, Outcome::Good, "{said}");
    Ok(said)
}

/// Checks that a line's NMIs were the samples, each of them, and at its time.
fn assert_samples_are_the_lines(run: &Run, line: Line, what: &str) {
    run.assert_sound(what);
    let about = run.record.run().expect("it introduced itself");
    assert_eq!((about.pmu_kind, about.pmu_name.as_str()), (PmuKind::Virtual, line.name), "{what}");
    let sent = run.machine.watch().devices.line_nmis();
    let tested = sent.len() - run.samples.len();
    assert!(
        TESTED.contains(&tested),
        "{what}: {} NMIs of the line, {} samples",
        sent.len(),
        run.samples.len()
    );
    let sampled = &sent[tested..];
    for (index, (sent, sample)) in sampled.iter().zip(&run.samples).enumerate() {
        let due = sampled[0] as f64 + index as f64 * line.period_cycles;
        assert!((*sent as f64 - due).abs() <= 1.0, "{what}: NMI {index} at {sent}, not {due}");
        let latency = sample.time.checked_sub(*sent);
        assert!(
            latency.is_some_and(|cycles| cycles <= LATENCY_CYCLES_MAX),
            "{what}: sample {index} at {}, its NMI at {sent}",
            sample.time
        );
    }
}

/// Checks that the kernel's accounts of NMIs are the machine's, and that it knows them all.
fn assert_accounts(run: &Run, what: &str) {
    let (watch, nmi) = (run.machine.watch(), run.nmi());
    let sent = watch.devices.line_nmis().len() as u64;
    assert_eq!((watch.pmis, watch.nmi.merged), (0, 0), "{what}: none of the PMU, and none was lost");
    assert_eq!(sent + watch.own_nmis, nmi.entries, "{what}: of the line and of the kernel itself: {nmi:?}");
    assert_eq!((nmi.handled, nmi.unknown, nmi.swallowed), (nmi.runs, 0, 0), "{what}: {nmi:?}");
    let late: u64 = run.record.pmu().counters().map(|counters| counters.late + counters.merged).sum();
    assert_eq!(late, 0, "{what}: no tick was late or merged with another");
}

/// Checks that the samples are as many as the duration in cycles asks for.
fn assert_number(run: &Run, line: Line, duration: u64, what: &str) {
    let periods_in = |cycles: u64| (cycles as f64 / line.period_cycles).floor();
    let expected = periods_in(duration)..=periods_in(duration + STEP_CYCLES_MAX);
    let samples = run.samples.len();
    assert!(expected.contains(&(samples as f64)), "{what}: {samples} samples, not {expected:?}");
}

/// Checks that the samples lie in the workloads.
fn assert_places(run: &Run, what: &str) {
    let samples = run.samples.len();
    let functions = run.by_function(0);
    let of = |name: &str| {
        functions.iter().filter(|(at, _)| at.contains(name)).map(|(_, count)| count).sum::<u64>()
    };
    let workloads = [of("workloads::hash"), of("workloads::parse")];
    println!("{what}: {samples} samples, {workloads:?} in the workloads");
    assert!(workloads.iter().all(|count| *count > 0), "{what}: {functions:?}");
    assert!(workloads.iter().sum::<u64>() * 10 >= samples as u64 * 9, "{what}: {functions:?}");
}

/// Checks that a liar was passed over for a line, and that `info` says so.
fn assert_falls_back(config: &Config, line: Line, reasons: &[&str]) {
    let what = format!("{} {:?} {}", config.profile.id, config.flaw, line.name);
    let run = run(config);
    assert_samples_are_the_lines(&run, line, &what);
    assert_accounts(&run, &what);
    assert_number(&run, line, DURATION_CYCLES, &what);
    assert_places(&run, &what);
    let said = info(&run).expect("a capture");
    for about in [format!("# PMU: virtual ({}): ", line.name), format!("# CPUs: 1 ({})", config.profile.name)]
    {
        assert!(said.lines().any(|line| line.starts_with(&about)), "{what}: {about}: {said}");
    }
    let why = said.lines().find(|line| line.starts_with("# not a better PMU, because: "));
    let why = why.unwrap_or_else(|| panic!("{what}: {said}"));
    assert!(reasons.iter().all(|reason| why.contains(reason)), "{what}: {why}");
}

// case 59
#[test]
fn a_liar_is_named_and_the_hpet_samples_in_its_place() {
    for (profile, interface) in CPUS {
        for (flaw, reason) in LIARS {
            let config = Config { flaw: Some(flaw), ..slow(profile, WORDS) };
            assert_falls_back(&config, HPET, &[&format!("{interface} {reason}"), NO_LAPIC]);
        }
    }
}

// case 59
#[test]
fn without_a_hpet_the_interval_timer_samples_and_what_was_passed_over_is_named() {
    // Each liar and each CPU once: which line it is does not depend on the two.
    for ((profile, interface), (flaw, reason)) in CPUS.into_iter().zip(LIARS) {
        let config = Config { flaw: Some(flaw), has_hpet: false, ..slow(profile, WORDS) };
        assert_falls_back(&config, PIT, &[&format!("{interface} {reason}"), NO_LAPIC, NO_HPET]);
    }
}

// case 59
#[test]
fn a_pmu_that_forgets_what_is_written_is_passed_over_too() {
    let reason = "amd-legacy is announced, but no counter counts";
    for (line, has_hpet) in [(HPET, true), (PIT, false)] {
        let config = Config { has_hpet, ..slow(&QEMU64, WORDS) };
        assert_falls_back(&config, line, &[reason, NO_LAPIC]);
    }
}

#[test]
fn a_line_can_be_chosen_where_the_pmu_is_sound_in_both_modes_of_the_local_apic() {
    for (line, x2apic) in [(HPET, true), (HPET, false), (PIT, true), (PIT, false)] {
        let what = format!("{}, x2APIC {x2apic}", line.name);
        let config = slow(&SKYLAKE, &format!("{WORDS} source={}", line.name));
        let run = run(&Config { x2apic: Some(x2apic), ..config });
        assert_eq!(run.machine.watch().msrs.is_x2apic(), x2apic, "{what}");
        assert_samples_are_the_lines(&run, line, &what);
        assert_accounts(&run, &what);
        assert_number(&run, line, DURATION_CYCLES, &what);
        assert_places(&run, &what);
        let said = info(&run).expect("a capture");
        assert!(!said.contains("not a better PMU"), "{what}: it was asked for: {said}");
    }
}

#[test]
fn the_longer_a_run_is_the_closer_is_its_number_of_samples_to_rate_times_duration() {
    for line in [HPET, PIT] {
        let words = format!("duration_ns=500000000 freq=2000 workload=hash source={}", line.name);
        let run = run(&slow(&ZEN2, &words));
        assert_samples_are_the_lines(&run, line, line.name);
        assert_number(&run, line, CLOCK_HZ / 2, line.name);
        println!("{}: {} samples in half a second", line.name, run.samples.len());
    }
}

#[test]
fn where_nothing_is_left_info_shows_every_reason() {
    let config = Config { flaw: Some(Flaw::Dead), has_io_apic: false, ..slow(&ZEN4, WORDS) };
    let run = run(&config);
    assert_eq!(run.stopped, Stopped::Exit(ExitCode::Configuration as u32));
    let why = info(&run).expect_err("the kernel gave up before it described a run").to_string();
    let lines = ["the HPET can't be used", "the interval timer can't be used"];
    for reason in [LIARS[0].1, NO_LAPIC, lines[0], lines[1], "no overflow source; run on"] {
        assert!(why.contains(reason), "{reason}: {why}");
    }
}

#[test]
fn what_a_line_can_not_count_is_refused_and_not_made_up() {
    for words in ["job=stat events=cycles,branches", "events=cycles duration_ns=1000000"] {
        let run = run(&Config { flaw: Some(Flaw::Dead), ..slow(&SKYLAKE, words) });
        assert_eq!(run.stopped, Stopped::Exit(ExitCode::Configuration as u32), "{words}: {}", run.log());
        let why = info(&run).expect_err("no run").to_string();
        for reason in [LIARS[0].1, "a timer alone can't count these events", NO_LAPIC, "a model needs one"] {
            assert!(why.contains(reason), "{words}: {reason}: {why}");
        }
    }
}

#[test]
fn a_pmu_with_one_broken_counter_goes_on_without_it_and_info_says_which() {
    for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
        for number in [1, 3] {
            let flaw = Flaw::Stuck(Counter::general(number).expect("exists"));
            let run = run(&Config {
                flaw: Some(flaw),
                ..slow(profile, "duration_ns=20000000 period=5003 workload=sort")
            });
            run.assert_sound(profile.id);
            let said = info(&run).expect("a capture");
            assert!(said.contains("# PMU: hardware ("), "{}: {said}", profile.id);
            let named: Vec<_> = said.lines().filter(|line| line.contains("is left out")).collect();
            let text = format!(": counter {number} is left out: it does not count");
            assert!(
                matches!(named[..], [line] if line.contains("warning: ") && line.ends_with(&text)),
                "{named:?}"
            );
        }
    }
}

fn two_programs() -> Vec<u8> {
    let mut module = Vec::new();
    for (number, words) in [["split", "20"], ["split", "20"]].into_iter().enumerate() {
        let example = Example::find(words[0]).expect("an embedded program");
        archive::push(&mut module, number, &words, example.elf).expect("sound arguments");
    }
    archive::finish(&mut module).expect("it fits");
    module
}

#[test]
fn programs_are_sampled_and_take_turns_whichever_line_is_the_source() {
    // The interval timer can't tick for both: there the scheduler has the real-time clock, and the power of two below.
    for (line, has_hpet, tick_hz) in [(HPET, true, 500), (PIT, false, 256)] {
        let words = "duration_ns=20000000000 freq=2000 tick_hz=500";
        let config =
            Config { flaw: Some(Flaw::Dead), has_hpet, module: two_programs(), ..slow(&SKYLAKE, words) };
        let run = run(&config);
        assert_samples_are_the_lines(&run, line, line.name);
        let outcomes: Vec<_> = run.record.processes().all().iter().map(|process| process.outcome).collect();
        assert_eq!(outcomes, [Some(ProcessOutcome::Exited(0)); 2], "{}", line.name);
        let switches = run.samples.windows(2).filter(|pair| pair[0].process != pair[1].process).count();
        let inside = run.samples.iter().filter(|sample| sample.process != 0).count();
        println!("{}: {switches} switches, {inside} of {} samples in programs", line.name, run.samples.len());
        // A sample at least between two ticks: each tick is a switch, but for those before and after the programs; and so is
        // the end of each program.
        let ticks = run.samples.len() * tick_hz / 2000;
        assert!((ticks * 9 / 10..=ticks + 3).contains(&switches), "{}: {switches} of {ticks}", line.name);
        assert!(inside * 5 >= run.samples.len() * 4, "{}", line.name);
    }
}

#[test]
fn nmis_of_the_kernel_itself_inside_those_of_a_line_are_told_apart() {
    // Every first touch of a ring page sends one, inside the handler of a tick.
    for line in [HPET, PIT] {
        let words = format!("{WORDS} source={} stress=nest ring_bytes=65536 decommit=2", line.name);
        let run = run(&slow(&SKYLAKE, &words));
        assert_samples_are_the_lines(&run, line, line.name);
        let nmi = run.nmi();
        assert!(nmi.nested > 0 && nmi.unknown == 0, "{}: {nmi:?}", line.name);
    }
}

#[test]
fn nmis_of_somebody_else_are_no_ticks() {
    const OTHERS: u64 = 100;
    const SEED: u64 = 0x5eed;
    for line in [HPET, PIT] {
        let what = format!("{}, seed {SEED:#x}", line.name);
        let mut machine = Machine::new(&slow(&SKYLAKE, &format!("{WORDS} source={}", line.name)));
        while machine.watch().devices.line_nmis().len() <= TESTED.end() + 10 {
            assert_eq!(machine.run(10_000), Stopped::Limit, "{what}");
        }
        let mut random = SEED;
        for _ in 0..OTHERS {
            // The constants of Knuth's MMIX.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            assert_eq!(machine.run(3_000 + (random >> 32) % 4_000), Stopped::Limit, "{what}");
            assert!(machine.pull_nmi_pin(), "{what}: LINT1 lets it through");
        }
        let run = finish(machine);
        run.assert_sound(&what);
        let (watch, nmi) = (run.machine.watch(), run.nmi());
        let tested = watch.devices.line_nmis().len() - run.samples.len();
        assert!(TESTED.contains(&tested), "{what}: a sample for each tick, and none else");
        // One that comes just after a tick, or in its place, is claimed as that tick's own NMI.
        let late: u64 = run.record.pmu().counters().map(|counters| counters.late).sum();
        println!("{what}: {} unknown, {late} late, {} merged", nmi.unknown, watch.nmi.merged);
        assert_eq!(nmi.unknown + late + watch.nmi.merged, OTHERS, "{what}: {nmi:?}");
        assert!(nmi.unknown > 0, "{what}");
    }
}
