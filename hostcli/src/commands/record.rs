//! `nmiprof record`: boot a machine, or attach to one, follow its line, keep its bytes.
//!
//! The file holds the bytes of the line verbatim; everything else is read out of it later. What happened
//! decides the exit status:
//!
//! | what happened | status |
//! |---|---|
//! | the run is complete and its accounting identity holds | 0 |
//! | complete, but the identity is broken, a workload computed a wrong result, a program failed, or there is no sample | 1 |
//! | the kernel found one of its NMI invariants broken and said so | 1 |
//! | everything else: the command line is refused, a panic, a reset, the time limit, QEMU failed | 2 |

mod args;
mod attached;
mod destination;
pub(super) mod display;
mod ended;

use std::io::Write;

pub use super::flags::MachineArgs;
pub use args::Args;
pub use attached::DetachedError;
pub use ended::EndedError;

use super::pmu::pmu_text;
use super::{Error, Outcome, summary};
use crate::capture::{Identity, Record, RunInfo};
use crate::images;
use crate::machine::{Boot, Consent, Ending, MachineConfig, boot, find_or_install};
use destination::Destination;
use display::Display;
use nmiprof_wire::FatalCause;

/// Records one run. The capture goes to `out` where the output file is `-`; all else goes to `notes`.
///
/// # Errors
/// [`Error`] where there is no capture, or not a whole one.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    args.check()?;
    if let Some(address) = args.attach.address() {
        return attached::run(args, address, out, notes);
    }
    let packed = args.work.pack()?;
    let program = find_or_install(Consent::from_yes(args.machine.yes), notes)?;
    let mut destination = Destination::prepare(&args.output, out)?;
    if args.output.as_os_str() != "-" {
        packed.keep_beside(&args.output)?;
    }
    let config = MachineConfig {
        module: packed.module,
        kernel_command_line: args.kernel_command_line(),
        limit: args.limit(),
        ..args.machine.config(images::MAIN, destination.line().to_path_buf())
    };
    let mut display = Display::new(args.noise(), destination.copy(), notes);
    let ended = boot(&program, &config, &mut display);
    display.finish();
    conclude(ended?, args, notes)
}

/// Says what was recorded, and judges it.
fn conclude(boot: Boot, args: &Args, notes: &mut dyn Write) -> Result<Outcome, Error> {
    if !args.quiet && boot.record.bytes() > 0 {
        if !boot.stderr.is_empty() && boot.ending == Ending::Completed {
            writeln!(notes, "nmiprof: QEMU says: {}", boot.stderr)?;
        }
        summarize(&boot.record, boot.record.bytes(), args, notes)?;
    }
    match &boot.ending {
        Ending::Completed => judge(&boot.record, true, notes),
        Ending::Fatal(report) if report.cause == FatalCause::Invariant => {
            writeln!(notes, "nmiprof: {}", boot.ending)?;
            Ok(Outcome::Findings)
        }
        _ => Err(EndedError::new(boot, Some(&args.output)).into()),
    }
}

fn summarize(record: &Record, bytes: u64, args: &Args, notes: &mut dyn Write) -> Result<(), Error> {
    let megabytes = bytes as f64 / 1e6;
    let (file, samples) = (args.output.display(), record.samples());
    writeln!(notes, "[ nmiprof record: Captured and wrote {megabytes:.3} MB {file} ({samples} samples) ]")?;
    writeln!(notes, "[ nmiprof record: {} ]", accounts_line(record))?;
    match record.run().filter(|_| args.chooses_pmu()) {
        Some(run) => Ok(writeln!(notes, "[ nmiprof record: PMU: {} ]", pmu_line(run))?),
        None => Ok(()),
    }
}

fn pmu_line(run: &RunInfo) -> String {
    let text = pmu_text(run);
    if run.pmu_fallback.is_empty() { text } else { format!("{text}; {}", run.pmu_fallback) }
}

fn accounts_line(record: &Record) -> String {
    let total = record.accounts().total();
    let dropped = total.dropped;
    let identity = match record.accounts().identity() {
        Identity::Holds => "holds",
        Identity::Broken => "is BROKEN",
        Identity::Incomplete => {
            let lost = record.lost_so_far();
            return format!("Final counters are missing; {lost} samples lost as far as is known");
        }
    };
    format!(
        "{} overflows = {} received + {} dropped (ring_full {}, no_frame {}, throttled {}, fault {}) \
         + {} lost on the line: the identity {identity}",
        total.overflows,
        total.received,
        dropped.total(),
        dropped.ring_full,
        dropped.no_frame,
        dropped.throttled,
        dropped.fault,
        total.link_lost
    )
}

/// Judges a run that is complete, or that was recorded for as long as was asked.
fn judge(record: &Record, is_complete: bool, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let mut findings = Vec::new();
    let identity = record.accounts().identity();
    if identity == Identity::Broken || (is_complete && identity == Identity::Incomplete) {
        findings.push("the accounting identity does not hold; `nmiprof info` shows its terms".to_owned());
    }
    if record.samples() == 0 {
        findings
            .push("there is no sample; record for longer (--duration), or sample more often (-c)".to_owned());
    }
    for workload in record.messages().workloads().iter().filter(|workload| workload.wrong_results > 0) {
        let (name, wrong) = (&workload.name, workload.wrong_results);
        findings.push(format!("workload {name} computed {wrong} wrong results; sampling disturbed it"));
    }
    findings.extend(summary::failed_programs(record).map(|program| program.to_string()));
    for finding in &findings {
        writeln!(notes, "nmiprof: {finding}")?;
    }
    Ok(if findings.is_empty() { Outcome::Good } else { Outcome::Findings })
}
