//! Where a PMU's NMIs come too late, too often, or for nothing.
//!
//! Method for late ones: the self-test image raises stray NMIs soon and long after an overflow, and says what the
//! dispatcher made of them; the first of them is one that an AMD CPU may have been late with.
//!
//! Method for frequent ones: periods shorter than the handler, down to 1. The throttle has to stop the counters, to
//! count that, and to leave the rest of the time to the workload, whose steps know whether they are right.

use nmiprof::images::Image;
use nmiprof_tests::counts::{PmuRecord, counted};
use nmiprof_tests::{Boot, Completed};

/// Periods for `selftest=late`: the first event overflows, the second one does not.
const LATE_EVENTS: &str = "instructions/period=200000000/,cycles/period=100000000000/";

// cases 52, 55
#[test]
fn a_late_nmi_is_claimed_once_and_for_a_tenth_of_a_second_on_amd_and_never_on_intel() {
    for (pmu, late) in [("model-amd", 1), ("model-amd profile=zen4", 1), ("model-intel", 0)] {
        let words = format!("pmu={pmu} selftest=late events={LATE_EVENTS}");
        let Some(run) = Boot::image(Image::Selftest).append(&words).run().passed() else { return };
        let cases = run.record.messages().cases();
        assert_eq!(cases.len(), 6, "{pmu}: {cases:?}");
        for case in cases {
            assert!(case.hits == 1 && case.failures == 0, "{pmu}: {case:?}");
        }
        assert_eq!(PmuRecord::of(&run.capture).counters.late, late, "{pmu}");
        assert!(!run.record.accounts().is_nmi_inconsistent(), "{pmu}");
    }
}

/// Asserts that a workload got somewhere, and computed the right thing.
fn check_progress(run: &Completed, words: &str) {
    let workloads = run.record.messages().workloads();
    for workload in workloads {
        assert!(workload.steps > 0 && workload.wrong_results == 0, "{words}: {workload:?}");
    }
    assert_eq!(workloads.len(), 1, "{words}");
}

// case 60
#[test]
fn a_handler_longer_than_the_period_is_throttled_and_the_workload_goes_on() {
    for pmu in
        ["model-intel", "model-amd", "model-intel profile=nehalem lvtpc=early", "model-amd profile=zen4"]
    {
        for percent in [25, 5] {
            let words = format!(
                "pmu={pmu} workload=sort events=instructions period=101 cpu_percent_max={percent} duration_ns=100000000"
            );
            let Some((run, record)) = counted(&words) else { return };
            let (counts, counters) = (record.counts[0], record.counters);
            let awake = 100.0 * counts.running_ticks as f64 / counts.enabled_ticks as f64;
            println!("{words}: {} episodes, counters on {awake:.1} % of the time", counters.throttles);
            assert!(counters.throttles >= 50, "{words}: {counters:?}");
            assert_eq!(counters.throttled_ticks + counts.running_ticks, counts.enabled_ticks, "{words}");
            // Hardly anything but the handler runs while the counters are on. Its own measure of its time leaves out
            // the entry, the exit, and the start of the counters.
            assert!(awake <= 1.6 * f64::from(percent), "{words}: {awake} %");
            check_progress(&run, &words);
        }
    }
}

// case 60
#[test]
fn a_timer_whose_period_is_shorter_than_the_handler_is_throttled_too() {
    let words = "pmu=timer workload=sort period=50 cpu_percent_max=25 duration_ns=50000000";
    let Some((run, record)) = counted(words) else { return };
    println!("{:?}, {} samples", record.counters, run.record.samples());
    assert!(record.counters.throttles > 0 && record.counters.throttled_ticks > 0, "{:?}", record.counters);
    check_progress(&run, words);
}

// case 60
#[test]
fn without_a_limit_nothing_is_throttled_though_the_handler_is_longer_than_the_period() {
    for pmu in ["model-intel", "model-amd"] {
        let words = format!(
            "pmu={pmu} workload=sort events=instructions period=1009 cpu_percent_max=0 duration_ns=20000000"
        );
        let Some((run, record)) = counted(&words) else { return };
        let counts = record.counts[0];
        let ticks_per_nmi = counts.running_ticks / counts.overflows;
        println!("{pmu}: {ticks_per_nmi} ticks for each period of 1009");
        assert!(ticks_per_nmi > 2 * 1009, "the handler is longer than the period: {counts:?}");
        assert_eq!((record.counters.throttles, counts.running_ticks), (0, counts.enabled_ticks), "{pmu}");
        check_progress(&run, &words);
    }
}

// case 58
#[test]
fn the_shortest_period_makes_progress() {
    for pmu in ["model-intel", "model-intel profile=core-duo", "model-amd", "model-amd profile=zen4"] {
        let words = format!(
            "pmu={pmu} workload=sort events=instructions period=1 cpu_percent_max=25 duration_ns=50000000"
        );
        let Some((run, record)) = counted(&words) else { return };
        println!(
            "{pmu}: {} overflows, {} skipped",
            record.counts[0].overflows, record.counts[0].skipped_periods
        );
        assert!(record.counts[0].overflows > 1000, "{pmu}: {:?}", record.counts);
        assert!(record.counters.throttles > 0, "{pmu}: {:?}", record.counters);
        check_progress(&run, &words);
    }
}
