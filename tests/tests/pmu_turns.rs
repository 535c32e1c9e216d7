//! More events than counters, groups, and periods that follow the workload.
//!
//! Method: every formula of a virtual PMU is known, so a count that was scaled from a part of the time can be compared
//! with what the whole time has. Events take turns at each tick of 1 ms; the formulas are steady, so that no turn can
//! meet a phase of the workload, but for `cache-misses`: its rate changes by 16 in turns of 2^25 ticks, which is what a
//! frequency has to follow.

use std::collections::BTreeMap;

use nmiprof_tests::Completed;
use nmiprof_tests::counts::{PmuRecord, counted};
use nmiprof_tests::samples::samples;
use nmiprof_wire::EventCounts;

/// Events and their formulas: so many in so many ticks.
const STEADY: [(&str, u64, u64); 6] = [
    ("instructions", 1, 1),
    ("cycles", 5, 4),
    ("branches", 1, 8),
    ("cache-references", 1, 16),
    ("branch-misses", 1, 128),
    ("stalled-cycles-frontend", 1, 32),
];
const SCALED_PERCENT: f64 = 1.0;
const FREQUENCY_HZ: u64 = 997;
const FREQUENCY_PERCENT: f64 = 10.0;

fn names(count: usize) -> String {
    STEADY.map(|(name, ..)| name)[..count].join(",")
}

fn percent_off(value: u64, expected: u64) -> f64 {
    100.0 * (value as f64 - expected as f64) / expected as f64
}

#[test]
fn events_that_take_turns_have_scaled_counts_within_a_percent_of_their_formulas() {
    for (pmu, events) in [("model-amd profile=k8", 6), ("model-amd profile=k8", 5)] {
        let words =
            format!("pmu={pmu} job=stat workload=sort events={} duration_ns=500000000", names(events));
        let Some((_, record)) = counted(&words) else { return };
        assert!(record.counters.rotations > 400, "{pmu}: {:?}", record.counters);
        for (counts, (name, per_group, ticks)) in record.counts.iter().zip(STEADY) {
            let (scaled, is_estimate) = counts.scaled().expect("each had its turn");
            let off = percent_off(scaled, counts.enabled_ticks * per_group / ticks);
            let share = 100.0 * counts.running_ticks as f64 / counts.enabled_ticks as f64;
            println!("{pmu}, {events} events: {name} {off:+.3} %, counted {share:.1} % of the time");
            assert!(is_estimate && counts.running_ticks < counts.enabled_ticks, "{name}: {counts:?}");
            // Four counters: each event has its share of the turns.
            let fair = 400.0 / events as f64;
            assert!((share - fair).abs() < 2.0, "{name}: {share} % of the time, {fair} % were fair");
            assert!(off.abs() <= SCALED_PERCENT, "{name}: {off} %");
        }
    }
}

#[test]
fn events_that_fit_are_not_scaled() {
    let words = "pmu=model-amd profile=k8 job=stat workload=sort duration_ns=100000000 events=";
    let Some((_, record)) = counted(&format!("{words}{}", names(4))) else { return };
    assert_eq!(record.counters.rotations, 0);
    assert!(record.counts.iter().all(|counts| counts.scaled() == Some((counts.count, false))));
}

#[test]
fn the_events_of_a_group_count_at_the_same_time_or_not_at_all() {
    let words = "pmu=model-amd profile=k8 job=stat workload=sort duration_ns=500000000 \
                 events={instructions,cycles,branches},{cache-references,branch-misses},{stalled-cycles-frontend,branches}";
    let Some((_, record)) = counted(words) else { return };
    let running = |event: usize| record.counts[event].running_ticks;
    for group in [[0, 1, 2].as_slice(), &[3, 4], &[5, 6]] {
        assert!(
            group.iter().all(|event| running(*event) == running(group[0])),
            "{group:?}: {:?}",
            record.counts
        );
    }
    // Three leave no room for two others, which can be counted together.
    let [alone, together] =
        [0, 3].map(|event| running(event) as f64 / record.counts[event].enabled_ticks as f64);
    println!("the group of three {alone:.3} of the time, those of two {together:.3}");
    assert!((alone - 1.0 / 3.0).abs() < 0.02 && (together - 2.0 / 3.0).abs() < 0.02);
    let branches = [2, 6].map(|event| record.counts[event].scaled().expect("it had its turn").0);
    assert!(
        percent_off(branches[0], branches[1]).abs() <= SCALED_PERCENT,
        "one event in two groups: {branches:?}"
    );
}

#[test]
fn a_group_that_can_never_be_counted_is_refused() {
    let events = format!("{{{}}}", names(5));
    let boot = nmiprof_tests::Boot::image(nmiprof::images::Image::Main);
    let run = boot.append(&format!("pmu=model-amd profile=k8 events={events}")).run();
    let Some(verdict) = run.verdict() else { return };
    assert!(verdict.to_string().contains("no counter is left for its event 4"), "{verdict}");
}

// case 57
#[test]
fn counters_that_are_given_away_with_an_overflow_on_the_way_lose_no_sample() {
    // Many turns: now and then a period ends between the handling of the tick's NMI and the end of the turn.
    let events = "instructions/period=20011/,cycles/period=30011/,branches/period=2503/,\
                  cache-references/period=1511/,branch-misses/period=211/";
    for pmu in
        ["model-amd profile=k8", "model-intel profile=core-duo", "model-intel profile=core-duo lvtpc=early"]
    {
        let words = format!(
            "pmu={pmu} workload=sort events={events} tick_hz=5000 cpu_percent_max=0 duration_ns=200000000"
        );
        let Some((run, record)) = counted(&words) else { return };
        let PmuRecord { counters, .. } = &record;
        println!("{pmu}: {counters:?}");
        assert!(counters.rotations >= 500 && counters.stopped_overflows > 0, "{pmu}: {counters:?}");
        let overflows: u64 = record.counts.iter().map(|counts| counts.overflows).sum();
        assert_eq!(
            run.record.accounts().total().overflows,
            overflows,
            "{pmu}: each is a sample, or was dropped"
        );
        assert!(record.counts.iter().all(|counts| counts.overflows > 100), "{pmu}: {:?}", record.counts);
    }
}

/// Counts the samples of an event in each second of the clock, the last one left out.
fn samples_per_second(run: &Completed, record: &PmuRecord, event: u8) -> Vec<u64> {
    let of_event: Vec<u64> =
        samples(&run.capture).iter().filter(|s| s.event == event).map(|s| s.time).collect();
    let start = samples(&run.capture).iter().map(|sample| sample.time).min().unwrap_or_default();
    let mut seconds = BTreeMap::<u64, u64>::new();
    for time in of_event {
        *seconds.entry((time - start) / record.clock_hz).or_default() += 1;
    }
    seconds.into_values().collect()
}

#[test]
fn a_frequency_converges_within_a_second_and_holds_though_the_rate_changes() {
    for pmu in ["model-intel", "model-amd"] {
        let words = format!(
            "pmu={pmu} workload=sort events=cycles,cache-misses freq={FREQUENCY_HZ} duration_ns=4050000000"
        );
        let Some((run, record)) = counted(&words) else { return };
        for (event, name) in [(0, "cycles"), (1, "cache-misses")] {
            let seconds = samples_per_second(&run, &record, event);
            println!("{pmu} {name}: {seconds:?} samples a second");
            assert!(seconds.len() >= 4, "{pmu} {name}: {seconds:?}");
            for second in &seconds[1..4] {
                let off = percent_off(*second, FREQUENCY_HZ);
                assert!(off.abs() <= FREQUENCY_PERCENT, "{pmu} {name}: {off} % in {seconds:?}");
            }
        }
        let periods: Vec<u64> =
            record.counts.iter().map(|counts: &EventCounts| counts.period_events).collect();
        assert!(periods.iter().all(|period| *period > 1), "{pmu}: {periods:?}");
    }
}
