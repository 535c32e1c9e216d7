//! Samples fall where the instructions are, interrupts enabled or not.
//!
//! Method: under icount the length of a step of each workload is known in instructions, from a measurement
//! with sampling off. Two workloads, one of which runs with interrupts disabled, are sampled with a prime
//! period; the shares of the samples must be those of the instructions.

use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_tests::samples::samples;
use nmiprof_tests::shares::{instructions, percent, sample_counts};

const TOLERANCE_POINTS: f64 = 1.0;
const SAMPLES_MIN: usize = 20_000;

#[test]
fn a_workload_with_interrupts_disabled_gets_its_share() {
    let words = "workload=irqs-off,sort duration_ns=450000000 period=20011 chains=on";
    let Some(run) = Boot::image(Image::Main).append(words).run().passed() else { return };
    let counts = sample_counts(&run, ["workloads::irqs_off", "workloads::sort"]);
    assert!(counts.iter().sum::<usize>() >= SAMPLES_MIN, "{counts:?} samples");
    let sampled = percent(counts.map(|count| count as u64));
    let truth = percent(instructions(&run, ["irqs-off", "sort"]));
    println!("instructions {truth:.3?} %, samples {sampled:.3?} %");
    for (sampled, truth) in sampled.iter().zip(truth) {
        assert!(
            (sampled - truth).abs() <= TOLERANCE_POINTS,
            "{sampled:.3} % of the samples, {truth:.3} % in truth"
        );
    }
}

#[test]
fn one_sample_is_taken_every_period_exactly() {
    let words = "workload=sort duration_ns=300000000 period=10007";
    let Some(run) = Boot::image(Image::Main).append(words).run().passed() else { return };
    let times: Vec<u64> = samples(&run.capture).iter().map(|sample| sample.time).collect();
    let mut intervals: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    intervals.sort_unstable();
    let median = intervals[intervals.len() / 2];
    // An interval is the period and one run of the handler, whose length is constant but for page faults.
    let exact = intervals.iter().filter(|interval| **interval == median).count();
    assert!(median > 10_007 && median < 10_007 + 400, "{median} ticks between samples");
    assert!(exact * 100 >= intervals.len() * 95, "{exact} of {} intervals are {median}", intervals.len());
}
