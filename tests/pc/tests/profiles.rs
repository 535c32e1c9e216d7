//! Goal: on every CPU that has a PMU, every event that is offered there is counted and sampled, and each overflow is
//! accounted for.
//!
//! Method: what is offered is computed on the host from the profile, by the crate that the kernel uses. One run per CPU
//! samples all of it at once, in turns where there are fewer counters. The counts must be what the machine counted.

use nmiprof_pc::harness::{config, offered, run, with_pmu};
use nmiprof_pc::{Config, Stopped};
use nmiprof_pmu::event::GenericEvent;
use nmiprof_pmu::profiles::{Profile, QEMU64};
use nmiprof_wire::{ExitCode, PmuKind};

/// Events that are rare in any program of this size: none need come up in a short run.
const RARE: [GenericEvent; 1] = [GenericEvent::CacheMisses];

fn check(profile: &'static Profile) {
    let events = offered(profile);
    let names: Vec<_> = events.iter().map(|event| event.name()).collect();
    let words = format!("duration_ns=40000000 period=5003 workload=sort,chase events={}", names.join(","));
    let run = run(&config(profile, &words));
    run.assert_sound(profile.id);
    let info = run.record.run().expect("it introduced itself");
    assert_eq!(info.pmu_kind, PmuKind::Hardware, "{}", profile.id);
    let counts: Vec<_> = (0_u8..)
        .zip(&events)
        .map(|(number, event)| (event, run.record.pmu().total(number).expect("counted")))
        .collect();
    for (event, total) in &counts {
        assert!(
            total.count > 0 || RARE.contains(event),
            "{}: {event} was not counted: {total:?}",
            profile.id
        );
    }
    let sampled = run.samples.len();
    assert!(sampled > 200, "{}: {sampled} samples", profile.id);
    let [nmis, violations] =
        [run.machine.watch().nmi.taken, u64::from(run.machine.watch().pmu.model().violations().faults)];
    println!("{}: {} events, {sampled} samples, {nmis} NMIs, {violations} #GP", profile.id, events.len());
    assert_eq!(run.nmi().unknown, 0, "{}: NMIs that nobody knew", profile.id);
}

#[test]
fn every_event_of_every_intel_cpu_is_counted_and_sampled() {
    assert_eq!(with_pmu(true).map(check).count(), 9);
}

#[test]
fn every_event_of_every_amd_cpu_is_counted_and_sampled() {
    assert_eq!(with_pmu(false).map(check).count(), 7);
}

#[test]
fn a_cpu_without_counters_and_without_a_timer_nmi_is_refused_where_no_line_is_left() {
    let config = config(&QEMU64, "duration_ns=1000000");
    let run = run(&Config { has_io_apic: false, ..config });
    assert_eq!(run.stopped, Stopped::Exit(ExitCode::Configuration as u32));
    let said = String::from_utf8_lossy(&run.capture).into_owned();
    assert!(said.contains("no counter counts") && said.contains("raises no NMI here"), "{said}");
}
