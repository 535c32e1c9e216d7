//! `nmiprof report`: where the samples fell, as a table.
//!
//! A function's own share counts the samples that fell into its code; where samples carry call chains,
//! its share with children counts those that fell into anything it called as well, each sample once. An
//! inlined function counts as itself, unless it is of the standard library: that counts as whoever used
//! it. Percentages are shares of all samples of the event.
//!
//! It finds something (exit status 1) where the identity is broken, the kernel gave up, its counters
//! contradict each other, a result was wrong, or there are no samples. An incomplete capture is
//! reported, with a note.

mod callgraph;
mod json;
mod profile;
mod table;

use std::io::Write;

use profile::{Profile, SortKey};

use super::flags::CpuArgs;
use super::input::{self, InputArgs};
use super::paths::{self, InlineArgs, Paths};
use super::pmu;
use super::summary::{self, Finding, findings, note_all};
use super::{Error, Outcome, forgive_broken_pipe};
use crate::capture::{Histogram, Record, RunInfo};
use crate::symbols::Symbols;

/// Show where the samples fell
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Whose samples to look at.
    #[command(flatten)]
    pub cpus: CpuArgs,
    /// What to tell apart
    #[arg(
        short,
        long,
        value_name = "KEY[,KEY...]",
        value_enum,
        value_delimiter = ',',
        default_value = "symbol"
    )]
    pub sort: Vec<SortKey>,
    /// Leave out what has a smaller share than this
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    pub percent_limit: f64,
    /// Print to the standard output, without colours or keys: the only way there is
    #[arg(long)]
    pub stdio: bool,
    /// Show by which callers each function was reached
    #[arg(short = 'g', long)]
    pub call_graph: bool,
    /// Show and sort by own shares only
    #[arg(long)]
    pub no_children: bool,
    /// Inlined functions.
    #[command(flatten)]
    pub inline: InlineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints the report of a capture.
///
/// # Errors
/// Where the capture or its kernel's ELF can't be read, or the output not written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    forgive_broken_pipe(print(args, out, notes))
}

fn print(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    if !(0.0..=100.0).contains(&args.percent_limit) {
        return Err(Error::Usage("--percent-limit takes a share from 0 to 100".to_owned()));
    }
    let capture = args.input.open()?;
    let image = args.input.image(&capture)?;
    let programs = args.input.programs()?;
    let mut symbols = Symbols::new(&image, &programs)?;
    let announced = capture.run().clone();
    let cpus = args.cpus.list(&announced)?;
    let (record, histogram) = input::count_of(capture, cpus)?;
    let run = record.run().cloned().unwrap_or(announced);
    programs.check(record.processes())?;
    let report = Report { args, run: &run, record: &record, histogram: &histogram };
    if args.json {
        report.print_json(&mut symbols, out)?;
    } else {
        report.print_text(&mut symbols, out)?;
    }
    out.flush()?;
    let mut findings = findings(&record);
    if record.samples() > 0 && histogram.is_empty() {
        findings.push(Finding::NoSamples);
    }
    note_all(&findings, notes)?;
    let is_good = findings.iter().all(|finding| *finding == Finding::Incomplete);
    Ok(if is_good { Outcome::Good } else { Outcome::Findings })
}

/// What a report is made of.
struct Report<'a> {
    args: &'a Args,
    run: &'a RunInfo,
    record: &'a Record,
    histogram: &'a Histogram,
}

impl Report<'_> {
    fn print_text(&self, symbols: &mut Symbols<'_>, out: &mut dyn Write) -> Result<(), Error> {
        if self.record.messages().fatal().is_some() {
            let reason = summary::fatal_text(self.record);
            writeln!(out, "# THE KERNEL GAVE UP: {reason}\n#")?;
        }
        summary::write_run(self.run, out)?;
        if let Some(cpus) = &self.args.cpus.cpu {
            writeln!(out, "# samples shown: of CPUs {cpus}")?;
        }
        for event in 0..self.run.events.len() {
            self.print_event(u8::try_from(event).unwrap_or(u8::MAX), symbols, out)?;
        }
        writeln!(out, "#")?;
        let unresolved_pct = paths::unresolved_pct(self.histogram, self.record, symbols);
        summary::write_accounts(self.record, unresolved_pct, out)?;
        summary::write_workloads(self.record, out)?;
        summary::write_processes(self.record, out)?;
        summary::write_warnings(self.record, out)?;
        Ok(())
    }

    fn print_event(&self, event: u8, symbols: &mut Symbols<'_>, out: &mut dyn Write) -> Result<(), Error> {
        let profile = self.profile(event, symbols);
        let sampled = &self.run.events[usize::from(event)];
        writeln!(out, "#\n# event: {}", summary::event_text(self.run, sampled))?;
        pmu::write_count(self.run, self.record, event, out)?;
        writeln!(out, "# samples of it: {}\n#", profile.samples)?;
        let graphs = if self.args.call_graph {
            let paths = self.paths(symbols);
            callgraph::build(&profile, self.histogram, paths, self.args.percent_limit)
        } else {
            callgraph::Graphs::default()
        };
        table::write(&profile, &graphs, self.args.percent_limit, out)?;
        Ok(())
    }

    fn print_json(&self, symbols: &mut Symbols<'_>, out: &mut dyn Write) -> Result<(), Error> {
        let events = 0..u8::try_from(self.run.events.len()).unwrap_or(u8::MAX);
        let profiles: Vec<_> = events.map(|event| self.profile(event, symbols)).collect();
        let unresolved_pct = paths::unresolved_pct(self.histogram, self.record, symbols);
        let report = json::Report::new(self.run, self.record, self.args, &profiles, unresolved_pct);
        serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
        Ok(())
    }

    fn profile(&self, event: u8, symbols: &mut Symbols<'_>) -> Profile {
        let has_children = self.run.has_chains && !self.args.no_children;
        let name = self.run.event_name(event);
        Profile::new(event, name, &self.args.sort, has_children, self.histogram, self.paths(symbols))
    }

    fn paths<'a, 'elf>(&'a self, symbols: &'a mut Symbols<'elf>) -> Paths<'a, 'elf> {
        Paths::new(symbols, self.record, self.args.inline.inlines())
    }
}
