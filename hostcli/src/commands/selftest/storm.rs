//! `nmiprof selftest storm`: random nestings of NMIs, faults and breakpoints, on every safe NMI entry.
//!
//! Two machines run at a time. It finds something (exit status 1) unless every combination gets through without
//! a failure, everything that it provokes did arise, and NMIs pending at every exit use no more stack than a few.

use std::io::{self, IsTerminal as _, Write};

use clap::builder::{RangedU64ValueParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use nmiprof_wire::{FaultReturn, NestedReturn, NmiEntry, Unmask};

use super::workers::{News, run_all};
use crate::capture::clean;
use crate::commands::flags::values::choice;
use crate::commands::{self, Error, forgive_broken_pipe};
use crate::images;
use crate::machine::{Consent, find_or_install};
use crate::storm::{self, NESTINGS, Outcome, Storm};
use crate::sweep::Combination;

const SEED: &str = "20261121";

/// Nest NMIs at random, with faults, breakpoints and several sources
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Entry strategy (repeatable) [default: all safe ones]
    #[arg(long = "entry", value_name = "NAME", value_parser = choice(NmiEntry::ALL, NmiEntry::name))]
    pub entries: Vec<NmiEntry>,

    /// Every sound form of each strategy, not only the usual one
    #[arg(long)]
    pub all_forms: bool,

    /// Seed: the same one gives the same storm
    #[arg(long, value_name = "N", default_value = SEED, value_parser = positive())]
    pub seed: u32,

    /// Nested NMIs of each combination
    #[arg(long, value_name = "N", default_value_t = NESTINGS, value_parser = positive())]
    pub nestings: u32,

    /// Print a JSON array, one object for each combination
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,

    /// Agree to install QEMU where it is missing
    #[arg(long)]
    pub yes: bool,
}

fn positive() -> impl TypedValueParser<Value = u32> {
    RangedU64ValueParser::<u32>::new().range(1..)
}

impl Args {
    /// Returns what is to be run: sound forms only.
    fn combinations(&self) -> Vec<Combination> {
        let asks_for = |one: &Combination| {
            let is_named = self.entries.is_empty() || self.entries.contains(&one.entry);
            one.is_sound() && is_named && (self.all_forms || is_usual(one))
        };
        Combination::all().into_iter().filter(asks_for).collect()
    }
}

/// Tells whether this is the form that `record` has unless flags change it.
fn is_usual(one: &Combination) -> bool {
    (one.fault_return, one.nested_return, one.unmask)
        == (FaultReturn::Iret, NestedReturn::Iret, Unmask::Fault)
}

/// Runs the storms, and writes the table or the JSON array to `out`.
///
/// # Errors
/// [`Error`] where they could not be run, or where the flags leave nothing to run.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<commands::Outcome, Error> {
    let combinations = args.combinations();
    if combinations.is_empty() {
        return Err(Error::Usage(
            "no sound form is left: naive is sound only with --all-forms, where nothing unmasks NMIs"
                .to_owned(),
        ));
    }
    let program = find_or_install(Consent::from_yes(args.yes), notes)?;
    let storm =
        Storm { program: &program, image: images::SELFTEST, seed: args.seed, nestings: args.nestings };
    if !args.quiet {
        writeln!(notes, "nmiprof: seed {} (--seed), {} nestings each", args.seed, args.nestings)?;
    }
    let mut display = Display::new(args, combinations.len(), notes);
    let run = |combination: &Combination, on_progress: &dyn Fn(u32)| Ok(storm.run(combination, on_progress)?);
    let outcomes = run_all(&combinations, run, |news| display.show(news, &combinations));
    display.finish();
    forgive_broken_pipe(print(args, &outcomes?, out))
}

/// What a user sees meanwhile: one live line on a terminal, else a line for each combination.
struct Display<'a> {
    is_quiet: bool,
    bar: Option<ProgressBar>,
    notes: &'a mut dyn Write,
    /// Nestings so far, by combination.
    nested: Vec<u64>,
    nestings: u64,
}

impl<'a> Display<'a> {
    fn new(args: &Args, combinations: usize, notes: &'a mut dyn Write) -> Self {
        let nestings = u64::from(args.nestings);
        let has_bar = !args.quiet && io::stderr().is_terminal();
        let bar = has_bar.then(|| new_bar(nestings * combinations as u64));
        Self { is_quiet: args.quiet, bar, notes, nested: vec![0; combinations], nestings }
    }

    /// Shows what a worker told. A display that can't be written to is no reason to end a test.
    fn show(&mut self, news: &News<u32>, combinations: &[Combination]) {
        let (index, nested) = match news {
            News::Started(index) => (*index, 0),
            News::Progress(index, nested) => (*index, u64::from(*nested).min(self.nestings)),
            News::Done(index) => (*index, self.nestings),
        };
        if let Some(slot) = self.nested.get_mut(index) {
            *slot = nested;
        }
        let name = combinations.get(index).map(ToString::to_string).unwrap_or_default();
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.nested.iter().sum());
                bar.set_message(name);
            }
            None if matches!(news, News::Done(_)) && !self.is_quiet => {
                drop(writeln!(self.notes, "nmiprof: done: {name}"));
            }
            None => {}
        }
    }

    /// Takes the live line away.
    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(nestings: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("[{bar:16}] {human_pos}/{human_len} nestings, {msg}");
    let bar = ProgressBar::new(nestings);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn print(args: &Args, outcomes: &[Outcome], out: &mut dyn Write) -> Result<commands::Outcome, Error> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, outcomes).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write_table(outcomes, out)?;
    }
    out.flush()?;
    let all_good = !outcomes.is_empty() && outcomes.iter().all(Outcome::is_as_claimed);
    Ok(if all_good { commands::Outcome::Good } else { commands::Outcome::Findings })
}

/// Writes the table: one line for each combination, and below it what needs attention.
fn write_table(outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<9} {:<5} {:<6} {:<6} {:>9} {:>9} {:>9} {:>7} {:>9} {:>6} {:>8}  verdict",
        "entry",
        "fault",
        "nested",
        "unmask",
        "nestings",
        "runs",
        "in int3",
        "merged",
        "pending",
        "stack",
        "failures"
    )?;
    outcomes.iter().try_for_each(|outcome| write_one(outcome, out))
}

fn write_one(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    let pending = outcome.pending.iter().map(|run| run.exits).max().unwrap_or_default();
    writeln!(
        out,
        "{:<9} {:<5} {:<6} {:<6} {:>9} {:>9} {:>9} {:>7} {:>9} {:>6} {:>8}  {}",
        outcome.entry,
        outcome.fault_return,
        outcome.nested_return,
        outcome.unmask,
        outcome.nestings,
        outcome.runs,
        outcome.breakpoints_hit,
        outcome.merged_runs,
        pending,
        outcome.stack_bytes_max,
        outcome.failures,
        verdict(outcome)
    )?;
    if let Some(why) = &outcome.no_result {
        writeln!(out, "    {}", clean(why))?;
    }
    if !outcome.failures_by_kind.is_empty() {
        let kinds = outcome.failures_by_kind.iter().map(|(kind, count)| format!("{kind} {count}"));
        writeln!(out, "    failures: {}", kinds.collect::<Vec<_>>().join(", "))?;
    }
    outcome.pending.windows(2).filter(|runs| runs[0].stack_bytes != runs[1].stack_bytes).try_for_each(
        |runs| {
            let [few, many] = [runs[0], runs[1]].map(|run: storm::Pending| (run.exits, run.stack_bytes));
            writeln!(out, "    stack: {} bytes at {} exits, {} at {}", few.1, few.0, many.1, many.0)
        },
    )
}

fn verdict(outcome: &Outcome) -> &'static str {
    match (&outcome.no_result, outcome.is_as_claimed()) {
        (Some(_), _) => "NO RESULT",
        (None, true) if outcome.nests => "sound",
        (None, true) => "sound: nothing nests",
        (None, false) => "FAIL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;

    fn combinations(words: &[&str]) -> Vec<Combination> {
        parse::<Args>(words).expect("sound flags").combinations()
    }

    #[test]
    fn flags_choose_among_the_sound_forms() {
        assert_eq!(combinations(&[]).len(), 4, "the four safe strategies");
        assert_eq!(combinations(&["--all-forms"]).len(), 8 + 8 + 4 + 4 + 1);
        assert_eq!(combinations(&["--entry", "latched"]).len(), 1);
        assert_eq!(combinations(&["--entry", "naive"]), [], "not sound as usual");
        assert_eq!(combinations(&["--entry", "naive", "--all-forms"]).len(), 1);
    }

    #[test]
    fn nothing_to_do_is_no_seed_and_no_count() {
        for words in [["--nestings", "0"], ["--seed", "0"], ["--nestings", "4294967296"]] {
            assert!(parse::<Args>(&words).is_err(), "{words:?}");
        }
        let args: Args = parse(&["--entry", "naive"]).expect("sound flags");
        let found = run(&args, &mut io::sink(), &mut io::sink());
        assert!(matches!(found, Err(Error::Usage(_))), "{found:?}");
    }

    #[test]
    fn nothing_run_is_never_good() {
        let args: Args = parse(&["--json"]).expect("sound flags");
        assert_eq!(print(&args, &[], &mut io::sink()).expect("room"), commands::Outcome::Findings);
    }
}
