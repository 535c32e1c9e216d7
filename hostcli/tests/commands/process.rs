//! The exit status of the real process, and its standard streams.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use nmiprof::capture::writer::{self, SyntheticSample, Writer};

use crate::fixture::{Fixture, ten_samples, ten_samples_capture};

fn nmiprof(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nmiprof"));
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run_with_input(words: &[&str], input: &[u8]) -> Output {
    let mut child = nmiprof(words).spawn().expect("the binary was built");
    child.stdin.take().expect("a pipe").write_all(input).expect("the child reads all of it");
    child.wait_with_output().expect("the child ends")
}

#[test]
fn the_status_is_0_for_good_1_for_findings_and_2_for_an_error() {
    let good = run_with_input(&["info", "-i", "-"], &ten_samples_capture(&writer::hello()));
    assert_eq!(good.status.code(), Some(0));
    let mut writer = ten_samples(&writer::hello());
    writer.totals(0, |totals| totals.overflows += 1);
    let broken = run_with_input(&["info", "-i", "-"], &writer.end().expect("frames of its own making"));
    assert_eq!(broken.status.code(), Some(1));
    let error = run_with_input(&["info", "-i", "-"], b"");
    assert_eq!(error.status.code(), Some(2));
    let text = String::from_utf8_lossy(&error.stderr);
    assert!(text.contains("`standard input` is empty"), "{text}");
    assert_eq!(error.stdout, b"");
}

#[test]
fn a_closed_pipe_is_a_good_end() {
    let mut writer = Writer::new(&writer::hello()).expect("a short Hello");
    for time in 0..50_000 {
        writer
            .sample(&SyntheticSample { time, ip: 1, ..SyntheticSample::default() })
            .expect("CPU 0 is there");
    }
    let fixture = Fixture::new(&writer.end().expect("frames of its own making"));
    let path = fixture.path("capture").display().to_string();
    let mut child = nmiprof(&["script", "-F", "time,ip", "-i", &path]).spawn().expect("the binary was built");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the child ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
