//! `nmiprof info`: what a capture says of its run, and whether every sample is accounted for.
//!
//! It needs no symbols; without a matching ELF only the share of unresolved addresses is missing.
//! It finds something (exit status 1) where the identity does not hold, be it broken or incomplete,
//! where the kernel gave up, where its NMI counters contradict each other or a result was wrong.

mod json;
mod text;

use std::io::Write;

use super::input::{self, InputArgs};
use super::summary::{Finding, findings, note_all};
use super::{Error, Outcome, forgive_broken_pipe, paths};
use crate::symbols::Symbols;

/// Show what a capture holds, and whether every sample is accounted for
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Prints the description of a capture.
///
/// # Errors
/// Where the capture can't be read, or the output not written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    forgive_broken_pipe(print(args, out, notes))
}

fn print(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let capture = args.input.open()?;
    let image = args.input.image_if_any(&capture, notes)?;
    let announced = capture.run().clone();
    let programs = args.input.programs()?;
    let (record, histogram) = input::count(capture)?;
    let run = record.run().cloned().unwrap_or(announced);
    programs.check(record.processes())?;
    let unresolved_pct = match &image {
        Some(image) => paths::unresolved_pct(&histogram, &record, &mut Symbols::new(image, &programs)?),
        None => None,
    };
    let info = json::Info::new(&run, &record, unresolved_pct);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &info).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        text::write(&run, &record, &info, out)?;
    }
    out.flush()?;
    let findings = findings(&record);
    note_all(&findings, notes)?;
    let is_good = findings.iter().all(|finding| *finding == Finding::NoSamples);
    Ok(if is_good { Outcome::Good } else { Outcome::Findings })
}
