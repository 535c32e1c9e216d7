//! `report` shows where the samples fell.

use nmiprof::capture::writer;
use nmiprof::commands::Outcome;

use crate::fixture::{Fixture, assert_snapshot, hello_with_chains, ten_samples_capture};

#[test]
fn the_flat_table() {
    let ran = Fixture::new(&ten_samples_capture(&writer::hello())).run("report --stdio");
    assert_eq!((ran.outcome(), ran.notes.as_str()), (Outcome::Good, ""));
    assert_snapshot("report-flat.txt", &ran.out);
}

#[test]
fn the_table_with_children() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("report");
    assert_snapshot("report-children.txt", &ran.out);
}

#[test]
fn the_call_graph() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("report -g");
    assert_snapshot("report-graph.txt", &ran.out);
}

#[test]
fn the_json_form() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("report --json");
    assert_snapshot("report.json", &ran.out);
}

#[test]
fn without_children_only_own_samples_count() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("report --no-children");
    assert!(ran.out.contains("# Overhead") && !ran.out.contains("main::run"), "{}", ran.out);
}

#[test]
fn rows_below_the_limit_are_left_out_and_counted() {
    let fixture = Fixture::new(&ten_samples_capture(&writer::hello()));
    let ran = fixture.run("report --percent-limit 20");
    assert!(ran.out.contains("matrix::multiply") && !ran.out.contains("[unknown]"), "{}", ran.out);
    assert!(ran.out.contains("# 1 more below 20%"), "{}", ran.out);
    assert!(fixture.run("report --percent-limit 101").error().contains("from 0 to 100"));
}

#[test]
fn keys_are_columns_in_their_order() {
    let ran = Fixture::new(&ten_samples_capture(&writer::hello())).run("report --sort cpu,event,sym,srcline");
    assert!(ran.out.contains("  CPU  Event         Symbol            Source:Line\n"), "{}", ran.out);
    assert!(ran.out.contains("  0    instructions  sort::quicksort   ??:0\n"), "{}", ran.out);
}
