//! Races between CPUs, and IPIs: what one CPU can't show.
//!
//! Method: the self-test image holds two CPUs at turnstiles before each access that the other one may race with, and
//! goes through *every* order of these steps (`selftest=race`, `kernel/src/selftest/turnstile.rs`). How many orders there
//! are follows from what each step does; a model here counts them, so that none can be left out. A long run without
//! icount then lets CPUs meet by chance, on host threads of their own.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use nmiprof::capture::{FatalReport, Identity};
use nmiprof::images::Image;
use nmiprof_tests::{Boot, Completed, Failure, Verdict};
use nmiprof_wire::{CaseReport, Dispatch, Options};

/// Wall time for the race for everything, in 90,000 orders.
const LIMIT: Duration = Duration::from_secs(300);

/// Every race in every order, for all tests; nothing where they are skipped.
static RACED: LazyLock<Option<Completed>> = LazyLock::new(|| selftest("race", 3).limit(LIMIT).run().passed());

fn selftest(words: &str, cpus: u16) -> Boot {
    Boot::image(Image::Selftest).append(&format!("selftest={words}")).cpus(cpus)
}

/// Returns the kernel's lines that start so, without that.
fn lines<'a>(run: &'a Completed, start: &str) -> Vec<&'a str> {
    let all = run.record.messages().logs().iter();
    let lines: Vec<_> = all.filter_map(|log| log.text.strip_prefix(start)).collect();
    lines.iter().for_each(|line| println!("{start}{line}"));
    lines
}

/// Returns all numbers of a text, in order.
fn numbers(text: &str) -> Vec<u64> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn of_case(run: &Completed, case: u16) -> Vec<CaseReport> {
    run.record.messages().cases().iter().filter(|report| report.case == case).copied().collect()
}

/// One of two CPUs on its way to a page, as the model has it: the step before which it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Is the address one of an area?
    FindArea,
    /// Is the top-level entry there?
    LookAtTop,
    /// Copy it, unless somebody has.
    CopyTop,
    /// Is the entry of this level there?
    Look(usize),
    /// Make it, unless somebody has.
    Make(usize),
    Done,
}

/// Which entries are there: the page, the tables above it, and the top-level entry.
type Present = [bool; 4];
const TOP: usize = 3;

impl Step {
    /// Makes the step; returns what comes next.
    fn take(self, present: &mut Present) -> Self {
        let below = |level: usize| level.checked_sub(1).map_or(Self::Done, Self::Look);
        match self {
            Self::FindArea => Self::LookAtTop,
            Self::LookAtTop if present[TOP] => Self::Look(TOP - 1),
            Self::LookAtTop => Self::CopyTop,
            // The loser of this race goes on with the same fault.
            Self::CopyTop if present[TOP] => Self::Look(TOP - 1),
            Self::CopyTop => {
                present[TOP] = true;
                if present[..TOP].iter().all(|there| *there) { Self::Done } else { Self::FindArea }
            }
            Self::Look(level) if present[level] => below(level),
            Self::Look(level) => Self::Make(level),
            Self::Make(level) => {
                present[level] = true;
                below(level)
            }
            Self::Done => Self::Done,
        }
    }
}

/// Counts the orders in which two CPUs can make their steps.
fn orders(present: Present) -> u64 {
    fn count(steps: [Step; 2], present: Present, known: &mut HashMap<([Step; 2], Present), u64>) -> u64 {
        if steps == [Step::Done; 2] {
            return 1;
        }
        if let Some(count) = known.get(&(steps, present)) {
            return *count;
        }
        let turns = [0, 1].into_iter().filter(|turn| steps[*turn] != Step::Done);
        let total = turns
            .map(|turn| {
                let (mut steps, mut present) = (steps, present);
                steps[turn] = steps[turn].take(&mut present);
                count(steps, present, known)
            })
            .sum();
        known.insert((steps, present), total);
        total
    }
    count([Step::FindArea; 2], present, &mut HashMap::new())
}

// case 21
#[test]
fn two_cpus_install_the_same_entries_in_every_order_and_no_frame_is_lost() {
    let Some(run) = &*RACED else { return };
    let reports = of_case(run, 21);
    assert!(reports.iter().all(|report| report.failures == 0), "{reports:?}");
    let lines = lines(run, "race, case 21, ");
    assert_eq!((lines.len(), reports.len()), (9, 9));
    let all = [
        ("a page", [false, true, true, true]),
        ("a table and a page", [false, false, true, true]),
        ("two tables and a page", [false, false, false, true]),
        ("a top-level entry and a page", [false, true, true, false]),
        ("a top-level entry, two tables and a page", [false, false, false, false]),
    ];
    for (name, present) in all {
        let line = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).expect(name);
        let [raced, top, tables, more_tables, pages, faults, ..] = numbers(line)[..] else {
            panic!("{line}")
        };
        assert_eq!(raced, orders(present), "{name}: every order");
        // Each entry that was missing was lost to the other CPU in some order, and no other was.
        let lost = [pages, more_tables, tables, top];
        assert_eq!(lost.map(|lost| lost == 0), present, "{name}: {lost:?}");
        assert_eq!(faults, raced, "{name}: the page is there once, so one of the two comes second");
    }
}

// case 21
#[test]
fn a_thread_whose_fault_comes_second_goes_on_as_well() {
    let Some(run) = &*RACED else { return };
    let lines = lines(run, "race, case 21, a top-level entry, by two threads: ");
    let [orders, lost, ..] = numbers(lines[0])[..] else { panic!("{lines:?}") };
    // Three steps each: two of them are before both have copied the entry.
    assert_eq!((orders, lost), (20, 12));
}

// case 21
#[test]
fn a_page_is_unmapped_and_an_area_made_while_another_cpus_nmi_is_there() {
    let Some(run) = &*RACED else { return };
    let remapped =
        lines(run, "race, case 21, a top-level entry, by an NMI and a thread that unmaps and maps: ");
    let [orders, lost_top, ..] = numbers(remapped[0])[..] else { panic!("{remapped:?}") };
    assert!(orders > 10_000 && lost_top > 1000 && lost_top < orders, "{remapped:?}");
    let made = lines(run, "race, case 21, an area that is being made: ");
    let [_, before, after, failed, ..] = numbers(made[0])[..] else { panic!("{made:?}") };
    assert!(before > 0 && after > 0 && failed == 0, "{made:?}");
}

// case 21
#[test]
fn cpus_that_run_in_parallel_meet_at_the_same_entries_and_lose_no_frame() {
    let boot = selftest("race-long duration_ns=100000000000 reserve_frames=4096", 3).without_icount();
    let Some(run) = boot.limit(LIMIT).run().passed() else { return };
    let reports = of_case(&run, 21);
    let [report] = reports[..] else { panic!("{reports:?}") };
    // The hits are faults that another CPU had resolved: it goes on until there are so many.
    assert!(report.failures == 0 && report.hits >= 500, "{report:?}");
    assert_eq!(lines(&run, "race, case 21, a long run: ").len(), 1);
    assert!(!run.record.accounts().is_nmi_inconsistent());
}

// case 50
#[test]
fn two_cpus_that_look_at_the_port_at_once_handle_its_reason_once() {
    let Some(run) = &*RACED else { return };
    let reports = of_case(run, 50);
    assert!(matches!(reports[..], [CaseReport { failures: 0, .. }]), "{reports:?}");
    let lines = lines(run, "race, case 50, SERR, by two CPUs: ");
    // Each takes the right to look, and then looks: who comes between the two of the other one is refused.
    let [orders, wrong, busy, nothing, ..] = numbers(lines[0])[..] else { panic!("{lines:?}") };
    assert_eq!((orders, wrong, busy, nothing), (4, 0, 2, 2));
}

/// Stages another CPU's IPIs; returns situations and those that failed.
fn ipis(dispatch: Dispatch, mutant: &str) -> Option<(usize, usize)> {
    let options = Options { selftest: "ipi", dispatch, mutant, ..Options::default() };
    let run = Boot::image(Image::Selftest).options(&options).cpus(2).run().passed()?;
    lines(&run, "case 49, ");
    assert_eq!(run.record.accounts().identity(), Identity::Holds);
    let cases = of_case(&run, 49);
    assert!(cases.iter().all(|report| report.hits > 0), "{cases:?}");
    Some((cases.len(), cases.iter().filter(|report| report.failures != 0).count()))
}

// case 49
#[test]
fn another_cpus_ipi_is_handled_once_whether_it_merges_or_comes_after_its_message_was_found() {
    for (dispatch, situations) in [(Dispatch::WalkAll, 17), (Dispatch::StopEarly, 7)] {
        let Some(staged) = ipis(dispatch, "") else { return };
        assert_eq!(staged, (situations, 0), "{dispatch}");
    }
}

// case 49
#[test]
fn a_dispatcher_that_knows_no_late_ipi_or_takes_everything_for_one_is_caught() {
    for (mutant, failed) in [("dispatch-never-late", 3), ("dispatch-always-late", 5)] {
        let Some(staged) = ipis(Dispatch::WalkAll, mutant) else { return };
        assert_eq!(staged, (17, failed), "{mutant}");
    }
}

// case 41
#[test]
fn a_cpu_that_starts_takes_nmis_from_the_moment_at_which_it_can_be_found() {
    const STEPS: u64 = 5;
    for icount in [true, false] {
        let boot = selftest("starting", 4);
        let boot = if icount { boot } else { boot.without_icount() };
        let Some(run) = boot.run().passed() else { return };
        lines(&run, "starting: ");
        let reports = of_case(&run, 41);
        let [report] = reports[..] else { panic!("{reports:?}") };
        // Three CPUs, and at each step one of CPU 0's and one of its own.
        assert_eq!((report.failures, report.hits), (0, 3 * 2 * STEPS), "icount {icount}");
    }
}

/// Lets CPUs panic in their NMIs while four of them sample; returns the one report.
fn panicked(selftest_words: &str, icount: bool) -> Option<FatalReport> {
    let words = format!("{selftest_words} cpu_list=0-3 duration_ns=20000000000 period=50021");
    let boot = selftest(&words, 4);
    let run = if icount { boot } else { boot.without_icount() }.run();
    let Verdict::Fail(Failure::Panic(report)) = run.verdict()? else { panic!("{words}: {}", run.verdict) };
    let record = run.record()?;
    // At most the frame that was half sent when the others were halted is damaged.
    assert!(record.damage().frames <= 1, "{words}: {:?}", record.damage());
    Some(report.clone())
}

// case 41
#[test]
fn a_panic_of_one_cpu_while_all_sample_is_one_whole_report_that_names_it() {
    for icount in [true, false] {
        let Some(report) = panicked("panic-one", icount) else { return };
        assert_eq!(report.cpu, 1, "{report:?}");
        assert_eq!(report.message, "CPU 1 panics on request, as all that were to");
    }
}

// case 41
#[test]
fn of_two_cpus_that_panic_at_once_one_is_reported() {
    for icount in [true, false] {
        let Some(report) = panicked("panic-two", icount) else { return };
        assert!([1, 2].contains(&report.cpu), "{report:?}");
        let expected = format!("CPU {} panics on request, as all that were to", report.cpu);
        assert_eq!(report.message, expected);
    }
}
