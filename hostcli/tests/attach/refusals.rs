//! What can't be done is refused with the way out, before anything is touched.

use std::fs;

use super::recording::Place;

#[test]
fn a_line_that_is_not_there_costs_no_older_capture_its_name() {
    let place = Place::new();
    fs::write(place.path("data"), "older").expect("room");
    fs::write(place.path("file"), "no socket").expect("room");
    for (line, way_out) in [
        (["-i", "unix:nowhere"], "server=on,wait=off"),
        (["-i", "unix:file"], "server=on,wait=off"),
        (["-i", "tcp:127.0.0.1:1"], "start the target"),
        (["--port", "/dev/nowhere"], "nmiprof doctor"),
        (["--port", "file"], "name a serial port"),
    ] {
        let seen =
            place.run(&["record", line[0], line[1], "-o", "data"]).expect_status(2).expect_note(way_out);
        assert!(seen.notes.contains("can't open"), "{}", seen.notes);
        assert_eq!(place.data(), b"older");
    }
    assert!(!place.path("data.old").exists());
}

#[test]
fn flags_of_a_machine_and_words_of_its_kernel_are_refused() {
    let place = Place::new();
    for (flag, value, way_out) in [
        ("--memory", "256M", "leave --memory out"),
        ("--accel", "tcg", "leave --accel out"),
        ("--timeout", "9", "--duration"),
        ("-w", "sort", "on its own command line"),
        ("--append", "chains=on", "on its own command line"),
    ] {
        let seen =
            place.run(&["record", "-i", "unix:line", flag, value]).expect_status(2).expect_note(way_out);
        assert!(seen.notes.contains("runs already"), "{}", seen.notes);
    }
    place.run(&["record", "--reconnect", "3"]).expect_status(2).expect_note("--port or -i");
    place.run(&["record", "-i", "nmiprof.data"]).expect_status(2).expect_note("unix:PATH");
    place.run(&["record", "-i", "unix:a", "--port", "/dev/ttyS0"]).expect_status(2);
    assert!(!place.path("nmiprof.data").exists());
}

#[test]
fn who_reads_captures_says_how_to_record_a_line() {
    let place = Place::new();
    for command in ["report", "script", "info", "export", "stat", "list"] {
        for line in ["unix:line", "tcp:localhost:4555"] {
            let way_out = format!("`nmiprof record -i {line} -o nmiprof.data`");
            place.run(&[command, "-i", line]).expect_status(2).expect_note(&way_out);
        }
    }
}
