//! Captures, and commands run on them.

use std::fs;
use std::path::{Path, PathBuf};

use nmiprof::capture::writer::{self, SyntheticSample, Writer};
use nmiprof::commands::{Error, Outcome, export, info, list, report, script, selftest, stat};
use nmiprof_wire::{Frame, Hello, WorkloadResult};
use tempfile::TempDir;

use crate::elf::{self, TEXT};

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) result: Result<Outcome, Error>,
    pub(crate) out: String,
    pub(crate) notes: String,
}

impl Ran {
    /// Returns the text of the error.
    pub(crate) fn error(&self) -> String {
        self.result.as_ref().expect_err("the command must fail").to_string()
    }

    /// Returns what was found.
    pub(crate) fn outcome(&self) -> Outcome {
        *self.result.as_ref().expect("the command must work")
    }
}

/// A directory with a capture and the ELF of its kernel.
pub(crate) struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// Stores `capture` beside the ELF of the build that [`writer::hello`] names.
    pub(crate) fn new(capture: &[u8]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("capture"), capture).expect("a writable directory");
        fs::write(dir.path().join("kernel"), elf::kernel(writer::hello().build_id)).expect("as above");
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs a command line that needs no ELF on the capture.
    pub(crate) fn ask(&self, line: &str) -> Ran {
        run(&format!("{line} -i {}", self.path("capture").display()))
    }

    /// Runs a command line on the capture with its ELF.
    pub(crate) fn run(&self, line: &str) -> Ran {
        let (capture, kernel) = (self.path("capture"), self.path("kernel"));
        run(&format!("{line} -i {} -k {}", capture.display(), kernel.display()))
    }
}

#[derive(clap::Parser)]
enum Cli {
    Export(export::Args),
    Info(info::Args),
    List(list::Args),
    Report(report::Args),
    Script(script::Args),
    Selftest(selftest::Args),
    Stat(stat::Args),
}

/// Runs a command line.
pub(crate) fn run(line: &str) -> Ran {
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let words = std::iter::once("nmiprof").chain(line.split_whitespace());
    let cli = <Cli as clap::Parser>::try_parse_from(words).expect("a command line that clap takes");
    let result = match cli {
        Cli::Export(args) => export::run(&args, &mut out, &mut notes),
        Cli::Info(args) => info::run(&args, &mut out, &mut notes),
        Cli::List(args) => list::run(&args, &mut out, &mut notes),
        Cli::Selftest(args) => selftest::run(&args, &mut out, &mut notes),
        Cli::Stat(args) => stat::run(&args, &mut out, &mut notes),
        Cli::Report(args) => report::run(&args, &mut out, &mut notes),
        Cli::Script(args) => script::run(&args, &mut out, &mut notes),
    };
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    Ran { result, out: text(out), notes: text(notes) }
}

/// Returns the description of a run with call chains.
pub(crate) fn hello_with_chains() -> Hello<'static> {
    let mut hello = writer::hello();
    hello.options.chains = true;
    hello
}

/// Writes ten samples: six in `quicksort` and three in `multiply`, both called by `run`, and one in no code.
///
/// One chain into `multiply` is cut above `run`.
pub(crate) fn ten_samples(hello: &Hello<'_>) -> Writer {
    let mut writer = Writer::new(hello).expect("a short Hello");
    for n in 0..10 {
        let (offset, caller) = match n {
            0..6 => (0x104 + 4 * (n % 2), Some(0x20)),
            6..9 => (0x190, Some(0x40)),
            _ => (0x10_0000, None),
        };
        let callers: Vec<u64> = caller.map(|offset| TEXT + offset).into_iter().collect();
        let sample = SyntheticSample {
            time: 1_000_000 * (n + 1),
            ip: TEXT + offset,
            callers: &callers,
            is_cut: n == 8,
            ..SyntheticSample::default()
        };
        writer.sample(&sample).expect("CPU 0 is there");
    }
    let result =
        WorkloadResult { name: "sort", steps: 12, instructions_per_step: Some(800), wrong_results: 0 };
    writer.frame(&Frame::Workload(result)).expect("a short name");
    writer.totals(0, |totals| {
        totals.ring_pages = 3;
        totals.reserve_frames_min = 250;
        totals.memory.ring_tables = 3;
        totals.memory.table_frames = 2;
        totals.memory.reserve_frames = 256;
        totals.memory.frames_left = 60_000;
        totals.nmi.page_faults = 3;
        totals.nmi.first_touches = 3;
        totals.cut_chains.pointer = 1;
    });
    writer
}

/// Returns the capture of [`ten_samples`].
pub(crate) fn ten_samples_capture(hello: &Hello<'_>) -> Vec<u8> {
    ten_samples(hello).end().expect("frames of its own making")
}

/// Compares `text` with a snapshot.
pub(crate) fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/commands/snapshots").join(name);
    if std::env::var_os("NMIPROF_BLESS").is_some() {
        fs::write(&path, text).expect("a writable source tree");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; NMIPROF_BLESS=1 accepts it");
}
