//! A model of a performance-monitoring unit: what the registers of one CPU's PMU do, and its LVT entry, without a CPU.
//!
//! The hard part first: the model has to be right where drivers go wrong, which is at the edges. An overflow while
//! the LVT entry is masked; an NMI that arrives after the counter was stopped; a status bit that stays while the
//! counter counts on; a value that is cut to 31 bits on its way into a counter. It was written from the manuals by
//! hands that had not seen the driver, so that the two can't share a mistake.
//!
//! [`Model`] is both the oracle of the driver's tests and, under a clock ([`ClockedModel`]), the virtual PMU of a
//! machine that has none. Events are told to it ([`Model::happen`]); the NMIs that come of them are asked for
//! ([`Model::take_nmis`]).
//!
//! | file | what |
//! |---|---|
//! | `register.rs` | the registers that both vendors have: reset, reading, writing what is let through |
//! | `intel.rs`, `amd.rs` | which register has which number, what may be written, what a write does |
//! | `signal.rs` | which event an event select names |
//! | `slot.rs` | one counter |
//! | `counting.rs` | events, overflows, freezing |
//! | `delivery.rs` | from an overflow to an NMI: latency, the LVT entry |
//! | `flaw.rs`, `violations.rs` | PMUs that lie; things that a driver should not do |
//! | `clocked.rs`, `formula.rs` | the virtual PMU |
//!
//! Sources, by title: SDM volume 3, "Performance Monitoring" and "Debug, Branch Profile, TSC" (freezing on a PMI);
//! SDM volume 4, "IA-32 Architectural MSRs"; SDM volume 3, "Processor States Following Power-up, Reset, or INIT"; APM
//! volume 2, "Performance Monitoring Counters"; the PPR of family 19H for PerfMonV2. Where they leave a choice, the
//! place of the choice says which was made.
//!
//! # Context
//! Any. The virtual PMU runs inside NMIs: nothing here locks, allocates, panics or loops without a bound.
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod amd;
mod clocked;
mod counting;
mod delivery;
mod flaw;
mod formula;
mod intel;
mod register;
mod signal;
mod slot;
mod violations;

use crate::bus::{GeneralProtection, MsrBus};
use crate::counter::{Counter, CounterSet};
use crate::profiles::{Profile, Registers};

pub use clocked::{ClockedModel, GUARD_TICKS, Line, MARGIN_TICKS};
pub use counting::{NextOverflow, Privilege};
pub use delivery::{IN_FLIGHT_MAX, Interrupts};
pub use flaw::Flaw;
pub use formula::{FORMULAS, Formula, Rate};
pub use signal::{AmdEvents, Signal};
pub use violations::Violations;

use delivery::{InFlight, LVT_MASKED};
use register::Register;
use slot::{SLOTS, Slot};

/// The PMU of one CPU.
#[derive(Clone, Debug)]
pub struct Model {
    profile: &'static Profile,
    flaw: Option<Flaw>,
    slots: [Slot; SLOTS],
    /// Counters that their own register enables.
    enabled: CounterSet,
    /// Counters that count: enabled, not held by a global register, not frozen, not broken.
    running: CounterSet,
    fixed_control: u64,
    global_control: u64,
    global_status: u64,
    debug_control: u64,
    misc_enable: u64,
    pebs_enable: u64,
    lvtpc: u32,
    in_flight: InFlight,
    /// Steps that an overflow takes to become an NMI.
    latency_steps: u64,
    /// The present: steps since the beginning.
    now_steps: u64,
    nmis: u32,
    interrupts: Interrupts,
    violations: Violations,
}

impl Model {
    /// Creates the PMU of this CPU, as it is after a reset.
    #[must_use]
    pub fn new(profile: &'static Profile) -> Self {
        let mut model = Self {
            profile,
            flaw: None,
            slots: [Slot::STOPPED; SLOTS],
            enabled: CounterSet::EMPTY,
            running: CounterSet::EMPTY,
            fixed_control: 0,
            global_control: 0,
            global_status: 0,
            debug_control: 0,
            misc_enable: intel::MISC_ENABLE_RESET,
            pebs_enable: 0,
            lvtpc: LVT_MASKED,
            in_flight: InFlight::EMPTY,
            latency_steps: 0,
            now_steps: 0,
            nmis: 0,
            interrupts: Interrupts::NONE,
            violations: Violations::default(),
        };
        model.reset();
        model
    }

    /// Gives it a flaw.
    #[must_use]
    pub fn with_flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self.refresh();
        self
    }

    /// Lets an NMI arrive so many steps after its overflow; a step is an event told by [`Model::happen`], of any kind.
    ///
    /// Meanwhile the counter counts on (that is the skid), and may be stopped (then the NMI is late).
    #[must_use]
    pub const fn with_latency(mut self, steps: u64) -> Self {
        self.latency_steps = steps;
        self
    }

    /// Changes that for the overflows to come: call it while no NMI is on its way, for they keep their order.
    pub const fn set_latency(&mut self, steps: u64) {
        self.latency_steps = steps;
    }

    /// Returns the CPU that this is the PMU of; it reads CPUID.
    #[must_use]
    pub const fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// Returns what was done to it that a driver should not do.
    #[must_use]
    pub const fn violations(&self) -> Violations {
        self.violations
    }

    /// Returns the counters that count now.
    #[must_use]
    pub const fn running(&self) -> CounterSet {
        self.running
    }

    /// Executes RDPMC.
    ///
    /// Bit 30 of the index chooses the fixed counters (Intel). AMD's further indices, which reach the counters of the
    /// northbridge and of the L3 cache, are not part of the model.
    ///
    /// # Errors
    /// [`GeneralProtection`] where there is no such counter.
    pub fn rdpmc(&self, index: u32) -> Result<u64, GeneralProtection> {
        const FIXED: u32 = 1 << 30;
        let number = u8::try_from(index & !FIXED).map_err(|_| GeneralProtection)?;
        let counter = if index & FIXED == 0 { Counter::general(number) } else { Counter::fixed(number) };
        let counter =
            counter.filter(|counter| self.counters().contains(*counter)).ok_or(GeneralProtection)?;
        Ok(if self.is_dead() { 0 } else { self.slot(counter).value })
    }

    /// Returns the counters that there are.
    #[must_use]
    pub const fn counters(&self) -> CounterSet {
        match &self.profile.registers {
            Registers::Intel(facts) => facts.counters(),
            Registers::Amd(facts) => CounterSet::first_general(facts.counters),
            Registers::Forgotten => CounterSet::EMPTY,
        }
    }

    /// Finds the register of this number.
    fn decode(&self, msr: u32) -> Option<Register> {
        match &self.profile.registers {
            Registers::Intel(facts) => facts.decode(msr).filter(|register| !self.is_withheld(*register)),
            Registers::Amd(facts) => facts.decode(msr),
            Registers::Forgotten => Some(Register::Nothing),
        }
    }

    fn write_register(&mut self, register: Register, value: u64) -> Option<()> {
        let profile = self.profile;
        if self.is_dead() {
            return Some(());
        }
        match &profile.registers {
            Registers::Intel(facts) => self.write_intel(facts, register, value),
            Registers::Amd(facts) => self.write_amd(facts, register, value),
            Registers::Forgotten => Some(()),
        }
    }

    /// Makes an access that has no answer a #GP.
    fn faulted<T>(&mut self, answer: Option<T>) -> Result<T, GeneralProtection> {
        if answer.is_none() {
            self.violations.faults = self.violations.faults.saturating_add(1);
        }
        answer.ok_or(GeneralProtection)
    }
}

impl MsrBus for Model {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        let value = self.decode(msr).map(|register| self.read_register(register));
        self.faulted(value)
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        let done = self.decode(msr).and_then(|register| self.write_register(register, value));
        self.faulted(done)
    }

    fn read_lvtpc(&mut self) -> u32 {
        self.lvt_entry()
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.set_lvt_entry(value);
    }
}
