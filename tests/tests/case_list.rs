//! The list of situations, `tests/CASES.md`, is whole and true.
//!
//! Method: every number from the first to the last has a line; every test that a line names exists, here, on the
//! emulated PC or among the tests of the PMU's crate, and the comment above it cites the number; a line without a test gives a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Sections A to E.
const LAST_CASE: u32 = 60;
/// Where tests are, from this crate's directory.
const DIRECTORIES: [&str; 3] = ["tests", "pc/tests", "../kernel/pmu/tests"];
/// How a line begins that gives a reason in place of a test.
const NO_TEST: &str = "no test: ";
/// Shorter ones say nothing.
const REASON_CHARS_MIN: usize = 20;

/// The tests that cite each number, as `file::function`.
type Citations = BTreeMap<u32, Vec<String>>;

/// Returns the numbers that a comment cites: `// case 3`, `// cases 1 to 4, 9`.
fn cited(comment: &str) -> Vec<u32> {
    let Some(list) = comment.strip_prefix("// case") else { return Vec::new() };
    let list = list.trim_start_matches('s').replace("case", "");
    list.split(',').flat_map(numbers).collect()
}

/// Returns the numbers of one item of a list: a number, or two with `to` between them.
fn numbers(item: &str) -> Vec<u32> {
    let ends: Vec<u32> = item.split(" to ").filter_map(|end| end.trim().parse().ok()).collect();
    match ends[..] {
        [one] => vec![one],
        [first, last] => (first..=last).collect(),
        _ => Vec::new(),
    }
}

/// Reads who cites what in one test file: a comment counts for the test right below it.
fn read_citations(file: &Path, citations: &mut Citations) {
    let name = file.file_stem().and_then(|stem| stem.to_str()).expect("a plain name");
    let mut pending = Vec::new();
    for line in fs::read_to_string(file).expect("a test file").lines() {
        if line.starts_with("//") {
            pending.extend(cited(line));
        } else if let Some(function) = line.strip_prefix("fn ") {
            let function = function.split('(').next().unwrap_or_default();
            for case in pending.drain(..) {
                citations.entry(case).or_default().push(format!("{name}::{function}"));
            }
        } else if !line.starts_with("#[") {
            pending.clear();
        }
    }
}

fn citations() -> Citations {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut citations = Citations::new();
    let files =
        DIRECTORIES.iter().flat_map(|directory| fs::read_dir(here.join(directory)).expect("test files"));
    for entry in files {
        let path = entry.expect("a test file").path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            read_citations(&path, &mut citations);
        }
    }
    citations
}

/// Returns number and last column of each line of the tables.
fn lines(list: &str) -> Vec<(u32, String)> {
    let cells = |line: &str| -> Option<(u32, String)> {
        let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
        Some((cells.next()?.parse().ok()?, cells.next_back()?.to_owned()))
    };
    list.lines().filter_map(cells).collect()
}

#[test]
fn every_situation_has_a_test_that_cites_it_or_a_reason() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("CASES.md");
    let lines = lines(&fs::read_to_string(list).expect("the list"));
    let numbers: Vec<u32> = lines.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=LAST_CASE).collect::<Vec<_>>(), "each number once, in order");
    let citations = citations();
    for (case, proof) in &lines {
        let cited = citations.get(case).cloned().unwrap_or_default();
        if let Some(reason) = proof.strip_prefix(NO_TEST) {
            assert!(reason.len() >= REASON_CHARS_MIN, "case {case}: {reason}");
            assert!(cited.is_empty(), "case {case} has a test, which the list leaves out: {cited:?}");
            continue;
        }
        let tests: Vec<&str> = proof.split(", ").map(|test| test.trim_matches('`')).collect();
        for test in tests {
            assert!(
                cited.iter().any(|one| one == test),
                "case {case}: `{test}` does not cite it; {cited:?} do"
            );
        }
    }
}

#[test]
fn citations_are_read_as_they_are_written() {
    assert_eq!(cited("// case 3"), [3]);
    assert_eq!(cited("// cases 1 to 3, 9"), [1, 2, 3, 9]);
    assert_eq!(cited("// case 1, case 18"), [1, 18]);
    assert_eq!(cited("// in that case 3 is right"), Vec::<u32>::new());
}
