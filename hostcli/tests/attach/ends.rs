//! How a recording ends while the target goes on, and what its end is worth.

use std::time::Duration;

use nmiprof::capture::Identity;
use nmiprof::capture::writer::{Writer, hello};
use nmiprof_wire::{Fatal, FatalCause, Frame};

use super::recording::{Place, send, wait_for};
use super::run::{Run, decode};

#[test]
fn ctrl_c_ends_the_recording_and_the_capture_is_whole_up_to_there() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let line = far_end.accept();
    let sent = run.frames()[12];
    send(&line, &run.bytes[..sent]);
    wait_for("what was sent", || (place.data().len() == sent).then_some(()));
    recording.interrupt();
    recording.wait().expect_status(0).expect_note("ended by the user; the target goes on");
    assert!(place.data() == run.bytes[..sent], "verbatim");
    assert_eq!(decode(&place.data()).accounts().identity(), Identity::Incomplete);
    place.run(&["info", "-i", "data"]).expect_status(1).expect_note("incomplete");
}

#[test]
fn ctrl_c_is_heard_on_a_silent_line_and_on_a_lost_one() {
    let place = Place::new();
    let far_end = place.listen();
    let recording = place.record(&[]);
    let line = far_end.accept();
    recording.wait_for_note("attached to");
    recording.interrupt();
    recording.wait().expect_status(2).expect_note("not one byte came");
    drop(line);

    let recording = place.record(&["--reconnect", "100"]);
    drop(far_end.accept());
    drop(far_end);
    recording.wait_for_note("lost unix:line");
    recording.interrupt();
    recording.wait().expect_status(2);
}

#[test]
fn a_duration_of_host_time_ends_the_recording() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&["--duration", "1.5"]);
    let line = far_end.accept();
    send(&line, &run.bytes[..run.frames()[12]]);
    let seen = recording.wait().expect_status(0).expect_note("the time is over; the target goes on");
    assert!(seen.elapsed >= Duration::from_millis(1500), "{seen:?}");
}

#[test]
fn last_words_end_the_recording_and_are_an_error() {
    let place = Place::new();
    let far_end = place.listen();
    for (cause, status) in
        [(FatalCause::Panic, 2), (FatalCause::Configuration, 2), (FatalCause::Invariant, 1)]
    {
        let recording = place.record(&[]);
        let mut writer = Writer::new(&hello()).expect("it fits");
        let fatal = Fatal { cause, cpu: 0, time: 1, message: "made up", file: "main.rs", line: 12 };
        writer.frame(&Frame::Fatal(fatal)).expect("it fits");
        let line = far_end.accept();
        send(&line, &writer.into_bytes());
        recording.wait().expect_status(status).expect_note("made up");
    }
}

#[test]
fn last_words_after_a_cut_are_heard_although_nothing_else_says_whose_they_are() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    send(far_end.accept(), &run.bytes[..run.inside_a_frame(50)]);
    let end = *run.frames().last().expect("the final counters");
    send(far_end.accept(), &run.bytes[end..]);
    recording.wait().expect_status(0).expect_note("the identity holds");
    assert_eq!(decode(&place.data()).accounts().identity(), Identity::Holds);
}

#[test]
fn bytes_that_are_no_frames_are_an_error_that_asks_for_the_speed() {
    let place = Place::new();
    let far_end = place.listen();
    let recording = place.record(&["--reconnect", "0"]);
    send(far_end.accept(), b"login: \r\nlogin: \0");
    recording
        .wait()
        .expect_status(2)
        .expect_note("not one of 17 bytes was part of a frame")
        .expect_note("@BAUD");
    assert_eq!(place.data(), b"login: \r\nlogin: \0", "kept for who wants to look");
}

#[test]
fn frames_without_a_description_are_an_error() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&["--reconnect", "0"]);
    let frames = run.frames();
    send(far_end.accept(), &run.bytes[frames[1]..frames[2]]);
    recording.wait().expect_status(2).expect_note("said which kernel sent them");
}
