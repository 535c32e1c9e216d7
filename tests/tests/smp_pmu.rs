//! Counters take turns and follow frequencies on every CPU.
//!
//! Method: models of PMUs under icount, whose formulas are known, so a count that was scaled from a part of the time
//! can be compared with what the whole time has, on each CPU. The tick comes to CPU 0 alone; it passes it on. Under
//! icount the CPUs run in turn, for up to a millisecond each, so a CPU's tick or overflow may have to wait for its turn.

use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_tests::counts::checked;
use nmiprof_tests::samples::samples;

const CPUS: u16 = 3;
/// Events and their formulas: so many in so many ticks.
const STEADY: [(&str, u64, u64); 5] = [
    ("instructions", 1, 1),
    ("cycles", 5, 4),
    ("branches", 1, 8),
    ("cache-references", 1, 16),
    ("branch-misses", 1, 128),
];
const SCALED_PERCENT: f64 = 1.0;
const FREQUENCY_HZ: u64 = 997;
const FREQUENCY_PERCENT: f64 = 10.0;

fn percent_off(value: u64, expected: u64) -> f64 {
    100.0 * (value as f64 - expected as f64) / expected as f64
}

#[test]
fn events_take_turns_on_every_cpu_and_their_scaled_counts_are_right_on_each() {
    let events = STEADY.map(|(name, ..)| name).join(",");
    for pmu in ["model-amd profile=k8", "model-intel profile=core-duo"] {
        let words = format!("pmu={pmu} job=stat workload=sort events={events} duration_ns=300000000");
        let boot = Boot::image(Image::Main).append(&words).cpus(CPUS);
        let Some((_, record)) = checked(boot, &words) else { return };
        assert_eq!(
            (record.drivers.len(), record.counts.len()),
            (CPUS.into(), STEADY.len() * usize::from(CPUS))
        );
        for driver in &record.drivers {
            // At most one a millisecond; ticks that come while others have their turn merge.
            assert!((75..=320).contains(&driver.rotations), "{pmu}: {driver:?}");
        }
        for counts in &record.counts {
            let (name, per_group, ticks) = STEADY[usize::from(counts.event)];
            let (scaled, is_estimate) = counts.scaled().expect("each had its turn");
            let off = percent_off(scaled, counts.enabled_ticks * per_group / ticks);
            println!("{pmu}: {name} on CPU {} {off:+.3} %", counts.cpu);
            assert!(is_estimate && counts.running_ticks < counts.enabled_ticks, "{pmu} {name}: {counts:?}");
            assert!(off.abs() <= SCALED_PERCENT, "{pmu} {name}: {off} % off: {counts:?}");
        }
    }
}

#[test]
fn a_frequency_converges_on_every_cpu() {
    for pmu in ["model-intel", "model-amd"] {
        let words = format!(
            "pmu={pmu} workload=sort events=cycles,branches freq={FREQUENCY_HZ} duration_ns=2050000000"
        );
        let boot = Boot::image(Image::Main).append(&words).cpus(CPUS);
        let Some((run, record)) = checked(boot, &words) else { return };
        let all = samples(&run.capture);
        let start = all.iter().map(|sample| sample.time).min().expect("there are samples");
        for (cpu, event) in (0..CPUS).flat_map(|cpu| [(cpu, 0), (cpu, 1)]) {
            let is_meant = |time: u64| (time - start) / record.clock_hz == 1;
            let of_event = all.iter().filter(|sample| (sample.cpu, sample.event) == (cpu, event));
            let second = of_event.filter(|sample| is_meant(sample.time)).count() as u64;
            let off = percent_off(second, FREQUENCY_HZ);
            println!("{pmu}: event {event} on CPU {cpu}: {second} samples in the second second");
            assert!(off.abs() <= FREQUENCY_PERCENT, "{pmu}: event {event} on CPU {cpu}: {off} %");
        }
    }
}
