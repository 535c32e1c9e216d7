//! The harness tells apart the five ways in which a run goes wrong, and passes none of them.
//!
//! Method: each way is provoked for real. Panic, hang and triple fault are triggers of the self-test
//! image; the exit device is left out of the machine; QEMU is looked for where it is not.

use std::time::Duration;

use nmiprof::images::Image;
use nmiprof::machine::Program;
use nmiprof_tests::{Boot, Failure, Timeout, Verdict};

/// A run that is long enough to send samples and short enough to wait for.
const SHORT: &str = "duration_ns=20000000";

/// Wall time for runs that are expected to use it up.
const SHORT_LIMIT: Duration = Duration::from_secs(15);

fn selftest(trigger: &str) -> Boot {
    Boot::image(Image::Selftest).append(SHORT).append(&format!("selftest={trigger}"))
}

#[test]
fn a_sound_run_passes_and_its_samples_are_all_there() {
    for image in Image::ALL {
        let Some(run) = Boot::image(image).append(SHORT).run().passed() else {
            return;
        };
        assert!(run.record.samples() > 0, "{image}");
        assert_eq!(run.capture.len() as u64, run.record.bytes());
    }
}

#[test]
fn a_panic_is_a_failure_with_its_message_and_place() {
    let run = selftest("panic").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::Panic(report)) = verdict else { panic!("{verdict}") };
    assert!(!report.message.is_empty());
    assert!(report.file.ends_with(".rs") && report.line > 0, "{}:{}", report.file, report.line);
}

#[test]
fn a_hang_is_a_timeout() {
    let run = selftest("hang").limit(SHORT_LIMIT).run();
    let Some(verdict) = run.verdict() else { return };
    assert_eq!(*verdict, Verdict::Timeout(Timeout::Hang));
}

#[test]
fn a_triple_fault_is_a_failure_of_its_own() {
    let run = selftest("triple-fault").run();
    let Some(verdict) = run.verdict() else { return };
    assert_eq!(*verdict, Verdict::Fail(Failure::TripleFault));
}

#[test]
fn a_missing_exit_device_is_a_timeout_of_its_own() {
    let run = Boot::image(Image::Main).append(SHORT).without_exit_device().run();
    let Some(verdict) = run.verdict() else { return };
    assert_eq!(*verdict, Verdict::Timeout(Timeout::NoExitDevice));
}

#[test]
fn a_missing_qemu_is_a_skip_that_ci_does_not_tolerate() {
    let run = Boot::image(Image::Main).program(Program::at("/nowhere/qemu")).run();
    let Verdict::Skip(skip) = &run.verdict else { panic!("{}", run.verdict) };
    assert!(skip.is_needed_in_ci);
    assert!(skip.reason.contains("/nowhere/qemu"), "{skip}");
    assert_eq!(run.command_line, None, "nothing was started");
}

#[test]
fn a_qemu_that_refuses_its_arguments_is_neither_pass_nor_fail() {
    let run = Boot::image(Image::Main).qemu_arg("-no-such-argument").run();
    let Some(verdict) = run.verdict() else { return };
    assert!(matches!(verdict, Verdict::Unknown(_)), "{verdict}");
    assert!(run.stderr().contains("no-such-argument"), "{}", run.stderr());
}

#[test]
fn a_refused_command_line_is_a_failure_that_names_the_word() {
    let run = Boot::image(Image::Main).append("colour=blue").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert!(report.message.contains("colour=blue"), "{}", report.message);
}
