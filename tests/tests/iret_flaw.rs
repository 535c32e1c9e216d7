//! The flaw is real, and the entry survives it.
//!
//! Method: the same run, lazy ring and provoked nesting included, with the naive entry and with one that
//! is safe. The kernel's own marker of NMI-once has to catch the first and stay silent in the second.

use nmiprof::capture::Identity;
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Failure, Verdict};
use nmiprof_wire::FatalCause;

const NESTED: &str = "duration_ns=200000000 period=10007 stress=nest";

fn run(words: &str) -> Boot {
    Boot::image(Image::Main).append(NESTED).append(words)
}

// case 3
#[test]
fn the_naive_entry_is_re_entered_and_the_kernel_says_so() {
    let run = run("nmi=naive unsafe_nmi=on").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Invariant);
    assert!(report.message.contains("NMI-once"), "{}", report.message);
}

// case 3
#[test]
fn the_rostedt_entry_survives_the_same_run() {
    let Some(run) = run("nmi=rostedt").run().passed() else { return };
    let accounts = run.record.accounts();
    assert_eq!(accounts.identity(), Identity::Holds);
    let nmi = accounts.total().nmi;
    assert!(nmi.nested > 0 && nmi.nested >= nmi.page_faults, "{nmi:?}");
}

#[test]
fn the_naive_entry_is_refused_unless_the_user_insists() {
    let run = run("nmi=naive").run();
    let Some(verdict) = run.verdict() else { return };
    let Verdict::Fail(Failure::GaveUp(report)) = verdict else { panic!("{verdict}") };
    assert_eq!(report.cause, FatalCause::Configuration);
    assert!(report.message.contains("unsafe_nmi=on"), "{}", report.message);
}
