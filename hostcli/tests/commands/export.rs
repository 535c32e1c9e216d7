//! `export` writes what other tools read.

use nmiprof::commands::Outcome;

use crate::fixture::{Fixture, assert_snapshot, hello_with_chains, ten_samples_capture};

#[test]
fn folded_stacks_start_at_the_outermost_function() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("export --format folded");
    assert_eq!(ran.outcome(), Outcome::Good);
    assert_snapshot("folded.txt", &ran.out);
}

#[test]
fn a_flame_graph_says_what_it_shows() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("export --format svg");
    for text in ["nmiprof: instructions (virtual PMU), 10 samples", "sort::quicksort (6 samples, 60.00%)"] {
        assert!(ran.out.contains(text), "{text}");
    }
}

#[test]
fn an_export_goes_to_the_file_that_is_named() {
    let fixture = Fixture::new(&ten_samples_capture(&hello_with_chains()));
    let file = fixture.path("flamegraph.svg");
    let ran = fixture.run(&format!("export --format svg -o {}", file.display()));
    assert_eq!((ran.outcome(), ran.out.as_str()), (Outcome::Good, ""));
    assert!(std::fs::read_to_string(file).expect("it was written").starts_with("<?xml"));
    let error = fixture.run("export -o /no/such/directory/file").error();
    assert!(error.contains("can't write /no/such/directory/file"), "{error}");
}

#[test]
fn an_event_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let fixture = Fixture::new(&ten_samples_capture(&hello_with_chains()));
    assert!(fixture.run("export -e cycles").error().contains("it has: instructions"));
    assert_eq!(fixture.run("export -e instructions").outcome(), Outcome::Good);
}
