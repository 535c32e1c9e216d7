//! Counters take turns and follow frequencies on every CPU.
//!
//! Method: models of PMUs under icount, whose formulas are known, so counts that were scaled from parts of the time can
//! be compared with each other, on each CPU. The tick comes to CPU 0 alone; it passes it on. Under
//! icount the CPUs run in turn, for up to a millisecond each, so a CPU's tick or overflow may have to wait for its turn.

use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_tests::counts::checked;
use nmiprof_tests::samples::samples;
use nmiprof_wire::{EventCounts, PmuCounters};

const CPUS: u16 = 2;
/// Machines whose counts are compared with the time. With two CPUs the second one starves where the first one does not give
/// way to it. With three that run in turn, a handler waits for its CPU's turn while its counters stand still, now and then,
/// and counts fall short by some percent.
const MACHINES: [u16; 1] = [2];
const PMUS: [&str; 2] = ["model-amd profile=k8", "model-intel profile=core-duo"];
/// What the clock counts in a run of 300 ms, at least.
const ENABLED_TICKS_MIN: u64 = 290_000_000;
/// Events and their formulas: so many in so many ticks.
const STEADY: [(&str, u64, u64); 5] = [
    ("instructions", 1, 1),
    ("cycles", 5, 4),
    ("branches", 1, 8),
    ("cache-references", 1, 16),
    ("branch-misses", 1, 128),
];
/// Between the events of one CPU.
const SCALED_PERCENT: f64 = 2.0;
/// The counters stand still while the handler makes others take their turn, and the handler has to wait for its CPU's
/// turn as all code does.
const HANDLER_PERCENT: f64 = 50.0;
/// Of events that need no turns, which no handler interrupts.
const STEADY_PERCENT: f64 = 0.1;
const FREQUENCY_HZ: u64 = 997;
const FREQUENCY_PERCENT: f64 = 10.0;

fn percent_off(value: u64, expected: u64) -> f64 {
    100.0 * (value as f64 - expected as f64) / expected as f64
}

fn machines() -> impl Iterator<Item = (&'static str, u16)> {
    PMUS.into_iter().flat_map(|pmu| MACHINES.map(|cpus| (pmu, cpus)))
}

#[test]
fn events_that_fit_are_counted_all_the_time_on_every_cpu() {
    for (pmu, cpus) in machines() {
        let words =
            format!("pmu={pmu} job=stat workload=sort events=instructions,branches duration_ns=300000000");
        let Some((_, record)) = checked(Boot::image(Image::Main).append(&words).cpus(cpus), &words) else {
            return;
        };
        assert_eq!(record.counts.len(), 2 * usize::from(cpus), "{pmu}: {:?}", record.counts);
        for counts in &record.counts {
            let per = if counts.event == 0 { 1 } else { 8 };
            let off = percent_off(counts.count, counts.enabled_ticks / per);
            println!("{pmu}: event {} on CPU {} of {cpus} {off:+.4} %", counts.event, counts.cpu);
            assert!(counts.enabled_ticks >= ENABLED_TICKS_MIN, "{pmu}, {cpus} CPUs: {counts:?}");
            assert_eq!(counts.running_ticks, counts.enabled_ticks, "{pmu}, {cpus} CPUs: {counts:?}");
            assert!(off.abs() <= STEADY_PERCENT, "{pmu}, {cpus} CPUs: {off} %: {counts:?}");
        }
    }
}

#[test]
fn events_take_turns_on_every_cpu_and_their_scaled_counts_fit_each_other() {
    let events = STEADY.map(|(name, ..)| name).join(",");
    for (pmu, cpus) in machines() {
        let words = format!("pmu={pmu} job=stat workload=sort events={events} duration_ns=300000000");
        let Some((_, record)) = checked(Boot::image(Image::Main).append(&words).cpus(cpus), &words) else {
            return;
        };
        let lens = (record.drivers.len(), record.counts.len());
        assert_eq!(lens, (cpus.into(), STEADY.len() * usize::from(cpus)), "{pmu}");
        // At most one a millisecond; ticks that come while others have their turn merge.
        let turns = |driver: &PmuCounters| (75..=320).contains(&driver.rotations);
        assert!(record.drivers.iter().all(turns), "{pmu}: {:?}", record.drivers);
        for cpu in 0..cpus {
            let of_cpu: Vec<_> = record.counts.iter().filter(|counts| counts.cpu == cpu).copied().collect();
            check_scaled(&format!("{pmu}, CPU {cpu} of {cpus}"), &of_cpu);
        }
    }
}

/// Checks the counts of one CPU against each other, and roughly against the time.
fn check_scaled(what: &str, counts: &[EventCounts]) {
    let scaled = counts.iter().map(|counts| counts.scaled().expect("each had its turn"));
    let scaled: Vec<u64> = scaled.map(|(scaled, is_estimate)| scaled * u64::from(is_estimate)).collect();
    let instructions = scaled[0];
    let counted = percent_off(instructions, counts[0].enabled_ticks);
    println!("{what}: {counted:+.3} % while the handler ran, and waited");
    assert!((-HANDLER_PERCENT..=SCALED_PERCENT).contains(&counted), "{what}: {counts:?}");
    for (scaled, (name, per_group, ticks)) in scaled.iter().zip(STEADY) {
        let off = percent_off(*scaled, instructions * per_group / ticks);
        println!("{what}: {name} {off:+.3} %");
        assert!(off.abs() <= SCALED_PERCENT, "{what}: {name} {off} %: {counts:?}");
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
