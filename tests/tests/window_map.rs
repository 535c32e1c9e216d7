//! The window map of one form of each strategy.
//!
//! Method: what `nmiprof selftest nmi --quick --no-pairs --json --html FILE` prints and writes, and its outcome. The page is
//! compared with the JSON, and with the page of a second sweep.

use std::path::Path;

use clap::Parser;
use nmiprof::commands::{Outcome, selftest};
use nmiprof_tests::qemu;
use nmiprof_wire::NmiEntry;
use serde_json::Value;

#[derive(Parser)]
struct SelftestCommand {
    #[command(flatten)]
    args: selftest::Args,
}

fn sweep(page: &Path) -> (Outcome, String) {
    let words =
        ["selftest", "nmi", "--quick", "--no-pairs", "--json", "--quiet", "--html"].map(str::to_owned);
    let command = SelftestCommand::parse_from(words.into_iter().chain([page.display().to_string()]));
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let outcome = selftest::run(&command.args, &mut out, &mut notes).expect("the sweep can be done");
    (outcome, String::from_utf8_lossy(&out).into_owned())
}

/// Returns the fates of the boundaries of a strategy's only form: the class that each row has for it.
fn fates<'a>(page: &'a str, entry: &str) -> Vec<&'a str> {
    let (_, section) =
        page.split_once(&format!("<section id=\"{entry}\"")).expect("each strategy has a section");
    let (section, _) = section.split_once("</section>").expect("its end");
    let rows = section.split("<tr class=\"").skip(1).filter_map(|row| row.split_once('"'));
    rows.filter_map(|(classes, _)| classes.split_once(" r-")).map(|(_, fate)| fate).collect()
}

fn count(fates: &[&str], name: &str) -> usize {
    fates.iter().filter(|fate| **fate == name).count()
}

fn check_page(page: &str, combinations: &[Value]) {
    assert_eq!(combinations.len(), NmiEntry::ALL.len());
    for swept in combinations {
        let entry = swept["entry"].as_str().expect("a name");
        let fates = fates(page, entry);
        let number =
            |name: &str| usize::try_from(swept[name].as_u64().expect("a number")).expect("a small one");
        let [masked, early, reachable] = ["masked", "early", "reachable"].map(number);
        assert_eq!(fates.len(), masked + early + reachable, "{entry}: a row for each boundary");
        assert_eq!((count(&fates, "delayed"), count(&fates, "apart")), (masked, 1), "{entry}");
        let nested = ["joined", "latched", "restarted"].map(|fate| count(&fates, fate));
        println!(
            "{entry}: delayed {masked}; joined, latched, restarted {nested:?}; failed {}",
            count(&fates, "failed")
        );
        if entry == "naive" {
            assert_eq!(count(&fates, "failed"), early + reachable - 1, "{entry}: wherever an NMI nests");
            continue;
        }
        // Each NMI inside has a known fate, and the exit window is where the labels say: one address, or more.
        assert_eq!(nested.iter().sum::<usize>(), early + reachable - 1, "{entry}");
        let (joins, window_min) = (entry == "rostedt", if entry == "latched" { 10 } else { 1 });
        assert_eq!(nested[0] > 0, joins, "{entry}: only this one joins a second NMI to the first run");
        assert!(nested[1] > 200 && (window_min..40).contains(&nested[2]), "{entry}: {nested:?}");
    }
}

// cases 2 to 10, 13
#[test]
fn the_map_shows_every_boundary_and_what_an_nmi_there_did() {
    if let Err(skip) = qemu() {
        return skip.register();
    }
    let directory = tempfile::tempdir().expect("room");
    let file = directory.path().join("map.html");
    let (outcome, text) = sweep(&file);
    assert_eq!(outcome, Outcome::Good, "{text}");
    let combinations: Vec<Value> = serde_json::from_str(&text).expect("a JSON array");
    for swept in &combinations {
        assert!(swept["runs"].as_u64() > Some(0), "{swept:#}");
        let is_clean = swept["missed"].as_array().is_some_and(Vec::is_empty) && swept["failures"] == 0;
        assert_eq!(swept["sound"].as_bool(), Some(is_clean), "{swept:#}");
    }
    let page = std::fs::read_to_string(&file).expect("it was written");
    check_page(&page, &combinations);
    let (_, again) = sweep(&file);
    assert_eq!(again, text);
    assert!(std::fs::read_to_string(&file).expect("it was written") == page, "the same bytes");
}
