//! What holds for the usual NMI entry holds for every sound form of every entry: accounts, proportions,
//! exactness, determinism, size, symbols.
//!
//! Method: the session of `nmiprof demo`, and shorter ones that provoke each way to lose a sample, with each of
//! the 25 sound forms.

use std::fs;

use clap::Parser;
use nmiprof::capture::{Balance, Identity};
use nmiprof::commands::{Outcome, report};
use nmiprof::images::Image;
use nmiprof_tests::combinations::{nests, sound};
use nmiprof_tests::samples::samples;
use nmiprof_tests::shares::{instructions, percent, sample_counts};
use nmiprof_tests::{Boot, Completed};
use nmiprof_wire::{Options, Sampling, Stress};
use serde_json::Value;

/// Workloads, and the modules of their functions.
const WORKLOADS: [&str; 6] = ["sort", "hash", "matrix", "parse", "chase", "irqs-off"];
const MODULES: [&str; 6] = [
    "workloads::sort",
    "workloads::hash",
    "workloads::matrix",
    "workloads::parse",
    "workloads::chase",
    "workloads::irqs_off",
];
/// Difference in percentage points between samples and instructions of a workload.
const TOLERANCE_POINTS: f64 = 1.0;
const CHAINED_BYTES_MAX: f64 = 10.0;
const FLAT_BYTES_MAX: f64 = 5.0;
const FLAT_PERIOD: u64 = 10_007;

#[derive(Parser)]
struct ReportCommand {
    #[command(flatten)]
    args: report::Args,
}

/// Runs the main image with each sound form of `base` and hands over what came of it; ends early where the test
/// is skipped.
fn for_each_form(base: Options<'static>, check: impl Fn(&Options<'_>, &Completed)) {
    for options in sound(base) {
        let Some(run) = Boot::image(Image::Main).options(&options).run().passed() else { return };
        check(&options, &run);
    }
}

/// Checks what holds for every run, and returns the totals.
fn balanced(options: &Options<'_>, run: &Completed) -> Balance {
    let accounts = run.record.accounts();
    let total = accounts.total();
    assert_eq!(accounts.identity(), Identity::Holds, "{options}: {total:?}");
    assert!(!accounts.is_nmi_inconsistent(), "{options}: {total:?}");
    assert_eq!((total.link_lost, total.nmi.unknown), (0, 0), "{options}: {total:?}");
    let workloads = run.record.messages().workloads();
    assert!(
        !workloads.is_empty() && workloads.iter().all(|workload| workload.wrong_results == 0),
        "{options}"
    );
    total
}

/// Returns the report on a capture, as `nmiprof report --json` prints it.
fn report_on(capture: &[u8]) -> Value {
    let directory = tempfile::tempdir().expect("room for a capture");
    let path = directory.path().join("capture");
    fs::write(&path, capture).expect("room for a capture");
    let path = path.to_str().expect("a plain path");
    let command = ReportCommand::parse_from(["report", "--json", "--no-children", "-i", path]);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = report::run(&command.args, &mut out, &mut notes).expect("the capture is readable");
    assert_eq!(outcome, Outcome::Good, "{}", String::from_utf8_lossy(&notes));
    serde_json::from_slice(&out).expect("JSON")
}

/// Checks that samples fall where the instructions are.
fn check_proportions(options: &Options<'_>, run: &Completed) {
    let sampled = percent(sample_counts(run, MODULES).map(|count| count as u64));
    let truth = percent(instructions(run, WORKLOADS));
    for ((name, sampled), truth) in WORKLOADS.iter().zip(sampled).zip(truth) {
        assert!(
            (sampled - truth).abs() <= TOLERANCE_POINTS,
            "{options}: {name} {sampled:.3} %, not {truth:.3} %"
        );
    }
}

/// The samples of a whole session with call chains are all there, resolved, and where the instructions are.
#[test]
fn the_session_of_the_demo_is_right_under_every_sound_form() {
    let session = Options {
        duration_ns: 1_000_000_000,
        sampling: Sampling::Period(50_021),
        chains: true,
        ..Options::default()
    };
    for_each_form(session, |options, run| {
        let total = balanced(options, run);
        assert!(total.received > 19_000 && total.dropped.total() == 0, "{options}: {total:?}");
        assert_eq!(total.nmi.page_faults, total.ring_pages, "{options}");
        assert_eq!(total.nmi.nested, 0, "{options}: nothing provokes nesting");
        check_proportions(options, run);
        let bytes = run.record.bytes_per_sample().expect("there are samples");
        assert!(bytes <= CHAINED_BYTES_MAX, "{options}: {bytes:.2} bytes");
        let report = report_on(&run.capture);
        let unresolved = report["unresolved_pct"].as_f64().expect("a share");
        assert!(unresolved < 0.1, "{options}: {unresolved} % unresolved");
        let top = report["events"][0]["rows"][0]["symbol"].as_str().expect("a name");
        assert!(top.contains("::workloads::"), "{options}: {top}");
    });
}

/// Each interval is the period and one run of the handler, and a second run gives the same bytes.
#[test]
fn intervals_are_exact_and_runs_repeat_under_every_sound_form() {
    let flat = Options {
        workloads: "sort",
        duration_ns: 100_000_000,
        sampling: Sampling::Period(FLAT_PERIOD),
        ..Options::default()
    };
    for_each_form(flat, |options, run| {
        balanced(options, run);
        let times: Vec<u64> = samples(&run.capture).iter().map(|sample| sample.time).collect();
        let mut intervals: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        intervals.sort_unstable();
        let median = intervals[intervals.len() / 2];
        let exact = intervals.iter().filter(|interval| **interval == median).count();
        assert!(median > FLAT_PERIOD && median < FLAT_PERIOD + 400, "{options}: {median}");
        assert!(
            exact * 100 >= intervals.len() * 95,
            "{options}: {exact} of {} are {median}",
            intervals.len()
        );
        let bytes = run.record.bytes_per_sample().expect("there are samples");
        assert!(bytes <= FLAT_BYTES_MAX, "{options}: {bytes:.2} bytes");
        let Some(again) = Boot::image(Image::Main).options(options).run().passed() else { return };
        assert!(run.capture == again.capture, "{options}: every byte");
    });
}

// cases 3, 13, 18
#[test]
fn nested_nmis_lose_nothing_under_every_sound_form() {
    let nested = Options {
        duration_ns: 100_000_000,
        sampling: Sampling::Period(5_003),
        chains: true,
        stress: Stress::Nest,
        ..Options::default()
    };
    for_each_form(nested, |options, run| {
        let total = balanced(options, run);
        assert!(total.dropped.total() == 0 && total.nmi.page_faults > 20, "{options}: {total:?}");
        assert_eq!(total.nmi.page_faults, total.ring_pages, "{options}");
        assert_eq!(total.nmi.nested > 0, nests(options), "{options}: {:?}", total.nmi);
        assert!(
            total.nmi.swallowed + total.nmi.handled > total.overflows,
            "{options}: the self-NMIs: {total:?}"
        );
    });
}

// case 22
#[test]
fn an_empty_reserve_is_a_counted_drop_under_every_sound_form() {
    let short = Options {
        duration_ns: 50_000_000,
        sampling: Sampling::Period(1_009),
        chains: true,
        reserve_frames: 2,
        ..Options::default()
    };
    for_each_form(short, |options, run| {
        let total = balanced(options, run);
        assert!(total.dropped.no_frame > 0 && total.reserve_frames_min == 0, "{options}: {total:?}");
        assert!(total.received > 2_000, "{options}: {total:?}");
    });
}

#[test]
fn a_full_ring_is_a_counted_drop_under_every_sound_form() {
    let small = Options {
        duration_ns: 50_000_000,
        sampling: Sampling::Period(1_009),
        ring_bytes: 4096,
        ..Options::default()
    };
    for_each_form(small, |options, run| {
        let total = balanced(options, run);
        assert!(total.dropped.ring_full > 0 && total.ring_pages == 1, "{options}: {total:?}");
        assert!(total.received > 500, "{options}: {total:?}");
    });
}
