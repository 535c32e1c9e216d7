//! `nmiprof selftest nmi`: every NMI entry, with a second NMI at every instruction boundary, and a third one at
//! every instruction after it.
//!
//! Two combinations are examined at a time. It finds something (exit status 1) unless every sound
//! combination has nothing missed and no failure, in pairs neither, every unsound one fails, and every mutant is caught.

use std::io::Write;
use std::path::PathBuf;

use nmiprof_wire::{FaultReturn, NestedReturn, NmiEntry, Unmask};

use super::display::Display;
use super::map::{Map, Page};
use super::table;
use super::workers::run_all;
use crate::commands::flags::values::choice;
use crate::commands::{self, Error, forgive_broken_pipe};
use crate::images::Image;
use crate::machine::{Consent, find_or_install};
use crate::sweep::pairs::Scope;
use crate::sweep::{Code, Combination, ExamineError, Examiner, Outcome, QemuPlacer};

/// The image that has the sweep.
const SWEPT: Image = Image::Selftest;

/// Place a second NMI, and a third, at every instruction boundary of the NMI entries
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Entry strategy (repeatable) [default: all]
    #[arg(long = "entry", value_name = "NAME", value_parser = choice(NmiEntry::ALL, NmiEntry::name))]
    pub entries: Vec<NmiEntry>,

    /// How a fault inside an NMI returns (repeatable) [default: all]
    #[arg(long, value_name = "HOW", value_parser = choice(FaultReturn::ALL, FaultReturn::name))]
    pub fault_return: Vec<FaultReturn>,

    /// When NMIs are unmasked inside an NMI (repeatable) [default: all]
    #[arg(long, value_name = "WHEN", value_parser = choice(Unmask::ALL, Unmask::name))]
    pub unmask: Vec<Unmask>,

    /// Print a JSON array, one object for each combination
    #[arg(long)]
    pub json: bool,

    /// Write the window map, a page that shows what an NMI at each boundary did; `-` is the standard output, which
    /// then gets nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// One form of each strategy, the one in which NMIs reach most; pairs of its entry and exit; one mutant
    #[arg(long)]
    pub quick: bool,

    /// Second NMIs only
    #[arg(long)]
    pub no_pairs: bool,

    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,

    /// Agree to install QEMU where it is missing
    #[arg(long)]
    pub yes: bool,
}

impl Args {
    /// Returns what is to be examined.
    fn combinations(&self) -> Vec<Combination> {
        let asks_for = |one: &Combination| {
            is_chosen(&self.entries, one.entry)
                && is_chosen(&self.fault_return, one.fault_return)
                && is_chosen(&self.unmask, one.unmask)
        };
        let mut combinations: Vec<_> = Combination::all().into_iter().filter(asks_for).collect();
        if self.quick {
            let all = combinations.clone();
            combinations.retain(|one| reaches_most(one, &all));
        }
        combinations
    }

    fn scope(&self) -> Scope {
        match (self.no_pairs, self.quick) {
            (true, _) => Scope::Nothing,
            (false, true) => Scope::Windows,
            (false, false) => Scope::Everything,
        }
    }

    /// Makes room for the window map, if it is asked for.
    fn page(&self) -> Result<Option<Page<'_>>, Error> {
        let page = self.html.as_deref().map(Page::create).transpose()?;
        match page {
            Some(page) if self.json && page.is_output() => Err(Error::Usage(
                "--json and --html - both want the standard output; name a file for the page".to_owned(),
            )),
            page => Ok(page),
        }
    }

    fn mutants_max(&self) -> usize {
        if self.quick { 1 } else { usize::MAX }
    }
}

/// Tells whether NMIs reach more in this form than in any other of the same strategy.
pub(super) fn reaches_most(combination: &Combination, all: &[Combination]) -> bool {
    let reach = |one: &Combination| {
        let nested_return_unmasks = one.nested_return == NestedReturn::Iret;
        (one.unmask == Unmask::Early, one.fault_return == FaultReturn::Iret, nested_return_unmasks)
    };
    let same = all.iter().filter(|one| one.entry == combination.entry);
    same.map(reach).max() == Some(reach(combination))
}

fn is_chosen<T: PartialEq>(chosen: &[T], value: T) -> bool {
    chosen.is_empty() || chosen.contains(&value)
}

/// Sweeps, and writes the table or the JSON array to `out`.
///
/// # Errors
/// [`Error`] where the sweep could not be done.
pub fn run(args: &Args, out: &mut dyn Write, notes: &mut dyn Write) -> Result<commands::Outcome, Error> {
    let page = args.page()?;
    let program = find_or_install(Consent::from_yes(args.yes), notes)?;
    let code = Code::parse(SWEPT.elf()).map_err(ExamineError::from)?;
    let placer = QemuPlacer { program: &program, image: SWEPT.elf() };
    let examiner = Examiner {
        program: &program,
        image: SWEPT.elf(),
        code: &code,
        placer: &placer,
        mutants_max: args.mutants_max(),
        scope: args.scope(),
    };
    let combinations = args.combinations();
    let mut display = Display::new(args.quiet, combinations.len(), notes);
    let examine =
        |combination: &Combination, on_progress: &dyn Fn(u64)| examiner.examine(combination, on_progress);
    let outcomes = run_all(&combinations, examine, |news| display.show(news, &combinations));
    display.finish();
    let outcomes = outcomes?;
    let Some(page) = page else { return forgive_broken_pipe(print(args, &outcomes, out)) };
    let (qemu, build_id) = (program.version()?, SWEPT.build_id());
    let (code, combinations, outcomes) = (&code, &*combinations, &*outcomes);
    let text = Map { qemu: &qemu, build_id, code, combinations, outcomes }.page();
    let has_output_left = !page.is_output();
    let written = page.write(&text, out).and_then(|()| match has_output_left {
        true => print(args, outcomes, out),
        false => Ok(outcome(outcomes)),
    });
    forgive_broken_pipe(written)
}

fn print(args: &Args, outcomes: &[Outcome], out: &mut dyn Write) -> Result<commands::Outcome, Error> {
    if args.json {
        serde_json::to_writer_pretty(&mut *out, outcomes).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        table::write(outcomes, out)?;
    }
    out.flush()?;
    Ok(outcome(outcomes))
}

fn outcome(outcomes: &[Outcome]) -> commands::Outcome {
    let all_good = !outcomes.is_empty() && outcomes.iter().all(Outcome::is_as_claimed);
    if all_good { commands::Outcome::Good } else { commands::Outcome::Findings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::words::parse;
    use crate::sweep::pairs::Pairs;

    fn combinations(words: &[&str]) -> Vec<Combination> {
        parse::<Args>(words).expect("sound flags").combinations()
    }

    #[test]
    fn flags_choose_among_all_combinations() {
        assert_eq!(combinations(&[]), Combination::all());
        assert_eq!(combinations(&["--entry", "rostedt", "--entry", "naive"]).len(), 8 + 4);
        let early = combinations(&["--entry", "rostedt", "--unmask", "early", "--fault-return", "ret"]);
        assert_eq!(early.len(), 2, "with both nested returns");
        assert!(parse::<Args>(&["--entry", "none"]).is_err());
    }

    #[test]
    fn quick_is_one_form_of_each_strategy_and_that_with_the_most_to_reach() {
        let quick = combinations(&["--quick"]);
        assert_eq!(quick.len(), NmiEntry::ALL.len());
        let reaches_most =
            |one: &Combination| one.unmask == Unmask::Early && one.fault_return == FaultReturn::Iret;
        assert!(quick.iter().all(reaches_most));
        let asked = combinations(&["--quick", "--entry", "naive", "--unmask", "fault"]);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].unmask, Unmask::Fault, "what is asked for wins");
    }

    #[test]
    fn the_standard_output_is_for_one_product() {
        let both: Args = parse(&["--json", "--html", "-"]).expect("sound flags");
        assert!(matches!(both.page(), Err(Error::Usage(_))));
        let page: Args = parse(&["--html", "-"]).expect("sound flags");
        assert!(matches!(page.page(), Ok(Some(Page::Output))));
        let json: Args = parse(&["--json"]).expect("sound flags");
        assert!(matches!(json.page(), Ok(None)));
    }

    #[test]
    fn the_exit_status_is_good_only_where_everything_is_as_claimed() {
        let sound = Combination::all().into_iter().find(Combination::is_sound).expect("there is one");
        let pairs = Pairs { complete: true, ..Pairs::default() };
        let swept = Outcome { runs: 9, complete: true, pairs, ..Outcome::new(&sound) };
        let args: Args = parse(&["--json"]).expect("sound flags");
        let mut out = Vec::new();
        let good = print(&args, std::slice::from_ref(&swept), &mut out).expect("room");
        assert_eq!(good, commands::Outcome::Good);
        let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!(json.as_array().map(Vec::len), Some(1));
        for bad in [Outcome { failures: 1, ..swept.clone() }, Outcome { runs: 0, ..swept.clone() }] {
            let outcomes = [swept.clone(), bad];
            let found = print(&args, &outcomes, &mut std::io::sink()).expect("room");
            assert_eq!(found, commands::Outcome::Findings);
        }
        assert_eq!(print(&args, &[], &mut std::io::sink()).expect("room"), commands::Outcome::Findings);
    }
}
