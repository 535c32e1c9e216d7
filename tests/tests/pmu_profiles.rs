//! Every processor that a model can be, and the CPUs of QEMU, which have no counters.
//!
//! Method: a table of all profiles of `nmiprof_pmu::profiles`. Each boots, all of its counters have to pass the
//! self-test (they count a known piece of work, and interrupt), and two events are sampled. The CPUs of QEMU announce
//! nothing, or counters that forget what is written to them: the kernel has to find that out, to say so by name, and to
//! count with something else.

use nmiprof::images::Image;
use nmiprof_tests::counts::{PmuRecord, counted};
use nmiprof_tests::{Boot, Failure, Verdict};
use nmiprof_wire::{CounterVerdict, FatalCause, PmuKind};

/// Vendor of the model, profile, what the driver is called, general and fixed counters.
const PROFILES: [(&str, &str, &str, u8, u8); 16] = [
    ("intel", "core-duo", "intel-v1", 2, 0),
    ("intel", "penryn", "intel-v2", 2, 3),
    ("intel", "nehalem", "intel-v3", 4, 3),
    ("intel", "sandy-bridge", "intel-v3", 8, 3),
    ("intel", "skylake", "intel-v4", 4, 3),
    ("intel", "ice-lake", "intel-v5", 8, 4),
    ("intel", "alder-lake-p", "intel-v5", 6, 3),
    ("intel", "alder-lake-e", "intel-v5", 6, 3),
    ("intel", "sapphire-rapids", "intel-v5", 8, 4),
    ("amd", "k8", "amd-legacy", 4, 0),
    ("amd", "family-10h", "amd-legacy", 4, 0),
    ("amd", "bulldozer", "amd-core-extension", 6, 0),
    ("amd", "zen2", "amd-core-extension", 6, 0),
    ("amd", "zen3", "amd-core-extension", 6, 0),
    ("amd", "zen4", "amd-perfmon-v2", 6, 0),
    ("amd", "zen5", "amd-perfmon-v2", 6, 0),
];

// cases 56, 58
#[test]
fn every_counter_of_every_profile_counts_and_interrupts() {
    for (vendor, profile, driver, general, fixed) in PROFILES {
        for lvtpc in ["late", "early"] {
            let words = format!("pmu=model-{vendor} profile={profile} lvtpc={lvtpc} job=pmu-test");
            let Some((_, record)) = counted(&words) else { return };
            assert!(record.name.starts_with(&format!("{driver}, model of ")), "{words}: {}", record.name);
            let numbers: Vec<u8> = record.reports.iter().map(|report| report.counter).collect();
            assert_eq!(numbers, (0..general).chain(32..32 + fixed).collect::<Vec<_>>(), "{words}");
            for report in &record.reports {
                assert_eq!(report.verdict, CounterVerdict::Works, "{words}: {report:?}");
                // More than one overflow: the entry that the first has masked was unmasked again.
                assert!(report.counted >= report.work && report.overflows > 1, "{words}: {report:?}");
            }
        }
    }
}

// cases 55, 56
#[test]
fn every_profile_samples_two_events_and_loses_none() {
    for (vendor, profile, ..) in PROFILES {
        for lvtpc in ["late", "early"] {
            let words = format!(
                "pmu=model-{vendor} profile={profile} lvtpc={lvtpc} workload=sort events=instructions,cycles \
                 period=50021 duration_ns=50000000"
            );
            let Some((run, record)) = counted(&words) else { return };
            assert_eq!(record.names(), ["instructions", "cycles"], "{words}");
            let overflows: Vec<u64> = record.counts.iter().map(|counts| counts.overflows).collect();
            assert!(overflows.iter().all(|overflows| *overflows > 800), "{words}: {overflows:?}");
            let skipped: u64 = record.counts.iter().map(|counts| counts.skipped_periods).sum();
            assert!(skipped <= 1, "{words}: but for the one that ends with the run, {skipped}");
            assert_eq!(run.record.samples(), overflows.iter().sum::<u64>(), "{words}");
        }
    }
}

// case 58
#[test]
fn a_period_wider_than_a_write_is_counted_in_parts() {
    // A write of 32 bits with a sign takes 2^31 events; a counter that is written in full takes the period at once.
    for (profile, parts) in [("core-duo", 2), ("skylake", 1)] {
        let words = format!(
            "pmu=model-intel profile={profile} workload=sort events=cycles period=2200000000 duration_ns=1900000000"
        );
        let Some((run, record)) = counted(&words) else { return };
        let nmis = record.since_start(&run, |nmi| nmi.handled);
        println!("{profile}: {nmis} NMIs, {:?}", record.counts);
        assert_eq!(record.counts[0].overflows, 1, "{profile}");
        // The others are the orders to start and to stop.
        assert_eq!(nmis, 2 + parts, "{profile}");
    }
}

// case 59
#[test]
fn a_cpu_without_counters_falls_back_to_what_can_count_and_says_why() {
    const FORGETS: &str = "amd-legacy is announced, but no counter counts";
    const NONE: &str = "CPUID leaf 0AH says version 0";
    for (cpu, why, model) in [
        ("qemu64", FORGETS, "amd-core-extension, model of AMD Zen 2"),
        ("max", FORGETS, "amd-core-extension, model of AMD Zen 2"),
        ("EPYC", FORGETS, "amd-core-extension, model of AMD Zen 2"),
        ("Skylake-Server", NONE, "intel-v4, model of Intel Skylake (client)"),
        ("Nehalem", NONE, "intel-v4, model of Intel Skylake (client)"),
    ] {
        for (events, name, reason) in [
            ("instructions", "lapic-timer", why.to_owned()),
            ("cycles,instructions", model, format!("{why}; a timer alone can't count these events")),
        ] {
            let words = format!("workload=sort duration_ns=20000000 events={events}");
            let run = Boot::image(Image::Main).append(&words).qemu_arg("-cpu").qemu_arg(cpu).run();
            let Some(run) = run.passed() else { return };
            let record = PmuRecord::of(&run.capture);
            assert_eq!((record.kind, record.name.as_str()), (PmuKind::Virtual, name), "{cpu} {events}");
            assert_eq!(record.fallback, reason, "{cpu} {events}");
            assert!(run.record.samples() > 100, "{cpu} {events}");
        }
    }
}

// case 59
#[test]
fn hardware_that_was_asked_for_and_does_not_count_is_refused() {
    for (cpu, why) in [("qemu64", "no counter counts"), ("Skylake-Server", "says version 0")] {
        let boot = Boot::image(Image::Main).append("pmu=hardware").qemu_arg("-cpu").qemu_arg(cpu);
        refused(boot, &["pmu=hardware: ", why, "choose pmu=auto"]);
    }
}

// case 59
#[test]
fn a_pmu_that_forgets_what_is_written_is_refused_though_announced() {
    let boot = Boot::image(Image::Main).append("pmu=model-amd profile=qemu64");
    refused(boot, &["model of QEMU qemu64 is announced, but no counter counts"]);
}

#[test]
fn a_processor_that_is_not_known_is_refused_with_those_that_are() {
    let boot = Boot::image(Image::Main).append("pmu=model-amd profile=zen9");
    let known = PROFILES.map(|(_, profile, ..)| profile);
    refused(boot, &["no such processor", &known.join(", "), "qemu64"]);
}

fn refused(boot: Boot, texts: &[&str]) {
    let run = boot.run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Configuration);
    assert!(texts.iter().all(|text| report.message.contains(text)), "{}", report.message);
}
