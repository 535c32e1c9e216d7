//! `nmiprof export`: the profile in forms that other tools read.
//!
//! `folded` is one line per call path, outermost function first, with its samples; `svg` is a flame
//! graph of it. Inlined functions are expanded, but for
//! those of the standard library. It finds something (exit status 1) where there are no
//! samples.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use inferno::flamegraph::{self, color};

use super::input::{self, InputArgs};
use super::paths::{InlineArgs, Paths};
use super::pmu::pmu_kind;
use super::summary::{Finding, note_all, sampling_text};
use super::{Error, Outcome, forgive_broken_pipe};
use crate::capture::{Histogram, Record, RunInfo};
use crate::symbols::{SourceFrame, Symbols};

/// What nearly every name begins with: a flame graph has no room to say it in every box.
const KERNEL_CRATE: &str = "nmiprof_kernel::";

/// Export call paths for other tools
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Form of the export
    #[arg(long, value_enum, default_value_t = Format::Folded)]
    pub format: Format,
    /// File to write; `-` is the standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Event to export; the first one that has samples where none is named
    #[arg(short, long, value_name = "NAME")]
    pub event: Option<String>,
    /// Inlined functions.
    #[command(flatten)]
    pub inline: InlineArgs,
}

/// Forms of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line per call path, with its samples
    Folded,
    /// A flame graph
    Svg,
}

/// Exports a capture.
///
/// # Errors
/// Where the capture or its kernel's ELF can't be read, or the export not written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    forgive_broken_pipe(export(args, out, notes))
}

fn export(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let capture = args.input.open()?;
    let image = args.input.image(&capture)?;
    let programs = args.input.programs()?;
    let mut symbols = Symbols::new(&image, &programs)?;
    let announced = capture.run().clone();
    let (record, histogram) = input::count(capture)?;
    let run = record.run().cloned().unwrap_or(announced);
    programs.check(record.processes())?;
    let event = choose_event(args, &run, &histogram)?;
    let samples = histogram.samples_of(event);
    if samples == 0 {
        note_all(&[Finding::NoSamples], notes)?;
        return Ok(Outcome::Findings);
    }
    let paths = Paths::new(&mut symbols, &record, args.inline.inlines());
    let folded = fold(&histogram, event, paths);
    let product = match args.format {
        Format::Folded => folded_text(&folded),
        Format::Svg => flame_graph(&folded, &title(&run, event, samples), &subtitle(&run, event))?,
    };
    write_product(args, &product, out)?;
    note_losses(&record, notes)?;
    note_others(args, &run, &histogram, event, notes)?;
    Ok(Outcome::Good)
}

/// Finds the event to export: counts of different events must not be added up.
fn choose_event(args: &Args, run: &RunInfo, histogram: &Histogram) -> Result<u8, Error> {
    let mut events = (0..=u8::MAX).take(run.events.len());
    let Some(name) = &args.event else {
        return Ok(events.find(|event| histogram.samples_of(*event) > 0).unwrap_or(0));
    };
    events.find(|event| run.event_name(*event) == name).ok_or_else(|| {
        let known: Vec<_> = run.events.iter().map(|event| event.name.as_str()).collect();
        Error::Usage(format!("the capture has no such event; it has: {}", known.join(", ")))
    })
}

/// Counts the samples of an event by call path: names joined by `;`, outermost first.
fn fold(histogram: &Histogram, event: u8, mut paths: Paths<'_, '_>) -> BTreeMap<String, u64> {
    let mut folded = BTreeMap::new();
    for (place, count) in histogram.sorted() {
        if place.event != event {
            continue;
        }
        let path = paths.of(&place);
        let mut names: Vec<String> = path.iter().rev().map(folded_name).collect();
        if let Some(missing) = paths.missing_callers(&place) {
            names.insert(0, missing.to_owned());
        }
        *folded.entry(names.join(";")).or_default() += count;
    }
    folded
}

/// Returns a function's name with nothing in it that separates names.
fn folded_name(frame: &SourceFrame) -> String {
    frame.function.replace(';', ":")
}

fn folded_text(folded: &BTreeMap<String, u64>) -> Vec<u8> {
    let lines = folded.iter().map(|(path, count)| format!("{path} {count}\n"));
    lines.collect::<String>().into_bytes()
}

fn flame_graph(folded: &BTreeMap<String, u64>, title: &str, subtitle: &str) -> Result<Vec<u8>, Error> {
    let mut options = flamegraph::Options::default();
    options.title = title.to_owned();
    options.subtitle = Some(subtitle.to_owned());
    // A function has one colour wherever it stands.
    options.colors = color::Palette::Basic(color::BasicPalette::Hot);
    options.hash = true;
    options.bgcolors = Some(color::BackgroundColor::Flat(color::Color { r: 250, g: 250, b: 250 }));
    options.deterministic = true;
    let line = |(path, count): (&String, &u64)| format!("{} {count}", path.replace(KERNEL_CRATE, ""));
    let lines: Vec<String> = folded.iter().map(line).collect();
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(svg)
}

fn title(run: &RunInfo, event: u8, samples: u64) -> String {
    let kind = pmu_kind(run);
    format!("nmiprof: {} ({kind} PMU), {samples} samples", run.event_name(event))
}

fn subtitle(run: &RunInfo, event: u8) -> String {
    let sampling = run.events.get(usize::from(event)).map(|event| sampling_text(event.sampling));
    format!("{}; NMI entry {}", sampling.unwrap_or_default(), run.nmi_entry)
}

fn write_product(args: &Args, product: &[u8], out: &mut dyn Write) -> Result<(), Error> {
    if args.output.as_os_str() == "-" {
        out.write_all(product)?;
        out.flush()?;
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(&args.output)?);
        file.write_all(product)?;
        file.flush()
    };
    write().map_err(|source| Error::output(&args.output, source))
}

/// Says on `notes` which samples the export does not show.
fn note_losses(record: &Record, notes: &mut dyn Write) -> io::Result<()> {
    match record.lost_so_far() {
        0 => Ok(()),
        lost => writeln!(notes, "nmiprof: {lost} samples were lost and are not in the export"),
    }
}

/// Says on `notes` which events the export does not show, where the choice among them was not the user's.
fn note_others(
    args: &Args,
    run: &RunInfo,
    histogram: &Histogram,
    event: u8,
    notes: &mut dyn Write,
) -> io::Result<()> {
    let others = (0..=u8::MAX).take(run.events.len()).filter(|other| *other != event);
    let names: Vec<_> =
        others.filter(|other| histogram.samples_of(*other) > 0).map(|other| run.event_name(other)).collect();
    if args.event.is_some() || names.is_empty() {
        return Ok(());
    }
    let (shown, others) = (run.event_name(event), names.join(", "));
    writeln!(notes, "nmiprof: the export is of {shown}; choose another event by --event: {others}")
}
