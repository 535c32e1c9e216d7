//! Goal: a program does the same here and under QEMU, instruction by instruction, and the PMU's count of them is that
//! of QEMU, which has no part in it.
//!
//! Method: the same image with the same program in both machines. QEMU translates one instruction at a time and logs
//! each that it executes at privilege level 3. That log is what is compared: with the machine's own counts, address by
//! address, and with the counter `instructions:u` that the kernel read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use nmiprof::capture::{CaptureError, Record, Stream};
use nmiprof::images::{Example, Image};
use nmiprof::machine::{MachineConfig, Program, Size};
use nmiprof_pc::Config;
use nmiprof_pc::harness::{config, run};
use nmiprof_pmu::profiles::{Profile, SKYLAKE, ZEN2, ZEN4};
use nmiprof_program::archive;
use nmiprof_wire::ProcessOutcome;

/// Some hundred thousand instructions each: the log has a line for each of them.
const PROGRAMS: [&[&str]; 3] = [&["split", "2"], &["sieve", "3", "2"], &["tree", "40", "2"]];
const KERNEL_HALF: u64 = 1 << 63;
/// Wall time that QEMU gets, in seconds.
const LIMIT: &str = "120";

/// Where programs have their code: above that of the firmware, which executes more than they do.
const CODE: &str = "0x200000..0x5fffffffffff";

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    output: Vec<String>,
    outcomes: Vec<Option<ProcessOutcome>>,
}

/// How often the instruction at each address was executed.
type Executed = BTreeMap<u64, u64>;

fn module(words: &[&str]) -> Vec<u8> {
    let example = Example::find(words[0]).expect("an embedded program");
    let mut module = Vec::new();
    archive::push(&mut module, 0, words, example.elf).expect("sound arguments");
    archive::finish(&mut module).expect("it fits");
    module
}

fn outcome(record: &Record) -> Outcome {
    let processes = record.processes();
    Outcome {
        output: processes.output().iter().map(|output| output.text.clone()).collect(),
        outcomes: processes.all().iter().map(|process| process.outcome).collect(),
    }
}

/// Returns QEMU, or counts a skip, which is a failure where the environment says `CI=true`.
fn qemu() -> Option<Program> {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let error = match Program::find() {
        Ok(program) => return Some(program),
        Err(error) => error,
    };
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // The test runner hides what a passing test prints, but not this.
    drop(writeln!(std::io::stderr(), "SKIPPED {number}: a comparison with QEMU ({error})"));
    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "CI may not skip this: {error}");
    None
}

/// Runs a program under QEMU; returns what it did and which of its instructions were executed.
fn in_qemu(program: &Program, words: &[&str]) -> (Outcome, Executed) {
    let folder = tempfile::tempdir().expect("room");
    let [image, archive, line, log] =
        ["image", "archive", "line", "log"].map(|name| folder.path().join(name));
    fs::write(&image, Image::Main.elf()).expect("room");
    fs::write(&archive, module(words)).expect("room");
    let config = MachineConfig {
        kernel_command_line: "line=file cpu_percent_max=0 duration_ns=20000000000 period=10007".to_owned(),
        // Each page is cleared, word by word.
        memory: Size::mib(32),
        ..MachineConfig::new(Image::Main.elf(), line.clone())
    };
    let mut command = Command::new("timeout");
    command.arg(LIMIT).arg(program.path()).args(config.arguments(Some(&image), Some(&archive)));
    command.args(["-singlestep", "-d", "exec,nochain", "-dfilter", CODE, "-D"]).arg(&log);
    let output = command.stdin(Stdio::null()).output().expect("timeout is everywhere");
    let said = String::from_utf8_lossy(&output.stderr);
    let record = decode(&fs::read(&line).expect("QEMU made it"));
    let outcome = outcome(&record);
    assert!(!outcome.outcomes.is_empty(), "{:?}: {said}", output.status);
    (outcome, executed(&log))
}

fn decode(bytes: &[u8]) -> Record {
    let mut stream = Stream::new("QEMU");
    stream.push(bytes, |_| Ok::<(), CaptureError>(())).expect("a stream of this version");
    stream.finish()
}

/// Reads the log: a line `Trace 0: HOST [CS/PC/FLAGS/...]` is one block, here one instruction, that is about to be
/// executed; the level is in the lowest bits of FLAGS.
///
/// An instruction that comes twice in a row is one: it is repeated by a prefix, or was interrupted, or faulted.
fn executed(log: &Path) -> Executed {
    let mut all = Executed::new();
    let mut last = None;
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    for line in fs::read_to_string(log).expect("QEMU made it").lines() {
        let Some((_, rest)) = line.split_once('[').filter(|_| line.starts_with("Trace")) else { continue };
        let fields: Vec<_> = rest.split(['/', ']']).map_while(hex).collect();
        let &[_, address, flags, ..] = &fields[..] else { panic!("another format: {line}") };
        if flags & 3 == 3 && last.replace(address) != Some(address) {
            *all.entry(address).or_default() += 1;
        }
    }
    all
}

/// Runs a program here; returns what it did, which of its instructions were executed, and what the counter counted.
fn in_pc(profile: &'static Profile, words: &[&str]) -> (Outcome, Executed, u64) {
    let config = config(profile, "duration_ns=20000000000 job=stat events=instructions:u");
    let run = run(&Config { module: module(words), ..config });
    run.assert_sound(words[0]);
    let mut executed = Executed::new();
    for (_, address, counts) in run.machine.watch().sites.counted() {
        if address < KERNEL_HALF {
            *executed.entry(address).or_default() += counts.instructions;
        }
    }
    let counted = run.record.pmu().total(0).expect("counted").count;
    (outcome(&run.record), executed, counted)
}

#[test]
fn a_program_executes_the_same_instructions_as_under_qemu_and_the_counter_counts_them() {
    let Some(program) = qemu() else { return };
    for words in PROGRAMS {
        let (expected, theirs) = in_qemu(&program, words);
        let total: u64 = theirs.values().sum();
        for profile in [&SKYLAKE, &ZEN2, &ZEN4] {
            let (outcome, ours, counted) = in_pc(profile, words);
            println!("{words:?} on {}: {counted} counted, {total} under QEMU, {outcome:?}", profile.id);
            assert_eq!(outcome, expected, "{words:?} on {}", profile.id);
            assert_eq!(counted, total, "{words:?} on {}: instructions:u", profile.id);
            if let Some((address, _)) =
                ours.iter().chain(&theirs).find(|(at, _)| ours.get(at) != theirs.get(at))
            {
                let [here, there] = [&ours, &theirs].map(|all| all.get(address));
                panic!("{words:?} on {}: {address:#x} {here:?} times, {there:?} under QEMU", profile.id);
            }
        }
    }
}
