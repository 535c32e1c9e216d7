//! The human-readable form of `info`.

use std::io::{self, Write};

use nmiprof_wire::{CpuInfo, CutChains, LineCounters, LogLevel, MemoryCounters, NmiCounters, PmuCounters};

use super::json::Info;
use crate::capture::{Balance, Record, RunInfo};
use crate::commands::{pmu, summary};

/// Writes everything that `info` says.
pub(super) fn write(run: &RunInfo, record: &Record, info: &Info, out: &mut dyn Write) -> io::Result<()> {
    if record.messages().fatal().is_some() {
        writeln!(out, "# THE KERNEL GAVE UP: {}", summary::fatal_text(record))?;
    }
    for (index, event) in (0..=u8::MAX).zip(&run.events) {
        writeln!(out, "# event: {}", summary::event_text(run, event))?;
        write_event(run, record, index, out)?;
    }
    summary::write_run(run, out)?;
    writeln!(out, "# command line: {}", run.command_line)?;
    write_size(record, info, out)?;
    record.line().map_or(Ok(()), |line| write_line(run, line, out))?;
    summary::write_accounts(record, info.unresolved_pct, out)?;
    write_cpus(record, out)?;
    summary::write_workloads(record, out)?;
    summary::write_processes(record, out)?;
    write_logs(run, record, out)
}

/// Writes what an event is and came to; nothing where a timer counted it, whose overflows are the samples.
fn write_event(run: &RunInfo, record: &Record, event: u8, out: &mut dyn Write) -> io::Result<()> {
    pmu::write_count(run, record, event, out)?;
    let Some(total) = record.pmu().total(event) else { return Ok(()) };
    writeln!(
        out,
        "#   {} counted in {} of {} ticks; {} overflows, {} periods skipped, the last period {}",
        total.count,
        total.running_ticks,
        total.enabled_ticks,
        total.overflows,
        total.skipped_periods,
        total.period_events
    )
}

fn write_size(record: &Record, info: &Info, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "# size: {} bytes", record.bytes())?;
    match info.bytes_per_sample {
        Some(bytes) => writeln!(out, ", {bytes:.2} per sample")?,
        None => writeln!(out)?,
    }
    match record.counted_samples() {
        0 => Ok(()),
        counted => writeln!(
            out,
            "# counted in the kernel: {counted} samples, by where they fell; they have no times"
        ),
    }
}

fn write_line(run: &RunInfo, line: &LineCounters, out: &mut dyn Write) -> io::Result<()> {
    let (seconds, us) = run.seconds_and_us(line.stall_ticks_max);
    writeln!(
        out,
        "# line: {} bytes sent, {} stalls (the longest {seconds}.{us:06} s), {} frames dropped for want of room",
        line.bytes, line.stalls, line.frames_dropped
    )
}

fn write_cpus(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    for (cpu, account) in record.accounts().cpus().iter().enumerate() {
        let balance = account.balance();
        writeln!(
            out,
            "# CPU {cpu}: {} of {} overflows received; identity {}",
            balance.received,
            balance.overflows,
            summary::identity_text(account.identity())
        )?;
        write_cpu(cpu, record, balance.nmi.halts, out)?;
        write_memory(&balance, out)?;
        write_nmi(&balance.nmi, account.is_nmi_inconsistent(), out)?;
        let mut drivers = record.pmu().counters();
        drivers
            .find(|driver| usize::from(driver.cpu) == cpu)
            .map_or(Ok(()), |driver| write_driver(driver, out))?;
    }
    Ok(())
}

/// Writes what was said of a CPU: nothing where nothing was.
fn write_cpu(cpu: usize, record: &Record, halts: u64, out: &mut dyn Write) -> io::Result<()> {
    if halts > 0 {
        writeln!(out, "#   halted {halts} times while it sampled, so ticks of the clock are time")?;
    }
    let Some(info) = u16::try_from(cpu).ok().and_then(|cpu| record.cpus().get(cpu)) else { return Ok(()) };
    let CpuInfo { apic_id, samples, clock_offset, clock_uncertainty, .. } = *info;
    let role = if samples { "samples" } else { "parked" };
    write!(out, "#   APIC ID {apic_id}, {role}")?;
    if info.cpu == 0 {
        return writeln!(out);
    }
    let meaning = match info.clock_correction() {
        0 => "taken for none",
        _ => "times are corrected by it",
    };
    writeln!(
        out,
        "; its clock less CPU 0's: {clock_offset} ticks, give or take {clock_uncertainty}: {meaning}"
    )
}

fn write_memory(balance: &Balance, out: &mut dyn Write) -> io::Result<()> {
    let MemoryCounters {
        ring_tables,
        table_frames,
        decommitted,
        thread_syncs,
        reserve_frames,
        reserve_refilled,
        frames_left,
    } = balance.memory;
    writeln!(
        out,
        "#   ring: {} pages and {ring_tables} tables present ({table_frames} made in NMIs), {decommitted} pages decommitted",
        balance.ring_pages
    )?;
    writeln!(
        out,
        "#   reserve: {reserve_frames} frames, at least {} held, {reserve_refilled} refilled; {frames_left} frames left in \
         the machine",
        balance.reserve_frames_min
    )?;
    let NmiCounters { page_faults, first_touches, space_syncs, other_faults, .. } = balance.nmi;
    writeln!(
        out,
        "#   page faults in NMIs: {page_faults} = {first_touches} first touches + {space_syncs} space syncs + \
         {other_faults} others; {thread_syncs} space syncs outside"
    )?;
    let CutChains { depth, pointer, fault } = balance.cut_chains;
    writeln!(
        out,
        "#   call chains cut: {depth} at the depth limit, {pointer} at a bad pointer, {fault} by a fault"
    )
}

fn write_nmi(nmi: &NmiCounters, is_inconsistent: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "#   NMIs: {} entries ({} nested), {} runs ({} rerun), {} back to back",
        nmi.entries, nmi.nested, nmi.runs, nmi.rerun, nmi.back_to_back
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

fn write_driver(driver: &PmuCounters, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "#   PMU: {} throttles ({} ticks), {} rotations, {} late NMIs, {} NMIs with several overflows, {} overflows of \
         stopped counters, {} recoveries, {} bus errors",
        driver.throttles,
        driver.throttled_ticks,
        driver.rotations,
        driver.late,
        driver.merged,
        driver.stopped_overflows,
        driver.recoveries,
        driver.bus_errors
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
