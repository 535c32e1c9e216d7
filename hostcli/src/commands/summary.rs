//! What every report says of the run, before and after its own content.
//!
//! A virtual count is never passed off as a hardware count: the PMU is named with every event.

use std::fmt;
use std::io::{self, Write};

use nmiprof_wire::{ClockKind, LogLevel, ProcessOutcome, Sampling};

use super::pmu::{event_title, write_pmu};
use crate::capture::{Identity, ProcessInfo, Record, RunInfo, SampledEvent};

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The kernel gave up.
    Fatal(String),
    /// The identity is broken.
    Broken,
    /// The identity can't be judged.
    Incomplete,
    /// The NMI counters contradict each other.
    NmiInconsistent,
    /// A workload computed something wrong.
    WrongResults(String, u64),
    /// A program failed.
    Program(String, String),
    /// No counter ever had an event.
    NotCounted(String),
    /// The PMU refused accesses to its registers.
    BusErrors(u64),
    /// There is nothing to show.
    NoSamples,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fatal(reason) => write!(f, "THE KERNEL GAVE UP: {reason}"),
            Self::Broken => f.write_str(
                "the accounting identity is broken: overflows are not received + dropped + link_lost",
            ),
            Self::Incomplete => f.write_str(
                "the capture is incomplete: final counters are missing, and link_lost is a lower bound",
            ),
            Self::NmiInconsistent => f.write_str("the NMI counters of a CPU contradict each other"),
            Self::WrongResults(name, count) => write!(f, "workload {name}: {count} wrong results"),
            Self::Program(name, how) => write!(f, "program {name} {how}"),
            Self::NotCounted(name) => write!(
                f,
                "no counter ever had event {name}: there are too few that can count it; ask for fewer events at once"
            ),
            Self::BusErrors(count) => {
                write!(f, "{count} accesses to the PMU's registers raised #GP: counts may be wrong")
            }
            Self::NoSamples => f.write_str("there are no samples"),
        }
    }
}

/// Collects the findings, the most important ones first.
pub(super) fn findings(record: &Record) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(record.messages().fatal().map(|_| Finding::Fatal(fatal_text(record))));
    match record.accounts().identity() {
        Identity::Broken => findings.push(Finding::Broken),
        Identity::Incomplete => findings.push(Finding::Incomplete),
        Identity::Holds => {}
    }
    if record.accounts().is_nmi_inconsistent() {
        findings.push(Finding::NmiInconsistent);
    }
    let wrong = record.messages().workloads().iter().filter(|w| w.wrong_results > 0);
    findings.extend(wrong.map(|w| Finding::WrongResults(w.name.clone(), w.wrong_results)));
    findings.extend(failed_programs(record));
    findings.extend(pmu_findings(record));
    if record.samples() == 0 {
        findings.push(Finding::NoSamples);
    }
    findings
}

/// Collects what is wrong with the counts.
fn pmu_findings(record: &Record) -> Vec<Finding> {
    let events = record.run().map_or(&[][..], |run| &run.events);
    let is_lost = |event: u8| {
        record.pmu().total(event).is_some_and(|total| total.enabled_ticks > 0 && total.scaled.is_none())
    };
    let lost = (0..=u8::MAX).zip(events).filter(|(event, _)| is_lost(*event));
    let mut findings: Vec<_> = lost.map(|(_, event)| Finding::NotCounted(event.name.clone())).collect();
    match record.pmu().counters().map(|counters| counters.bus_errors).fold(0, u64::saturating_add) {
        0 => {}
        errors => findings.push(Finding::BusErrors(errors)),
    }
    findings
}

/// Collects the programs that failed: their status is not 0, or they raised an exception.
pub(super) fn failed_programs(record: &Record) -> impl Iterator<Item = Finding> + '_ {
    let failed = record
        .processes()
        .all()
        .iter()
        .filter(|process| !matches!(process.outcome, None | Some(ProcessOutcome::Exited(0))));
    failed.map(|process| Finding::Program(process.name.clone(), outcome_text(process)))
}

/// Returns how a process ended, in words.
pub(super) fn outcome_text(process: &ProcessInfo) -> String {
    match process.outcome {
        None => "did not end as far as is known".to_owned(),
        Some(ProcessOutcome::Exited(status)) => format!("exited with status {status}"),
        Some(ProcessOutcome::Stopped) => "still ran at the end of the run".to_owned(),
        Some(ProcessOutcome::Killed { vector, error, address, rip }) => {
            let name = exception_name(vector);
            let accessed =
                if vector == PAGE_FAULT { format!(" at address {address:#x}") } else { String::new() };
            format!(
                "was killed by exception {vector} ({name}), error code {error:#x},{accessed} at RIP {rip:#x}"
            )
        }
    }
}

const PAGE_FAULT: u8 = 14;

/// Names of the exceptions that user code can raise (SDM volume 3, "Exception and Interrupt Reference").
const fn exception_name(vector: u8) -> &'static str {
    match vector {
        0 => "#DE divide error",
        1 => "#DB debug",
        3 => "#BP breakpoint",
        4 => "#OF overflow",
        6 => "#UD invalid opcode, SIMD included",
        7 => "#NM floating point, which there is none of",
        12 => "#SS stack fault",
        13 => "#GP general protection",
        PAGE_FAULT => "#PF page fault",
        17 => "#AC alignment check",
        _ => "rare",
    }
}

/// Writes the user programs, one `# ` line each.
pub(super) fn write_processes(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let mut processes = record.processes().all().iter();
    processes.try_for_each(|process| {
        writeln!(out, "# program {} ({}): {}", process.number, process.name, outcome_text(process))
    })
}

/// Says on `notes` what was found.
pub(super) fn note_all(findings: &[Finding], notes: &mut dyn Write) -> io::Result<()> {
    findings.iter().try_for_each(|finding| writeln!(notes, "nmiprof: {finding}"))
}

/// Returns why the kernel gave up, in one line.
pub(super) fn fatal_text(record: &Record) -> String {
    let Some(fatal) = record.messages().fatal() else {
        return String::new();
    };
    let place =
        if fatal.file.is_empty() { String::new() } else { format!(" at {}:{}", fatal.file, fatal.line) };
    format!("{} on CPU {}{place}: {}", fatal.cause_name(), fatal.cpu, fatal.message)
}

/// Returns an event and how often it is sampled, in words.
pub(super) fn event_text(run: &RunInfo, event: &SampledEvent) -> String {
    format!("{}, {}", event_title(run, event), sampling_text(event.sampling))
}

/// Returns how often an event is sampled, in words.
pub(super) fn sampling_text(sampling: Sampling) -> String {
    match sampling {
        Sampling::Period(events) => format!("one sample every {events}"),
        Sampling::Frequency(hz) => format!("{hz} samples per second"),
        Sampling::Count => "counted".to_owned(),
    }
}

/// Returns what the clock is, in words.
pub(super) fn clock_text(run: &RunInfo) -> String {
    let tick = match run.clock {
        ClockKind::Instructions => "one tick is one retired instruction",
        ClockKind::Time if run.is_withdrawn => "time, not instructions: the CPU halted while it sampled",
        ClockKind::Time => "time, not instructions",
    };
    format!("{} Hz, {tick}", run.clock_hz)
}

/// Returns whether the run repeats, in words.
pub(super) fn deterministic_text(run: &RunInfo) -> &'static str {
    if run.deterministic { "yes: the same command line gives the same samples again" } else { "no" }
}

/// Writes what describes the run, one `# ` line each.
pub(super) fn write_run(run: &RunInfo, out: &mut dyn Write) -> io::Result<()> {
    write_pmu(run, out)?;
    writeln!(out, "# clock: {}", clock_text(run))?;
    writeln!(
        out,
        "# NMI entry: {}, faults return by {}; ring: {}, {} bytes per CPU",
        run.nmi_entry, run.fault_return, run.ring, run.ring_bytes
    )?;
    writeln!(out, "# CPUs: {} ({})", run.cpus, run.cpu_name)?;
    writeln!(out, "# deterministic: {}", deterministic_text(run))?;
    writeln!(out, "# kernel build: {}", run.build_id)
}

/// Writes how complete the samples are, one `# ` line each.
pub(super) fn write_accounts(
    record: &Record,
    unresolved_pct: Option<f64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let total = record.accounts().total();
    let dropped = total.dropped;
    writeln!(out, "# samples: {} received of {} overflows", total.received, total.overflows)?;
    writeln!(
        out,
        "# lost: {} ring_full, {} no_frame, {} throttled, {} fault, {} on the line",
        dropped.ring_full, dropped.no_frame, dropped.throttled, dropped.fault, total.link_lost
    )?;
    writeln!(
        out,
        "# unresolved: {}   truncated or lost call chains: {}",
        percent_text(unresolved_pct),
        percent_text(record.truncated_chains_pct())
    )?;
    write_throttles(record, out)?;
    write_joined(record, out)?;
    write_damage(record, out)?;
    writeln!(out, "# identity: {}", identity_text(record.accounts().identity()))
}

/// Says how long sampling paused because it took too much of the CPU; nothing where it never did.
fn write_throttles(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let counters = record.pmu().counters();
    let (times, ticks) = counters.fold((0_u64, 0_u64), |(times, ticks), counters| {
        (times.saturating_add(counters.throttles), ticks.saturating_add(counters.throttled_ticks))
    });
    if times == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "# throttled: {times} times, for {ticks} ticks: sampling took more of the CPU than --cpu-percent-max allows"
    )
}

/// Says what was missed by joining in the middle of the run; nothing where the capture begins with it.
fn write_joined(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let Some(joined) = record.joined() else {
        return Ok(());
    };
    write!(
        out,
        "# attached in the middle of the run: {} samples were sent before, and count as lost on the line",
        joined.samples_before
    )?;
    match joined.head_bytes {
        0 => writeln!(out),
        bytes => writeln!(out, "; the first {bytes} bytes are the end of a frame"),
    }
}

fn write_damage(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let damage = record.damage();
    write!(out, "# damaged: {} frames, {} bytes", damage.frames, damage.bytes)?;
    match damage.first_offset {
        Some(offset) => writeln!(out, ", the first at byte {offset}"),
        None => writeln!(out),
    }
}

/// Writes the outcomes of the workloads, one `# ` line each.
pub(super) fn write_workloads(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    for workload in record.messages().workloads() {
        write!(out, "# workload {}: {} steps", workload.name, workload.steps)?;
        if let Some(instructions) = workload.instructions_per_step {
            write!(out, " of {instructions} instructions")?;
        }
        writeln!(out, ", {} wrong results", workload.wrong_results)?;
    }
    Ok(())
}

/// Writes the kernel's warnings, one `# ` line each.
pub(super) fn write_warnings(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let logs = record.messages().logs().iter();
    let mut warnings = logs.filter(|log| log.level == LogLevel::Warning);
    warnings.try_for_each(|log| writeln!(out, "# kernel warning: {}", log.text))
}

/// Returns the verdict on the identity, in words.
pub(super) const fn identity_text(identity: Identity) -> &'static str {
    match identity {
        Identity::Holds => "holds (overflows = received + dropped + link_lost)",
        Identity::Broken => "BROKEN (overflows are not received + dropped + link_lost)",
        Identity::Incomplete => "incomplete (final counters are missing; link_lost is a lower bound)",
    }
}

/// Returns a percentage with two digits, or what stands for none.
pub(super) fn percent_text(percent: Option<f64>) -> String {
    percent.map_or_else(|| "n/a".to_owned(), |percent| format!("{percent:.2}%"))
}
