//! `info` accounts for every sample.

use nmiprof::capture::writer::{self, Writer};
use nmiprof::commands::Outcome;
use nmiprof_wire::{Fatal, FatalCause, Frame, LineCounters, Log, LogLevel, WorkloadResult};

use crate::fixture::{Fixture, assert_snapshot, hello_with_chains, ten_samples, ten_samples_capture};

#[test]
fn the_json_form_is_the_contract() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("info --json");
    assert_eq!(ran.outcome(), Outcome::Good);
    assert_snapshot("info.json", &ran.out);
}

#[test]
fn the_text_form_says_the_same() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("info");
    assert_eq!((ran.outcome(), ran.notes.as_str()), (Outcome::Good, ""));
    assert_snapshot("info.txt", &ran.out);
}

#[test]
fn without_samples_shares_are_null() {
    let capture = Writer::new(&writer::hello()).and_then(Writer::end).expect("a short Hello");
    let ran = Fixture::new(&capture).run("info --json");
    for name in ["bytes_per_sample", "unresolved_pct", "truncated_chains_pct"] {
        assert!(ran.out.contains(&format!("\"{name}\": null")), "{name}: {}", ran.out);
    }
}

#[test]
fn a_write_that_was_skipped_silently_breaks_the_identity() {
    let mut writer = ten_samples(&writer::hello());
    writer.totals(0, |totals| totals.overflows += 1);
    let ran = Fixture::new(&writer.end().expect("frames of its own making")).run("info --json");
    assert_eq!(ran.outcome(), Outcome::Findings);
    assert!(ran.out.contains("\"identity\": \"broken\""), "{}", ran.out);
    assert!(ran.notes.contains("identity is broken"), "{}", ran.notes);
}

#[test]
fn a_capture_without_its_end_is_incomplete() {
    let mut writer = ten_samples(&writer::hello());
    writer.flush().and_then(|()| writer.sync()).expect("frames of its own making");
    let fixture = Fixture::new(&writer.into_bytes());
    let ran = fixture.run("info --json");
    assert_eq!(ran.outcome(), Outcome::Findings);
    assert!(ran.out.contains("\"identity\": \"incomplete\"") && ran.out.contains("\"overflows\": 10"));
    let report = fixture.run("report");
    assert_eq!(report.outcome(), Outcome::Good, "an incomplete capture can be reported");
    assert!(report.notes.contains("incomplete"), "{}", report.notes);
}

#[test]
fn nmi_counters_that_contradict_each_other_are_a_finding_of_their_own() {
    let mut writer = ten_samples(&writer::hello());
    writer.totals(0, |totals| totals.nmi.entries = 11);
    let ran = Fixture::new(&writer.end().expect("frames of its own making")).run("info --json");
    assert_eq!(ran.outcome(), Outcome::Findings);
    assert!(ran.out.contains("\"identity\": \"holds\"") && ran.out.contains("\"nmi_consistent\": false"));
}

#[test]
fn wrong_results_are_a_finding() {
    let mut writer = ten_samples(&writer::hello());
    let result = WorkloadResult { name: "hash", steps: 3, instructions_per_step: None, wrong_results: 2 };
    writer.frame(&Frame::Workload(result)).expect("a short name");
    let ran = Fixture::new(&writer.end().expect("frames of its own making")).run("info");
    assert_eq!(ran.outcome(), Outcome::Findings);
    assert!(ran.notes.contains("workload hash: 2 wrong results"), "{}", ran.notes);
}

#[test]
fn a_fatal_report_is_shown_first_by_every_command_and_can_not_drive_the_terminal() {
    let mut writer = ten_samples(&writer::hello());
    writer.flush().expect("frames of its own making");
    let log = Log { time: 5_000_000, level: LogLevel::Warning, text: "low\x1b[31m reserve" };
    writer.frame(&Frame::Log(log)).expect("a short text");
    let fatal = Fatal {
        cause: FatalCause::Panic,
        cpu: 0,
        time: 6_000_000,
        message: "index 7\x1b]0;owned\x07 out of range",
        file: "kernel/src/ring.rs",
        line: 31,
    };
    writer.frame(&Frame::Fatal(fatal)).expect("a short text");
    let fixture = Fixture::new(&writer.into_bytes());
    let reason = "THE KERNEL GAVE UP: panic on CPU 0 at kernel/src/ring.rs:31: index 7";
    for command in ["info", "report"] {
        let ran = fixture.run(command);
        assert!(ran.out.starts_with(&format!("# {reason}")), "{command}: {}", ran.out);
        assert!(ran.notes.contains(reason), "{command}: {}", ran.notes);
        assert!(!ran.out.contains(['\x1b', '\x07']) && !ran.notes.contains('\x1b'), "{command}");
        assert_eq!(ran.outcome(), Outcome::Findings, "{command}");
    }
    let json = fixture.run("info --json").out;
    assert!(json.contains("\"cause\": \"panic\"") && json.contains("\"level\": \"warning\""), "{json}");
    assert!(fixture.run("script").notes.contains(reason));
}

#[test]
fn what_the_line_counted_is_shown_and_never_goes_back() {
    let line = LineCounters {
        time: 7,
        bytes: 4096,
        interrupt_bytes: 4000,
        stalls: 2,
        stall_ticks_max: 2_500_000_000,
        frames_dropped: 3,
    };
    let mut writer = ten_samples(&writer::hello());
    for counters in [line, LineCounters { bytes: 4095, stalls: 9, ..line }] {
        writer.frame(&Frame::Line(counters)).expect("it fits");
    }
    let fixture = Fixture::new(&writer.end().expect("frames of its own making"));
    let text = fixture.run("info").out;
    let expected =
        "# line: 4096 bytes sent, 2 stalls (the longest 2.500000 s), 3 frames dropped for want of room\n";
    assert!(text.contains(expected), "{text}");
    let json = fixture.run("info --json").out;
    for field in [
        "\"bytes_sent\": 4096",
        "\"interrupt_bytes\": 4000",
        "\"stall_ticks_max\": 2500000000",
        "\"frames_dropped\": 3",
    ] {
        assert!(json.contains(field), "{field}: {json}");
    }
    assert!(json.contains("\"frames\": 1"), "one that goes back is damage: {json}");
}
