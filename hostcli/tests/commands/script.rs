//! `script` prints every sample.

use nmiprof::capture::writer;

use crate::fixture::{Fixture, assert_snapshot, hello_with_chains, ten_samples_capture};

#[test]
fn one_line_per_sample() {
    let ran = Fixture::new(&ten_samples_capture(&writer::hello())).run("script");
    assert_snapshot("script-flat.txt", &ran.out);
}

#[test]
fn call_chains_follow_their_sample() {
    let ran = Fixture::new(&ten_samples_capture(&hello_with_chains())).run("script");
    assert_snapshot("script-chains.txt", &ran.out);
}

#[test]
fn fields_that_were_not_asked_for_are_left_out() {
    let fixture = Fixture::new(&ten_samples_capture(&hello_with_chains()));
    let first = |line: &str| fixture.run(line).out.lines().next().map(str::to_owned);
    assert_eq!(first("script -G -F ip,sym").as_deref(), Some("ffffffff80100104 sort::quicksort"));
    assert_eq!(first("script -G -F time,sym,symoff").as_deref(), Some("    0.001000: sort::quicksort+0x4"));
    assert_eq!(first("script -F cpu,event").as_deref(), Some("[000] instructions:"));
}
