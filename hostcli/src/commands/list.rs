//! `nmiprof list`: the events that can be named in `-e`, and which of them the machine's PMU offers.
//!
//! A machine is booted, because its kernel alone knows its CPU. It finds something (exit status 1) where no event
//! matches.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use nmiprof_pmu::CounterSet;
use nmiprof_pmu::event::GenericEvent;
use nmiprof_wire::{Job, Line, Options};
use serde::Serialize;

use super::ask::{Answer, Ask, write_json};
use super::flags::{MachineArgs, PmuArgs};
use super::pmu::{JsonPmu, counters_text, pmu_kind, write_pmu};
use super::record::display::Noise;
use super::{Error, Outcome, forgive_broken_pipe};
use crate::capture::OfferedEvent;

/// Version of the JSON form.
const SCHEMA_VERSION: u32 = 1;
/// Wall time after which the machine is ended: it has nothing to do but to boot.
const LIMIT: Duration = Duration::from_secs(60);
/// Events that are no names: how any other event of the CPU is asked for.
const RAW: [(&str, &str); 2] = [
    ("rNNN", "bits of the event-select register, in hexadecimal"),
    ("cpu/event=N,umask=N,cmask=N,inv,edge/", "its fields"),
];

/// Flags of `nmiprof list`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Show events with this in their name only
    #[arg(value_name = "FILTER")]
    pub filter: Option<String>,

    /// The machine.
    #[command(flatten)]
    pub machine: MachineArgs,

    /// What counts.
    #[command(flatten)]
    pub pmu: PmuArgs,

    /// Capture to read instead of booting a machine: of a kernel that was booted with job=list
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Print the QEMU command line, and what the kernel says
    #[arg(short, long)]
    pub verbose: bool,
}

impl Args {
    fn kernel_command_line(&self) -> String {
        let options = self.pmu.apply(Options { job: Job::List, line: Line::File, ..Options::default() });
        self.machine.with_appended(&options.to_string())
    }

    fn shows(&self, event: &Event<'_>) -> bool {
        let Some(filter) = self.filter.as_deref().map(str::to_ascii_lowercase) else { return true };
        event.names().any(|name| name.contains(&filter))
    }
}

/// Lists events.
///
/// # Errors
/// [`Error`] where the machine did not run to its end, or the list can't be written.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    args.machine.check()?;
    let ask = Ask {
        machine: &args.machine,
        module: Vec::new(),
        command_line: args.kernel_command_line(),
        limit: LIMIT,
        noise: Noise::new(false, args.verbose),
    };
    let answer = ask.answer(args.input.as_deref(), notes)?;
    forgive_broken_pipe(print(args, &answer, out, notes))
}

fn print(args: &Args, answer: &Answer, out: &mut dyn Write, notes: &mut dyn Write) -> Result<Outcome, Error> {
    let events: Vec<Event<'_>> =
        answer.record.pmu().offers().iter().map(Event::new).filter(|event| args.shows(event)).collect();
    if args.json {
        write_json(&Form::new(answer, &events), out)?;
    } else {
        write_text(args, answer, &events, out)?;
    }
    out.flush()?;
    if !events.is_empty() {
        return Ok(Outcome::Good);
    }
    let what = args.filter.as_deref().map_or("no event is offered".to_owned(), |filter| {
        format!("no event has `{}` in its name", crate::capture::clean(filter))
    });
    writeln!(notes, "nmiprof: {what}")?;
    Ok(Outcome::Findings)
}

/// An event as it is listed.
#[derive(Debug, Serialize)]
struct Event<'a> {
    event: &'a str,
    aliases: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    offered: bool,
    /// Counters that count it: general-purpose ones from bit 0, fixed ones from bit 32.
    counters: u64,
    /// What the event-select register is programmed with.
    select: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    formula: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    refused: &'a str,
}

impl<'a> Event<'a> {
    fn new(offer: &'a OfferedEvent) -> Self {
        let generic = GenericEvent::from_name(&offer.name);
        Self {
            event: &offer.name,
            aliases: generic.map_or(&[], GenericEvent::aliases),
            description: generic.map(GenericEvent::description),
            offered: offer.refused.is_empty(),
            counters: offer.counters,
            select: offer.select,
            formula: &offer.formula,
            refused: &offer.refused,
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.event).chain(self.aliases.iter().copied())
    }

    /// Returns where and how it is counted.
    fn place(&self) -> String {
        let counters = counters_text(CounterSet(self.counters));
        let mut place = format!("counters: {counters}");
        if self.select != 0 {
            place += &format!("; select {:#x}", self.select);
        }
        if !self.formula.is_empty() {
            place += &format!("; virtual: {}", self.formula);
        }
        place
    }
}

fn write_text(args: &Args, answer: &Answer, events: &[Event<'_>], out: &mut dyn Write) -> io::Result<()> {
    write_pmu(&answer.run, out)?;
    let working = working(answer);
    writeln!(out, "# counters that work: {} ({})", working.count(), counters_text(working))?;
    if events.iter().any(|event| event.offered) {
        writeln!(out, "\nList of events (to be used in -e):\n")?;
    }
    let kind = format!("[{} event]", pmu_kind(&answer.run));
    for event in events.iter().filter(|event| event.offered) {
        let names: Vec<&str> = event.names().collect();
        writeln!(out, "  {:<50} {kind}", names.join(" OR "))?;
        event.description.map_or(Ok(()), |text| writeln!(out, "       {text}"))?;
        writeln!(out, "       {}", event.place())?;
    }
    if args.filter.is_none() && events.iter().any(|event| event.select != 0) {
        RAW.iter().try_for_each(|(name, about)| {
            writeln!(out, "  {name:<50} [raw {} event]\n       {about}", pmu_kind(&answer.run))
        })?;
    }
    write_refused(events, out)
}

fn write_refused(events: &[Event<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut refused = events.iter().filter(|event| !event.offered).peekable();
    if refused.peek().is_some() {
        writeln!(out, "\nNot offered here:\n")?;
    }
    refused.try_for_each(|event| writeln!(out, "  {:<26} {}", event.event, event.refused))
}

/// Returns the counters that count any event.
fn working(answer: &Answer) -> CounterSet {
    let offers = answer.record.pmu().offers().iter();
    offers.fold(CounterSet::EMPTY, |set, offer| set.union(CounterSet(offer.counters)))
}

/// The JSON form.
#[derive(Debug, Serialize)]
struct Form<'a> {
    schema_version: u32,
    build_id: String,
    pmu: JsonPmu,
    cpu_name: &'a str,
    /// Counters that work.
    counters: u64,
    events: &'a [Event<'a>],
}

impl<'a> Form<'a> {
    fn new(answer: &'a Answer, events: &'a [Event<'a>]) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            build_id: answer.run.build_id.to_string(),
            pmu: JsonPmu::new(&answer.run),
            cpu_name: &answer.run.cpu_name,
            counters: working(answer).0,
            events,
        }
    }
}
