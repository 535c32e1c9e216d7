//! Every way in which a capture or its kernel can be the wrong one has its own error with a next action.

use std::io::{self, Write};

use nmiprof::capture::writer::{self, Writer};
use nmiprof::commands::{Outcome, info, report};
use nmiprof_wire::{BuildId, CpuTotals, Fatal, FatalCause, Frame};

use crate::elf;
use crate::fixture::{Fixture, run, ten_samples_capture};

const COMMANDS: [&str; 5] = ["report", "script", "info", "export --format folded", "export --format svg"];

/// Runs every command on a capture; all must fail with all of `texts` in the error, and print nothing.
fn assert_all_fail(capture: &[u8], texts: &[&str]) {
    let fixture = Fixture::new(capture);
    for command in COMMANDS {
        let ran = fixture.run(command);
        let error = ran.error();
        assert!(texts.iter().all(|text| error.contains(text)), "{command}: {error}");
        assert_eq!(ran.out, "", "{command} prints nothing");
    }
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    for command in COMMANDS {
        let error = run(&format!("{command} -i /no/such/file.data")).error();
        assert!(error.contains("no capture at `/no/such/file.data`"), "{error}");
        assert!(error.contains("nmiprof record -o"), "{error}");
    }
}

#[test]
fn a_directory_is_named_as_one() {
    for command in COMMANDS {
        let error = run(&format!("{command} -i /")).error();
        assert!(error.contains("`/` is a directory; name the capture file inside it"), "{error}");
    }
}

#[test]
fn an_empty_file_means_that_the_kernel_sent_nothing() {
    assert_all_fail(b"", &["is empty", "nmiprof doctor"]);
}

#[test]
fn text_is_not_a_capture() {
    assert_all_fail(b"PERFILE2 this is something else", &["is no nmiprof capture", "first 31 bytes"]);
    assert_all_fail(&[0; 5000], &["is no nmiprof capture", "first 5000 bytes"]);
}

#[test]
fn frames_without_a_hello_are_told_from_no_frames() {
    let capture = ten_samples_capture(&writer::hello());
    let after_hello = capture.iter().position(|byte| *byte == 0).expect("a first frame") + 1;
    assert_all_fail(&capture[after_hello..], &["no usable Hello", "record again"]);
}

#[test]
fn a_kernel_that_gave_up_before_its_hello_has_the_last_word() {
    let mut writer = Writer::new(&writer::hello()).expect("a short Hello");
    let hello_bytes = writer.bytes_so_far();
    let (cause, message) = (FatalCause::Configuration, "no overflow source; run elsewhere");
    let fatal = Fatal { cause, cpu: 0, time: 1, message, file: "", line: 0 };
    writer.frame(&Frame::Fatal(fatal)).expect("a short text");
    assert_all_fail(&writer.into_bytes()[hello_bytes..], &["the kernel gave up", message]);
}

#[test]
fn another_wire_version_asks_for_the_nmiprof_that_recorded_it() {
    let mut hello = writer::hello();
    hello.wire_version += 1;
    assert_all_fail(&ten_samples_capture(&hello), &["wire version 2", "reads version 1", "that recorded it"]);
}

#[test]
fn another_schema_asks_for_the_nmiprof_that_recorded_it() {
    let mut hello = writer::hello();
    hello.schema ^= 1;
    assert_all_fail(&ten_samples_capture(&hello), &["whose frames differ", "that recorded it"]);
}

#[test]
fn a_run_that_can_not_be_is_refused() {
    let mut hello = writer::hello();
    hello.clock_hz = 0;
    assert_all_fail(&ten_samples_capture(&hello), &["a run that can't be, at byte 0", "clock"]);
}

#[test]
fn a_second_run_is_found_and_the_error_says_how_to_split() {
    let first = ten_samples_capture(&writer::hello());
    let mut other = writer::hello();
    other.build_id = BuildId([1; 20]);
    let at = format!("head -c {} FILE", first.len());
    assert_all_fail(&[first.clone(), ten_samples_capture(&other)].concat(), &["second run", &at]);
    assert_all_fail(&[first.clone(), first.clone()].concat(), &["second run", &at]);
    let mut late = writer::hello();
    late.time = 1_000;
    let late = Writer::new(&late).expect("a short Hello").into_bytes();
    let reboot = [&late[..], &ten_samples_capture(&writer::hello())].concat();
    assert_all_fail(&reboot, &["second run"]);
}

#[test]
fn a_hello_that_repeats_itself_is_no_second_run() {
    let mut writer = Writer::new(&writer::hello()).expect("a short Hello");
    let mut later = writer::hello();
    later.time = 1_000_000_000;
    writer.frame(&Frame::Hello(later)).expect("a short Hello");
    let fixture = Fixture::new(&writer.end().expect("frames of its own making"));
    assert_eq!(fixture.run("info").outcome(), Outcome::Good);
}

#[test]
fn an_elf_of_another_build_is_refused_and_both_builds_are_named() {
    let fixture = Fixture::new(&ten_samples_capture(&writer::hello()));
    std::fs::write(fixture.path("kernel"), elf::kernel(BuildId([0xcd; 20]))).expect("a writable directory");
    for command in COMMANDS {
        let error = fixture.run(command).error();
        assert!(error.contains(&format!("is build {}", "cd".repeat(20))), "{command}: {error}");
        assert!(error.contains(&"ab".repeat(20)) && error.contains("-k"), "{command}: {error}");
    }
}

#[test]
fn a_file_that_is_no_elf_and_one_that_is_missing_are_told_apart() {
    let fixture = Fixture::new(&ten_samples_capture(&writer::hello()));
    std::fs::write(fixture.path("kernel"), "text").expect("a writable directory");
    assert!(fixture.run("report").error().contains("is no ELF file"));
    std::fs::remove_file(fixture.path("kernel")).expect("it was there");
    assert!(fixture.run("report").error().contains("can't read the kernel ELF"));
}

#[test]
fn without_the_kernel_symbols_are_refused_but_raw_addresses_are_not() {
    let fixture = Fixture::new(&ten_samples_capture(&writer::hello()));
    let capture = fixture.path("capture");
    for command in ["report", "script", "export"] {
        let error = run(&format!("{command} -i {}", capture.display())).error();
        assert!(error.contains(&"ab".repeat(20)) && error.contains("-k"), "{command}: {error}");
    }
    let raw = run(&format!("script -F ip -i {}", capture.display()));
    assert_eq!(raw.outcome(), Outcome::Good);
    assert_eq!(raw.out.lines().next(), Some("ffffffff80100104"));
    let info = run(&format!("info --json -i {}", capture.display()));
    assert_eq!(info.outcome(), Outcome::Good);
    assert!(info.out.contains("\"unresolved_pct\": null") && info.notes.contains("no symbols"), "{info:?}");
}

#[test]
fn a_capture_without_samples_is_a_finding() {
    let capture = Writer::new(&writer::hello()).and_then(Writer::end).expect("a short Hello");
    let fixture = Fixture::new(&capture);
    for command in ["report", "script", "export --format folded", "export --format svg"] {
        let ran = fixture.run(command);
        assert_eq!(ran.outcome(), Outcome::Findings, "{command}");
        assert!(ran.notes.contains("there are no samples"), "{command}: {}", ran.notes);
    }
    assert_eq!(fixture.run("info").outcome(), Outcome::Good, "nothing is unaccounted for");
}

/// A reader that went away.
struct BrokenPipe;

impl Write for BrokenPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

#[test]
fn a_reader_that_went_away_is_good() {
    let fixture = Fixture::new(&ten_samples_capture(&writer::hello()));
    let input = nmiprof::commands::input::InputArgs {
        input: fixture.path("capture"),
        vmlinux: Some(fixture.path("kernel")),
        programs: Vec::new(),
    };
    let args = info::Args { input: input.clone(), json: true };
    let outcome = info::run(&args, &mut BrokenPipe, &mut io::sink()).expect("a broken pipe is no error");
    assert_eq!(outcome.exit_status(), 0);
    let args = <ReportCli as clap::Parser>::parse_from(["report"]).args;
    let outcome = report::run(&report::Args { input, ..args }, &mut BrokenPipe, &mut io::sink());
    assert_eq!(outcome.expect("a broken pipe is no error"), Outcome::Good);
}

#[derive(clap::Parser)]
struct ReportCli {
    #[command(flatten)]
    args: report::Args,
}

#[test]
fn totals_of_a_cpu_that_was_not_announced_are_damage() {
    let mut writer = Writer::new(&writer::hello()).expect("a short Hello");
    let foreign = CpuTotals { cpu: 9, ..CpuTotals::default() };
    writer.frame(&Frame::End(foreign)).expect("totals fit");
    let fixture = Fixture::new(&writer.end().expect("frames of its own making"));
    let info = fixture.run("info");
    assert!(info.out.contains("# damaged: 1 frames"), "{}", info.out);
}
