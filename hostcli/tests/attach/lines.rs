//! Each kind of line carries a run from its beginning to its end.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::recording::{Place, accept_tcp, send, wait_for};
use super::run::{Run, SAMPLES, decode};
use nmiprof::capture::Identity;

/// A pair of pseudo terminals: what one end is written to, the other one, a device, reads.
pub(super) struct Pty {
    pub(super) master: File,
    pub(super) device: PathBuf,
}

impl Pty {
    pub(super) fn open() -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a free pair");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("our own");
        let device = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("UTF-8");
        Self { master: File::from(master), device: device.into() }
    }

    /// Opens a pair that changes no byte, even before somebody has opened the device.
    fn open_raw() -> Self {
        let pty = Self::open();
        let mut modes = tcgetattr(&pty.master).expect("our own");
        modes.make_raw();
        tcsetattr(&pty.master, OptionalActions::Now, &modes).expect("our own");
        pty
    }
}

fn expect_the_whole_run(place: &Place, run: &Run) {
    assert!(place.data() == run.bytes, "the bytes of the line, verbatim");
    let record = decode(&run.bytes);
    assert_eq!((record.accounts().identity(), record.samples()), (Identity::Holds, SAMPLES));
}

#[test]
fn a_socket_in_the_file_system_carries_a_run() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    send(far_end.accept(), &run.bytes);
    let seen = recording.wait().expect_status(0).expect_note("the identity holds");
    assert!(seen.out.is_empty() && seen.notes.contains("attached to unix:line"), "{seen:?}");
    expect_the_whole_run(&place, &run);
}

#[test]
fn a_tcp_connection_carries_a_run() {
    let (place, run) = (Place::new(), Run::new());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let name = format!("tcp:{}", listener.local_addr().expect("it is bound"));
    let recording = place.start(&["record", "-i", &name, "-o", "data"]);
    send(accept_tcp(&listener), &run.bytes);
    recording.wait().expect_status(0);
    expect_the_whole_run(&place, &run);
}

#[test]
fn a_serial_port_carries_a_run_with_every_byte_as_it_is() {
    // The bytes that a terminal would change or act upon are among those of the run, and these before it.
    let (place, run, pty) = (Place::new(), Run::new(), Pty::open());
    let special = b"\x03\x04\x11\x13\x1a\x1c\r\n\x7f\xff\0";
    let device = format!("{}@115200", pty.device.display());
    let recording = place.start(&["record", "--port", &device, "-o", "data"]);
    recording.wait_for_note("attached to");
    send(&pty.master, &[&special[..], &run.bytes].concat());
    recording.wait().expect_status(0).expect_note("the identity holds");
    assert!(place.data() == [&special[..], &run.bytes].concat(), "verbatim");
}

#[test]
fn a_serial_adapter_that_is_unplugged_and_plugged_in_again_is_found_by_its_name() {
    let (place, run) = (Place::new(), Run::new());
    let (first, cut) = (Pty::open(), run.inside_a_frame(40));
    symlink(&first.device, place.path("tty")).expect("room");
    let recording = place.start(&["record", "--port", "tty", "-o", "data"]);
    recording.wait_for_note("attached to");
    send(&first.master, &run.bytes[..cut]);
    wait_for("the first part", || (place.data().len() >= cut - 200).then_some(()));
    let second = Pty::open_raw();
    std::fs::remove_file(place.path("tty")).expect("it is ours");
    drop(first);
    recording.wait_for_note("lost tty@115200");
    symlink(&second.device, place.path("tty")).expect("room");
    send(&second.master, &run.bytes[run.inside_a_frame(60)..]);
    recording.wait().expect_status(0).expect_note("is back after").expect_note("the line was cut 1 times");
    let record = decode(&place.data());
    assert_eq!(record.accounts().identity(), Identity::Holds);
    assert!(record.lost_on_the_line() > 0);
}

#[test]
fn a_dash_sends_the_bytes_to_the_standard_output() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.start(&["record", "-q", "-i", "unix:line", "-o", "-"]);
    send(far_end.accept(), &run.bytes);
    let seen = recording.wait().expect_status(0);
    assert!(seen.out == run.bytes && seen.notes.is_empty(), "{}", seen.notes);
}

#[test]
fn a_line_that_stalls_is_waited_for() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let line = far_end.accept();
    let (head, tail) = run.bytes.split_at(run.inside_a_frame(50));
    send(&line, head);
    thread::sleep(Duration::from_secs(6));
    send(&line, tail);
    recording.wait().expect_status(0).expect_note("nothing has come for 5 s");
    expect_the_whole_run(&place, &run);
}

#[test]
fn garbage_before_the_run_is_kept_and_counted_as_damage() {
    let (place, run) = (Place::new(), Run::new());
    let far_end = place.listen();
    let recording = place.record(&[]);
    let bytes = [b"BIOS says hello\r\n\0", &run.bytes[..]].concat();
    send(far_end.accept(), &bytes);
    recording.wait().expect_status(0);
    assert!(place.data() == bytes, "verbatim");
    let record = decode(&bytes);
    assert_eq!((record.damage().frames, record.joined()), (1, None));
}
