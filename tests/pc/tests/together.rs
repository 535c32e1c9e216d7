//! Goal: two and three overflows that one NMI finds, or just fails to find, give exactly the right number of samples,
//! handled and swallowed NMIs, and no unknown one, on every CPU that has a PMU.
//!
//! Method: three events count with periods that no run reaches, so nothing overflows by itself. The machine is stopped
//! in the sampled workload, and from there on overflows are forced one by one: at chosen accesses of the handler to its
//! registers, all the events that a counter still needs happen at once. Where the counters stand still just then, they
//! run for that moment: such an overflow was on its way when they were stopped. All numbers are compared with those of
//! the same run without any overflow.
//!
//! What differs between the vendors is what the second overflow sends. AMD: an NMI always, which waits until the first
//! one has returned, and then finds nothing unless something has overflowed since. Intel: none while the first one has
//! the LVT entry masked, which `lvtpc=early` ends at the start of the handler.

use nmiprof_pc::harness::{LIMIT, Run, config, finish};
use nmiprof_pc::{Access, Machine, Stopped};
use nmiprof_pmu::MsrBus as _;
use nmiprof_pmu::model::{Model, Privilege, Signal};
use nmiprof_pmu::profiles::{self, Profile, Registers};

const EVENTS: [(&str, Signal); 3] = [
    ("instructions", Signal::Instructions),
    ("cycles", Signal::UnhaltedCycles),
    ("branches", Signal::Branches),
];
/// Longer than the run, and shorter than what the narrowest counter is loaded with.
const PERIOD: u64 = 1_000_000_000;
const WORKLOAD: &str = "nmiprof_kernel::workloads::sort::insertion_sort";
const NMI: &str = "nmi_rostedt";
/// Frozen by a PMI: in the status of Intel's version 4 and up.
const FROZEN: u64 = 1 << 59;

/// Where in the life of an NMI something overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// At the same instruction as the first overflow.
    AtOnce,
    /// When the NMI was taken, before its first instruction.
    Entry,
    /// After the status was read, before it is acknowledged; where there is no status, after the counters were read,
    /// before that which has overflowed is loaded.
    Acknowledge,
    /// After the last look, before the counters run again.
    Enable,
    /// As soon as they run again.
    Enabled,
}

use Point::{Acknowledge, AtOnce, Enable, Enabled, Entry};

/// What is forced after the first overflow: each event after the first one, at a point, in order.
const SCENARIOS: [&[Point]; 11] = [
    &[],
    &[AtOnce],
    &[Entry],
    &[Acknowledge],
    &[Enable],
    &[Enabled],
    &[AtOnce, AtOnce],
    &[Entry, Acknowledge],
    &[Acknowledge, Acknowledge],
    &[Acknowledge, Enable],
    &[Enable, Enabled],
];

/// What has to come of it, beyond what the run has anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    nmis: u64,
    handled: u64,
    swallowed: u64,
    /// NMIs that handled more than one overflow.
    merged: u64,
}

/// Computes what the rules say, where these are the points at which an overflow sends an NMI that has to wait.
fn expected(scenario: &[Point], sending: &[Point]) -> Expected {
    let late = scenario.iter().filter(|point| **point >= Enable).count() as u64;
    let in_first = scenario.len() as u64 - late;
    let waits = scenario.iter().any(|point| sending.contains(point));
    let handled = 1 + u64::from(late > 0);
    let swallowed = u64::from(waits && late == 0);
    let merged = u64::from(in_first > 0) + u64::from(late > 1);
    Expected { nmis: handled + swallowed, handled, swallowed, merged }
}

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    nmis: u64,
    handled: u64,
    swallowed: u64,
    merged: u64,
    /// Unknown NMIs, NMIs that were claimed as late, overflows of counters that were given back, and recoveries.
    unexpected: [u64; 4],
    samples: [u64; 3],
}

impl Numbers {
    fn of(run: &Run) -> Self {
        let nmi = run.nmi();
        let mut numbers = Self {
            nmis: nmi.entries,
            handled: nmi.handled,
            swallowed: nmi.swallowed,
            unexpected: [nmi.unknown, 0, 0, 0],
            ..Self::default()
        };
        for counters in run.record.pmu().counters() {
            numbers.merged += counters.merged;
            for (sum, count) in numbers.unexpected[1..].iter_mut().zip([
                counters.late,
                counters.stopped_overflows,
                counters.recoveries,
            ]) {
                *sum += count;
            }
        }
        for sample in &run.samples {
            numbers.samples[usize::from(sample.event)] += 1;
        }
        numbers
    }
}

/// Where this CPU's driver acknowledges, and where it starts counters.
struct Places {
    acknowledge: Vec<Access>,
    control: Vec<Access>,
    /// The register that runs and stops all counters.
    global: Option<u32>,
}

fn places(profile: &Profile) -> Places {
    let writes = |first: u32, stride: usize| (first..).step_by(stride).take(8).map(Access::Write);
    let one = |acknowledge, control| Places {
        acknowledge: vec![Access::Write(acknowledge)],
        control: vec![Access::Write(control)],
        global: Some(control),
    };
    let each = |counts: Vec<Access>, selects| Places { acknowledge: counts, control: selects, global: None };
    match &profile.registers {
        Registers::Intel(facts) if facts.version >= 2 => one(0x390, 0x38f),
        Registers::Intel(_) => each(writes(0xc1, 1).collect(), writes(0x186, 1).collect()),
        Registers::Amd(facts) if facts.global => one(0xc000_0302, 0xc000_0301),
        Registers::Amd(facts) if facts.core_extension => {
            each(writes(0xc001_0201, 2).collect(), writes(0xc001_0200, 2).collect())
        }
        Registers::Amd(_) => {
            each(writes(0xc001_0004, 1).take(4).collect(), writes(0xc001_0000, 1).take(4).collect())
        }
        Registers::Forgotten => unreachable!("it has no PMU"),
    }
}

/// A CPU in the sampled workload, and how its counters are stopped.
struct Bench {
    machine: Machine,
    places: Places,
    /// Selects of the counters that ran, as they were.
    selects: Vec<(u32, u64)>,
    is_intel: bool,
    events: usize,
}

impl Bench {
    fn new(profile: &'static Profile, words: &str) -> Self {
        let counters = match &profile.registers {
            Registers::Intel(facts) => facts.general + facts.fixed,
            Registers::Amd(facts) => facts.counters,
            Registers::Forgotten => 0,
        };
        let events = EVENTS.len().min(usize::from(counters));
        let list: Vec<_> =
            EVENTS[..events].iter().map(|(name, _)| format!("{name}/period={PERIOD}/")).collect();
        let words = format!("duration_ns=3000000 workload=sort events={} {words}", list.join(","));
        let mut machine = Machine::new(&config(profile, &words));
        // The workload begins before the counters do.
        while machine.watch().pmu.model().running().is_empty() {
            assert_eq!(machine.run_to_symbol(WORKLOAD, LIMIT), Stopped::Label, "{}", profile.id);
        }
        let places = places(profile);
        let selects = running_selects(&mut machine, &places);
        assert_eq!(machine.watch().pmu.model().running().count() as usize, events, "{}", profile.id);
        Self { machine, places, selects, is_intel: profile.is_intel(), events }
    }

    /// Runs to the end, with these overflows.
    fn run(&mut self, scenario: &[Point]) -> Run {
        let mut machine = self.machine.fork();
        self.force(&mut machine, 0);
        let mut at = AtOnce;
        for (event, point) in (1..).zip(scenario) {
            // Two at one point are forced without anything in between.
            if *point != at {
                self.go_to(&mut machine, at, *point);
                at = *point;
            }
            self.force(&mut machine, event);
        }
        finish(machine)
    }

    fn go_to(&self, machine: &mut Machine, from: Point, to: Point) {
        let Places { acknowledge, control, .. } = &self.places;
        if from < Entry {
            assert_eq!(machine.run_to_symbol(NMI, LIMIT), Stopped::Label);
        }
        if from < Acknowledge && to >= Acknowledge {
            stop_at(machine, acknowledge);
        }
        if from < Enable && to >= Enable {
            stop_at(machine, control);
        }
        if to == Enabled {
            machine.step();
        }
    }

    /// Lets an event's counter overflow now.
    fn force(&self, machine: &mut Machine, event: usize) {
        let (_, signal) = EVENTS[event];
        let (global, selects, is_intel) = (self.places.global, &self.selects, self.is_intel);
        machine.watch_mut().with_pmu(|model| {
            while_running(model, global, selects, is_intel, |model| {
                let next = model.next_overflows().find(|next| next.signal == signal).expect("it counts");
                model.happen(signal, next.events, Privilege::Kernel);
            });
        });
    }
}

/// Does something while all counters run.
fn while_running(
    model: &mut Model,
    global: Option<u32>,
    selects: &[(u32, u64)],
    is_intel: bool,
    act: impl FnOnce(&mut Model),
) {
    const ACKNOWLEDGE: u32 = 0x390;
    let Some(global) = global else {
        let before: Vec<_> = selects.iter().map(|(msr, _)| model.read(*msr).expect("exists")).collect();
        selects.iter().for_each(|(msr, running)| model.write(*msr, *running).expect("as it was"));
        act(model);
        let both = selects.iter().zip(before);
        return both.for_each(|((msr, _), before)| model.write(*msr, before).expect("as it was"));
    };
    let before = model.read(global).expect("exists");
    let all = model.counters().0;
    model.write(global, all).expect("all counters");
    if is_intel && model.running().is_empty() {
        model.write(ACKNOWLEDGE, FROZEN).expect("frozen in version 4 and up only");
    }
    act(model);
    model.write(global, before).expect("as it was");
}

/// Reads the selects of the counters that run, where those are what starts them.
fn running_selects(machine: &mut Machine, places: &Places) -> Vec<(u32, u64)> {
    if places.global.is_some() {
        return Vec::new();
    }
    const EN: u64 = 1 << 22;
    let numbers: Vec<_> = places.control.iter().map(|access| number(*access)).collect();
    machine.watch_mut().with_pmu(|model| {
        let read = numbers.iter().filter_map(|msr| Some((*msr, model.read(*msr).ok()?)));
        read.filter(|(_, select)| select & EN != 0).collect()
    })
}

fn number(access: Access) -> u32 {
    match access {
        Access::Read(number) | Access::Write(number) => number,
    }
}

fn stop_at(machine: &mut Machine, accesses: &[Access]) {
    let stopped = machine.run_to_access(accesses, LIMIT);
    assert!(matches!(stopped, Stopped::Access(_)), "{stopped:?}");
}

fn check(profile: &'static Profile, words: &str) -> usize {
    let mut bench = Bench::new(profile, words);
    let nothing = finish(bench.machine.fork());
    nothing.assert_sound(profile.id);
    let nothing = Numbers::of(&nothing);
    assert_eq!((nothing.samples, nothing.unexpected), ([0; 3], [0; 4]), "{}: {nothing:?}", profile.id);
    // An overflow at the same instruction merges with the first one before that is taken.
    let sending: &[Point] = match (profile.is_intel(), words.contains("lvtpc=early")) {
        (false, _) => &[Entry, Acknowledge],
        (true, false) => &[],
        (true, true) => &[Acknowledge],
    };
    let possible = SCENARIOS.iter().filter(|scenario| scenario.len() < bench.events).copied();
    let scenarios: Vec<_> = possible.collect();
    for scenario in &scenarios {
        let run = bench.run(scenario);
        let what = format!("{} {words} {scenario:?}", profile.id);
        run.assert_sound(&what);
        let numbers = Numbers::of(&run);
        let Expected { nmis, handled, swallowed, merged } = expected(scenario, sending);
        let mut samples = [0; 3];
        samples[..=scenario.len()].fill(1);
        let right = Numbers {
            nmis: nothing.nmis + nmis,
            handled: nothing.handled + handled,
            swallowed: nothing.swallowed + swallowed,
            merged: nothing.merged + merged,
            unexpected: [0; 4],
            samples,
        };
        assert_eq!(numbers, right, "{what}: without overflows {nothing:?}");
        println!("{what}: {nmis} NMIs, {handled} handled, {merged} of them several, {swallowed} swallowed");
    }
    scenarios.len()
}

fn with_pmu(intel: bool) -> impl Iterator<Item = &'static Profile> {
    let has_pmu = |profile: &&Profile| !matches!(profile.registers, Registers::Forgotten);
    profiles::ALL.into_iter().filter(has_pmu).filter(move |profile| profile.is_intel() == intel)
}

// cases 44, 54, 55
#[test]
fn overflows_in_one_nmi_are_all_sampled_and_leave_the_right_nmis_on_every_amd_cpu() {
    let scenarios: usize = with_pmu(false).map(|profile| check(profile, "")).sum();
    assert_eq!(scenarios, 7 * SCENARIOS.len());
}

// cases 44, 54, 56
#[test]
fn overflows_in_one_nmi_are_all_sampled_and_leave_the_right_nmis_on_every_intel_cpu() {
    let scenarios: usize = with_pmu(true).map(|profile| check(profile, "")).sum();
    assert_eq!(scenarios, 8 * SCENARIOS.len() + 6, "one has two counters");
}

// cases 44, 54, 56
#[test]
fn an_entry_that_is_unmasked_early_lets_the_second_overflows_nmi_through_on_intel() {
    let scenarios: usize = with_pmu(true).map(|profile| check(profile, "lvtpc=early")).sum();
    assert_eq!(scenarios, 8 * SCENARIOS.len() + 6, "one has two counters");
}
