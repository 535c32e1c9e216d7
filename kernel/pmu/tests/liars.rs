//! Goal: a PMU that is not what it says is found out before it is believed, or is survived.
//!
//! Method: models with a flaw each, under the driver. The first half of the self-test is `selftest::count_during`; the
//! second, whether an overflow comes back as an NMI and as a report, is done here as a kernel would.

use core::cell::RefCell;

use nmiprof_pmu::model::{Flaw, Model, Privilege, Signal};
use nmiprof_pmu::profiles::{ALL, PENRYN, Profile, QEMU64, Registers, SAPPHIRE_RAPIDS, SKYLAKE, ZEN2, ZEN4};
use nmiprof_pmu::selftest::{Counted, count_during};
use nmiprof_pmu::{
    Counter, CounterUnit, Driver, Encoding, GeneralProtection, Handling, MsrBus, Sound, Unmask, detect,
};

/// Instructions, which have the same code on every CPU.
const SELECT: u64 = 0xc0;
const WORK_EVENTS: u64 = 12_345;
const HANDLING: Handling = Handling { unmask: Unmask::Early, freeze: false };

fn driver(model: &mut Model) -> Driver<&mut Model, Sound> {
    let capabilities = detect(&model.profile(), model).expect("it says that there is one");
    Driver::new(model, capabilities, HANDLING)
}

fn encoding(counter: Counter) -> Encoding {
    Encoding { select: SELECT, counters: counter.set(), user: true, kernel: true }
}

/// What fixed counters count.
fn signal(counter: Counter) -> Signal {
    match (counter.is_fixed(), counter.index()) {
        (false, _) | (true, 0) => Signal::Instructions,
        (true, 1) => Signal::UnhaltedCycles,
        (true, 2) => Signal::ReferenceCycles,
        (true, _) => Signal::Slots,
    }
}

/// Self-tests a counter; the work reaches the model, which the driver holds meanwhile, by way of a bus that shares it.
fn self_test(model: &mut Model, counter: Counter) -> Counted {
    let capabilities = detect(&model.profile(), model).expect("as it says");
    let shared = RefCell::new(model);
    let mut unit: Driver<_> = Driver::<_, Sound>::new(Shared(&shared), capabilities, HANDLING);
    count_during(&mut unit, counter, encoding(counter), || {
        shared.borrow_mut().happen(signal(counter), WORK_EVENTS, Privilege::Kernel);
    })
}

/// A bus that several hold.
#[derive(Clone, Copy)]
struct Shared<'a, 'm>(&'a RefCell<&'m mut Model>);

impl MsrBus for Shared<'_, '_> {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.0.borrow_mut().read(msr)
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.0.borrow_mut().write(msr, value)
    }

    fn read_lvtpc(&mut self) -> u32 {
        self.0.borrow_mut().read_lvtpc()
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.0.borrow_mut().write_lvtpc(value);
    }
}

/// What came of an overflow.
#[derive(Debug, PartialEq, Eq)]
struct Pmi {
    nmis: u32,
    /// Looks at the status that found it; the 16th is the last.
    reports: u32,
}

/// Lets a counter overflow, and handles what comes.
fn pmi(model: &mut Model, counter: Counter) -> Pmi {
    let mut unit = driver(model);
    unit.reset();
    unit.program(counter, Some(encoding(counter)));
    unit.load(counter, 100);
    unit.enable(counter.set());
    unit.bus().happen(signal(counter), 100, Privilege::User);
    let nmis = unit.bus().take_nmis();
    unit.begin_pmi();
    let reports = (0..16).take_while(|_| unit.take_overflows().contains(counter)).count();
    unit.end_pmi();
    unit.shut_down();
    Pmi { nmis, reports: u32::try_from(reports).expect("at most 16") }
}

fn first(profile: &'static Profile) -> Counter {
    Model::new(profile).counters().iter().next().expect("one at least")
}

#[test]
fn every_counter_of_an_honest_pmu_counts_the_work_and_interrupts_once() {
    for profile in ALL {
        for counter in Model::new(profile).counters().iter() {
            let mut model = Model::new(profile);
            assert_eq!(self_test(&mut model, counter), Counted::Events(WORK_EVENTS), "{}", profile.name);
            assert_eq!(pmi(&mut model, counter), Pmi { nmis: 1, reports: 1 }, "{}: {counter}", profile.name);
            assert_eq!(model.violations().faults, 0);
        }
    }
}

// case 59
#[test]
fn a_pmu_that_forgets_what_is_written_is_found_out() {
    let counter = Counter::general(0).expect("exists");
    assert_eq!(self_test(&mut Model::new(&QEMU64), counter), Counted::Forgets);
    for profile in ALL.into_iter().filter(|profile| !matches!(profile.registers, Registers::Forgotten)) {
        let mut dead = Model::new(profile).with_flaw(Flaw::Dead);
        assert_eq!(self_test(&mut dead, first(profile)), Counted::Forgets, "{}", profile.name);
        assert_eq!(pmi(&mut dead, first(profile)).nmis, 0);
    }
    let mut narrow = Model::new(&SKYLAKE).with_flaw(Flaw::FullWidthForgotten);
    assert_eq!(self_test(&mut narrow, counter), Counted::Forgets);
}

#[test]
fn one_broken_counter_is_told_from_the_others() {
    for profile in [&PENRYN, &SAPPHIRE_RAPIDS, &ZEN2, &ZEN4] {
        let counters: Vec<_> = Model::new(profile).counters().iter().collect();
        for broken in &counters {
            for counter in &counters {
                let mut model = Model::new(profile).with_flaw(Flaw::Stuck(*broken));
                let events = if counter == broken { 0 } else { WORK_EVENTS };
                assert_eq!(self_test(&mut model, *counter), Counted::Events(events), "{}", profile.name);
            }
        }
    }
}

// case 59
#[test]
fn a_silent_pmu_counts_and_an_overflow_shows_that_it_does_not_interrupt() {
    for profile in [&PENRYN, &SKYLAKE, &ZEN2, &ZEN4] {
        for flaw in [Flaw::Silent, Flaw::MaskSticks] {
            let mut model = Model::new(profile).with_flaw(flaw);
            assert_eq!(self_test(&mut model, first(profile)), Counted::Events(WORK_EVENTS));
            let silent = Pmi { nmis: 0, reports: 1 };
            assert_eq!(pmi(&mut model, first(profile)), silent, "{} {flaw:?}", profile.name);
        }
    }
}

#[test]
fn a_status_that_lies_shows_in_the_first_overflow() {
    for profile in [&PENRYN, &SKYLAKE, &ZEN4] {
        let mut hidden = Model::new(profile).with_flaw(Flaw::StatusHidden);
        assert_eq!(pmi(&mut hidden, first(profile)), Pmi { nmis: 1, reports: 0 }, "{}", profile.name);
        let mut sticky = Model::new(profile).with_flaw(Flaw::StatusSticks);
        assert_eq!(pmi(&mut sticky, first(profile)), Pmi { nmis: 1, reports: 16 }, "{}", profile.name);
    }
}

#[test]
fn registers_that_are_announced_and_not_there_are_counted_as_errors() {
    let mut no_global = Model::new(&PENRYN).with_flaw(Flaw::NoGlobal);
    let mut unit = driver(&mut no_global);
    unit.reset();
    assert!(unit.errors() > 0);
    let freeze = Handling { freeze: true, ..HANDLING };
    let mut no_debug = Model::new(&SKYLAKE).with_flaw(Flaw::NoDebugControl);
    let capabilities = detect(&no_debug.profile(), &mut no_debug).expect("one");
    let mut unit = Driver::<_, Sound>::new(&mut no_debug, capabilities, freeze);
    unit.reset();
    assert_eq!(unit.errors(), 1);
    let counter = Counter::general(0).expect("exists");
    assert_eq!(pmi(&mut no_debug, counter), Pmi { nmis: 1, reports: 1 }, "and nothing is lost by that");
}
