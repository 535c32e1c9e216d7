//! Goal: the local APIC works by its MSRs (x2APIC) as it does in memory (xAPIC).
//!
//! Method: the same CPUs with and without x2APIC in CPUID. The kernel has to take the mode that there is, to leave the
//! other interface alone, and to sample as well; the self-NMI, the entry for performance counters and the timer are
//! MSRs then, whose reserved bits raise #GP. A window sweep runs in either mode.

use nmiprof::images::Image;
use nmiprof_pc::harness::{config, run};
use nmiprof_pc::nest::{Bench, Plan};
use nmiprof_pc::{Config, IretFault, Stopped};
use nmiprof_pmu::profiles::{NEHALEM, PENRYN, Profile, QEMU64, SKYLAKE, ZEN2, ZEN4};
use nmiprof_wire::{ExitCode, PmuKind};

const WORDS: &str = "duration_ns=20000000 period=5003 workload=sort,chase tick_hz=2000 stress=nest";

#[test]
fn the_kernel_takes_the_mode_that_there_is_and_samples_alike_in_both() {
    for profile in [&PENRYN, &NEHALEM, &SKYLAKE, &ZEN2, &ZEN4] {
        let samples = [false, true].map(|x2apic| {
            let run = run(&Config { x2apic: Some(x2apic), ..config(profile, WORDS) });
            let what = format!("{} x2APIC {x2apic}", profile.id);
            run.assert_sound(&what);
            let watch = run.machine.watch();
            assert_eq!(watch.msrs.is_x2apic(), x2apic, "{what}");
            assert_eq!(watch.msrs.apic_strays, 0, "{what}: registers in memory, while they are MSRs");
            assert_eq!(run.record.run().expect("it introduced itself").pmu_kind, PmuKind::Hardware, "{what}");
            let nmi = run.nmi();
            assert!(nmi.unknown == 0 && nmi.nested > 0, "{what}: {nmi:?}");
            println!("{what}: {} samples, {nmi:?}", run.samples.len());
            run.samples.len()
        });
        let [fewer, more] = [samples[0].min(samples[1]), samples[0].max(samples[1])];
        assert!(fewer > 100 && more - fewer <= more / 10, "{}: {samples:?}", profile.id);
    }
}

#[test]
fn a_timer_that_refuses_nmis_with_a_fault_is_no_source_and_no_crash() {
    // Without a line either: nothing is left that could take its place.
    let config = config(&QEMU64, "duration_ns=1000000");
    let run = run(&Config { x2apic: Some(true), has_io_apic: false, ..config });
    let said = String::from_utf8_lossy(&run.capture).into_owned();
    assert_eq!(run.stopped, Stopped::Exit(ExitCode::Configuration as u32), "{said}");
    assert!(said.contains("no counter counts"), "{said}");
}

fn sweep(profile: &'static Profile, x2apic: bool) {
    let mut bench = Bench::boot(profile, Image::Main, "nmi=rostedt unmask=early");
    assert_eq!(bench.machine().watch().msrs.is_x2apic(), x2apic, "{}", profile.id);
    let mut stage = bench.stage("nmi_rostedt_early", IretFault::Unmasks);
    let places = stage.trace().len() as u64;
    for second in 0..places {
        assert_eq!(stage.play(Plan { second, more: 0, third: None }), Ok(()), "{} at {second}", profile.id);
    }
    println!("{}: {places} places", profile.id);
}

#[test]
fn a_second_nmi_at_any_instruction_does_no_harm_in_either_mode() {
    sweep(&NEHALEM, false);
    sweep(&SKYLAKE, true);
    sweep(&ZEN4, true);
}
