//! A million random nestings break no safe entry, and NMIs pending at every exit use no more stack than a few.
//!
//! Method: what `nmiprof selftest storm --json` prints, and its outcome. The self-test image provokes one NMI
//! after another, by the APIC, by a timer with random counts, by both at once, and out of breakpoints' handlers,
//! each time from inside a handler that faults on absent pages. It checks every invariant after each burst.
//! The seed is printed: the same one gives the same storm.

use clap::Parser;
use nmiprof::commands::{Outcome, selftest};
use nmiprof::images::Image;
use nmiprof_tests::{Boot, qemu};
use serde_json::Value;

#[derive(Parser)]
struct SelftestCommand {
    #[command(flatten)]
    args: selftest::Args,
}

/// Runs the command; returns its outcome and its array, or `None` where the test is skipped.
fn storm(words: &[&str]) -> Option<(Outcome, Vec<Value>)> {
    qemu().map_err(|skip| skip.register()).ok()?;
    let words = ["selftest", "storm", "--json"].iter().chain(words);
    let command = SelftestCommand::parse_from(words);
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = selftest::run(&command.args, &mut out, &mut notes).expect("the storm can be run");
    println!("{}{}", String::from_utf8_lossy(&notes), String::from_utf8_lossy(&out));
    Some((outcome, serde_json::from_slice(&out).expect("a JSON array")))
}

fn number(combination: &Value, name: &str) -> u64 {
    combination[name].as_u64().unwrap_or_else(|| panic!("{name} in {combination:#}"))
}

/// Checks the runs with an NMI pending at every exit.
fn check_pending(combination: &Value) {
    let runs = combination["pending"].as_array().expect("a list");
    assert_eq!(runs.len(), 2, "a few exits, and many: {combination:#}");
    for run in runs {
        assert!(number(run, "exits") > 100 && number(run, "back_to_back") + 1 >= number(run, "exits"));
        assert_eq!(run["stack_bytes"], runs[0]["stack_bytes"], "{combination:#}");
    }
    assert!(number(&runs[1], "exits") > 100_000);
}

// cases 6, 11, 15, 25, 49
#[test]
fn a_million_random_nestings_break_no_safe_entry() {
    let Some((outcome, combinations)) = storm(&["--nestings", "1000000"]) else { return };
    assert_eq!(combinations.len(), 4, "rostedt, latched, softmask, tristate");
    for combination in &combinations {
        assert_eq!(number(combination, "failures"), 0, "{combination:#}");
        assert!(number(combination, "nestings") >= 1_000_000, "{combination:#}");
        assert!(number(combination, "breakpoints_hit") > 10_000, "{combination:#}");
        assert!(number(combination, "merged_runs") > 10_000, "{combination:#}");
        check_pending(combination);
    }
    assert_eq!(outcome, Outcome::Good);
}

// cases 11, 15
#[test]
fn every_sound_form_survives_a_storm_and_an_nmi_pending_at_every_exit() {
    let Some((outcome, combinations)) = storm(&["--all-forms", "--nestings", "20000"]) else { return };
    assert_eq!(combinations.len(), 25);
    combinations.iter().for_each(check_pending);
    assert_eq!(outcome, Outcome::Good);
    let calm = combinations.iter().filter(|combination| combination["nests"] == false).count();
    assert_eq!(calm, 1 + 2 + 2 + 1 + 1, "faults that return without `iret`, and no early unmasking");
}

/// What can't fail proves nothing.
#[test]
fn an_entry_with_a_known_defect_fails_in_a_storm() {
    for mutant in ["no-window-check", "no-cr2-restore"] {
        let words = format!(
            "selftest=storm sweep_first=7 sweep_last=10000 unmask=early unsafe_nmi=on mutant={mutant}"
        );
        let Some(run) = Boot::image(Image::Selftest).append(&words).run().passed() else { return };
        let reports = run.record.messages().placements();
        assert!(reports.iter().any(|report| report.failures != 0), "{mutant} gets through");
    }
}
