//! Tests with a trace made by hand. In it an early `iretq` stands before the handler, a fault inside of it, and
//! the last two instructions of the entry are its exit window.

use super::*;
use crate::images;
use crate::sweep::code::Code;
use crate::sweep::run::Death;
use crate::sweep::trace::{Step, StepKind, Trace};
use StepKind::{Faulted, Iret, Retired};
use nmiprof_wire::{Failure, FaultReturn, NestedReturn, Unmask};

/// Ticks at which a second NMI is due at position 0.
const OFFSET: u32 = 8;
/// The interrupted instruction.
const BACK: u64 = 7;

const STEPS: [(u64, StepKind); 11] = [
    (100, Retired), // 0: masked
    (101, Iret),
    (102, Retired), // 2: early
    (300, Faulted), // 3: the handler
    (400, Retired), // 4: the fault, at the same moment
    (401, Iret),
    (300, Retired), // 6: reachable
    (301, Retired),
    (110, Retired), // 8: the exit window
    (111, Iret),
    (BACK, Retired),
];

fn boundaries() -> Boundaries {
    let steps = STEPS.iter().map(|(address, kind)| Step { address: *address, kind: *kind });
    Boundaries::of(&Trace::new(steps.collect()), &(100..200), Unmask::Early)
}

fn placement(ticks: u32, last_rip: u64, runs: u16, nested: u16) -> Placement {
    Placement { ticks, last_rip, arrivals: 2, runs, nested, ..Placement::default() }
}

/// Reports what a sound entry does that joins a second NMI to the run that is about to start.
fn ideal() -> Sweep {
    let boundaries = boundaries();
    let all = boundaries.all();
    let lands = |ticks: u32| {
        let due = all.iter().find(|one| one.tick + OFFSET >= ticks && one.class != Class::Masked);
        match due.map(|one| one.address) {
            Some(102) => placement(ticks, 102, 1, 1),
            None | Some(BACK) => placement(ticks, BACK, 2, 0),
            Some(address) => placement(ticks, address, 2, 1),
        }
    };
    Sweep { placements: (1..40).map(lands).collect(), deaths: Vec::new(), is_whole: true }
}

fn found(change: impl Fn(&mut Sweep)) -> Vec<Site> {
    let mut sweep = ideal();
    change(&mut sweep);
    sites(&boundaries(), &ExitWindow(110..112), &sweep)
}

fn names(sites: &[Site]) -> Vec<&'static str> {
    sites.iter().enumerate().map(|(position, site)| site.fate_name(position)).collect()
}

fn set(sweep: &mut Sweep, position: usize, change: impl Fn(&mut Placement)) {
    let ticks = boundaries().all()[position].tick + OFFSET;
    sweep.placements.iter_mut().filter(|placement| placement.ticks == ticks).for_each(change);
}

// cases 2 to 9
#[test]
fn every_boundary_has_the_fate_of_the_nmi_that_was_due_there() {
    let sites = found(|_| {});
    let expected = [
        "delayed",
        "delayed",
        "joined",
        "latched",
        "simultaneous",
        "latched",
        "latched",
        "latched",
        "restarted",
        "restarted",
        "apart",
    ];
    assert_eq!(names(&sites), expected);
    let Fate::Landed(arrival) = &sites[0].fate else { panic!("{:?}", sites[0]) };
    assert_eq!((arrival.position, &arrival.effect), (Some(2), &Effect::Joined), "where it was delayed to");
    assert_eq!(arrival.placement.ticks, OFFSET);
}

#[test]
fn an_nmi_that_breaks_something_has_failed_where_it_landed_and_was_delayed_until_then() {
    let sites = found(|sweep| {
        for position in [0, 1, 2] {
            set(sweep, position, |placement| placement.failures = Failure::Once.bit());
        }
    });
    assert_eq!(names(&sites)[..3], ["delayed", "delayed", "failed"]);
    let Fate::Landed(arrival) = &sites[1].fate else { panic!("{:?}", sites[1]) };
    assert_eq!(arrival.effect, Effect::Failed(vec!["NMI-once"]));
}

#[test]
fn counts_of_no_known_effect_are_said_to_be_so() {
    // A run that was joined although the handler had begun is a failure; one arrival that nests twice is not
    // even known.
    let sites = found(|sweep| {
        set(sweep, 7, |placement| placement.runs = 1);
        set(sweep, 6, |placement| placement.nested = 2);
        set(sweep, 10, |placement| placement.runs = 1);
    });
    assert_eq!(names(&sites)[6..], ["unexplained", "failed", "restarted", "restarted", "unexplained"]);
}

#[test]
fn what_lands_where_it_may_not_has_failed_and_elsewhere_it_went_astray() {
    let sites = found(|sweep| {
        set(sweep, 0, |placement| placement.last_rip = 100);
        set(sweep, 1, |placement| *placement = self::placement(placement.ticks, 0x5555, 2, 0));
        set(sweep, 8, |placement| placement.last_rip = 111);
    });
    assert_eq!([0, 1, 8].map(|at| names(&sites)[at]), ["failed", "astray", "astray"]);
}

#[test]
fn a_death_and_what_was_left_alone_are_named() {
    let sites = found(|sweep| {
        sweep.placements.truncate(10);
        sweep.deaths.push(Death { ticks: 11, reason: "a reset".to_owned() });
    });
    assert_eq!(names(&sites)[..4], ["delayed", "delayed", "joined", "died"]);
    assert!(names(&sites)[5..].iter().all(|name| *name == "untried"));
    assert_eq!(sites[3].fate, Fate::Died("a reset".to_owned()));
}

#[test]
fn every_entry_but_the_naive_one_has_an_exit_window_that_holds_its_iretq() {
    let code = Code::parse(images::SELFTEST).expect("an ELF file");
    for combination in Combination::all() {
        let label = combination.label();
        let exit = ExitWindow::of(&combination, &code.windows(&label).expect("it is built in"));
        let iretq = code.address(&format!("{label}_iretq")).expect("a label");
        let entry = code.address(&label).expect("a label");
        assert_eq!(exit.contains(iretq), combination.entry != NmiEntry::Naive, "{combination}");
        assert!(!exit.contains(entry) && !exit.contains(iretq + 1), "{combination}");
    }
    let combination = Combination {
        entry: NmiEntry::Tristate,
        fault_return: FaultReturn::Iret,
        nested_return: NestedReturn::Iret,
        unmask: Unmask::Fault,
    };
    assert_eq!(ExitWindow::of(&combination, &[]), ExitWindow::default(), "an image without the labels");
}
