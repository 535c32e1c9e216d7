//! A comparator that ticks: it raises an input of an I/O APIC again and again.
//!
//! Which inputs a comparator can raise its registers say, as a set of global system interrupts. The lines of the ISA bus
//! are left to their owners, but for that of the interval timer, which the owner may have given up: QEMU's `pc` offers no
//! other. Above them the highest is taken: the lower ones are likelier to belong to a device as well.
//!
//! The counter starts at 0 and the comparator at one period, so every CPU knows all deadlines: the multiples of the
//! period. The legacy replacement route, which takes the interval timer and the clock away from the legacy
//! controller, is not used.
//!
//! QEMU 7.2 (`hw/timer/hpet.c`, `hpet_timer`) moves a deadline only when the counter is past it. Where time is so exact that
//! the counter is just there (`-icount`), each tick comes twice; the second one is claimed as a late one.

use super::{
    COMPARATOR_CONFIGURATION, COMPARATOR_VALUE, CONFIGURATION, ENABLE, INTERRUPT_ENABLE, Registers, UPPER,
};

/// Set of inputs of a comparator's configuration, as an offset from its start.
const ROUTES: u64 = COMPARATOR_CONFIGURATION + UPPER;
const PERIODIC: u32 = 1 << 3;
const PERIODIC_CAPABLE: u32 = 1 << 4;
/// The next value that is written is the first deadline, not the period.
const SET_DEADLINE: u32 = 1 << 6;
/// The comparator looks at the lower half of the counter only.
const MODE_32: u32 = 1 << 8;
const ROUTE_SHIFT: u32 = 9;
/// Global system interrupts of the ISA bus.
const ISA_LINES: u32 = 16;

/// A comparator that can tick, and the input that it does it by.
#[derive(Clone, Copy, Debug)]
pub struct PeriodicComparator {
    registers: Registers,
    /// Offset of its registers.
    at: u64,
    /// Global system interrupt.
    gsi: u32,
    counter_hz: u64,
}

/// Why no comparator can tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoComparator {
    /// There is no HPET at its address.
    NoHpet,
    /// None is periodic.
    NotPeriodic,
    /// None of those that are reaches an input that may be used.
    NoRoute,
}

impl PeriodicComparator {
    /// Longest period, in ticks of the counter: the comparator adds it up in 32 bits.
    pub const PERIOD_MAX: u32 = 1 << 30;

    /// Finds a comparator and an input. `is_input` tells whether a global system interrupt is one of an I/O APIC's.
    ///
    /// # Errors
    /// [`NoComparator`].
    pub fn find(
        registers: Registers,
        timer_gsi: u32,
        is_input: impl Fn(u32) -> bool,
    ) -> Result<Self, NoComparator> {
        const FS_PER_SECOND: u64 = 1_000_000_000_000_000;
        let period_fs = registers.period_fs().ok_or(NoComparator::NoHpet)?;
        let is_periodic = |at: &u64| registers.read(at + COMPARATOR_CONFIGURATION) & PERIODIC_CAPABLE != 0;
        let mut periodic = registers.comparators().filter(is_periodic).peekable();
        periodic.peek().ok_or(NoComparator::NotPeriodic)?;
        let may_be_used = |gsi: &u32| (*gsi >= ISA_LINES || *gsi == timer_gsi) && is_input(*gsi);
        let mut routed = periodic.filter_map(|at| {
            let routes = registers.read(at + ROUTES);
            let gsi = (0..u32::BITS).rev().filter(|gsi| routes >> gsi & 1 != 0).find(may_be_used)?;
            let counter_hz = FS_PER_SECOND / u64::from(period_fs);
            Some(Self { registers, at, gsi, counter_hz })
        });
        routed.next().ok_or(NoComparator::NoRoute)
    }

    /// Returns the global system interrupt that it raises.
    pub const fn gsi(&self) -> u32 {
        self.gsi
    }

    /// Returns the frequency of the counter.
    pub const fn counter_hz(&self) -> u64 {
        self.counter_hz
    }

    /// Returns the registers, to read the counter.
    pub const fn registers(&self) -> Registers {
        self.registers
    }

    /// Halts the counter, at 0: until the start no tick looks due.
    pub fn reset(&self) {
        self.registers.write(CONFIGURATION, 0);
        self.registers.clear_counter();
    }

    /// Starts to tick: when the counter, which starts at 0, reaches each multiple of the period.
    pub fn start(&self, period_ticks: u32) {
        let mode = INTERRUPT_ENABLE | PERIODIC | SET_DEADLINE | MODE_32 | self.gsi << ROUTE_SHIFT;
        self.reset();
        self.registers.write(self.at + COMPARATOR_CONFIGURATION, mode);
        self.registers.write(self.at + COMPARATOR_VALUE, period_ticks);
        // Some chipsets need a moment between the two (Linux 6.1, `arch/x86/kernel/hpet.c`): reading takes one.
        self.registers.counter();
        self.registers.write(self.at + COMPARATOR_VALUE, period_ticks);
        self.registers.write(CONFIGURATION, ENABLE);
    }

    /// Stops to tick.
    pub fn stop(&self) {
        self.registers.write(self.at + COMPARATOR_CONFIGURATION, 0);
        self.registers.write(CONFIGURATION, 0);
    }
}
