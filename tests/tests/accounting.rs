//! Every overflow is accounted for: received, or dropped for a reason that is counted.
//!
//! Method: whole runs under icount, in which each way to lose a sample is provoked, and one in which the
//! kernel is broken so that it loses samples without a trace.

use nmiprof::capture::{Balance, Identity};
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Completed, Verdict};

/// Boots the main image; `None` where the test is skipped.
fn run(words: &str) -> Option<Completed> {
    Boot::image(Image::Main).append(words).run().passed()
}

/// Checks what holds for every sound run, and returns the totals.
fn balanced(run: &Completed) -> Balance {
    let accounts = run.record.accounts();
    let total = accounts.total();
    assert_eq!(accounts.identity(), Identity::Holds, "{total:?}");
    assert!(!accounts.is_nmi_inconsistent(), "{total:?}");
    assert_eq!(total.link_lost, 0, "a file loses nothing");
    assert_eq!(total.nmi.unknown, 0, "every NMI has a source");
    let workloads = run.record.messages().workloads();
    assert!(!workloads.is_empty() && workloads.iter().all(|workload| workload.wrong_results == 0));
    total
}

// case 1, case 18
#[test]
fn a_plain_run_receives_every_overflow_and_faults_once_a_ring_page() {
    let Some(run) = run("duration_ns=500000000 period=20011 chains=on") else { return };
    let total = balanced(&run);
    assert!(total.received >= 20_000, "{}", total.received);
    assert_eq!(total.dropped.total(), 0);
    assert_eq!(total.nmi.nested, 0, "nothing provokes nesting");
    assert!(total.ring_pages > 100, "{} pages", total.ring_pages);
    assert_eq!(total.nmi.page_faults, total.ring_pages, "one fault in NMI for each page first touched");
}

// cases 3, 13, 44
#[test]
fn nested_nmis_at_every_first_touch_lose_nothing() {
    let Some(run) = run("duration_ns=500000000 period=20011 chains=on stress=nest") else { return };
    let total = balanced(&run);
    assert!(total.received >= 20_000, "{}", total.received);
    assert_eq!(total.dropped.total(), 0);
    assert!(total.nmi.page_faults > 100);
    assert_eq!(total.nmi.page_faults, total.ring_pages);
    assert!(total.nmi.nested >= total.nmi.page_faults, "{:?}", total.nmi);
    assert_eq!(total.nmi.rerun, total.nmi.nested, "each nested NMI came alone, so each caused its own run");
    assert!(total.nmi.swallowed > 0, "the run that a nested NMI asked for finds its event handled already");
}

// case 22
#[test]
fn an_empty_reserve_is_a_counted_drop_and_sampling_goes_on() {
    let Some(run) = run("duration_ns=100000000 period=1009 chains=on reserve_frames=2") else { return };
    let total = balanced(&run);
    assert!(total.dropped.no_frame > 0, "{:?}", total.dropped);
    assert_eq!(total.reserve_frames_min, 0);
    assert!(total.received > 5_000, "samples are stored again each time the reserve is refilled: {total:?}");
}

// case 62
#[test]
fn a_full_ring_is_a_counted_drop_and_sampling_goes_on() {
    let Some(run) = run("duration_ns=100000000 period=1009 ring_bytes=4096") else { return };
    let total = balanced(&run);
    assert!(total.dropped.ring_full > 0, "{:?}", total.dropped);
    assert_eq!(total.ring_pages, 1);
    assert!(total.received > 1000, "{}", total.received);
}

#[test]
fn a_kernel_that_forgets_samples_breaks_the_identity() {
    let mutant = Boot::image(Image::Selftest).append("duration_ns=100000000 selftest=skip-ring-write");
    let run = mutant.run();
    let Some(verdict) = run.verdict() else { return };
    assert_eq!(*verdict, Verdict::Pass, "the mutant itself notices nothing");
    let accounts = run.record().expect("it was booted").accounts();
    let total = accounts.total();
    assert_eq!(accounts.identity(), Identity::Broken, "{total:?}");
    assert_eq!(total.dropped.total() + total.link_lost, 0, "nobody says so but the identity");
    let forgotten = total.overflows - total.received;
    assert_eq!(forgotten, total.overflows / 100, "it forgets every hundredth");
}

#[test]
fn the_self_test_image_without_a_mutant_accounts_for_everything() {
    let Some(run) = Boot::image(Image::Selftest).append("duration_ns=100000000").run().passed() else {
        return;
    };
    balanced(&run);
}
