//! `nmiprof selftest pmu`: what the kernel found when it let every counter count a known piece of work and interrupt.
//!
//! It finds something (exit status 1) where a counter that was tested fails, or none was tested.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use nmiprof_wire::{CounterReport, CounterVerdict, Job, Line, Options};
use serde::Serialize;

use crate::commands::ask::{Answer, Ask, write_json};
use crate::commands::flags::{MachineArgs, PmuArgs};
use crate::commands::pmu::{JsonPmu, counter_text, write_pmu};
use crate::commands::record::display::Noise;
use crate::commands::{Error, Outcome, forgive_broken_pipe};

/// Version of the JSON form.
const SCHEMA_VERSION: u32 = 1;
/// Wall time after which the machine is ended: the test is short.
const LIMIT: Duration = Duration::from_secs(60);

/// Let every counter of the PMU count a known piece of work, and interrupt
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The machine.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// What counts.
    #[command(flatten)]
    pub pmu: PmuArgs,

    /// Capture to read instead of booting a machine: of a kernel that was booted with job=pmu-test
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Print one JSON object, fit to be sent with a report
    #[arg(long)]
    pub json: bool,

    /// Print the QEMU command line, and what the kernel says
    #[arg(short, long)]
    pub verbose: bool,
}

impl Args {
    fn kernel_command_line(&self) -> String {
        let options = self.pmu.apply(Options { job: Job::PmuTest, line: Line::File, ..Options::default() });
        self.machine.with_appended(&options.to_string())
    }
}

/// Tests the counters, and writes what came of it to `out`.
///
/// # Errors
/// [`Error`] where the machine did not run to its end, or the table can't be written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    args.machine.check()?;
    let ask = Ask {
        machine: &args.machine,
        module: Vec::new(),
        command_line: args.kernel_command_line(),
        limit: LIMIT,
        noise: Noise::new(false, args.verbose),
    };
    let answer = ask.answer(args.input.as_deref(), notes)?;
    forgive_broken_pipe(print(args, &answer, out, notes))
}

fn print(args: &Args, answer: &Answer, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    if args.json {
        write_json(&Form::new(answer), out)?;
    } else {
        write_text(answer, out)?;
    }
    out.flush()?;
    let findings = findings(answer.record.pmu().tests());
    findings.iter().try_for_each(|finding| writeln!(notes, "nmiprof: {finding}"))?;
    Ok(if findings.is_empty() { Outcome::Good } else { Outcome::Findings })
}

fn findings(tests: &[CounterReport]) -> Vec<String> {
    if tests.iter().all(|test| test.verdict == CounterVerdict::Untested) {
        return vec!["no counter was tested".to_owned()];
    }
    let failed = tests.iter().filter(|test| is_failure(test.verdict));
    failed.map(|test| format!("{} {}", counter_text(test.counter), about(test.verdict))).collect()
}

const fn is_failure(verdict: CounterVerdict) -> bool {
    matches!(verdict, CounterVerdict::Dead | CounterVerdict::Silent)
}

fn write_text(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    write_pmu(&answer.run, out)?;
    writeln!(out, "# CPU: {}", answer.run.cpu_name)?;
    writeln!(
        out,
        "\n{:<20} {:<9} {:>12} {:>14} {:>9}",
        "counter", "verdict", "counted", "of instructions", "overflows"
    )?;
    for test in answer.record.pmu().tests() {
        let (name, verdict) = (counter_text(test.counter), name(test.verdict));
        writeln!(
            out,
            "{name:<20} {verdict:<9} {:>12} {:>15} {:>9}",
            test.counted, test.work, test.overflows
        )?;
    }
    Ok(())
}

const fn name(verdict: CounterVerdict) -> &'static str {
    match verdict {
        CounterVerdict::Works => "works",
        CounterVerdict::Dead => "DEAD",
        CounterVerdict::Silent => "SILENT",
        CounterVerdict::Untested => "untested",
    }
}

const fn about(verdict: CounterVerdict) -> &'static str {
    match verdict {
        CounterVerdict::Works => "counts and interrupts",
        CounterVerdict::Dead => "does not count",
        CounterVerdict::Silent => "counts and does not interrupt",
        CounterVerdict::Untested => "counts no event that the test knows",
    }
}

/// The JSON form.
#[derive(Debug, Serialize)]
struct Form<'a> {
    schema_version: u32,
    build_id: String,
    pmu: JsonPmu,
    cpu_name: &'a str,
    counters: Vec<Counter>,
}

#[derive(Debug, Serialize)]
struct Counter {
    /// General-purpose counters from 0, fixed ones from 32.
    counter: u8,
    name: String,
    verdict: String,
    counted: u64,
    /// Instructions of the piece of work.
    work: u64,
    overflows: u64,
}

impl<'a> Form<'a> {
    fn new(answer: &'a Answer) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            build_id: answer.run.build_id.to_string(),
            pmu: JsonPmu::new(&answer.run),
            cpu_name: &answer.run.cpu_name,
            counters: answer.record.pmu().tests().iter().map(Counter::new).collect(),
        }
    }
}

impl Counter {
    fn new(test: &CounterReport) -> Self {
        Self {
            counter: test.counter,
            name: counter_text(test.counter),
            verdict: name(test.verdict).to_ascii_lowercase(),
            counted: test.counted,
            work: test.work,
            overflows: test.overflows,
        }
    }
}
