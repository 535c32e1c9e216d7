//! Goal: the sampled distribution is the true one: for each event, the share of each function in the samples is its
//! share of the events that really happened there.
//!
//! Method: the machine counts every event per address while any counter runs, at the instruction after the one that
//! caused it: there a sample without skid falls. Each run samples one event. The bound is five standard deviations of a
//! binomial share, and a little more, for samples at a fixed distance in a program with loops are not independent. The
//! code that runs with NMIs masked is left out on both sides.

use std::collections::BTreeMap;

use nmiprof_pc::Attribution;
use nmiprof_pc::events::Counts;
use nmiprof_pc::harness::{Run, config, run};
use nmiprof_pmu::profiles::{Profile, SKYLAKE, ZEN2, ZEN4};

const SIGMAS: f64 = 5.0;
/// What a fixed period adds, as a share.
const SYSTEMATIC: f64 = 0.004;
const SAMPLES_MIN: u64 = 700;

/// An event, the period at which it is sampled, and the machine's own count of it.
const EVENTS: [(&str, u32, fn(&Counts) -> u64); 6] = [
    ("instructions", 5003, |counts| counts.instructions),
    ("cycles", 7001, |counts| counts.cycles),
    ("branches", 1009, |counts| counts.branches),
    ("branch-misses", 211, |counts| counts.branch_misses),
    ("cache-references", 307, |counts| counts.cache_references),
    ("cache-misses", 53, |counts| counts.cache_misses),
];

/// Where no sample can fall, or where the handler's own work is.
fn is_left_out(name: &str) -> bool {
    name.starts_with("nmi_") || !name.contains("workloads::")
}

fn truth(run: &Run, count: fn(&Counts) -> u64) -> BTreeMap<&str, u64> {
    let functions = run.machine.kernel().symbols().filter(|(_, range)| range.end - range.start > 1);
    let counted = functions.map(|(name, range)| (name, count(&run.machine.counted_in(range.clone()))));
    counted.filter(|(name, events)| *events > 0 && !is_left_out(name)).collect()
}

fn check(profile: &'static Profile, (event, period, count): (&str, u32, fn(&Counts) -> u64)) {
    let words =
        format!("duration_ns=150000000 period={period} events={event} workload=matrix,sort,hash,chase,parse");
    let run = run(&own_config(profile, &words));
    let what = format!("{} {event}", profile.id);
    run.assert_sound(&what);
    let truth = truth(&run, count);
    let sampled: BTreeMap<_, _> =
        run.by_function(0).into_iter().filter(|(name, _)| !is_left_out(name)).collect();
    let (events, samples) = (truth.values().sum::<u64>(), sampled.values().sum::<u64>());
    assert!(samples >= SAMPLES_MIN, "{what}: {samples} samples of {events} events");
    let mut worst = (0.0, "");
    for (name, events_here) in &truth {
        let share = *events_here as f64 / events as f64;
        let seen = sampled.get(name).copied().unwrap_or(0) as f64 / samples as f64;
        let sigma = (share * (1.0 - share) / samples as f64).sqrt();
        let off = (seen - share).abs() / (SIGMAS * sigma + SYSTEMATIC);
        worst = if off > worst.0 { (off, name) } else { worst };
        assert!(
            off <= 1.0,
            "{what}: {name} has {seen:.4} of {samples} samples and {share:.4} of {events} events"
        );
    }
    let stray: Vec<_> = sampled.keys().filter(|name| !truth.contains_key(*name)).collect();
    assert!(stray.is_empty(), "{what}: samples where nothing happened: {stray:?}");
    println!(
        "{what}: {} functions, {samples} samples, worst {:.2} of the bound ({})",
        truth.len(),
        worst.0,
        worst.1
    );
}

fn own_config(profile: &'static Profile, words: &str) -> nmiprof_pc::Config {
    nmiprof_pc::Config { attribution: Attribution::Next, ..config(profile, words) }
}

#[test]
fn on_intel_each_events_samples_fall_where_the_events_happened() {
    EVENTS.into_iter().for_each(|event| check(&SKYLAKE, event));
}

#[test]
fn on_amd_with_global_control_each_events_samples_fall_where_the_events_happened() {
    EVENTS.into_iter().for_each(|event| check(&ZEN4, event));
}

#[test]
fn on_amd_without_it_each_events_samples_fall_where_the_events_happened() {
    EVENTS.into_iter().for_each(|event| check(&ZEN2, event));
}
