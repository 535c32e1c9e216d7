//! A kernel that can't go on says why, wherever it is.
//!
//! Method: triggers of the self-test image. What the report must contain comes from the architecture: the
//! vector, the faulting address, and where the guard page has to be.

use nmiprof::capture::FatalReport;
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Failure, Verdict};
use nmiprof_wire::FatalCause;

fn report_of(trigger: &str) -> Option<FatalReport> {
    let run = Boot::image(Image::Selftest).append(&format!("selftest={trigger}")).run();
    match run.verdict()? {
        Verdict::Fail(Failure::GaveUp(report) | Failure::Panic(report)) => Some(report.clone()),
        verdict => panic!("{verdict}"),
    }
}

#[test]
fn a_wrong_access_is_reported_with_its_address() {
    let Some(report) = report_of("exception") else { return };
    assert_eq!(report.cause, FatalCause::Exception);
    assert!(report.message.contains("#PF"), "{}", report.message);
    assert!(report.message.contains("CR2 0xffff9ffffffff000"), "{}", report.message);
}

#[test]
fn a_stack_overflow_hits_the_guard_page_and_is_reported_from_another_stack() {
    let Some(report) = report_of("stack-overflow") else { return };
    assert_eq!(report.cause, FatalCause::Exception);
    assert!(report.message.contains("#DF"), "{}", report.message);
    // The first thread's stack is the upper half of the first slot of its area. What faults first, just below it,
    // depends on the frame of the function that overflows.
    assert!(report.message.contains("CR2 0xffff90400000ff"), "{}", report.message);
}

#[test]
fn a_panic_is_reported_with_message_and_place() {
    let Some(report) = report_of("panic") else { return };
    assert_eq!(report.cause, FatalCause::Panic);
    assert_eq!(report.message, "a panic on request");
    assert!(report.file.ends_with("selftest/image.rs") && report.line > 0, "{}:{}", report.file, report.line);
}

#[test]
fn an_unknown_trigger_is_refused_by_name() {
    let Some(report) = report_of("no-such-thing") else { return };
    assert_eq!(report.cause, FatalCause::Configuration);
    assert!(report.message.contains("no-such-thing"), "{}", report.message);
}
