//! The same command line gives the same samples, address for address.
//!
//! Method: two runs under icount, the second with a reader that does not read for three seconds while the
//! machine runs; then every byte is compared.

use std::io;
use std::thread;
use std::time::Duration;

use nmiprof::capture::Record;
use nmiprof::images::Image;
use nmiprof::machine::{self, CommandLine, MachineConfig, Observer, Program};
use nmiprof_tests::samples::samples;
use nmiprof_tests::{Boot, Verdict, qemu};
use nmiprof_wire::{Line, Options, Sampling, Stress};

const PAUSE: Duration = Duration::from_secs(3);

fn options() -> Options<'static> {
    Options {
        duration_ns: 400_000_000,
        sampling: Sampling::Period(20_011),
        chains: true,
        stress: Stress::Nest,
        line: Line::File,
        // As the harness has it: the same command line, word for word.
        cpu_percent_max: 0,
        ..Options::default()
    }
}

/// A reader that stops for a while at the first bytes that it sees.
#[derive(Default)]
struct Sleeper {
    slept: bool,
}

impl Observer for Sleeper {
    fn started(&mut self, command_line: &CommandLine) {
        eprintln!("{command_line}");
    }

    fn bytes(&mut self, _bytes: &[u8]) -> io::Result<()> {
        if !self.slept {
            thread::sleep(PAUSE);
            self.slept = true;
        }
        Ok(())
    }
}

/// Runs with a reader that stops, and returns what the line carried.
fn run_with_stopped_reader(program: &Program) -> (Vec<u8>, Record) {
    let directory = tempfile::tempdir().expect("room for a capture");
    let config = MachineConfig {
        kernel_command_line: options().to_string(),
        limit: Boot::LIMIT,
        ..MachineConfig::new(Image::Main.elf(), directory.path().join("line"))
    };
    let mut sleeper = Sleeper::default();
    let result = machine::boot(program, &config, &mut sleeper);
    assert_eq!(Verdict::of(&result), Verdict::Pass);
    assert!(sleeper.slept, "the reader did stop");
    let capture = std::fs::read(&config.line).expect("the capture is there");
    (capture, result.expect("it passed").record)
}

#[test]
fn two_runs_give_the_same_samples_even_if_the_reader_stops() {
    let program = match qemu() {
        Ok(program) => program,
        Err(skip) => return skip.register(),
    };
    let Some(first) = Boot::image(Image::Main).options(&options()).run().passed() else { return };
    let (second, record) = run_with_stopped_reader(&program);

    let run = record.run().expect("the run introduced itself");
    assert!(run.deterministic, "and says that it repeats");
    let (expected, found) = (samples(&first.capture), samples(&second));
    assert!(expected.len() > 15_000, "{} samples", expected.len());
    for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert_eq!(expected, found, "sample {index}");
    }
    assert_eq!(expected.len(), found.len());
    assert_eq!(first.capture, second, "and not only the samples: every byte");
}

#[test]
fn a_run_without_icount_says_that_it_does_not_repeat() {
    let Some(run) = Boot::image(Image::Main).append("duration_ns=50000000").without_icount().run().passed()
    else {
        return;
    };
    let info = run.record.run().expect("the run introduced itself");
    assert!(!info.deterministic);
    assert_eq!(info.events[0].name, "virtual-clock", "it does not claim to count instructions");
}
