//! Events, and what they do to counters: counting, overflow, freezing.
//!
//! A counter counts if its own register enables it, the global register does (where there is one), and nothing is
//! frozen. It overflows on the event that takes it from all ones to 0: that sets its bit in the global status, which
//! stays until software clears it, and asks for a PMI if the counter's register says so.
//!
//! The cost of telling events is in the number of counters, not of events: what happens is cut at overflows, because
//! one overflow may freeze all counters, and nowhere else.

use super::Model;
use super::signal::Signal;
use super::violations::count;
use crate::counter::{Counter, CounterSet};
use crate::profiles::Registers;

/// `CTR_FRZ` in the global status (AMD: PMCF): all counters stand still until it is cleared.
pub(super) const STATUS_COUNTERS_FROZEN: u64 = 1 << 59;
/// `LBR_FRZ` in the global status: branch records stand still.
pub(super) const STATUS_BRANCHES_FROZEN: u64 = 1 << 58;
/// Record branches, in the debug control register.
const DEBUG_BRANCHES: u64 = 1;
/// `FREEZE_LBRS_ON_PMI` in the debug control register.
pub(super) const DEBUG_FREEZE_BRANCHES: u64 = 1 << 11;
/// `FREEZE_PERFMON_ON_PMI` in the debug control register.
pub(super) const DEBUG_FREEZE_COUNTERS: u64 = 1 << 12;

/// Where an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// At CPL above 0.
    User,
    /// At CPL 0.
    Kernel,
}

/// How a counter comes to its next overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextOverflow {
    /// The counter.
    pub counter: Counter,
    /// What it counts.
    pub signal: Signal,
    /// Whether it counts at CPL above 0.
    pub user: bool,
    /// Whether it counts at CPL 0.
    pub kernel: bool,
    /// Events until it overflows: 1 and up.
    pub events: u64,
    /// Whether the overflow asks for a PMI.
    pub interrupts: bool,
}

/// How an overflow freezes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freezing {
    /// Not at all.
    Never,
    /// By clearing the enable bits, which software sets again (version 2 and 3).
    Legacy,
    /// By a status bit, which software clears with the others (version 4 and up; AMD).
    Streamlined,
}

impl Model {
    /// Lets `count` events of one kind happen at one privilege level, one after the other.
    ///
    /// Each is also a step, by which latency is measured. NMIs that are delivered on the way are collected for
    /// [`Model::take_nmis`]; where the handler should run in between, there is [`Model::happen_until_nmi`].
    pub fn happen(&mut self, signal: Signal, count: u64, privilege: Privilege) {
        let mut left = count;
        while left > 0 {
            left = self.happen_until_nmi(signal, left, privilege);
        }
    }

    /// As [`Model::happen`], but ends with the event on which an interrupt is delivered; returns the events left.
    #[must_use = "the events that are left did not happen"]
    pub fn happen_until_nmi(&mut self, signal: Signal, count: u64, privilege: Privilege) -> u64 {
        let mut left = count;
        while left > 0 {
            let room = self.matching(signal, privilege).map(|counter| self.slot(counter).room()).min();
            let events = left.min(room.unwrap_or(u64::MAX)).min(self.steps_to_delivery());
            let counting =
                self.matching(signal, privilege).fold(CounterSet::EMPTY, |all, one| all.union(one.set()));
            self.pass(events, counting, |_| events);
            left -= events;
            if self.deliver() {
                break;
            }
        }
        left
    }

    /// Returns how each running counter comes to its next overflow.
    pub fn next_overflows(&self) -> impl Iterator<Item = NextOverflow> + '_ {
        self.running.iter().map(|counter| {
            let slot = self.slot(counter);
            let (signal, user, kernel) = (slot.signal, slot.user, slot.kernel);
            NextOverflow { counter, signal, user, kernel, events: slot.room(), interrupts: slot.interrupts }
        })
    }

    /// Lets time pass, in which each of these counters counts the events that `events` says; overflows
    /// are taken to fall on the last step.
    pub(super) fn pass(&mut self, steps: u64, counting: CounterSet, events: impl Fn(Signal) -> u64) {
        self.now_steps = self.now_steps.saturating_add(steps);
        let mut overflowed = CounterSet::EMPTY;
        for counter in counting.iter() {
            if self.with_slot(counter, |slot| slot.add(events(slot.signal))) == Some(true) {
                overflowed = overflowed.union(counter.set());
            }
        }
        if !overflowed.is_empty() {
            self.overflow(overflowed);
        }
    }

    /// Finds out which counters run, after anything that may change it.
    pub(super) fn refresh(&mut self) {
        let gate = if self.has_global() { CounterSet(self.global_control) } else { CounterSet(u64::MAX) };
        let is_frozen = self.global_status & STATUS_COUNTERS_FROZEN != 0;
        let enabled = if is_frozen { CounterSet::EMPTY } else { self.enabled };
        let running = enabled.intersection(gate).without(self.broken());
        let begun = running.without(self.running);
        if !begun.intersection(CounterSet(self.global_status)).is_empty() {
            count(&mut self.violations.started_with_overflow);
        }
        self.running = running;
    }

    /// Tells whether there are global registers.
    pub(super) fn has_global(&self) -> bool {
        match &self.profile.registers {
            Registers::Intel(facts) => facts.version >= 2 && !self.has(super::Flaw::NoGlobal),
            Registers::Amd(facts) => facts.global,
            Registers::Forgotten => false,
        }
    }

    /// Returns the running counters that count this.
    fn matching(&self, signal: Signal, privilege: Privilege) -> impl Iterator<Item = Counter> + '_ {
        self.running.iter().filter(move |counter| self.slot(*counter).counts(signal, privilege))
    }

    /// Notes overflows, freezes, and sends a PMI on its way for each that asks for one.
    ///
    /// Freezing comes with the overflow, whatever the LVT entry says: "processor freezes the counters on overflow"
    /// is the first row of the SDM's comparison of the two ways (volume 3, "Freezing LBR and Performance Counters on
    /// PMI"), and the condition is that the counter "was programmed to signal a PMI".
    #[cold]
    fn overflow(&mut self, overflowed: CounterSet) {
        if self.has_global() {
            self.global_status |= overflowed.0;
        }
        let asking = overflowed.iter().filter(|counter| self.slot(*counter).interrupts).count();
        if asking > 0 {
            self.freeze();
        }
        for _ in 0..asking {
            self.request();
        }
    }

    fn freeze(&mut self) {
        let counters = self.debug_control & DEBUG_FREEZE_COUNTERS != 0;
        let branches = self.debug_control & DEBUG_FREEZE_BRANCHES != 0;
        match self.freezing() {
            Freezing::Never => return,
            Freezing::Legacy => {
                self.global_control = if counters { 0 } else { self.global_control };
                self.debug_control &= if branches { !DEBUG_BRANCHES } else { u64::MAX };
            }
            Freezing::Streamlined => {
                self.global_status |= if counters { STATUS_COUNTERS_FROZEN } else { 0 };
                self.global_status |= if branches { STATUS_BRANCHES_FROZEN } else { 0 };
            }
        }
        self.refresh();
    }

    const fn freezing(&self) -> Freezing {
        match &self.profile.registers {
            Registers::Intel(facts) if facts.version >= 4 => Freezing::Streamlined,
            Registers::Intel(facts) if facts.version >= 2 => Freezing::Legacy,
            Registers::Amd(facts) if facts.freeze => Freezing::Streamlined,
            _ => Freezing::Never,
        }
    }
}
