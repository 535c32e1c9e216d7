//! The profile names what users wrote: the workloads' functions, inlined ones included.
//!
//! Method: a short run of all workloads, and the report on it as JSON.

use std::fs;

use clap::Parser;
use nmiprof::commands::{Outcome, report};
use nmiprof::images::Image;
use nmiprof_tests::Boot;
use serde_json::Value;

const TOP: usize = 10;

#[derive(Parser)]
struct ReportCommand {
    #[command(flatten)]
    args: report::Args,
}

fn report_on(capture: &[u8], flags: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("room for a capture");
    let path = directory.path().join("capture");
    fs::write(&path, capture).expect("room for a capture");
    let input = ["report", "--json", "-i", path.to_str().expect("a plain path")];
    let command = ReportCommand::parse_from(input.iter().chain(flags));
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = report::run(&command.args, &mut out, &mut notes).expect("the capture is readable");
    assert!(matches!(outcome, Outcome::Good), "{}", String::from_utf8_lossy(&notes));
    serde_json::from_slice(&out).expect("JSON")
}

/// Returns the names in the first rows of the first event.
fn top_symbols(report: &Value) -> Vec<&str> {
    let rows = report["events"][0]["rows"].as_array().expect("rows");
    rows.iter().take(TOP).map(|row| row["symbol"].as_str().expect("a name")).collect()
}

#[test]
fn the_top_symbols_are_the_workloads_functions() {
    let boot = Boot::image(Image::Main).append("duration_ns=500000000 period=50021 chains=on");
    let Some(run) = boot.run().passed() else { return };
    let report = report_on(&run.capture, &["--no-children"]);
    let symbols = top_symbols(&report);
    assert_eq!(symbols.len(), TOP);
    assert!(symbols.iter().all(|symbol| symbol.contains("::workloads::")), "{symbols:#?}");
    assert!(symbols.iter().any(|symbol| symbol.contains("hash::round")), "an inlined one: {symbols:#?}");
    let unresolved = report["unresolved_pct"].as_f64().expect("a share");
    assert!(unresolved < 2.0, "{unresolved} % unresolved");

    let physical = report_on(&run.capture, &["--no-children", "--no-inline"]);
    assert!(top_symbols(&physical).iter().all(|symbol| !symbol.contains("hash::round")));
}
