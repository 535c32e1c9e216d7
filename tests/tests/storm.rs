//! A million random nestings break no safe entry.
//!
//! Method: the self-test image provokes one NMI after another, by the APIC and by a timer with random counts,
//! each time from inside a handler that faults on absent pages. It checks every invariant after each burst.
//! The seed is on the command line, which the harness prints: the same one gives the same storm.

use std::time::Duration;

use nmiprof::images::Image;
use nmiprof_tests::Boot;
use nmiprof_wire::{NmiEntry, Options};

const NESTINGS: u32 = 1_000_000;
const SEED: u32 = 20_261_121;

// cases 6, 11, 15
#[test]
fn a_million_random_nestings_break_no_safe_entry() {
    for nmi_entry in [NmiEntry::Rostedt, NmiEntry::Latched, NmiEntry::Softmask, NmiEntry::Tristate] {
        let storm = Options {
            nmi_entry,
            sweep_first: SEED,
            sweep_last: NESTINGS,
            selftest: "storm",
            ..Options::default()
        };
        let boot = Boot::image(Image::Selftest).options(&storm).limit(Duration::from_secs(300));
        let Some(run) = boot.run().passed() else { return };
        let reports = run.record.messages().placements();
        let nested: u64 = reports.iter().map(|report| u64::from(report.nested)).sum();
        let failures = reports.iter().fold(0, |failures, report| failures | report.failures);
        println!("{nmi_entry}: {nested} nestings, failures {failures:#x}");
        assert_eq!(failures, 0, "{nmi_entry}");
        assert!(nested >= u64::from(NESTINGS), "{nmi_entry}: {nested} nestings");
    }
}
