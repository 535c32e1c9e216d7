//! Captures of several events: each has its own table, samples come in the order of time, and nothing is added up across
//! events.

use nmiprof::capture::writer::{SyntheticSample, Writer};
use nmiprof::commands::Outcome;
use nmiprof_wire::{EventCounts, EventInfo, Frame, PmuCounters, Sampling};

use crate::elf::TEXT;
use crate::fixture::{Fixture, assert_snapshot, hello_with_chains};

/// Twelve samples of cycles in `quicksort`, and between them four of branches in `multiply`; each event's come in one
/// block, as the kernel sends them.
fn capture() -> Fixture {
    let mut hello = hello_with_chains();
    hello.events = [("cycles", 1_000), ("branches:u", 3_000)]
        .map(|(name, period)| EventInfo { name, sampling: Sampling::Period(period), formula: "1 per tick" })
        .into_iter()
        .collect();
    let mut writer = Writer::new(&hello).expect("a short Hello");
    for (event, count, offset) in [(0, 12, 0x104), (1, 4, 0x190)] {
        for n in 0..count {
            let callers = [TEXT + 0x20];
            let time = 12_000_000 / count * (n + 1) + u64::from(event);
            let sample = SyntheticSample {
                event,
                time,
                ip: TEXT + offset,
                callers: &callers,
                ..SyntheticSample::default()
            };
            writer.sample(&sample).expect("CPU 0 is there");
        }
        let counts = EventCounts {
            event,
            count: 12_000,
            enabled_ticks: 12_000_000,
            running_ticks: 12_000_000 / (u64::from(event) + 1),
            overflows: count,
            ..EventCounts::default()
        };
        writer.frame(&Frame::Counts(counts)).expect("it fits");
    }
    let counters = PmuCounters { throttles: 3, throttled_ticks: 4_000, ..PmuCounters::default() };
    writer.frame(&Frame::Pmu(counters)).expect("it fits");
    Fixture::new(&writer.end().expect("frames of its own making"))
}

#[test]
fn every_event_has_its_own_table() {
    let ran = capture().run("report --no-children");
    assert_eq!((ran.outcome(), ran.notes.as_str()), (Outcome::Good, ""));
    assert_snapshot("report-several.txt", &ran.out);
    assert_snapshot("report-several.json", &capture().run("report --no-children --json").out);
}

#[test]
fn samples_come_in_the_order_of_time() {
    let ran = capture().run("script -G -F time,event");
    let times: Vec<f64> = ran
        .out
        .lines()
        .map(|line| line.trim().split(':').next().expect("a time").parse().expect("a number"))
        .collect();
    assert_eq!(times.len(), 16);
    assert!(times.is_sorted(), "{}", ran.out);
    let events: Vec<bool> = ran.out.lines().map(|line| line.contains("branches:u")).collect();
    assert_eq!(events[..5], [false, false, false, true, false], "{}", ran.out);
}

#[test]
fn call_chains_stay_with_their_samples() {
    let ran = capture().run("script");
    let samples: Vec<&str> = ran.out.split("\n\n").filter(|sample| !sample.is_empty()).collect();
    assert_eq!(samples.len(), 16);
    for sample in samples {
        let function = if sample.contains("branches:u") { "matrix::multiply" } else { "sort::quicksort" };
        assert!(sample.contains(function) && sample.contains("main::run"), "{sample}");
    }
}

#[test]
fn an_export_is_of_one_event_and_says_which() {
    let fixture = capture();
    let first = fixture.run("export");
    assert!(first.out.contains("quicksort 12") && !first.out.contains("multiply"), "{}", first.out);
    assert!(first.notes.contains("the export is of cycles; choose another event by --event: branches:u"));
    let second = fixture.run("export --event branches:u");
    assert!(second.out.contains("multiply 4") && !second.out.contains("quicksort"), "{}", second.out);
    assert_eq!(second.notes, "");
    let error = fixture.run("export --event branches").error();
    assert!(error.contains("it has: cycles, branches:u"), "{error}");
    let svg = fixture.run("export --format svg --event branches:u").out;
    assert!(svg.contains("branches:u (virtual PMU), 4 samples"));
}
