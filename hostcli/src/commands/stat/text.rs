//! The table that people read, in the shape of perf stat's.

use std::collections::BTreeSet;
use std::io::{self, Write};

use indicatif::HumanCount;

use super::count::{Counted, Stat};
use super::metric::Metric;
use crate::commands::pmu::{self, NOT_COUNTED};

/// Least width of the column of names.
const NAME_WIDTH_MIN: usize = 25;
/// Width of the column of metrics, the `# ` before them included.
const METRIC_WIDTH: usize = 34;

/// Writes everything.
pub(super) fn write(stat: &Stat, out: &mut dyn Write) -> io::Result<()> {
    pmu::write_pmu(&stat.run, out)?;
    let runs = if stat.is_repeated() { format!(" ({} runs)", stat.seconds.count()) } else { String::new() };
    writeln!(out, "\n Performance counter stats for '{}'{runs}:\n", stat.title)?;
    let width = stat.events.iter().map(|event| event.title.chars().count()).max().unwrap_or(0);
    for event in &stat.events {
        write_event(stat, event, width.max(NAME_WIDTH_MIN), out)?;
    }
    write_seconds(stat, out)?;
    write_formulas(stat, out)
}

fn write_event(stat: &Stat, event: &Counted, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let value =
        event.mean().map_or_else(|| NOT_COUNTED.to_owned(), |mean| HumanCount(rounded(mean)).to_string());
    let mut line = format!("{value:>18}      {:<width$}", event.title);
    let noise = event.value.error_pct().filter(|_| stat.is_repeated());
    let running = event.is_estimate().then(|| event.running_pct());
    match &event.metric {
        Some(metric) => line += &format!(" {:<METRIC_WIDTH$}", format!("# {}", metric_text(metric))),
        None if noise.is_some() || running.is_some() => line += &" ".repeat(METRIC_WIDTH + 1),
        None => {}
    }
    if let Some(percent) = noise {
        line += &format!("  ( +-{percent:6.2}% )");
    }
    if let Some(percent) = running {
        line += &format!("  ({percent:.2}%)");
    }
    writeln!(out, "{}", line.trim_end())
}

fn metric_text(metric: &Metric) -> String {
    let Metric { value, unit, is_percent } = metric;
    if *is_percent { format!("{value:7.2}%  {unit}") } else { format!("{value:7.2}   {unit}") }
}

fn write_seconds(stat: &Stat, out: &mut dyn Write) -> io::Result<()> {
    let seconds = stat.seconds.mean();
    match (stat.seconds.error(), stat.seconds.error_pct()) {
        (Some(error), Some(percent)) => {
            writeln!(out, "\n{seconds:18.6} +- {error:.6} seconds of target time  ( +-{percent:6.2}% )\n")?;
        }
        _ => writeln!(out, "\n{seconds:18.9} seconds of target time\n")?,
    }
    if stat.is_repeated() && stat.run.deterministic {
        writeln!(
            out,
            "# each run is the same, event for event (--icount on): there is no spread to be seen"
        )?;
    }
    Ok(())
}

/// Says what stands in for events that no hardware counts, once for each name.
fn write_formulas(stat: &Stat, out: &mut dyn Write) -> io::Result<()> {
    let virtuals = stat.events.iter().filter(|event| !event.formula.is_empty());
    let lines: BTreeSet<String> =
        virtuals.map(|event| format!("# {} is {}", event.title, event.formula)).collect();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Rounds a mean of counts to a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of u64s is in their range, and the conversion saturates"
)]
fn rounded(mean: f64) -> u64 {
    mean.round() as u64
}
