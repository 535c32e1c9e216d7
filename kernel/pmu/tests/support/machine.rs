//! The machine under the engine: as [`super::cpu`], but what is true is told by event and not by counter.
//!
//! Which counter an event is on is the engine's affair. Its events are all different, so what the running counters
//! of the model count says which events are counted now.

use nmiprof_pmu::model::{Model, NextOverflow, Privilege, Signal};
use nmiprof_pmu::{GeneralProtection, MsrBus};

use super::log::{Entry, Log};
use super::random::Random;
use super::truth::What;

/// The most events that happen between two accesses.
pub(crate) const INSIDE_MAX: u64 = 100;

/// An event of the engine.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) what: What,
    /// How often it happened on a counter that ran.
    pub(crate) counted: u64,
    /// How often it happened outside of handlers.
    pub(crate) happened: u64,
}

/// The model, and what is around it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) model: Model,
    pub(crate) random: Random,
    pub(crate) log: Log,
    pub(crate) events: Vec<Event>,
    pub(crate) is_nmi_pending: bool,
    pub(crate) in_nmi: bool,
    pub(crate) inside_one_in: u64,
    pub(crate) faults: u64,
    pub(crate) nmis: u64,
    /// The clock: a tick for each event, but no more than 1000 at once.
    pub(crate) now: u64,
}

impl Machine {
    pub(crate) fn new(model: Model, random: Random) -> Self {
        Self {
            model,
            random,
            log: Log::default(),
            events: Vec::new(),
            is_nmi_pending: false,
            in_nmi: false,
            inside_one_in: 0,
            faults: 0,
            nmis: 0,
            now: 0,
        }
    }

    /// Lets events happen until an NMI comes that is not blocked; returns the events left.
    pub(crate) fn happen(&mut self, signal: Signal, count: u64, privilege: Privilege) -> u64 {
        let mut left = count;
        while left > 0 && (self.in_nmi || !self.is_nmi_pending) {
            let counting: Vec<_> =
                self.model.next_overflows().filter(|next| what(next).is(signal, privilege)).collect();
            let even = counting.iter().map(|next| next.events).min().unwrap_or(u64::MAX);
            let wanted = left.min(even);
            let passed = wanted - self.model.happen_until_nmi(signal, wanted, privilege);
            self.account(passed, &counting, signal, privilege);
            left -= passed;
            self.now += passed.min(1000);
            self.collect_nmis();
        }
        left
    }

    fn account(&mut self, passed: u64, counting: &[NextOverflow], signal: Signal, privilege: Privilege) {
        let in_nmi = self.in_nmi;
        for event in self.events.iter_mut().filter(|event| event.what.is(signal, privilege)) {
            event.happened += if in_nmi { 0 } else { passed };
            let is_counted = counting.iter().any(|next| what(next) == event.what);
            event.counted += if is_counted { passed } else { 0 };
        }
    }

    fn collect_nmis(&mut self) {
        let nmis = self.model.take_nmis();
        self.nmis += u64::from(nmis);
        self.is_nmi_pending |= nmis > 0;
    }

    fn happen_inside(&mut self) {
        if self.inside_one_in == 0 || !self.random.one_in(self.inside_one_in) {
            return;
        }
        let (signal, count, privilege) = self.something();
        let count = count.min(INSIDE_MAX);
        self.log.push(Entry::HappenedInside(signal, count));
        let in_nmi = std::mem::replace(&mut self.in_nmi, true);
        self.happen(signal, count, privilege);
        self.in_nmi = in_nmi;
    }

    /// Chooses what happens, mostly around an overflow.
    pub(crate) fn something(&mut self) -> (Signal, u64, Privilege) {
        let privilege = if self.random.one_in(2) { Privilege::User } else { Privilege::Kernel };
        let running: Vec<_> = self.model.next_overflows().collect();
        if running.is_empty() || self.random.one_in(5) {
            let signals: Vec<_> = self.events.iter().map(|event| event.what.signal).collect();
            let signal = if signals.is_empty() { Signal::Slots } else { self.random.pick(&signals) };
            return (signal, self.random.below(100) + 1, privilege);
        }
        let next = self.random.pick(&running);
        let privilege = if next.user { Privilege::User } else { Privilege::Kernel };
        let count = match self.random.below(6) {
            0 => self.random.below(50) + 1,
            1 => next.events.saturating_sub(1).max(1),
            2 => next.events + self.random.below(30),
            3 => self.random.magnitude(next.events),
            _ => next.events,
        };
        (next.signal, count, privilege)
    }

    fn note<T>(&mut self, result: &Result<T, GeneralProtection>) {
        if result.is_err() {
            self.log.push(Entry::Faulted);
            self.faults += 1;
        }
    }
}

/// Returns what a running counter counts.
pub(crate) fn what(next: &NextOverflow) -> What {
    What { signal: next.signal, user: next.user, kernel: next.kernel }
}

impl MsrBus for Machine {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        self.happen_inside();
        let result = self.model.read(msr);
        self.note(&result);
        self.log.push(Entry::Read(msr, result.unwrap_or(0)));
        result
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        self.happen_inside();
        self.log.push(Entry::Wrote(msr, value));
        let result = self.model.write(msr, value);
        self.note(&result);
        result
    }

    fn read_lvtpc(&mut self) -> u32 {
        self.model.read_lvtpc()
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.happen_inside();
        self.log.push(Entry::WroteLvt(value));
        self.model.write_lvtpc(value);
        self.collect_nmis();
    }
}
