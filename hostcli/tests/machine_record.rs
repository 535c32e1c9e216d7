//! `nmiprof record` as a user sees it: files, words, exit status.
//!
//! Method: QEMU is a script that sends a made-up capture, so that every ending can be had in no time and
//! without a kernel. The real machine is tested in the workspace's `tests` package.

#[path = "machine_record/install.rs"]
mod install;
#[path = "machine_record/lifetime.rs"]
mod lifetime;
#[path = "machine_record/stand_in.rs"]
mod stand_in;

use std::time::{Duration, Instant};

use nmiprof::capture::writer::SyntheticSample;
use nmiprof_wire::{ExitCode, Fatal, FatalCause, Frame, WorkloadResult};
use stand_in::{StandIn, capture, exit_with, read, started};

/// What a command printed and how it ended.
struct Seen {
    status: i32,
    out: Vec<u8>,
    notes: String,
}

fn record(stand_in: &StandIn, words: &[&str]) -> Seen {
    let words = [&["record"], words].concat();
    let output = stand_in.nmiprof(&words).output().expect("it runs");
    Seen {
        status: output.status.code().expect("no signal"),
        out: output.stdout,
        notes: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn fatal(cause: FatalCause) -> Vec<u8> {
    let mut writer = started();
    let fatal = Fatal { cause, cpu: 0, time: 1, message: "made up", file: "kernel/src/main.rs", line: 12 };
    writer.frame(&Frame::Fatal(fatal)).expect("it fits");
    writer.into_bytes()
}

#[test]
fn a_sound_run_leaves_the_bytes_of_the_line_and_says_so() {
    let stand_in = StandIn::sound();
    let seen = record(&stand_in, &[]);
    assert_eq!(seen.status, 0, "{}", seen.notes);
    assert_eq!(read(&stand_in.path("nmiprof.data")), capture());
    assert!(seen.out.is_empty(), "the product is the file");
    assert!(seen.notes.contains("MB nmiprof.data (100 samples) ]"), "{}", seen.notes);
    assert!(seen.notes.contains("the identity holds"), "{}", seen.notes);
}

#[test]
fn what_the_kernel_says_is_shown_and_can_not_drive_the_terminal() {
    let seen = record(&StandIn::sound(), &[]);
    assert!(seen.notes.contains("kernel: booted\\u{1b}[2J"), "{}", seen.notes);
    assert!(!seen.notes.contains('\x1b'), "{:?}", seen.notes);
}

#[test]
fn an_older_capture_is_kept_under_another_name() {
    let stand_in = StandIn::sound();
    std::fs::write(stand_in.path("a.data"), "older").expect("room");
    assert_eq!(record(&stand_in, &["-o", "a.data"]).status, 0);
    assert_eq!(read(&stand_in.path("a.data.old")), b"older");
    assert_eq!(read(&stand_in.path("a.data")), capture());
}

#[test]
fn a_dash_sends_the_bytes_to_the_standard_output() {
    let stand_in = StandIn::sound();
    let seen = record(&stand_in, &["-o", "-"]);
    assert_eq!((seen.status, seen.out), (0, capture()));
    assert!(!stand_in.path("nmiprof.data").exists());
}

#[test]
fn a_quiet_run_says_nothing() {
    let seen = record(&StandIn::sound(), &["-q"]);
    assert_eq!((seen.status, seen.notes.as_str()), (0, ""));
}

#[test]
fn a_verbose_run_shows_a_command_line_with_the_users_words_last() {
    let words = ["-v", "--append", "chains=on", "--qemu-arg", "-m", "--qemu-arg", "1G"];
    let seen = record(&StandIn::sound(), &words);
    let line = seen.notes.lines().find(|line| line.contains("-kernel")).expect("the command line");
    assert!(line.ends_with("chains=on' -m 1G"), "{line}");
    assert!(line.contains("-icount shift=0,sleep=off"), "{line}");
}

#[test]
fn a_refused_command_line_is_an_error_with_the_kernels_words() {
    let stand_in = StandIn::new(&fatal(FatalCause::Configuration), &exit_with(ExitCode::Configuration));
    let seen = record(&stand_in, &[]);
    assert_eq!(seen.status, 2);
    assert!(seen.notes.contains("the kernel refuses its command line on CPU 0: made up"), "{}", seen.notes);
}

#[test]
fn a_panic_is_an_error_with_its_message_and_place() {
    let stand_in = StandIn::new(&fatal(FatalCause::Panic), &exit_with(ExitCode::Panic));
    let seen = record(&stand_in, &[]);
    assert_eq!(seen.status, 2);
    assert!(seen.notes.contains("panicked on CPU 0: made up (kernel/src/main.rs:12)"), "{}", seen.notes);
}

#[test]
fn a_broken_invariant_is_a_finding() {
    let stand_in = StandIn::new(&fatal(FatalCause::Invariant), &exit_with(ExitCode::Invariant));
    let seen = record(&stand_in, &[]);
    assert_eq!(seen.status, 1);
    assert!(seen.notes.contains("invariant broken on CPU 0: made up"), "{}", seen.notes);
}

#[test]
fn a_broken_identity_is_a_finding() {
    let mut writer = started();
    writer.totals(0, |totals| totals.overflows = 7);
    let stand_in = StandIn::new(&writer.end().expect("it fits"), &exit_with(ExitCode::Success));
    let seen = record(&stand_in, &[]);
    assert_eq!(seen.status, 1);
    assert!(seen.notes.contains("the identity is BROKEN"), "{}", seen.notes);
}

#[test]
fn a_wrong_result_is_a_finding_that_names_the_workload() {
    let mut writer = started();
    let result = WorkloadResult { name: "sort", steps: 9, instructions_per_step: None, wrong_results: 2 };
    writer.frame(&Frame::Workload(result)).expect("it fits");
    writer.sample(&SyntheticSample::default()).expect("it fits");
    let bytes = writer.end().expect("it fits");
    let seen = record(&StandIn::new(&bytes, &exit_with(ExitCode::Success)), &[]);
    assert_eq!(seen.status, 1, "{}", seen.notes);
    assert!(seen.notes.contains("workload sort computed 2 wrong results"), "{}", seen.notes);
}

#[test]
fn a_run_without_samples_is_a_finding() {
    let bytes = started().end().expect("it fits");
    let seen = record(&StandIn::new(&bytes, &exit_with(ExitCode::Success)), &[]);
    assert_eq!(seen.status, 1);
    assert!(seen.notes.contains("there is no sample"), "{}", seen.notes);
}

#[test]
fn success_without_the_final_counters_is_an_error() {
    let bytes = started().into_bytes();
    let seen = record(&StandIn::new(&bytes, &exit_with(ExitCode::Success)), &[]);
    assert_eq!(seen.status, 2);
    assert!(seen.notes.contains("without the final counters"), "{}", seen.notes);
}

#[test]
fn a_reset_is_an_error_that_says_triple_fault() {
    let seen = record(&StandIn::new(&started().into_bytes(), "exit 0"), &[]);
    assert_eq!(seen.status, 2);
    assert!(seen.notes.contains("triple fault"), "{}", seen.notes);
}

#[test]
fn a_time_limit_ends_the_machine_and_says_what_was_seen() {
    let start = Instant::now();
    let stand_in = StandIn::new(&started().into_bytes(), "exec sleep 100");
    let seen = record(&stand_in, &["--timeout", "0.5"]);
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(seen.status, 2);
    assert!(seen.notes.contains("the time limit passed"), "{}", seen.notes);
    assert!(seen.notes.contains("0 samples") && seen.notes.contains("--timeout"), "{}", seen.notes);
}

#[test]
fn what_qemu_says_is_shown_where_it_fails() {
    let seen = record(&StandIn::new(b"", "echo 'no such thing as -m lots' >&2; exit 1"), &[]);
    assert_eq!(seen.status, 2);
    assert!(seen.notes.contains("QEMU failed (status 1)"), "{}", seen.notes);
    assert!(seen.notes.contains("QEMU says: no such thing as -m lots"), "{}", seen.notes);
}

#[test]
fn a_missing_qemu_is_an_error_that_says_what_to_do() {
    let stand_in = StandIn::sound();
    let mut command = stand_in.nmiprof(&["record"]);
    let output = command.env("NMIPROF_QEMU", "/nowhere/qemu").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    let notes = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(notes.contains("NMIPROF_QEMU names `/nowhere/qemu`"), "{notes}");
    assert!(!stand_in.path("nmiprof.data").exists(), "nothing was touched");
}

#[test]
fn what_this_target_can_not_do_is_an_error_before_anything_is_touched() {
    for words in [["-C", "1"], ["-e", "cycels"]] {
        let stand_in = StandIn::sound();
        let seen = record(&stand_in, &words);
        assert_eq!(seen.status, 2, "{words:?}");
        assert!(!stand_in.path("nmiprof.data").exists(), "{words:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut writer = started();
    for time in 0..200_000 {
        // Addresses that defy prediction make a capture that no pipe can hold.
        let sample = SyntheticSample {
            time,
            ip: time.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..SyntheticSample::default()
        };
        writer.sample(&sample).expect("it fits");
    }
    let bytes = writer.end().expect("it fits");
    let stand_in = StandIn::new(&bytes, &exit_with(ExitCode::Success));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nmiprof"))
        .args(["record", "-q", "-o", "-"])
        .env("NMIPROF_QEMU", stand_in.path("qemu"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(command.stdout.take());
    assert_eq!(command.wait().expect("it is ours").code(), Some(0));
}
