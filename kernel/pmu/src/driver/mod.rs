//! One driver for the counters of both vendors.
//!
//! The interfaces are two algorithms over five tables of addresses. Where there are *global registers* (Intel from version
//! 2 on, AMD PerfMonV2), one write starts and stops all counters, and one read says which of them have overflowed. Where
//! there are none (Intel version 1, AMD legacy and core extension), each counter is started and stopped by the EN bit of
//! its event select, and has overflowed when its top bit has become 0. The tables are in [`intel`] and [`amd`], with what
//! each manual says; what is true of both stands here. The alternative, a type for each vendor, would hold the same two
//! algorithms twice.
//!
//! # Loads
//! A counter is loaded with minus the events, so at most half of its range: then its top bit is 1 until it overflows,
//! on every interface. With W the bits of the counter, or 32 where `IA32_PMCn` takes no more (bit 31 is copied
//! upwards), `load_max` is exactly 2^(W - 1) events: minus that is the top bit alone.
//!
//! # Order
//! 1. A counter is stopped before it is programmed, and programmed before it is loaded.
//! 2. An overflow of an earlier life is acknowledged before a stopped counter is loaded.
//! 3. In the handler the status is acknowledged before the counters are loaded, with exactly the bits that were read: a
//!    bit that came in between stays for the next [`take_overflows`](CounterUnit::take_overflows).
//! 4. All counters start with the last MSR write of the handler (SDM volume 3, "Performance Monitoring", asks for it).
//! 5. The LVT entry is written before that, so that no overflow can meet a masked entry. Linux 6.6
//!    (`arch/x86/events/intel/core.c`) calls this "mid ack" where the manual unmask is late; its own late one comes after
//!    the start and can lose a PMI in between.
//!
//! An overflow may be in flight while the counters stop: its status bit, or the last count, can come some cycles after
//! the write. The second [`take_overflows`](CounterUnit::take_overflows), which is there anyway, finds it. So nothing is
//! cached there, and a stopped counter is read again.
//!
//! # Cost
//! MSR accesses of an NMI, with one overflow and N enabled counters; `take_overflows` is called twice.
//!
//! | interface | overflow | somebody else's NMI |
//! |---|---|---|
//! | global registers | 6: stop, status, acknowledge, load, status, start | 3: stop, status, start |
//! | none | 4N + 1: N stops, N counts, load, N counts, N starts | 3N |
//!
//! Each further overflow adds one load. Every NMI writes the LVT entry once. What the driver has written it keeps a copy
//! of, so control registers are never read, and not written where nothing changes.
//!
//! A #GP is counted ([`Driver::errors`]) and otherwise ignored: a sampler that loses a counter still has to leave its
//! handler.

mod access;
pub(crate) mod amd;
mod defect;
pub(crate) mod intel;
mod registers;
#[cfg(test)]
mod tests;

use core::marker::PhantomData;

use access::Access;
pub use defect::{Defect, Sound};
use registers::{Fixed, GENERAL_MAX, Global, Registers};

use crate::bus::MsrBus;
use crate::capabilities::{Capabilities, Interface};
use crate::counter::{Counter, CounterSet};
use crate::unit::{CounterUnit, Encoding};

/// Event select: count at CPL above 0.
const USR: u64 = 1 << 16;
/// Event select: count at CPL 0.
const OS: u64 = 1 << 17;
/// Event select: interrupt at overflow.
const INT: u64 = 1 << 20;
/// Event select: count.
const EN: u64 = 1 << 22;

/// Bits of `IA32_FIXED_CTR_CTRL` for each counter, of which bit 2 (any thread) is never set.
const FIXED_BITS: u8 = 4;
const FIXED_MASK: u64 = 0xf;
const FIXED_OS: u64 = 1 << 0;
const FIXED_USR: u64 = 1 << 1;
const FIXED_PMI: u64 = 1 << 3;
/// Fixed counters that `IA32_FIXED_CTR_CTRL` has bits for.
pub(crate) const FIXED_MAX: u8 = 16;

/// `IA32_DEBUGCTL`: freeze the counters at a PMI.
const FREEZE_PERFMON_ON_PMI: u64 = 1 << 12;

/// LVT entry: NMI, not masked. The vector is not used.
const LVT_NMI: u32 = 0b100 << 8;
const LVT_MASKED: u32 = 1 << 16;

/// When the handler makes the LVT entry deliver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmask {
    /// First of all, as Linux does on most of Intel's: an overflow in flight raises a second NMI, which finds nothing.
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

    /// Takes all events back, and with them the EN bits; all counts become 0.
    fn forget_events(&mut self) {
        for counter in self.capabilities.general.iter() {
            self.access.write(self.select_msr(counter), 0);
        }
        if let Some(fixed) = self.registers.fixed {
            self.access.write(fixed.control, 0);
        }
        for counter in self.capabilities.counters().iter() {
            self.access.write(self.count_msr(counter), 0);
        }
        self.selects = [0; GENERAL_MAX];
        self.fixed_control = 0;
        self.programmed = CounterSet::EMPTY;
        self.enabled = CounterSet::EMPTY;
        self.running = CounterSet::EMPTY;
        self.armed = CounterSet::EMPTY;
        self.in_pmi = false;
    }

    /// Acknowledges whatever may be pending.
    fn acknowledge_all(&mut self) {
        if let Some(global) = self.registers.global {
            self.access.write(global.acknowledge, self.known_status(global));
        }
    }

    /// Says whether a PMI freezes the counters. The other bits of the register are not ours, so it is read.
    fn set_freeze(&mut self, freeze: bool) {
        let Some(msr) = self.registers.debug_control else { return };
        let Some(old) = self.access.read(msr) else { return };
        let bit = if freeze { FREEZE_PERFMON_ON_PMI } else { 0 };
        let new = old & !FREEZE_PERFMON_ON_PMI | bit;
        if new != old {
            self.access.write(msr, new);
        }
    }

    /// Tells whether PMIs freeze the counters: where a status bit says that they have.
    fn freezes(&self) -> bool {
        self.handling.freeze && self.registers.global.is_some_and(|global| global.frozen != 0)
    }

    fn program_general(&mut self, counter: Counter, encoding: Option<Encoding>) {
        let select = encoding.map_or(0, |encoding| self.select_of(encoding));
        if let Some(copy) = self.selects.get_mut(usize::from(counter.index())) {
            *copy = select;
        }
        // Where there is a global register, that one stops and starts; EN stays set.
        let is_gated = self.registers.global.is_some() && encoding.is_some();
        self.access.write(self.select_msr(counter), if is_gated { select | EN } else { select });
    }

    /// Returns the event select of an encoding, without EN.
    fn select_of(&self, encoding: Encoding) -> u64 {
        let mut select = encoding.select & self.registers.select_valid;
        let (user, kernel) = privileges::<D>(encoding);
        select |= if user { USR } else { 0 } | if kernel { OS } else { 0 };
        select |= if D::FORGETS_INTERRUPT { 0 } else { INT };
        select | if D::WRITES_RESERVED_BIT { 1 << 63 } else { 0 }
    }

    fn program_fixed(&mut self, fixed: Fixed, counter: Counter, encoding: Option<Encoding>) {
        let bits = encoding.map_or(0, fixed_bits::<D>);
        let shift = counter.index() % FIXED_MAX * FIXED_BITS;
        let others =
            if D::OVERWRITES_FIXED_NEIGHBOURS { 0 } else { self.fixed_control & !(FIXED_MASK << shift) };
        self.fixed_control = others | bits << shift;
        self.access.write(fixed.control, self.fixed_control);
    }

    /// Lets exactly these counters run, with as few writes as that takes.
    #[inline]
    fn run(&mut self, wanted: CounterSet) {
        if wanted == self.running {
            return;
        }
        match self.registers.global {
            Some(global) => self.access.write(global.control, wanted.0),
            None => self.run_by_select(wanted),
        }
        self.running = wanted;
    }

    fn run_by_select(&mut self, wanted: CounterSet) {
        for counter in self.running.without(wanted).iter() {
            self.access.write(self.select_msr(counter), self.select(counter));
        }
        for counter in wanted.without(self.running).iter() {
            self.access.write(self.select_msr(counter), self.select(counter) | EN);
        }
    }

    /// Stops all counters, whatever the copies say.
    fn stop_for_sure(&mut self) {
        match self.registers.global {
            Some(global) => self.access.write(global.control, 0),
            None => {
                for counter in self.programmed.iter() {
                    self.access.write(self.select_msr(counter), self.select(counter));
                }
            }
        }
        self.running = CounterSet::EMPTY;
    }

    /// Makes what is enabled true at once, or leaves it to the end of the handler.
    fn apply_enabled(&mut self) {
        if !self.in_pmi {
            self.run(self.enabled);
        }
    }

    /// Takes overflows from the status register.
    fn take_by_status(&mut self, global: Global) -> CounterSet {
        let known = self.known_status(global);
        let pending = self.access.read(global.status).unwrap_or(0) & known;
        if pending != 0 && !D::FORGETS_ACKNOWLEDGE {
            let bits = if D::ACKNOWLEDGES_UNREAD { known } else { pending };
            let thawing = if D::STAYS_FROZEN { bits & !global.frozen } else { bits };
            self.access.write(global.acknowledge, thawing);
        }
        let reported = if D::RETURNS_DISABLED { self.capabilities.counters() } else { self.enabled };
        CounterSet(pending).intersection(reported)
    }

    /// Finds the counters whose top bit has become 0: their load set it.
    ///
    /// There is nothing to acknowledge. The bit stays 0 until the next load, so a counter that was reported is not
    /// asked before that.
    fn take_by_top_bit(&mut self) -> CounterSet {
        let mut found = CounterSet::EMPTY;
        for counter in self.enabled.intersection(self.armed).iter() {
            let count = self.access.read(self.count_msr(counter));
            if count.is_some_and(|count| count & self.top_bit(counter) == 0) {
                found = found.union(counter.set());
            }
        }
        if !D::REPORTS_TWICE {
            self.armed = self.armed.without(found);
        }
        found
    }

    const fn top_bit(&self, counter: Counter) -> u64 {
        if D::TOP_BIT_IS_31 { 1 << 31 } else { 1 << (self.capabilities.width_bits(counter) - 1) }
    }

    /// Returns the status bits that mean something to us; others may be set by hardware that knows more.
    const fn known_status(&self, global: Global) -> u64 {
        self.capabilities.counters().0 | global.frozen
    }

    /// Returns how many bits of a counter a load decides, the last of them for those above.
    fn load_bits(&self, counter: Counter) -> u8 {
        let width = self.capabilities.width_bits(counter);
        if counter.is_fixed() { width } else { width.min(self.registers.write_bits) }
    }

    /// Returns what to write for so many events.
    fn load_value(&self, counter: Counter, events: u64) -> u64 {
        let events = if D::RELOADS_ONE_TOO_MANY { events.wrapping_add(1) } else { events };
        let bits = self.load_bits(counter);
        let bits = if D::DOES_NOT_EXTEND_THE_SIGN { bits.min(32) } else { bits };
        events.wrapping_neg() & low_bits(bits)
    }

    fn write_lvt(&mut self) {
        if !D::FORGETS_UNMASK {
            self.access.bus.write_lvtpc(LVT_NMI);
        }
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
        Interface::AmdLegacy => amd::legacy(),
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

/// Returns whether to count at CPL above 0, and at CPL 0.
const fn privileges<D: Defect>(encoding: Encoding) -> (bool, bool) {
    if D::SWAPS_PRIVILEGES { (encoding.kernel, encoding.user) } else { (encoding.user, encoding.kernel) }
}

/// Returns the four control bits of a fixed counter.
const fn fixed_bits<D: Defect>(encoding: Encoding) -> u64 {
    let (user, kernel) = privileges::<D>(encoding);
    let pmi = if D::FORGETS_INTERRUPT { 0 } else { FIXED_PMI };
    pmi | if user { FIXED_USR } else { 0 } | if kernel { FIXED_OS } else { 0 }
}

/// Returns a mask of this many bits, 1 to 64.
const fn low_bits(bits: u8) -> u64 {
    u64::MAX >> (64 - bits)
}
