//! The human-readable form of `info`.

use std::io::{self, Write};

use nmiprof_wire::{LogLevel, NmiCounters};

use super::json::Info;
use crate::capture::{Record, RunInfo};
use crate::commands::summary;

/// Writes everything that `info` says.
pub(super) fn write(run: &RunInfo, record: &Record, info: &Info, out: &mut dyn Write) -> io::Result<()> {
    if record.messages().fatal().is_some() {
        writeln!(out, "# THE KERNEL GAVE UP: {}", summary::fatal_text(record))?;
    }
    for event in &run.events {
        writeln!(out, "# event: {}", summary::event_text(run, event))?;
    }
    summary::write_run(run, out)?;
    writeln!(out, "# command line: {}", run.command_line)?;
    write_size(record, info, out)?;
    summary::write_accounts(record, info.unresolved_pct, out)?;
    write_cpus(record, out)?;
    summary::write_workloads(record, out)?;
    summary::write_processes(record, out)?;
    write_logs(run, record, out)
}

fn write_size(record: &Record, info: &Info, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "# size: {} bytes", record.bytes())?;
    match info.bytes_per_sample {
        Some(bytes) => writeln!(out, ", {bytes:.2} per sample"),
        None => writeln!(out),
    }
}

fn write_cpus(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    for (cpu, account) in record.accounts().cpus().iter().enumerate() {
        let balance = account.balance();
        writeln!(
            out,
            "# CPU {cpu}: {} of {} overflows received; {} ring pages, at least {} frames in reserve; identity {}",
            balance.received,
            balance.overflows,
            balance.ring_pages,
            balance.reserve_frames_min,
            summary::identity_text(account.identity())
        )?;
        write_nmi(&balance.nmi, account.is_nmi_inconsistent(), out)?;
    }
    Ok(())
}

fn write_nmi(nmi: &NmiCounters, is_inconsistent: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "#   NMIs: {} entries ({} nested), {} runs ({} rerun), {} back to back, {} page faults",
        nmi.entries, nmi.nested, nmi.runs, nmi.rerun, nmi.back_to_back, nmi.page_faults
    )?;
    writeln!(
        out,
        "#   runs: {} handled, {} swallowed, {} unknown, {} external, {} reason_busy{}",
        nmi.handled,
        nmi.swallowed,
        nmi.unknown,
        nmi.external,
        nmi.reason_busy,
        if is_inconsistent { "; THE COUNTERS CONTRADICT EACH OTHER" } else { "" }
    )
}

fn write_logs(run: &RunInfo, record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let messages = record.messages();
    for log in messages.logs() {
        let (seconds, us) = run.seconds_and_us(log.time);
        let level = match log.level {
            LogLevel::Warning => "warning: ",
            LogLevel::Info => "",
        };
        writeln!(out, "# [{seconds:5}.{us:06}] {level}{}", log.text)?;
    }
    match messages.logs_left_out() {
        0 => Ok(()),
        count => writeln!(out, "# and {count} more log lines"),
    }
}
