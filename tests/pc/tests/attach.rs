//! Goal: the binary serves its serial line on a unix socket, so that the host command can attach to it, as it does to
//! a machine of hardware; and what it records there is a whole capture.
//!
//! Method: start the binary. Once, read the socket to the end and decode; once, let the host command's own `record` and
//! `report` do it, their arguments parsed as the binary `nmiprof` does. The report is compared with the machine's own
//! counts: another machine of the same configuration, which repeats the run.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use clap::Parser;
use nmiprof::capture::{CaptureError, Identity, Stream};
use nmiprof::commands::{Outcome, record, report};
use nmiprof_pc::harness::run;
use nmiprof_pc::{Attribution, Config};
use nmiprof_pmu::profiles::ZEN4;
use serde_json::Value;

/// Looks for the socket, ten a second.
const TRIES: u32 = 300;
const WORDS: &str = "line=live cpu_percent_max=0 duration_ns=10000000 period=1009 workload=sort";

const FUNCTIONS: [&str; 2] =
    ["nmiprof_kernel::workloads::sort::partition", "nmiprof_kernel::workloads::sort::insertion_sort"];
const NEXT: Attribution = Attribution::Next;
/// Four deviations of a share of 85 % among two thousand samples.
const TOLERANCE_POINTS: f64 = 3.2;

/// The binary, with its line at a socket; it ends with its test.
struct Pc {
    child: Child,
    socket: PathBuf,
}

impl Pc {
    fn start(socket: PathBuf) -> Self {
        let fixed =
            ["--profile", "zen4", "--limit", "1000000000", "--iret-fault", "keeps", "--append", WORDS];
        let child = Command::new(env!("CARGO_BIN_EXE_nmiprof-pc"))
            .args(fixed)
            .arg("--unix")
            .arg(&socket)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let pc = Self { child, socket };
        assert!((0..TRIES).any(|_| pc.is_listening()), "it listens");
        pc
    }

    fn is_listening(&self) -> bool {
        sleep(Duration::from_millis(100));
        self.socket.exists()
    }

    /// Waits for the end of a run that has to end well; returns what it said.
    fn finish(mut self) -> String {
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        assert!(self.child.wait().expect("it ends").success(), "{said}");
        said
    }
}

impl Drop for Pc {
    fn drop(&mut self) {
        // Where the test failed; else it has ended.
        drop((self.child.kill(), self.child.wait()));
    }
}

#[test]
fn what_attaches_to_the_socket_gets_the_whole_run() {
    let folder = tempfile::tempdir().expect("room");
    let pc = Pc::start(folder.path().join("line"));
    let mut bytes = Vec::new();
    let mut line = UnixStream::connect(&pc.socket).expect("it listens");
    line.read_to_end(&mut bytes).expect("the line can be read");
    let said = pc.finish();
    let mut stream = Stream::new("the socket");
    stream.push(&bytes, |_| Ok::<(), CaptureError>(())).expect("a stream of this version");
    let record = stream.finish();
    assert_eq!(record.accounts().identity(), Identity::Holds, "{said}");
    assert!(record.samples() > 50, "{} samples", record.samples());
    println!("{said}");
}

/// The commands, as `nmiprof` has them.
#[derive(Parser)]
enum Cli {
    Record(Box<record::Args>),
    Report(report::Args),
}

/// Runs a command line of `nmiprof`; returns what it printed.
fn nmiprof(words: &[&str]) -> String {
    let command = Cli::try_parse_from([&["nmiprof"], words].concat()).expect("sound flags");
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let ran = match &command {
        Cli::Record(args) => record::run(args, &mut out, &mut notes),
        Cli::Report(args) => report::run(args, &mut out, &mut notes),
    };
    let [out, notes] = [out, notes].map(|bytes| String::from_utf8(bytes).expect("text"));
    assert!(matches!(ran, Ok(Outcome::Good)), "{words:?}: {ran:?}\n{out}{notes}");
    out
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_host_command_records_from_the_socket_and_reports_a_hardware_pmu() {
    let folder = tempfile::tempdir().expect("room");
    let pc = Pc::start(folder.path().join("line"));
    let capture = folder.path().join("nmiprof.data");
    let address = format!("unix:{}", pc.socket.display());
    println!("{}", nmiprof(&["record", "-i", &address, "-o", text(&capture)]));
    println!("{}", pc.finish());
    let json = nmiprof(&["report", "--json", "-i", text(&capture)]);
    let json: Value = serde_json::from_str(&json).expect("one object");
    let event = &json["events"][0];
    assert_eq!(
        (&event["event"], &json["damaged_frames"]),
        (&Value::from("cycles"), &Value::from(0)),
        "{json}"
    );
    assert!(
        nmiprof(&["report", "-i", text(&capture)]).contains("# PMU: hardware (amd-perfmon-v2)"),
        "{json}"
    );

    let again = run(&Config {
        profile: &ZEN4,
        command_line: WORDS.to_owned(),
        attribution: NEXT,
        ..Config::default()
    });
    let rows = event["rows"].as_array().expect("rows");
    let samples: u64 = rows.iter().filter_map(|row| row["samples"].as_u64()).sum();
    assert_eq!(samples, again.samples.len() as u64, "of the same run: {json}");
    // Among the two: what the handler costs is the machine's, and nobody's sample.
    let sampled = FUNCTIONS.map(|name| {
        let row = rows.iter().find(|row| row["symbol"] == name).expect("the report knows it");
        row["samples"].as_u64().expect("a number")
    });
    let counted = FUNCTIONS.map(|name| again.machine.counted_in(again.machine.symbol(name)).cycles);
    let [share, truth] = [sampled, counted].map(|[one, other]| 100.0 * one as f64 / (one + other) as f64);
    println!(
        "{share:.2} % of {sampled:?} samples, {truth:.2} % of {counted:?} cycles, {samples} samples in all"
    );
    assert!((share - truth).abs() <= TOLERANCE_POINTS, "{share} of {truth} %");
}
