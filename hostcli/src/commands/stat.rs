//! `nmiprof stat`: boot a machine, run the workloads, and show what its PMU counted.
//!
//! Nothing is sampled. Output and metrics are in the shape of perf's; what differs is on purpose: time is the
//! target's, and a virtual count says that it is one. With `-r` as many machines are booted, one after the other; with
//! `-i` none is, and what another kernel counted is read from the capture of its line.
//!
//! It finds something (exit status 1) where an event was never counted, the PMU refused an access, a workload computed a
//! wrong result, a program failed, or an account does not add up.

mod count;
mod csv;
mod json;
mod metric;
mod spread;
mod text;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use nmiprof_wire::{Job, Line, Options};

use super::ask::{Answer, Ask};
use super::flags::{EventArgs, MachineArgs, PmuArgs, WorkArgs};
use super::record::display::Noise;
use super::summary::{Finding, findings, note_all};
use super::{Error, Outcome, ask, forgive_broken_pipe};
use crate::capture::clean;
use count::Stat;

/// Most machines that one command boots.
const REPEAT_MAX: u32 = 1000;

/// Flags of `nmiprof stat`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The machine.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// What runs on it.
    #[command(flatten)]
    pub work: WorkArgs,

    /// What counts.
    #[command(flatten)]
    pub pmu: PmuArgs,

    /// What is counted.
    #[command(flatten)]
    pub events: EventArgs,

    /// Capture to read instead of booting a machine; `-` is the standard input (repeatable: one for each run)
    #[arg(short, long, value_name = "FILE")]
    pub input: Vec<PathBuf>,

    /// Boot so many machines one after the other, and show means and their standard errors
    #[arg(short, long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(REPEAT_MAX)))]
    pub repeat: u32,

    /// Print lines of fields with this between them: value, unit, event, error of the mean where there is one,
    /// running time in ns and percent, metric and its unit
    #[arg(short = 'x', long, value_name = "SEP")]
    pub field_separator: Option<String>,

    /// Print one JSON object
    #[arg(long, conflicts_with = "field_separator")]
    pub json: bool,

    /// File to write; `-` is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,

    /// Print errors and the counts only
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print the QEMU command line, and what the kernel says
    #[arg(short, long)]
    pub verbose: bool,
}

impl Args {
    fn check(&self) -> Result<(), Error> {
        self.machine.check()?;
        self.machine.check_list(self.work.cpu_list())?;
        self.events.check()?;
        if self.field_separator.as_deref().is_some_and(|text| text.contains(char::is_control) && text != "\t")
        {
            return Err(Error::Usage("-x takes visible characters, or a tab".to_owned()));
        }
        Ok(())
    }

    /// Returns what was counted, for the heading.
    fn title(&self) -> String {
        let names = self.input.iter().map(|path| clean(&path.display().to_string()).into_owned());
        if self.input.is_empty() { self.work.title() } else { names.collect::<Vec<_>>().join(", ") }
    }

    fn kernel_command_line(&self) -> String {
        let (workloads, events) = (self.work.workloads_word(), self.events.word());
        let options = self.pmu.apply(self.work.apply(&workloads, Options::default()));
        let options = Options { job: Job::Stat, line: Line::File, events: &events, ..options };
        self.machine.with_appended(&options.to_string())
    }

    fn ask(&self) -> Result<Ask<'_>, Error> {
        let command_line = self.kernel_command_line();
        Ok(Ask {
            machine: &self.machine,
            module: self.work.pack()?.module,
            limit: self.work.limit(&command_line),
            command_line,
            noise: Noise::new(self.quiet, self.verbose),
        })
    }
}

/// Counts, and writes what came of it to `out` or the file that was named.
///
/// # Errors
/// [`Error`] where a machine did not run to its end, or the counts can't be written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    args.check()?;
    let answers = if args.input.is_empty() {
        boot_all(args, notes)?
    } else {
        args.input.iter().map(|path| Answer::read(path)).collect::<Result<_, _>>()?
    };
    forgive_broken_pipe(print(args, &answers, out, notes))
}

fn boot_all(args: &Args, notes: &mut dyn Write) -> Result<Vec<Answer>, Error> {
    let ask = args.ask()?;
    let program = ask.program(notes)?;
    (0..args.repeat).map(|_| ask.boot(&program, notes)).collect()
}

fn print(
    args: &Args,
    answers: &[Answer],
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Outcome, Error> {
    let Some(stat) = Stat::new(&args.title(), answers)? else {
        return Err(Error::Usage("-r takes a number from 1 on".to_owned()));
    };
    if args.output.as_os_str() == "-" {
        write(args, &stat, out)?;
    } else {
        let failed = |source| Error::output(&args.output, source);
        let mut file = BufWriter::new(File::create(&args.output).map_err(failed)?);
        write(args, &stat, &mut file).and_then(|()| file.flush()).map_err(failed)?;
    }
    conclude(answers, notes)
}

fn write(args: &Args, stat: &Stat, out: &mut dyn Write) -> std::io::Result<()> {
    match &args.field_separator {
        _ if args.json => ask::write_json(&json::Form::new(stat), out),
        Some(separator) => csv::write(stat, separator, out),
        None => text::write(stat, out),
    }
}

/// Says what needs attention in any of the runs, once each.
fn conclude(answers: &[Answer], notes: &mut dyn Write) -> Result<Outcome, Error> {
    let mut found: Vec<Finding> = Vec::new();
    for finding in answers.iter().flat_map(|answer| findings(&answer.record)) {
        if finding != Finding::NoSamples && !found.contains(&finding) {
            found.push(finding);
        }
    }
    note_all(&found, notes)?;
    Ok(if found.is_empty() { Outcome::Good } else { Outcome::Findings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;
    use nmiprof_wire::PmuChoice;

    #[test]
    fn flags_become_the_kernel_command_line() {
        let args: Args = parse(&[
            "-e",
            "cycles,instructions",
            "-w",
            "sort",
            "--pmu",
            "model-amd",
            "--append",
            "tick_hz=50",
        ])
        .expect("sound flags");
        let text = args.kernel_command_line();
        let options = Options::parse(&text).expect("our own words");
        assert_eq!((options.job, options.pmu), (Job::Stat, PmuChoice::ModelAmd));
        assert_eq!((options.events, options.workloads), ("cycles,instructions", "sort"));
        assert_eq!((options.line, options.tick_hz), (Line::File, 50));
    }

    #[test]
    fn senseless_flags_are_refused() {
        for words in [&["-r", "0"][..], &["-r", "1001"], &["-x", ",", "--json"], &["-q", "-v"]] {
            assert!(parse::<Args>(words).is_err(), "{words:?}");
        }
        let args: Args = parse(&["-x", "\u{1b}"]).expect("clap takes it");
        assert!(args.check().is_err());
    }
}
