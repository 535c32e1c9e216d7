//! Goal: a kernel that runs already can be attached to at any moment, and its line may be cut and come back.
//!
//! Method: a real machine whose serial line is a socket that QEMU listens on without waiting. The library's attached
//! recording joins it late; a second test leaves the line in the middle by a proxy that cuts it once. Then a capture
//! of that machine is served again, from the middle of a frame and with a cut at a random place (the seed is printed).

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nmiprof::attach::{Address, Attachment, End, Link, Plan, follow};
use nmiprof::capture::{Capture, CaptureError, Identity, Record};
use nmiprof::images::Image;
use nmiprof::machine::MachineConfig;
use nmiprof_tests::Boot;
use nmiprof_tests::boot::qemu;
use nmiprof_wire::{Line, Options, Sampling};

/// Wall time that any machine or recording gets.
const LIMIT: Duration = Duration::from_secs(60);

/// Options of a run that lasts for a few seconds of host time, and describes itself a few times.
fn options() -> Options<'static> {
    Options {
        duration_ns: 6_000_000_000,
        sampling: Sampling::Period(100_003),
        line: Line::Live,
        cpu_percent_max: 0,
        ..Options::default()
    }
}

/// A QEMU whose serial line is a socket. It is ended with its test.
struct Machine(Child);

impl Machine {
    /// Starts it, or registers a skip.
    fn start(socket: &Path, directory: &Path) -> Option<Self> {
        let program = qemu().map_err(|skip| skip.register()).ok()?;
        let image = directory.join("kernel.elf");
        fs::write(&image, Image::Main.elf()).expect("room");
        let line = directory.join("unused");
        let config = MachineConfig {
            kernel_command_line: options().to_string(),
            ..MachineConfig::new(Image::Main.elf(), line.clone())
        };
        let to_a_file = format!("file,id=line,path={}", line.display());
        let to_a_socket = format!("socket,id=line,path={},server=on,wait=off", socket.display());
        let arguments = config.arguments(Some(&image), None);
        let arguments = arguments
            .into_iter()
            .map(|argument| if argument == *to_a_file { to_a_socket.clone().into() } else { argument });
        let mut command = Command::new("timeout");
        command.arg(LIMIT.as_secs().to_string()).arg(program.path()).args(arguments);
        eprintln!("{command:?}");
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("timeout is everywhere");
        let machine = Self(child);
        wait_for("QEMU to listen", || socket.exists().then_some(()));
        Some(machine)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // `timeout` hands the signal on. By its number: it is not reaped yet.
        let ended = Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status();
        drop((ended, self.0.wait()));
    }
}

fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "waited too long for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Records what comes over the socket.
fn record(socket: &Path) -> (Attachment, Vec<u8>) {
    let mut out = Vec::new();
    let link = Link::open(&Address::Unix(socket.to_path_buf())).expect("somebody listens");
    let plan = Plan { duration: Some(LIMIT), reconnect: Duration::from_secs(5) };
    let attachment = follow(link, plan, &mut out, &AtomicBool::new(false), &mut ()).expect("room");
    (attachment, out)
}

/// Decodes a capture as `report` does, and checks that every sample is in it once.
fn decode(bytes: &[u8]) -> Record {
    let capture = Capture::from_reader("recorded", Box::new(Cursor::new(bytes.to_vec()))).expect("a capture");
    let mut times = BTreeSet::new();
    let read = capture.read(|block| {
        assert!(block.samples.iter().all(|sample| times.insert(sample.time.exact())), "a sample came twice");
        Ok::<(), CaptureError>(())
    });
    read.expect("one run")
}

/// Checks that the accounts of a run that came to its end are exact.
fn expect_exact(record: &Record) {
    assert_eq!(record.accounts().identity(), Identity::Holds);
    let total = record.accounts().total();
    assert_eq!(total.received + total.dropped.total() + total.link_lost, total.overflows);
}

#[test]
fn a_running_kernel_is_joined_late_and_followed_to_its_end() {
    let directory = tempfile::tempdir().expect("room");
    let socket = directory.path().join("line");
    let Some(_machine) = Machine::start(&socket, directory.path()) else { return };
    thread::sleep(Duration::from_millis(1500));
    let (attachment, bytes) = record(&socket);
    assert_eq!(attachment.end, End::Final);
    let record = decode(&bytes);
    let joined = record.joined().expect("it had been sampling for a while");
    assert!(joined.samples_before > 0 && record.samples() > 1000, "{joined:?}, {} samples", record.samples());
    assert_eq!((record.lost_on_the_line(), record.damage().frames), (0, 0));
    expect_exact(&record);
}

#[test]
fn a_line_that_is_cut_and_comes_back_costs_what_was_sent_meanwhile() {
    let directory = tempfile::tempdir().expect("room");
    let (socket, proxy) = (directory.path().join("line"), directory.path().join("proxy"));
    let listener = UnixListener::bind(&proxy).expect("room");
    let Some(_machine) = Machine::start(&socket, directory.path()) else { return };
    let forwarding = thread::spawn(move || {
        let mut machine = UnixStream::connect(&socket).expect("QEMU listens");
        pass_on(&mut machine, &mut listener.accept().expect("the recording").0, 20_000);
        // The line is out, and what comes meanwhile is gone.
        let lost = pass_on(&mut machine, &mut std::io::sink(), 5_000);
        pass_on(&mut machine, &mut listener.accept().expect("the recording again").0, usize::MAX);
        lost
    });
    let (attachment, bytes) = record(&proxy);
    assert_eq!((attachment.end, attachment.cuts), (End::Final, 1));
    let lost_bytes = forwarding.join().expect("a whole run");
    let record = decode(&bytes);
    assert!(lost_bytes >= 5_000 && record.lost_on_the_line() > 0, "{} samples", record.lost_on_the_line());
    assert!((1..=2).contains(&record.damage().frames), "the frames that were cut: {:?}", record.damage());
    expect_exact(&record);
}

/// Passes at least so many bytes on, or all until the end; returns how many.
fn pass_on(from: &mut impl std::io::Read, to: &mut impl std::io::Write, bytes: usize) -> usize {
    let (mut buffer, mut passed) = ([0; 512], 0);
    while passed < bytes {
        match from.read(&mut buffer) {
            Ok(count @ 1..) if to.write_all(&buffer[..count]).is_ok() => passed += count,
            _ => break,
        }
    }
    passed
}

#[test]
fn a_capture_that_is_served_from_any_byte_and_cut_at_any_byte_is_accounted_for() {
    let Some(run) =
        Boot::image(Image::Main).options(&Options { duration_ns: 3_000_000_000, ..options() }).run().passed()
    else {
        return;
    };
    let seed = std::env::var("NMIPROF_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs()));
    println!("NMIPROF_SEED={seed} repeats this run");
    let mut random = seed;
    for _ in 0..8 {
        let [from, cut, back] = places(&mut random, &run.capture);
        eprintln!("from byte {from}, cut at {cut}, back at {back} of {}", run.capture.len());
        let (attachment, bytes) = serve(&run.capture, [from, cut, back]);
        assert_eq!((attachment.end, attachment.cuts), (End::Final, 1));
        let record = decode(&bytes);
        let before = record.joined().map_or(0, |joined| joined.samples_before);
        assert_eq!(before + record.samples() + record.lost_on_the_line(), run.record.samples());
        assert!(record.damage().frames <= 3, "two at the cut, one at the start: {:?}", record.damage());
        expect_exact(&record);
    }
}

/// Chooses where to join, where to cut and where to come back, in this order, before the run's last description.
fn places(random: &mut u64, capture: &[u8]) -> [usize; 3] {
    let mut places = [0; 3].map(|_: usize| {
        // Xorshift, by Marsaglia; the seed is not 0.
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        usize::try_from(*random % (capture.len() as u64 / 2)).expect("a place in memory")
    });
    places.sort_unstable();
    places
}

/// Serves a capture from one byte on, with a cut.
fn serve(capture: &[u8], [from, cut, back]: [usize; 3]) -> (Attachment, Vec<u8>) {
    let directory = tempfile::tempdir().expect("room");
    let socket = directory.path().join("line");
    let listener = UnixListener::bind(&socket).expect("room");
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            for bytes in [&capture[from..cut], &capture[back..]] {
                let (mut line, _) = listener.accept().expect("the recording");
                line.write_all(bytes).expect("it reads");
            }
        });
        let recorded = record(&socket);
        serving.join().expect("it only serves");
        recorded
    })
}
