//! `nmiprof selftest cost`: what an NMI costs with each entry, in instructions, phase by phase.
//!
//! It finds something (exit status 1) where an instruction belongs to no phase.

use std::io::{self, Write};

use nmiprof_wire::NmiEntry;
use serde::Serialize;
use serde_json::Value;

use crate::commands::flags::values::choice;
use crate::commands::{self, Error, forgive_broken_pipe};
use crate::cost::crowd::{self, Crowd};
use crate::cost::{Cost, Phase, Scenario, measure};
use crate::machine::{Consent, find_or_install};

/// Version of the JSON form.
const SCHEMA_VERSION: u32 = 1;

/// The JSON form.
#[derive(Serialize)]
struct Report {
    schema_version: u32,
    costs: Vec<Value>,
    crowds: Vec<Value>,
}

/// Count the instructions of an NMI, phase by phase
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Entry strategy (repeatable) [default: all]
    #[arg(long = "entry", value_name = "NAME", value_parser = choice(NmiEntry::ALL, NmiEntry::name))]
    pub entries: Vec<NmiEntry>,

    /// Print a JSON object
    #[arg(long)]
    pub json: bool,

    /// Agree to install QEMU where it is missing
    #[arg(long)]
    pub yes: bool,
}

impl Args {
    fn entries(&self) -> &[NmiEntry] {
        if self.entries.is_empty() { NmiEntry::ALL } else { &self.entries }
    }

    /// Returns the entry that is measured on several CPUs.
    fn first_entry(&self) -> NmiEntry {
        self.entries.first().copied().unwrap_or(NmiEntry::Rostedt)
    }
}

/// Measures, and writes the tables or the JSON object to `out`.
///
/// # Errors
/// [`Error`] where it could not be measured.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<commands::Outcome, Error> {
    let program = find_or_install(Consent::from_yes(args.yes), notes)?;
    let mut tables = Vec::new();
    for scenario in Scenario::ALL {
        let costs = args.entries().iter().map(|entry| measure(&program, *entry, scenario));
        let costs: Vec<_> = costs.collect::<Result<_, _>>()?;
        tables.push((scenario, costs.into_iter().flatten().collect()));
    }
    let crowds = crowd::CPUS.iter().map(|cpus| Crowd::measure(&program, args.first_entry(), *cpus));
    let crowds: Vec<_> = crowds.collect::<Result<_, _>>()?;
    forgive_broken_pipe(print(args, &tables, &crowds, out))
}

/// The costs of one scenario with each entry that survives it.
type Table = (Scenario, Vec<Cost>);

fn print(
    args: &Args,
    tables: &[Table],
    crowds: &[Crowd],
    out: &mut dyn Write,
) -> Result<commands::Outcome, Error> {
    if args.json {
        write_json(tables, crowds, out)?;
    } else {
        tables.iter().try_for_each(|(scenario, costs)| write_table(*scenario, costs, out))?;
        write_crowds(args.first_entry(), crowds, out)?;
    }
    out.flush()?;
    let mut costs = tables.iter().flat_map(|(_, costs)| costs);
    let is_whole = costs.all(|cost| cost.unattributed.is_empty());
    let is_flat = crowds.iter().all(|crowd| Some(&crowd.trace) == crowds.first().map(|first| &first.trace));
    Ok(if is_whole && is_flat { commands::Outcome::Good } else { commands::Outcome::Findings })
}

fn write_json(tables: &[Table], crowds: &[Crowd], out: &mut dyn Write) -> io::Result<()> {
    let costs: Vec<_> =
        tables.iter().flat_map(|(_, costs)| costs.iter().map(|cost| cost.to_json(naive(costs)))).collect();
    let crowds = crowds.iter().map(Crowd::to_json).collect();
    serde_json::to_writer_pretty(&mut *out, &Report { schema_version: SCHEMA_VERSION, costs, crowds })?;
    writeln!(out)
}

fn naive(costs: &[Cost]) -> Option<&Cost> {
    costs.iter().find(|cost| cost.entry == NmiEntry::Naive)
}

fn write_table(scenario: Scenario, costs: &[Cost], out: &mut dyn Write) -> io::Result<()> {
    let occurs = |phase: &&Phase| costs.iter().any(|cost| cost.of(**phase) > 0);
    let phases: Vec<_> = Phase::ALL.iter().filter(occurs).collect();
    writeln!(out, "{}", scenario.title())?;
    write!(out, "  {:<9}", "entry")?;
    phases.iter().try_for_each(|phase| write!(out, " {:>width$}", phase.name(), width = width(phase)))?;
    writeln!(out, " {:>6} {:>10}", "total", "over naive")?;
    for cost in costs {
        write!(out, "  {:<9}", cost.entry.name())?;
        phases
            .iter()
            .try_for_each(|phase| write!(out, " {:>width$}", cost.of(**phase), width = width(phase)))?;
        let over = naive(costs).map(|naive| i64::from(cost.total) - i64::from(naive.total));
        writeln!(out, " {:>6} {:>10}", cost.total, over.map_or_else(String::new, |over| over.to_string()))?;
        if !cost.unattributed.is_empty() {
            writeln!(out, "    in no phase: {}", cost.unattributed.join(", "))?;
        }
    }
    writeln!(out)
}

/// Writes what a flat sample costs where so many CPUs sample.
fn write_crowds(entry: NmiEntry, crowds: &[Crowd], out: &mut dyn Write) -> io::Result<()> {
    let Some(alone) = crowds.first() else { return Ok(()) };
    writeln!(out, "a flat sample on a warm page while other CPUs sample, {entry}")?;
    writeln!(
        out,
        "  {:<5} {:>6} {:>12} {:>16} {:>8}",
        "CPUs", "total", "same as on 1", "handler at least", "of"
    )?;
    for crowd in crowds {
        let (least, most) = crowd.ticks_min();
        let ticks = if least == most { least.to_string() } else { format!("{least} to {most}") };
        let same = if crowd.trace == alone.trace { "yes" } else { "no" };
        let (cpus, total, of) = (crowd.cpus, crowd.trace.len(), crowd.samples_min());
        writeln!(out, "  {cpus:<5} {total:>6} {same:>12} {ticks:>16} {of:>8}")?;
    }
    writeln!(out)
}

fn width(phase: &Phase) -> usize {
    phase.name().len().max(5)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn cost(entry: NmiEntry, phases: &[(Phase, u32)]) -> Cost {
        let phases: BTreeMap<_, _> = phases.iter().copied().collect();
        let total = phases.values().sum();
        Cost { entry, scenario: Scenario::Flat, phases, total, unattributed: Vec::new() }
    }

    #[test]
    fn a_table_has_the_phases_that_occur_and_the_distance_to_naive() {
        let naive = cost(NmiEntry::Naive, &[(Phase::Entry, 20), (Phase::Exit, 17)]);
        let latched = cost(NmiEntry::Latched, &[(Phase::Entry, 30), (Phase::Exit, 19)]);
        let mut out = Vec::new();
        write_table(Scenario::Flat, &[naive, latched], &mut out).expect("memory");
        let text = String::from_utf8(out).expect("text");
        let wanted = "a flat sample on a warm page\n  \
                      entry     entry  exit  total over naive\n  \
                      naive        20    17     37          0\n  \
                      latched      30    19     49         12\n\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_is_in_no_phase_is_named_and_is_a_finding() {
        let mut strange = cost(NmiEntry::Naive, &[(Phase::Other, 1)]);
        strange.unattributed.push("strange".to_owned());
        let args = Args { entries: Vec::new(), json: false, yes: false };
        let mut out = Vec::new();
        let outcome = print(&args, &[(Scenario::Flat, vec![strange])], &[], &mut out).expect("memory");
        assert_eq!(outcome, commands::Outcome::Findings);
        assert!(String::from_utf8_lossy(&out).contains("in no phase: strange"));
    }
}
