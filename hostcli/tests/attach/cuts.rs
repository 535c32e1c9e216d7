//! A run that is joined in its middle, or whose line is cut: what is missing is counted, once.

use std::thread;
use std::time::{Duration, Instant};

use nmiprof::capture::Identity;
use nmiprof::capture::writer::hello;
use nmiprof_wire::BuildId;

use super::recording::{Place, send, wait_for};
use super::run::{Run, SAMPLES, decode};

#[test]
fn a_run_that_is_joined_in_the_middle_of_a_frame_has_no_damage() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let from = run.inside_a_frame(30);
    send(far_end.accept(), &run.bytes[from..]);
    recording.wait().expect_status(0).expect_note("attached in the middle of the run, after ");
    assert!(place.data() == run.bytes[from..], "verbatim");
    let record = decode(&place.data());
    let joined = record.joined().expect("it was joined late");
    assert_eq!(record.damage().frames, 0);
    assert!(joined.samples_before > 0 && joined.head_bytes > 0, "{joined:?}");
    assert_eq!(joined.samples_before + record.samples(), SAMPLES);
    assert_eq!((record.lost_on_the_line(), record.accounts().identity()), (0, Identity::Holds));
    let info = place.run(&["info", "-i", "data"]).expect_status(0);
    let text = String::from_utf8(info.out).expect("UTF-8");
    assert!(
        text.contains("# attached in the middle of the run: ") && text.contains("# damaged: 0 frames"),
        "{text}"
    );
}

#[test]
fn a_cut_in_the_middle_of_a_frame_loses_what_was_not_sent_and_doubles_nothing() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let (cut, back) = (run.inside_a_frame(30), run.inside_a_frame(60));
    send(far_end.accept(), &run.bytes[..cut]);
    recording.wait_for_note("lost unix:line: the far end has closed it");
    send(far_end.accept(), &run.bytes[back..]);
    recording.wait().expect_status(0).expect_note("is back after").expect_note("the identity holds");
    assert!(place.data() == [&run.bytes[..cut], &[0], &run.bytes[back..]].concat(), "and a zero at the cut");
    let record = decode(&place.data());
    assert_eq!(record.samples() + record.lost_on_the_line(), SAMPLES);
    assert_eq!((record.damage().frames, record.accounts().identity()), (2, Identity::Holds));
}

#[test]
fn a_line_that_comes_back_again_and_again_loses_nothing_between_frames() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let frames = run.frames();
    let mut from = 0;
    for share in 1..=4 {
        let to = if share == 4 { run.bytes.len() } else { frames[frames.len() * share / 4] };
        send(far_end.accept(), &run.bytes[from..to]);
        from = to;
    }
    recording.wait().expect_status(0).expect_note("the line was cut 3 times; 0 samples were lost on it");
    assert!(place.data() == run.bytes, "not a byte is missing");
    assert_eq!(decode(&place.data()).samples(), SAMPLES);
}

#[test]
fn a_line_that_does_not_come_back_is_an_error_and_the_capture_is_whole_up_to_there() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&["--reconnect", "1"]);
    let cut = run.inside_a_frame(50);
    send(far_end.accept(), &run.bytes[..cut]);
    drop(far_end);
    let lost = Instant::now();
    let seen = recording.wait().expect_status(2).expect_note("did not come back").expect_note("--reconnect");
    assert!(
        (1..10).contains(&lost.elapsed().as_secs()) && seen.elapsed < Duration::from_secs(20),
        "{seen:?}"
    );
    assert!(place.data() == run.bytes[..cut], "verbatim, with what had begun");
    assert_eq!(decode(&place.data()).accounts().identity(), Identity::Incomplete);
    place.run(&["info", "-i", "data"]).expect_status(1).expect_note("incomplete");
}

#[test]
fn a_far_end_that_takes_every_connection_and_says_nothing_is_waited_for_no_longer() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&["--reconnect", "2"]);
    send(far_end.accept(), &run.bytes[..run.inside_a_frame(50)]);
    let mut connections = 0;
    thread::scope(|scope| {
        let closing = scope.spawn(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                if far_end.accept_within(Duration::from_millis(500)).is_some() {
                    connections += 1;
                }
            }
        });
        recording.wait().expect_status(2).expect_note("did not come back");
        closing.join().expect("it only accepts");
    });
    assert!((2..=12).contains(&connections), "{connections} attempts: neither none nor a busy loop");
}

#[test]
fn without_a_bound_there_is_no_second_attempt() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&["--reconnect", "0"]);
    send(far_end.accept(), &run.bytes[..run.inside_a_frame(50)]);
    recording.wait().expect_status(2).expect_note("the far end has closed it");
    assert!(far_end.accept_within(Duration::from_millis(100)).is_none(), "nobody came back");
}

#[test]
fn another_kernel_after_the_cut_leaves_no_byte_in_the_capture() {
    let mut other = hello();
    other.build_id = BuildId([3; 20]);
    // A kernel in the middle of its own run, and one that was started again.
    for (other, from, why) in [(Run::of(&other), 50, "another build"), (Run::new(), 0, "started again")] {
        let (place, run) = (Place::new(), Run::new());
        let far_end = place.listen();
        let recording = place.record(&[]);
        let cut = run.inside_a_frame(70);
        send(far_end.accept(), &run.bytes[..cut]);
        let line = far_end.accept();
        let from = if from > 0 { other.inside_a_frame(from) } else { 0 };
        // The command may have seen enough and be gone before the end.
        drop(std::io::Write::write_all(&mut &line, &other.bytes[from..]));
        recording.wait().expect_status(2).expect_note("another run began").expect_note(why);
        assert!(place.data() == run.bytes[..cut], "the first run alone");
        place.run(&["info", "-i", "data"]).expect_status(1).expect_note("incomplete");
    }
}

#[test]
fn a_restart_without_a_cut_ends_the_capture_where_the_second_run_begins() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let line = far_end.accept();
    let reset_at = *run.frames().get(9).expect("many frames");
    send(&line, &run.bytes[..reset_at]);
    wait_for("the first run", || (place.data().len() == reset_at).then_some(()));
    drop(std::io::Write::write_all(&mut &line, &run.bytes));
    recording
        .wait()
        .expect_status(2)
        .expect_note("another run began on the line: the target was started again");
    assert!(place.data() == run.bytes[..reset_at], "the first run alone");
}

#[test]
fn what_comes_after_a_cut_and_never_says_whose_it_is_is_left_out() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&["--reconnect", "1"]);
    let cut = run.frames()[8];
    send(far_end.accept(), &run.bytes[..cut]);
    send(far_end.accept(), b"login: ");
    drop(far_end);
    recording.wait().expect_status(2).expect_note("7 bytes are left out");
    assert!(place.data() == run.bytes[..cut], "the run alone");
}
