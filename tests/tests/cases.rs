//! Situations of the NMI path that take more than two NMIs at exact instructions.
//!
//! Method: the self-test image forces each of them (`selftest=cases`; its `selftest/cases.rs` tells how) and
//! reports how often it did arise, what the entry counted meanwhile, and what did not hold. All 25 sound forms
//! go through all of it. Situations that end the machine have a boot of their own.

use std::sync::LazyLock;

use nmiprof::capture::FatalReport;
use nmiprof::images::Image;
use nmiprof::sweep::{Code, Combination};
use nmiprof_tests::combinations::{SOUND, nests, sound};
use nmiprof_tests::{Boot, Failure, Verdict};
use nmiprof_wire::{
    CaseReport, FatalCause, FaultReturn, Frame, NestedReturn, NmiEntry, Options, Placement, Unmask, decode,
};

/// One machine that forced everything.
struct Forced {
    options: Options<'static>,
    reports: Vec<CaseReport>,
}

/// What all sound forms came to, for all tests; nothing where they are skipped.
static FORCED: LazyLock<Option<Vec<Forced>>> = LazyLock::new(|| {
    let base = Options { selftest: "cases", ..Options::default() };
    let force = |options: Options<'static>| {
        let run = Boot::image(Image::Selftest).options(&options).run().passed()?;
        Some(Forced { options, reports: run.record.messages().cases().to_vec() })
    };
    sound(base).into_iter().map(force).collect()
});

/// Checks the reports on a case with every sound form; `reports` is how many there must be.
fn for_each_report(case: u16, reports: usize, check: impl Fn(&Options<'_>, &[CaseReport])) {
    let Some(forced) = &*FORCED else { return };
    assert_eq!(forced.len(), SOUND);
    for Forced { options, reports: all } in forced {
        let of_case: Vec<_> = all.iter().filter(|report| report.case == case).copied().collect();
        assert_eq!(of_case.len(), reports, "{options}: reports on case {case}");
        for report in &of_case {
            assert_eq!(report.failures, 0, "{options}: {report:x?}");
        }
        check(options, &of_case);
    }
}

/// Returns arrivals, runs and nested arrivals that a row of self-NMIs comes to, by how the form unmasks.
fn row(options: &Options<'_>, count: u64) -> (u64, u64, u64) {
    let returns_masked =
        options.nested_return == NestedReturn::Ret || options.nmi_entry == NmiEntry::Softmask;
    match (options.unmask, returns_masked, options.nmi_entry) {
        // One is latched, whatever their number, and follows.
        (Unmask::Fault, ..) => (2, 2, 0),
        // The first nests and leaves NMIs masked; of the rest one is latched, and is taken in the exit, where it
        // joins the run that is due. `latched` has made that run by then, and takes it as a first one.
        (Unmask::Early, true, NmiEntry::Latched) => (3, 3, 1),
        (Unmask::Early, true, _) => (3, 2, 2),
        // Each nests, and all of them ask for one run.
        (Unmask::Early, false, _) => (1 + count, 2, count),
    }
}

// cases 2, 6
#[test]
fn of_many_nmis_one_is_latched_and_those_that_nest_cause_one_run() {
    for_each_report(2, 3, |options, reports| {
        for report in reports {
            assert!(report.hits >= 2, "{report:?}");
            let expected = row(options, report.hits);
            assert_eq!((report.arrivals, report.runs, report.nested), expected, "{options}: {report:?}");
        }
    });
}

// case 12
#[test]
fn a_stack_pointer_anywhere_on_or_around_the_nmi_stacks_decides_nothing() {
    for_each_report(12, 1, |options, reports| {
        let stacks = if options.nmi_entry == NmiEntry::Latched { 2 } else { 1 };
        // Six pages of each stack and one on either side, word by word, and a few with the direction flag set.
        assert!(reports[0].hits > stacks * 8 * 512, "{options}: {:?}", reports[0]);
        assert_eq!(
            (reports[0].arrivals, reports[0].runs),
            (2 * reports[0].hits, 2 * reports[0].hits),
            "{options}"
        );
        assert_eq!(reports[0].nested > 0, nests(options), "{options}: {:?}", reports[0]);
    });
}

// case 20
#[test]
fn an_nmi_on_top_of_the_mappers_locks_touches_a_new_page_all_the_same() {
    for_each_report(20, 1, |options, reports| {
        assert_eq!((reports[0].hits, reports[0].runs), (1, 1), "{options}: {:?}", reports[0]);
    });
}

// case 23
#[test]
fn a_wrong_access_in_the_nmi_comes_back_as_an_error_where_it_has_a_fixup() {
    for_each_report(23, 1, |options, reports| assert_eq!(reports[0].hits, 1, "{options}"));
}

// case 25
#[test]
fn breakpoints_and_nmis_on_top_of_each_other_share_no_stack() {
    for_each_report(25, 1, |options, reports| {
        // The thread's breakpoint is always hit; the NMI's own only where the one before it has unmasked NMIs.
        let hits = if nests(options) { 2 } else { 1 };
        assert_eq!(reports[0].hits, hits, "{options}: {:?}", reports[0]);
        assert_eq!((reports[0].arrivals, reports[0].runs), (2, 2), "{options}: {:?}", reports[0]);
    });
}

// case 27
#[test]
fn an_nmi_in_the_shadow_of_mov_ss_has_a_right_frame() {
    for_each_report(27, 1, |options, reports| {
        assert_eq!(reports[0].hits, 1, "{options}: this emulator takes one there: {:?}", reports[0]);
        assert_eq!(reports[0].arrivals, reports[0].runs, "{options}");
    });
}

// case 30
#[test]
fn a_write_to_an_absent_msr_in_the_nmi_comes_back_as_an_error() {
    for_each_report(30, 1, |options, reports| assert_eq!(reports[0].hits, 1, "{options}"));
}

// case 32
#[test]
fn no_descriptor_makes_a_stack_of_16_bits() {
    for_each_report(32, 1, |options, reports| assert!(reports[0].hits > 0, "{options}: none to look at"));
}

// cases 19, 33
#[test]
fn an_nmi_at_the_first_instruction_of_a_page_fault_gives_it_its_address() {
    for_each_report(33, 2, |options, reports| {
        let [thread, nmi] = reports else { unreachable!("two reports") };
        assert_eq!((thread.hits, thread.runs), (1, 1), "{options}: {thread:?}");
        // In the NMI it lands there only if something has unmasked NMIs before.
        assert_eq!(nmi.hits, u64::from(nests(options)), "{options}: {nmi:?}");
        assert_eq!((nmi.arrivals, nmi.runs, nmi.nested), (2, 2, nmi.hits), "{options}: {nmi:?}");
    });
}

// case 34
#[test]
fn x87_and_sse_registers_are_untouched() {
    for_each_report(34, 1, |options, reports| assert!(reports[0].hits > 2000, "{options}: {:?}", reports[0]));
}

#[test]
fn nmis_are_live_after_everything() {
    for_each_report(0, 1, |_, _| {});
}

/// The way to a redirected exit and back is shorter than that.
const LAST_TICKS: u32 = 1500;
/// Below this the timer's NMI would come first.
const ENTRY_TICKS: u32 = 8;

fn redirected(form: &Combination) -> Option<Vec<Placement>> {
    let options = Options {
        nmi_entry: form.entry,
        fault_return: form.fault_return,
        nested_return: form.nested_return,
        unmask: form.unmask,
        sweep_first: ENTRY_TICKS,
        sweep_last: LAST_TICKS,
        selftest: "sweep-redirected",
        ..Options::default()
    };
    let run = Boot::image(Image::Selftest).options(&options).run().passed()?;
    Some(run.record.messages().placements().to_vec())
}

/// Tells whether an NMI can be taken at an exit that a nested one has redirected.
///
/// `latched` and `tristate` have none: their exits look at a word before they get that far. Where a nested NMI leaves
/// NMIs masked, only a breakpoint's `iret` unmasks them again on the way.
fn can_be_redirected(form: &Combination) -> bool {
    let redirects = matches!(form.entry, NmiEntry::Rostedt | NmiEntry::Softmask);
    let returns_masked = form.nested_return == NestedReturn::Ret || form.entry == NmiEntry::Softmask;
    let unmasks = form.fault_return == FaultReturn::Iret || (form.unmask == Unmask::Early && !returns_masked);
    redirects && unmasks
}

// cases 9, 10
#[test]
fn a_third_nmi_at_the_redirected_return_is_neither_lost_nor_doubled() {
    let code = Code::parse(Image::Selftest.elf()).expect("the embedded image is an ELF file");
    for form in Combination::all().iter().filter(|form| form.is_sound()) {
        let Some(placements) = redirected(form) else { return };
        assert_eq!(placements.len(), (LAST_TICKS - ENTRY_TICKS + 1) as usize, "{form}");
        for placement in &placements {
            assert_eq!(placement.failures, 0, "{form}: {placement:x?}");
            assert!(
                (2..=3).contains(&placement.arrivals) && (2..=3).contains(&placement.runs),
                "{form}: {placement:x?}"
            );
        }
        let iretq = code.address(&format!("{}_iretq", form.label())).expect("every entry has that label");
        let at_iretq = |runs: u16| {
            let is_there = |one: &&Placement| (one.last_rip, one.arrivals, one.runs) == (iretq, 3, runs);
            placements.iter().filter(is_there).count()
        };
        // It joins the run that the second one has asked for; at the exit after that run it asks for another one.
        assert_eq!(at_iretq(2), usize::from(can_be_redirected(form)), "{form}: at the redirected return");
        println!("{form}: {} at the return that leaves", at_iretq(3));
    }
}

/// Returns the report of a kernel that can't go on, and what it said before; `None` where the test is skipped.
fn last_words(words: &str) -> Option<(FatalReport, String)> {
    let run = Boot::image(Image::Selftest).append(words).run();
    let Verdict::Fail(Failure::GaveUp(report)) = run.verdict()? else { panic!("{words}: {}", run.verdict) };
    assert_eq!(report.cause, FatalCause::Exception, "{words}");
    let is_fatal = |line: &[u8]| matches!(decode(&mut line.to_vec()), Ok(Frame::Fatal(_)));
    let lines: Vec<_> = run.capture.split(|byte| *byte == 0).filter(|line| !line.is_empty()).collect();
    let fatal = lines.iter().filter(|line| is_fatal(line)).count();
    assert_eq!(
        (fatal, lines.last().is_some_and(|line| is_fatal(line))),
        (1, true),
        "{words}: one clean report"
    );
    let logs = run.record()?.messages().logs();
    Some((report.clone(), logs.last().map(|line| line.text.clone()).unwrap_or_default()))
}

// case 23
#[test]
fn a_wrong_access_in_the_nmi_without_a_fixup_is_one_clean_report() {
    for entry in NmiEntry::ALL {
        let words = format!("selftest=nmi-read nmi={entry} unsafe_nmi=on");
        let Some((report, _)) = last_words(&words) else { return };
        assert!(
            report.message.contains("#PF") && report.message.contains("CR2 0xffff9ffffffff000"),
            "{report:?}"
        );
    }
}

// case 29
#[test]
fn a_double_fault_in_the_nmi_is_reported_even_if_another_nmi_nests_in_it() {
    for entry in NmiEntry::ALL.iter().filter(|entry| **entry != NmiEntry::Naive) {
        for (unmask, arrived) in [("fault", "0 arrived, 0 nested"), ("early", "1 arrived, 1 nested")] {
            let words = format!("selftest=nmi-stack-overflow nmi={entry} unmask={unmask}");
            let Some((report, said)) = last_words(&words) else { return };
            assert!(report.message.contains("#DF"), "{words}: {report:?}");
            assert!(said.contains(arrived), "{words}: {said}");
        }
    }
}

// case 29
#[test]
fn an_nmi_in_a_double_fault_runs_and_returns_to_its_report() {
    for entry in NmiEntry::ALL {
        let words = format!("selftest=double-fault-nmi nmi={entry} fault_return=ret");
        let Some((report, said)) = last_words(&words) else { return };
        assert!(report.message.contains("#DF"), "{words}: {report:?}");
        assert!(said.contains("1 arrived, 0 nested, 1 runs"), "{words}: {said}");
    }
}
