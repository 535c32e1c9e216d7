//! `nmiprof script`: every sample, one after the other.
//!
//! A line is `[cpu] time: event: ip symbol+offset (file:line)`; fields that were not asked for are left
//! out. Where samples carry call chains, the functions follow on lines of their own, innermost first,
//! and then an empty line. Samples come in the order of the capture, by time on each CPU; those of several events in
//! the order of time. Samples that the kernel counted by where they fell (`--aggregate`) have no times of their own: a line
//! stands for all of one place in one tally, with the span that they were taken in and their number. Raw fields need no ELF. It finds something (exit status 1) where there are no samples.

mod fields;
mod order;
mod printer;

use std::io::{BufWriter, Write};

use fields::{Field, Fields};
use order::{Waiting, Window};
use printer::{Origin, Printer};

use super::flags::CpuArgs;
use super::input::InputArgs;
use super::summary::{Finding, findings, note_all};
use super::{Error, Outcome, forgive_broken_pipe};
use crate::capture::{Capture, Record};
use crate::symbols::Symbols;

/// Print every sample
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Whose samples to print.
    #[command(flatten)]
    pub cpus: CpuArgs,
    /// Fields to print
    #[arg(
        short = 'F',
        long,
        value_name = "FIELD[,FIELD...]",
        value_enum,
        value_delimiter = ',',
        default_value = "cpu,time,event,ip,sym,symoff,srcline"
    )]
    pub fields: Vec<Field>,
    /// Leave out the call chains
    #[arg(short = 'G', long)]
    pub hide_call_graph: bool,
    /// Leave out inlined functions in call chains
    #[arg(long)]
    pub no_inline: bool,
}

/// Prints the samples of a capture.
///
/// # Errors
/// Where the capture or its kernel's ELF can't be read, or the output not written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    forgive_broken_pipe(print(args, out, notes))
}

fn print(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let fields = Fields::new(&args.fields);
    let capture = args.input.open()?;
    if !fields.need_symbols() {
        let record = print_samples(args, fields, None, capture, out, notes)?;
        return conclude(&record, notes);
    }
    let image = args.input.image(&capture)?;
    let programs = args.input.programs()?;
    let symbols = Symbols::new(&image, &programs)?;
    let record = print_samples(args, fields, Some(symbols), capture, out, notes)?;
    programs.check(record.processes())?;
    conclude(&record, notes)
}

fn print_samples(
    args: &Args,
    fields: Fields,
    symbols: Option<Symbols<'_>>,
    capture: Capture,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<Record, Error> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    let run = capture.run().clone();
    let cpus = args.cpus.list(&run)?;
    let mut printer = Printer::new(&run, fields, symbols, !args.no_inline);
    let mut window = (run.events.len() > 1).then(Window::new);
    let record = capture.read(|block| {
        if !cpus.contains(block.cpu) {
            return Ok(());
        }
        let has_chain = block.has_chains && !args.hide_call_graph;
        let origin = Origin { chains: block.chains, processes: block.processes };
        for sample in block.samples {
            let waiting = Waiting { sample: *sample, cpu: block.cpu, event: block.event, has_chain };
            let mut show = |waiting: &Waiting| printer.print(origin, waiting, &mut out);
            match &mut window {
                Some(window) if sample.time.exact().is_some() => window.push(waiting, show)?,
                _ => show(&waiting)?,
            }
        }
        Ok::<(), Error>(())
    })?;
    if let Some(window) = &mut window {
        let origin = Origin { chains: record.chains(), processes: record.processes() };
        window.finish(|waiting| printer.print(origin, waiting, &mut out))?;
        note_disorder(window.disordered(), notes)?;
    }
    out.flush()?;
    note_counted(&record, notes)?;
    if record.run().is_some_and(|known| known.clock != run.clock) {
        writeln!(
            notes,
            "nmiprof: the CPU halted while it sampled, so ticks are time: what is called {} above is {}",
            run.event_name(0),
            record.run().map_or("", |known| known.event_name(0))
        )?;
    }
    Ok(record)
}

/// Says on `notes` that lines are not samples, where they are not.
fn note_counted(record: &Record, notes: &mut dyn Write) -> Result<(), Error> {
    match record.counted_samples() {
        0 => Ok(()),
        samples => Ok(writeln!(
            notes,
            "nmiprof: the kernel counted {samples} samples by where they fell (--aggregate): a line stands for several \
             of them, taken within its span of time"
        )?),
    }
}

fn note_disorder(samples: u64, notes: &mut dyn Write) -> Result<(), Error> {
    if samples > 0 {
        writeln!(notes, "nmiprof: {samples} samples came too late to be shown in the order of time")?;
    }
    Ok(())
}

fn conclude(record: &Record, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let findings = findings(record);
    note_all(&findings, notes)?;
    let is_empty = findings.contains(&Finding::NoSamples);
    Ok(if is_empty { Outcome::Findings } else { Outcome::Good })
}
