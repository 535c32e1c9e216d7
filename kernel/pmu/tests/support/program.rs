//! Programs of driver operations, and their checks.
//!
//! After each operation, and each NMI that comes of it:
//!
//! - no access raised #GP, and the model saw nothing that a driver should not do;
//! - a counter, chosen at random, holds what the truth says, and the counters that run are those that should;
//! - no overflow of an enabled counter is older than an NMI takes, without having been reported (none is lost).
//!
//! In each NMI, the overflows that are reported are those that were due: none twice, none else.
//!
//! An operation outside of an NMI's handling stands for one in the NMI of another source, as the driver's contract
//! wants it: what comes meanwhile waits.

use std::fmt;

use nmiprof_pmu::model::{Flaw, Model, Privilege, Signal, Violations};
use nmiprof_pmu::profiles::Profile;
use nmiprof_pmu::{Counter, CounterSet, CounterUnit, Defect, Driver, Encoding, Handling, Unmask, detect};

use super::cpu::{Counts, Cpu};
use super::events::{Kind, kinds, what};
use super::log::Entry;
use super::random::Random;
use super::truth::Truth;

/// Looks at the overflows in one NMI: more than there can be.
const LOOKS_MAX: u32 = 100;
/// The most steps that an NMI takes.
pub(crate) const LATENCY_STEPS_MAX: u64 = 60;

/// One step of a program.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation {
    Happen(Signal, u64, Privilege),
    /// An NMI of somebody else.
    Nmi,
    Program(Counter, Encoding),
    GiveBack(Counter),
    Load(Counter, u64),
    Enable(CounterSet),
    Disable(CounterSet),
    Recover,
    Reset,
    ShutDown,
}

/// What differs between programs besides their operations.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) profile: &'static Profile,
    pub(crate) handling: Handling,
    pub(crate) latency_steps: u64,
    pub(crate) inside_one_in: u64,
    pub(crate) flaw: Option<Flaw>,
}

impl Setting {
    pub(crate) fn random(profile: &'static Profile, random: &mut Random) -> Self {
        let unmask = if random.one_in(2) { Unmask::Early } else { Unmask::Late };
        Self {
            profile,
            handling: Handling { unmask, freeze: random.one_in(2) },
            latency_steps: if random.one_in(3) { 0 } else { random.magnitude(LATENCY_STEPS_MAX) },
            inside_one_in: random.pick(&[0, 3, 12]),
            flaw: None,
        }
    }

    /// Creates the machine, with the capabilities that the driver finds in it.
    pub(crate) fn cpu(&self, random: Random) -> (Cpu, nmiprof_pmu::Capabilities) {
        let mut model = Model::new(self.profile).with_latency(self.latency_steps);
        if let Some(flaw) = self.flaw {
            model = model.with_flaw(flaw);
        }
        let capabilities = detect(&self.profile, &mut model).expect("a profile has a PMU");
        let freezes = self.handling.freeze && self.flaw != Some(Flaw::FreezeForgotten);
        let truth = Truth::new(self.profile, freezes);
        (Cpu::new(model, truth, random), capabilities)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handling, latency_steps, inside_one_in, flaw, .. } = self;
        write!(f, "{handling:?}, latency {latency_steps}, inside 1/{inside_one_in}, flaw {flaw:?}")
    }
}

/// A program under way.
pub(crate) struct Run<D> {
    setting: Setting,
    pub(crate) unit: Driver<Cpu, D>,
    random: Random,
    kinds: Vec<Kind>,
    /// What is enabled next, if it still can be.
    planned: CounterSet,
    /// What was done to the model before the program.
    before: Violations,
}

/// What is wrong.
pub(crate) type Check = Result<(), String>;

/// Says what is wrong unless it holds.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(what()) }
}

/// Runs a program of so many operations.
///
/// # Errors
/// What was wrong, with what led to it.
pub(crate) fn run<D: Defect>(setting: Setting, seed: u64, steps: u64) -> Result<Counts, String> {
    let mut run = Run::<D>::new(setting, seed);
    let mut step = 0;
    let result = (0..steps).try_for_each(|_| {
        step += 1;
        run.step()
    });
    result.map_err(|wrong| {
        let log = &run.unit.bus().log;
        format!("{log}{}, seed {seed:#x}, step {step}, {setting}: {wrong}", setting.profile.id)
    })?;
    Ok(run.unit.bus().counts)
}

impl<D: Defect> Run<D> {
    fn new(setting: Setting, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (cpu, capabilities) = setting.cpu(Random::new(random.next()));
        let before = cpu.model.violations();
        let kinds = kinds(setting.profile, &mut random);
        let mut unit = Driver::new(cpu, capabilities, setting.handling);
        unit.reset();
        unit.bus().inside_one_in = setting.inside_one_in;
        if random.one_in(2) {
            unit.bus().set_foreign_status();
        }
        Self { setting, unit, random, kinds, planned: CounterSet::EMPTY, before }
    }

    fn step(&mut self) -> Check {
        let operation = self.choose_in_flight().unwrap_or_else(|| self.choose());
        self.unit.bus().log.push(Entry::Did(operation));
        match operation {
            Operation::Happen(signal, count, privilege) => self.happen(signal, count, privilege)?,
            Operation::Nmi => self.unit.bus().is_nmi_pending = true,
            Operation::ShutDown => self.shut_down()?,
            other => self.apply(other),
        }
        self.handle_nmis()?;
        self.check()
    }

    /// Lets code run, which NMIs interrupt.
    fn happen(&mut self, signal: Signal, count: u64, privilege: Privilege) -> Check {
        let mut left = count;
        while left > 0 {
            left = self.unit.bus().happen(signal, left, privilege);
            self.handle_nmis()?;
            // A counter that has just been loaded for less than what is left would overflow again and again.
            left = left.min(500);
        }
        Ok(())
    }

    /// Takes the PMU back for a while, in which nothing may come of it.
    fn shut_down(&mut self) -> Check {
        self.call(CounterUnit::shut_down);
        let cpu = self.unit.bus();
        cpu.truth.reset();
        let nmis = cpu.counts.nmis;
        cpu.in_nmi = true;
        cpu.happen(Signal::Instructions, 2 * LATENCY_STEPS_MAX, Privilege::Kernel);
        cpu.in_nmi = false;
        let quiet = cpu.counts.nmis == nmis && cpu.is_agreed();
        ensure(quiet, || "it interrupts after the shut-down".into())?;
        self.call(CounterUnit::reset);
        Ok(())
    }

    fn handle_nmis(&mut self) -> Check {
        for _ in 0..LOOKS_MAX {
            if !std::mem::take(&mut self.unit.bus().is_nmi_pending) {
                return Ok(());
            }
            self.unit.bus().in_nmi = true;
            self.unit.bus().log.push(Entry::NmiBegins);
            self.handle_nmi()?;
            self.unit.bus().in_nmi = false;
            self.unit.bus().log.push(Entry::NmiEnds);
            self.check()?;
        }
        Err("NMIs without end".into())
    }

    /// Does what the contract says of a handler, with things happening on the way.
    fn handle_nmi(&mut self) -> Check {
        self.happen_a_little();
        self.unit.bus().is_stop_late = self.setting.inside_one_in != 0 && self.random.one_in(4);
        self.call(CounterUnit::begin_pmi);
        self.unit.bus().truth.in_pmi = true;
        self.unit.bus().is_stop_late = false;
        self.happen_a_little();
        self.take_all()?;
        if self.random.one_in(4) {
            let operation = self.choose_in_nmi();
            self.unit.bus().log.push(Entry::Did(operation));
            self.apply(operation);
        }
        self.happen_a_little();
        self.call(CounterUnit::end_pmi);
        self.unit.bus().truth.in_pmi = false;
        self.happen_a_little();
        Ok(())
    }

    // case 54
    fn take_all(&mut self) -> Check {
        let mut found = 0;
        let mut loads_later = CounterSet::EMPTY;
        for _ in 0..LOOKS_MAX {
            let taken = self.take()?;
            if taken.is_empty() {
                self.renew(loads_later);
                let counts = &mut self.unit.bus().counts;
                counts.empty_nmis += u64::from(found == 0);
                counts.several += u64::from(found > 1);
                counts.reported += u64::from(found);
                return Ok(());
            }
            found += taken.count();
            let later = if self.random.one_in(3) { taken } else { CounterSet::EMPTY };
            loads_later = loads_later.union(later);
            self.happen_a_little();
            self.renew(taken.without(later));
        }
        Err("overflows without end".into())
    }

    fn take(&mut self) -> Result<CounterSet, String> {
        let before = self.unit.bus().truth.due();
        let taken = self.call(CounterUnit::take_overflows);
        self.unit.bus().log.push(Entry::Took(taken));
        let after = self.unit.bus().truth.due();
        self.unit.bus().truth.took(taken);
        ensure(before.without(taken).is_empty(), || format!("lost: due were {:#x}", before.0))?;
        ensure(taken.without(after).is_empty(), || format!("reported, and due were {:#x}", after.0))?;
        Ok(taken)
    }

    /// Loads counters that have overflowed, or gives them back.
    fn renew(&mut self, counters: CounterSet) {
        for counter in counters.iter() {
            let operation = match self.random.below(16) {
                0 => Operation::GiveBack(counter),
                1 => Operation::Disable(counter.set()),
                _ => Operation::Load(counter, self.load(counter)),
            };
            self.unit.bus().log.push(Entry::Did(operation));
            self.apply(operation);
        }
    }

    fn happen_a_little(&mut self) {
        if self.random.one_in(3) {
            let (signal, count, privilege) = self.unit.bus().something();
            let count = count.min(100);
            self.unit.bus().log.push(Entry::Happened(signal, count, privilege));
            self.unit.bus().happen(signal, count, privilege);
        }
    }

    /// Does an operation, and tells the truth of it.
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Program(counter, encoding) => {
                self.call(|unit| unit.program(counter, Some(encoding)));
                if encoding.counters.contains(counter) {
                    let what = what(self.setting.profile, counter, encoding);
                    self.unit.bus().truth.program(counter, Some(what));
                }
            }
            Operation::GiveBack(counter) => {
                self.call(|unit| unit.program(counter, None));
                self.unit.bus().truth.program(counter, None);
            }
            Operation::Load(counter, events) => {
                self.call(|unit| unit.load(counter, events));
                self.unit.bus().truth.load(counter, events);
            }
            Operation::Enable(counters) => {
                self.call(|unit| unit.enable(counters));
                self.unit.bus().truth.set_enabled(counters, true);
            }
            Operation::Disable(counters) => {
                self.call(|unit| unit.disable(counters));
                self.unit.bus().truth.set_enabled(counters, false);
            }
            Operation::Recover => {
                self.call(CounterUnit::recover);
                self.unit.bus().truth.recover();
            }
            Operation::Reset => {
                self.call(CounterUnit::reset);
                self.unit.bus().truth.reset();
            }
            Operation::Happen(..) | Operation::Nmi | Operation::ShutDown => {}
        }
    }

    /// Calls the driver; what happens meanwhile waits.
    fn call<R>(&mut self, call: impl FnOnce(&mut Driver<Cpu, D>) -> R) -> R {
        let in_nmi = std::mem::replace(&mut self.unit.bus().in_nmi, true);
        self.unit.bus().in_call = true;
        let result = call(&mut self.unit);
        self.unit.bus().in_call = false;
        self.unit.bus().in_nmi = in_nmi;
        result
    }

    fn check(&mut self) -> Check {
        let errors = self.unit.errors();
        let faults = self.unit.bus().counts.faults;
        ensure(errors == 0 && faults == 0, || format!("{errors} errors, {faults} times #GP"))?;
        self.check_violations()?;
        self.check_values()?;
        let cpu = self.unit.bus();
        let (model, truth) = (cpu.model.running(), cpu.truth.running());
        ensure(model == truth, || format!("running are {:#x}, and should be {:#x}", model.0, truth.0))?;
        // case 56
        let overdue = cpu.truth.overdue(self.setting.latency_steps);
        ensure(overdue.is_empty() || cpu.is_nmi_pending, || {
            format!("lost: {:#x} overflowed, and no NMI came", overdue.0)
        })?;
        let (nmis, overflows) = (cpu.counts.nmis, cpu.truth.overflows);
        let is_explained = nmis <= overflows || self.setting.flaw.is_some();
        ensure(is_explained, || format!("{nmis} NMIs of {overflows} overflows"))
    }

    /// An early unmask is one with overflows pending, by its definition.
    fn check_violations(&mut self) -> Check {
        let is_early = self.setting.handling.unmask == Unmask::Early;
        let now = self.unit.bus().model.violations();
        let unmasked = if is_early { now.unmasked_with_overflow } else { 0 };
        let allowed = Violations { unmasked_with_overflow: unmasked, ..self.before };
        ensure(now == allowed, || format!("{now:?}"))
    }

    fn check_values(&mut self) -> Check {
        let counters: Vec<_> = self.unit.bus().truth.all.iter().collect();
        let counter = self.random.pick(&counters);
        let one_in = std::mem::replace(&mut self.unit.bus().inside_one_in, 0);
        let value = self.unit.read(counter);
        self.unit.bus().inside_one_in = one_in;
        let expected = self.unit.bus().truth.value(counter);
        ensure(value == expected, || format!("{counter} holds {value:#x}, and should {expected:#x}"))?;
        let (load_max, expected) = (self.unit.load_max(counter), self.unit.bus().truth.load_max(counter));
        ensure(load_max == expected, || format!("{counter} takes {load_max:#x}, not {expected:#x}"))
    }

    /// Stops or gives back a counter whose NMI is on its way; then lets it go on anew before that has come.
    // case 57
    fn choose_in_flight(&mut self) -> Option<Operation> {
        let truth = &self.unit.bus().truth;
        let (due, stale, ready) = (truth.due(), truth.stale(), truth.ready());
        let planned = std::mem::take(&mut self.planned).intersection(ready);
        if !planned.is_empty() {
            return Some(Operation::Enable(planned));
        }
        if let Some(counter) = stale.iter().next().filter(|_| self.random.one_in(2)) {
            self.planned = counter.set();
            return Some(Operation::Load(counter, self.load(counter)));
        }
        let counter = due.iter().next().filter(|_| self.random.one_in(3))?;
        Some(if self.random.one_in(4) { Operation::GiveBack(counter) } else { Operation::Disable(due) })
    }

    fn choose(&mut self) -> Operation {
        match self.random.below(40) {
            0..26 => {
                let (signal, count, privilege) = self.unit.bus().something();
                Operation::Happen(signal, count, privilege)
            }
            26..28 => Operation::Nmi,
            28 if self.random.one_in(20) => Operation::Reset,
            28 if self.random.one_in(20) => Operation::ShutDown,
            _ => self.choose_in_nmi(),
        }
    }

    /// Chooses an operation that both a handler and other code can do.
    fn choose_in_nmi(&mut self) -> Operation {
        let all: Vec<_> = self.unit.bus().truth.all.iter().collect();
        let counter = self.random.pick(&all);
        let enabled = self.unit.bus().truth.enabled();
        let ready = self.unit.bus().truth.ready();
        match self.random.below(32) {
            0..4 => {
                let counters = if self.random.one_in(10) { CounterSet::EMPTY } else { CounterSet(u64::MAX) };
                let select = self.random.pick(&self.kinds).select;
                let (user, kernel) =
                    self.random.pick(&[(true, true), (true, false), (false, true), (false, false)]);
                Operation::Program(counter, Encoding { select, counters, user, kernel })
            }
            4 => Operation::GiveBack(counter),
            5..18 if !enabled.contains(counter) => Operation::Load(counter, self.load(counter)),
            18 => Operation::Disable(counter.set()),
            19 => Operation::Disable(self.random.subset(CounterSet(u64::MAX))),
            20 if self.random.one_in(10) => Operation::Recover,
            // Counters that have no event are no counters to enable.
            _ => {
                let unprogrammed = all.iter().filter(|one| self.unit.bus().truth.what(**one).is_none());
                let unprogrammed = unprogrammed.fold(CounterSet::EMPTY, |set, one| set.union(one.set()));
                Operation::Enable(self.random.subset(ready.union(unprogrammed)))
            }
        }
    }

    /// Chooses how many events to load.
    // case 58
    fn load(&mut self, counter: Counter) -> u64 {
        let max = self.unit.bus().truth.load_max(counter);
        match self.random.below(16) {
            0 => 1,
            1 => 2,
            2 => max,
            3 => max - 1,
            4 => self.random.pick(&[0, max + 1, u64::MAX, 1 << 31, (1 << 31) + 1, u64::from(u32::MAX)]),
            5..8 => self.random.magnitude(max),
            _ => self.random.below(300) + 1,
        }
    }
}
