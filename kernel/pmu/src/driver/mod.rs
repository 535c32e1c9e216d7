//! One driver for the counters of both vendors.
//!
//! The interfaces are two algorithms, and a table of addresses for each. Where there are *global registers* (Intel from
//! version 2 on, AMD PerfMonV2), one write starts and stops all counters, and one read says which of them have
//! overflowed. Where there are none (Intel version 1, AMD legacy and core extension), each counter is started and
//! stopped by the EN bit of its event select, and has overflowed when its top bit has become 0. The tables are in
//! `intel.rs` and `amd.rs`, with what each manual says; what is true of both stands here. The alternative, a type for
//! each vendor, would hold the same two algorithms twice.
//!
//! # Loads
//! A counter is loaded with minus the events, so at most half of its range: then its top bit is 1 until it overflows,
//! on every interface. With W the bits of the counter, or 32 where `IA32_PMCn` takes no more (bit 31 is copied
//! upwards), `load_max` is exactly 2^(W - 1) events: minus that is the top bit alone.
//!
//! # Order
//! 1. A counter is stopped before it is programmed, and programmed before it is loaded.
//! 2. An overflow of an earlier life is acknowledged before a stopped counter is loaded.
//! 3. In the handler the status is acknowledged before the counters are loaded, with exactly the bits that were read:
//!    a bit that came in between stays for the next [`take_overflows`](CounterUnit::take_overflows).
//! 4. All counters start with the last MSR write of the handler (SDM volume 3, "Performance Monitoring", asks for
//!    it).
//! 5. The LVT entry is written before that, whichever [`Unmask`] is chosen: an overflow that meets a masked entry is
//!    lost. Linux 6.6 (`arch/x86/events/intel/core.c`) has the same place under the name "mid ack"; what it calls late
//!    comes after the start.
//!
//! An overflow may be in flight while the counters stop: its status bit, or the last count, can come some cycles
//! after the write. The second [`take_overflows`](CounterUnit::take_overflows), which is there anyway, finds it. So
//! nothing is cached there, and a stopped counter is read again. What comes even later, after the last look, raises
//! its own NMI, but for one case: with [`Unmask::Late`] on hardware that masks the entry, it meets the mask, and the
//! status keeps it for the next NMI of whatever source. The handler is some thousand cycles long, the flight a few.
//!
//! # Cost
//! MSR accesses of an NMI, with one overflow and N enabled counters; `take_overflows` is called twice.
//!
//! | interface | overflow | somebody else's NMI |
//! |---|---|---|
//! | global registers | 6: stop, status, acknowledge, load, status, start | 3: stop, status, start |
//! | none | 4N + 1: N stops, N counts, load, N counts, N starts | 3N |
//!
//! Each further overflow adds one load. Every NMI writes the LVT entry once. What the driver has written it keeps a
//! copy of, so control registers are not read in the handler, and not written where nothing changes.
//!
//! A #GP is counted ([`Driver::errors`]) and otherwise ignored: a sampler that loses a counter still has to leave its
//! handler.

mod access;
pub(crate) mod amd;
mod defect;
pub(crate) mod intel;
mod overflow;
mod program;
mod registers;
mod run;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use access::Access;
pub use defect::{Defect, Sound};
use overflow::low_bits;
use registers::{GENERAL_MAX, Registers};
use run::{LVT_MASKED, LVT_NMI};

use crate::bus::MsrBus;
use crate::capabilities::{Capabilities, Interface};
use crate::counter::{Counter, CounterSet};
use crate::unit::{CounterUnit, Encoding};

/// Fixed counters that `IA32_FIXED_CTR_CTRL` has bits for.
pub(crate) const FIXED_MAX: u8 = 16;

/// When the handler makes the LVT entry deliver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmask {
    /// First of all, as Linux does on most of Intel's: an overflow in flight raises a second NMI, which finds
    /// nothing.
    Early,
    /// When the status is clear, right before the counters start: an overflow in flight raises nothing.
    Late,
}

/// How PMIs are handled, where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// When the LVT entry is made to deliver again. It is written in every NMI, also where no hardware masks it.
    pub unmask: Unmask,
    /// Let a PMI freeze the counters (Intel from version 4 on; no effect elsewhere): the way into the handler is not
    /// counted then.
    pub freeze: bool,
}

/// The counters of one CPU.
///
/// `D` is a mistake to make, for tests; see [`Defect`].
#[derive(Debug)]
pub struct Driver<B, D = Sound> {
    access: Access<B>,
    capabilities: Capabilities,
    handling: Handling,
    registers: Registers,
    /// What the event selects were written with, without EN.
    selects: [u64; GENERAL_MAX],
    /// What `IA32_FIXED_CTR_CTRL` was written with.
    fixed_control: u64,
    /// Counters with an event.
    programmed: CounterSet,
    /// Counters that are to count, outside of the handler.
    enabled: CounterSet,
    /// Counters that were last told to count.
    running: CounterSet,
    /// Counters that were loaded and have not been reported since; kept where there is no status.
    armed: CounterSet,
    /// Whether the caller is between `begin_pmi` and `end_pmi`.
    in_pmi: bool,
    defect: PhantomData<D>,
}

impl<B: MsrBus, D: Defect> Driver<B, D> {
    /// Creates a driver, which touches nothing before [`CounterUnit::reset`].
    ///
    /// What the capabilities say beyond what the interface has addresses for is dropped.
    pub fn new(bus: B, capabilities: Capabilities, handling: Handling) -> Self {
        let registers = registers_of(&capabilities);
        Self {
            access: Access::new(bus),
            capabilities: addressable(capabilities, &registers),
            handling,
            registers,
            selects: [0; GENERAL_MAX],
            fixed_control: 0,
            programmed: CounterSet::EMPTY,
            enabled: CounterSet::EMPTY,
            running: CounterSet::EMPTY,
            armed: CounterSet::EMPTY,
            in_pmi: false,
            defect: PhantomData,
        }
    }

    /// Returns the bus.
    pub fn bus(&mut self) -> &mut B {
        &mut self.access.bus
    }

    /// Returns the bus, and ends the driver.
    pub fn into_bus(self) -> B {
        self.access.bus
    }

    /// Returns how many accesses raised #GP; stays at the maximum.
    #[must_use]
    pub const fn errors(&self) -> u32 {
        self.access.errors
    }

    /// Brings everything but the LVT entry into a known state.
    fn clear(&mut self, freeze: bool) {
        if let Some(global) = self.registers.global {
            self.access.write(global.control, 0);
        }
        self.forget_events();
        self.acknowledge_all();
        self.set_freeze(freeze);
    }

    fn has(&self, counter: Counter) -> bool {
        self.capabilities.counters().contains(counter)
    }

    fn select(&self, counter: Counter) -> u64 {
        self.selects.get(usize::from(counter.index())).copied().unwrap_or(0)
    }

    fn select_msr(&self, counter: Counter) -> u32 {
        self.registers.select_first + self.registers.stride * u32::from(counter.index())
    }

    fn count_msr(&self, counter: Counter) -> u32 {
        match self.registers.fixed {
            Some(fixed) if counter.is_fixed() => fixed.count_first + u32::from(counter.index()),
            _ => self.registers.count_first + self.registers.stride * u32::from(counter.index()),
        }
    }
}

impl<B: MsrBus, D: Defect> CounterUnit for Driver<B, D> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn reset(&mut self) {
        self.clear(self.freezes());
        self.access.bus.write_lvtpc(LVT_NMI);
    }

    fn shut_down(&mut self) {
        self.clear(false);
        self.access.bus.write_lvtpc(LVT_NMI | LVT_MASKED);
    }

    fn program(&mut self, counter: Counter, encoding: Option<Encoding>) {
        if !self.has(counter) || encoding.is_some_and(|encoding| !encoding.counters.contains(counter)) {
            return;
        }
        self.disable(counter.set());
        self.armed = self.armed.without(counter.set());
        self.programmed = self.programmed.without(counter.set());
        if encoding.is_some() {
            self.programmed = self.programmed.union(counter.set());
        }
        match self.registers.fixed {
            Some(fixed) if counter.is_fixed() => self.program_fixed(fixed, counter, encoding),
            _ => self.program_general(counter, encoding),
        }
        if D::ENABLES_BEFORE_LOAD {
            self.enable(counter.set());
        }
    }

    fn load_max(&self, counter: Counter) -> u64 {
        let bits = self.load_bits(counter);
        if D::LOADS_BEYOND_THE_SIGN && bits == 32 {
            return low_bits(32);
        }
        1 << (bits - 1)
    }

    #[inline]
    fn load(&mut self, counter: Counter, events: u64) {
        if !self.has(counter) {
            return;
        }
        // An enabled counter was acknowledged when its overflow was taken; a stopped one may have kept its bit.
        if let Some(global) = self.registers.global
            && !self.enabled.contains(counter)
            && !D::KEEPS_STALE_OVERFLOW
        {
            self.access.write(global.acknowledge, counter.set().0);
        }
        let events = events.clamp(1, self.load_max(counter));
        self.access.write(self.count_msr(counter), self.load_value(counter, events));
        self.armed = self.armed.union(counter.set());
    }

    fn read(&mut self, counter: Counter) -> u64 {
        if !self.has(counter) {
            return 0;
        }
        let count = self.access.read(self.count_msr(counter)).unwrap_or(0);
        count & low_bits(self.capabilities.width_bits(counter))
    }

    fn enable(&mut self, counters: CounterSet) {
        self.enabled = self.enabled.union(counters.intersection(self.programmed));
        self.apply_enabled();
    }

    fn disable(&mut self, counters: CounterSet) {
        self.enabled = self.enabled.without(counters);
        self.apply_enabled();
    }

    #[inline]
    fn begin_pmi(&mut self) {
        self.in_pmi = true;
        if self.handling.unmask == Unmask::Early {
            self.write_lvt();
        }
        if !D::DOES_NOT_STOP {
            self.run(CounterSet::EMPTY);
        }
    }

    #[inline]
    fn take_overflows(&mut self) -> CounterSet {
        let found = match self.registers.global {
            Some(global) => self.take_by_status(global),
            None => self.take_by_top_bit(),
        };
        if D::IGNORES_SECOND_OVERFLOW { CounterSet(found.0 & found.0.wrapping_neg()) } else { found }
    }

    fn recover(&mut self) {
        self.enabled = CounterSet::EMPTY;
        self.armed = CounterSet::EMPTY;
        self.stop_for_sure();
        self.acknowledge_all();
    }

    #[inline]
    fn end_pmi(&mut self) {
        self.in_pmi = false;
        if self.handling.unmask == Unmask::Late {
            self.write_lvt();
        }
        if !D::FORGETS_RESUME {
            self.run(if D::RESUMES_DISABLED { self.programmed } else { self.enabled });
        }
    }
}

const fn registers_of(capabilities: &Capabilities) -> Registers {
    match capabilities.interface {
        Interface::Intel { version } => intel::registers(version, capabilities),
        Interface::AmdLegacy => amd::legacy(capabilities.family),
        Interface::AmdCoreExtension => amd::core_extension(),
        Interface::AmdPerfMonV2 => amd::perfmon_v2(),
    }
}

/// Drops counters without an address, and makes widths possible ones.
fn addressable(mut capabilities: Capabilities, registers: &Registers) -> Capabilities {
    let fixed_max = if registers.fixed.is_some() { FIXED_MAX } else { 0 };
    let fixed = CounterSet(CounterSet::first_general(fixed_max).0 << 32);
    capabilities.general =
        capabilities.general.intersection(CounterSet::first_general(registers.general_max));
    capabilities.fixed = capabilities.fixed.intersection(fixed);
    capabilities.general_width_bits = capabilities.general_width_bits.clamp(1, 64);
    capabilities.fixed_width_bits = capabilities.fixed_width_bits.clamp(1, 64);
    capabilities
}
