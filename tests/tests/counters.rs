//! Goal: the commands that count and sample by perf's flags do so on a real machine, and say what counted.
//!
//! Method: the commands' own code, arguments parsed as the binary does, QEMU booted, captures read again. What the PMU
//! behind it does is tested elsewhere (`pmu*.rs`); here it is what a user types and sees.

use std::path::Path;

use clap::Parser;
use nmiprof::capture::{CaptureError, Identity, Record, Stream};
use nmiprof::commands::{Error, Outcome, list, record, selftest, stat};
use nmiprof_tests::qemu;
use serde_json::Value;
use tempfile::TempDir;

/// The commands under test, as the binary has them.
#[derive(Parser)]
enum Command {
    Record(record::Args),
    Stat(stat::Args),
    List(list::Args),
    Selftest(selftest::Args),
}

/// Runs a command line; returns what it printed and how it ended.
fn run(words: &[&str]) -> (String, Result<Outcome, Error>) {
    let command = Command::try_parse_from([&["nmiprof"], words].concat()).expect("sound flags");
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let result = match &command {
        Command::Record(args) => record::run(args, &mut out, &mut notes),
        Command::Stat(args) => stat::run(args, &mut out, &mut notes),
        Command::List(args) => list::run(args, &mut out, &mut notes),
        Command::Selftest(args) => selftest::run(args, &mut out, &mut notes),
    };
    out.extend(notes);
    (String::from_utf8(out).expect("UTF-8"), result)
}

/// Runs a command line that has to end well; returns what it printed.
fn good(words: &[&str]) -> String {
    let (text, result) = run(words);
    assert!(matches!(result, Ok(Outcome::Good)), "{words:?}: {result:?}\n{text}");
    text
}

fn has_qemu() -> bool {
    qemu().map_err(|skip| skip.register()).is_ok()
}

/// Records with these flags; returns the capture.
fn recorded(words: &[&str]) -> Record {
    let folder = TempDir::new().expect("room");
    let file = folder.path().join("nmiprof.data");
    let file = file.to_str().expect("UTF-8");
    println!("{}", good(&[&["record", "-q", "-o", file], words].concat()));
    let mut stream = Stream::new("capture");
    let capture = std::fs::read(Path::new(file)).expect("it was written");
    stream.push(&capture, |_| Ok::<(), CaptureError>(())).expect("ours");
    let record = stream.finish();
    assert_eq!(record.accounts().identity(), Identity::Holds, "{words:?}");
    record
}

fn event_names(record: &Record) -> Vec<&str> {
    record.run().expect("it introduced itself").events.iter().map(|event| event.name.as_str()).collect()
}

#[test]
fn stat_counts_over_several_runs_and_names_the_formulas() {
    if !has_qemu() {
        return;
    }
    let words =
        ["stat", "-e", "instructions,cycles,branches", "-r", "10", "-w", "sort", "--duration", "0.02"];
    let text = good(&[&words[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&text).expect("one object");
    assert_eq!((&json["runs"], &json["pmu"]["kind"]), (&Value::from(10), &Value::from("virtual")), "{text}");
    let count = |index: usize| json["events"][index]["count"].as_f64().expect("counted");
    assert!((count(1) / count(0) - 1.25).abs() < 0.001, "5 cycles in 4 ticks: {text}");
    assert!((count(2) / count(0) - 0.125).abs() < 0.001, "a branch in 8 ticks: {text}");
    assert_eq!(json["events"][1]["counts"].as_array().map(Vec::len), Some(10), "{text}");
    let table = good(&words);
    for wanted in ["cycles (virtual)", "insn per cycle", "( +-", "5 per 4 ticks"] {
        assert!(table.contains(wanted), "{wanted}: {table}");
    }
}

#[test]
fn stat_scales_what_took_turns() {
    if !has_qemu() {
        return;
    }
    let events =
        "cycles,instructions,branches,branch-misses,cache-references,stalled-cycles-frontend,rC0,rC2";
    let text =
        good(&["stat", "-e", events, "-w", "sort", "--duration", "0.2", "--pmu", "model-amd", "--json"]);
    let json: Value = serde_json::from_str(&text).expect("one object");
    let events = json["events"].as_array().expect("a list");
    assert_eq!(events.len(), 8, "more than the six counters of this model");
    let count = |index: usize| events[index]["count"].as_f64().expect("counted");
    assert!(events.iter().all(|event| event["running_pct"].as_f64().is_some_and(|percent| percent < 99.0)));
    // The raw event is the same one: an estimate of its own.
    for (index, ratio) in [(0, 1.25), (2, 0.125), (6, 1.0), (7, 0.125)] {
        assert!((count(index) / count(1) / ratio - 1.0).abs() < 0.02, "event {index}: {text}");
    }
}

#[test]
fn record_takes_periods_frequencies_raw_events_and_groups() {
    if !has_qemu() {
        return;
    }
    let work = ["-w", "sort", "--duration", "0.1"];
    let with = |words: &[&'static str]| recorded(&[words, &work].concat());
    let record = with(&["-e", "instructions:k", "-c", "100003"]);
    assert_eq!(event_names(&record), ["instructions:k"]);
    assert!(record.samples() > 900, "{}", record.samples());
    let record = with(&["-e", "cycles", "-F", "997"]);
    assert!((80..120).contains(&record.samples()), "997 a second, a tenth of one: {}", record.samples());
    assert_eq!(event_names(&with(&["-e", "rC0"])), ["rC0"]);
    let record = with(&["-e", "{cycles,instructions}", "-e", "branches/period=5003/"]);
    assert_eq!(event_names(&record).len(), 3);
    let totals: Vec<_> = (0..3).map(|event| record.pmu().total(event).expect("counted").overflows).collect();
    assert_eq!(totals.iter().sum::<u64>(), record.samples(), "{totals:?}");
}

#[test]
fn user_code_alone_is_sampled_where_that_is_asked_for() {
    if !has_qemu() {
        return;
    }
    let record = recorded(&["-e", "instructions:u", "-c", "100003", "--program", "example:sieve 5 40"]);
    assert_eq!(event_names(&record), ["instructions:u"]);
    assert!(record.samples() > 0);
}

#[test]
fn a_wrong_name_suggests_the_right_one_before_anything_is_booted() {
    for (wrong, right) in
        [("intructions", "instructions"), ("cylces:u", "cycles"), ("branch_misses", "branch-misses")]
    {
        for command in ["record", "stat"] {
            let (_, result) = run(&[command, "-e", wrong]);
            let error = result.expect_err("no such event").to_string();
            assert!(error.contains(right) && error.contains("did you mean"), "{error}");
        }
    }
}

#[test]
fn list_says_what_is_offered_and_why_the_rest_is_not() {
    if !has_qemu() {
        return;
    }
    let text = good(&["list", "--pmu", "model-intel"]);
    for wanted in
        ["cpu-cycles", "5 per 4 ticks", "Not offered here", "stalled-cycles-backend", "pebs", "virtual"]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
}

#[test]
fn every_counter_of_a_model_passes_its_test() {
    if !has_qemu() {
        return;
    }
    let text = good(&["selftest", "pmu", "--pmu", "model-intel"]);
    assert_eq!(text.matches("works").count(), 7, "four general counters and three fixed ones: {text}");
    let (text, result) = run(&["selftest", "pmu", "--pmu", "hardware"]);
    assert!(result.is_err() || !matches!(result, Ok(Outcome::Good)), "QEMU's TCG has no PMU: {text}");
}
