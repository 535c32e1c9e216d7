//! Lines of the machine that tick for all CPUs: the HPET's and the interval timer's, as NMIs.
//!
//! Both go through an input of an I/O APIC in NMI delivery mode. What of it is an overflow each CPU decides for itself
//! ([`TickPmu`](nmiprof_pmu::TickPmu)), from a clock that all can read: the HPET's counter, or the time-stamp counter.
//!
//! The scheduler's tick is the interval timer's where that is free. Its line is not free where the interval timer is the
//! source, nor where the HPET can only use the interval timer's input: then the interval timer is parked and the scheduler's
//! tick is the real-time clock's.

use alloc::format;
use alloc::string::{String, ToString};

use nmiprof_boot::acpi::Madt;
use nmiprof_boot::acpi::madt::Signal;
use nmiprof_pmu::TickClock;
use nmiprof_pmu::ticks::{Phase, Rhythm};

use crate::arch::apic::LocalApic;
use crate::arch::boot::acpi;
use crate::arch::hpet::Registers;
use crate::arch::hpet::periodic::{NoComparator, PeriodicComparator};
use crate::arch::ioapic::{Destination, IoApic};
use crate::arch::pit::{self, PIT_HZ};
use crate::arch::{cpu, tick};
use crate::nmi::broadcast;

/// How long after its due time an NMI of the HPET is expected at most: 20 microseconds.
const HPET_LATE_HZ: u64 = 50_000;
/// The same for the interval timer, whose due time is known less well: 50 microseconds.
const PIT_LATE_HZ: u64 = 20_000;

/// A line that ticks.
#[derive(Clone, Copy, Debug)]
pub struct TickSource {
    device: Device,
    input: Input,
}

#[derive(Clone, Copy, Debug)]
enum Device {
    Hpet(PeriodicComparator),
    IntervalTimer,
}

/// The input of an I/O APIC that the line is at, and who gets its NMIs.
#[derive(Clone, Copy, Debug)]
struct Input {
    io_apic: IoApic,
    number: u32,
    signal: Signal,
    destination: Destination,
    /// It is the interval timer's.
    is_timers: bool,
}

/// The clock by which ticks are told from other NMIs.
#[derive(Clone, Copy, Debug)]
pub enum SourceClock {
    /// The counter of the HPET.
    Hpet(Registers),
    /// The time-stamp counter.
    TimeStamps,
}

impl TickClock for SourceClock {
    fn bits(&self) -> u32 {
        match self {
            Self::Hpet(_) => u32::BITS,
            Self::TimeStamps => u64::BITS,
        }
    }

    fn now(&self) -> u64 {
        match self {
            Self::Hpet(registers) => registers.counter().into(),
            Self::TimeStamps => cpu::timestamp(),
        }
    }
}

/// A period that a line can tick with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Ticks of the device's clock between two NMIs.
    ticks: u32,
    /// NMIs that make an overflow.
    parts: u32,
}

impl Period {
    /// Returns the ticks of the device's clock between two overflows.
    pub fn overflow_ticks(self) -> u64 {
        u64::from(self.ticks) * u64::from(self.parts)
    }
}

impl TickSource {
    /// Finds the HPET, and a line of it.
    ///
    /// # Errors
    /// A text that says why there is none.
    pub fn hpet(apic: LocalApic) -> Result<Self, String> {
        let tables = acpi::tables().map_err(|error| error.to_string())?;
        let table = tables.hpet.map_err(|error| format!("ACPI's table of it: {error}"))?;
        let madt = madt()?;
        let registers = Registers::map(table.address).map_err(|error| format!("{error:?}"))?;
        let timer_gsi = madt.isa_interrupt(pit::ISA_LINE).gsi;
        let is_input = |gsi| Input::find(madt, apic, gsi, Signal::default()).is_ok();
        let comparator = PeriodicComparator::find(registers, timer_gsi, is_input).map_err(explain)?;
        let input = Input::find(madt, apic, comparator.gsi(), Signal::default())?;
        Ok(Self { device: Device::Hpet(comparator), input })
    }

    /// Finds the interval timer's line.
    ///
    /// # Errors
    /// A text that says why there is none.
    pub fn interval_timer(apic: LocalApic) -> Result<Self, String> {
        let madt = madt()?;
        let line = madt.isa_interrupt(pit::ISA_LINE);
        let input = Input::find(madt, apic, line.gsi, line.signal)?;
        Ok(Self { device: Device::IntervalTimer, input })
    }

    /// Returns the name that a capture has for it.
    pub const fn name(&self) -> &'static str {
        match self.device {
            Device::Hpet(_) => "hpet",
            Device::IntervalTimer => "pit",
        }
    }

    /// Says what stands in for an event.
    pub const fn formula(&self) -> &'static str {
        match self.device {
            Device::Hpet(_) => "1 per tick of the HPET's counter",
            Device::IntervalTimer => "1 per tick of the interval timer's clock",
        }
    }

    /// Returns the frequency of the device's clock.
    pub const fn clock_hz(&self) -> u64 {
        match &self.device {
            Device::Hpet(comparator) => comparator.counter_hz(),
            Device::IntervalTimer => PIT_HZ,
        }
    }

    /// Returns the period nearest to so many ticks of the device's clock.
    pub fn period(&self, overflow_ticks: u64) -> Period {
        let ticks_max = u64::from(match self.device {
            Device::Hpet(_) => PeriodicComparator::PERIOD_MAX,
            Device::IntervalTimer => pit::PERIOD_MAX,
        });
        let parts = overflow_ticks.div_ceil(ticks_max).clamp(1, u32::MAX.into());
        let ticks = (overflow_ticks / parts).clamp(1, ticks_max);
        let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
        Period { ticks: narrow(ticks), parts: narrow(parts) }
    }

    /// Returns who lets the scheduler tick beside this.
    pub const fn tick_source(&self) -> tick::Source {
        if self.input.is_timers { tick::Source::RealTimeClock } else { tick::Source::IntervalTimer }
    }

    /// Returns the clock of this line's ticks.
    pub const fn clock(&self) -> SourceClock {
        match &self.device {
            Device::Hpet(comparator) => SourceClock::Hpet(comparator.registers()),
            Device::IntervalTimer => SourceClock::TimeStamps,
        }
    }

    /// Says when the line ticks, by its clock.
    pub fn rhythm(&self, period: Period, tsc_hz: u64) -> Rhythm {
        let Period { ticks, parts: ticks_per_overflow } = period;
        match &self.device {
            Device::Hpet(comparator) => Rhythm {
                period: ticks.into(),
                phase: Phase::Exact,
                late_max: self.late_max(ticks.into(), comparator.counter_hz() / HPET_LATE_HZ),
                ticks_per_overflow,
            },
            Device::IntervalTimer => {
                let period = u64::from(ticks) * tsc_hz / PIT_HZ;
                let late_max = self.late_max(period, tsc_hz / PIT_LATE_HZ);
                Rhythm { period, phase: Phase::Followed, late_max, ticks_per_overflow }
            }
        }
    }

    /// Returns how long the own NMI of a tick is expected, by the clock. One of an emulator's several CPUs may have to
    /// wait for its turn.
    fn late_max(&self, period: u64, alone: u64) -> u64 {
        if self.input.destination == Destination::All { alone.max(period / 2) } else { alone }
    }

    /// Prepares the clock.
    ///
    /// # Context
    /// That of [`TickSource::start`], while the line does not tick.
    pub fn prepare(&self) {
        if let Device::Hpet(comparator) = &self.device {
            comparator.reset();
        }
    }

    /// Returns the earliest time, by the clock, of the first tick of a line that is prepared and not started.
    ///
    /// # Context
    /// Thread of the CPU that asks.
    pub fn first_due(&self, rhythm: &Rhythm) -> u64 {
        match &self.device {
            Device::Hpet(_) => rhythm.period,
            Device::IntervalTimer => cpu::timestamp().wrapping_add(rhythm.period),
        }
    }

    /// Starts to tick.
    ///
    /// # Context
    /// Thread, on one CPU, when the NMIs of all that get them know what to do.
    pub fn start(&self, period: Period) {
        let Input { io_apic, number, signal, destination, is_timers } = self.input;
        if is_timers {
            // Its last edge comes while the input is masked, where it is forgotten.
            pit::park();
            linger();
        }
        if destination == Destination::All {
            broadcast::begin();
        }
        io_apic.route_to_nmi(number, signal, destination);
        match &self.device {
            Device::Hpet(comparator) => comparator.start(period.ticks),
            Device::IntervalTimer => pit::start(period.ticks),
        }
    }

    /// Stops to tick; NMIs that were on their way have come when this returns.
    ///
    /// # Context
    /// That of [`TickSource::start`].
    pub fn stop(&self) {
        self.input.io_apic.mask(self.input.number);
        match &self.device {
            Device::Hpet(comparator) => comparator.stop(),
            Device::IntervalTimer => pit::park(),
        }
        linger();
    }
}

impl Input {
    /// Opens the I/O APIC of a global system interrupt.
    fn find(madt: &Madt, apic: LocalApic, gsi: u32, signal: Signal) -> Result<Self, String> {
        let none = || format!("interrupt {gsi} is no input of an I/O APIC");
        let (io_apic, number) = madt.io_apic_of(gsi).ok_or_else(none)?;
        let io_apic = IoApic::open(io_apic.address).map_err(|error| format!("the I/O APIC: {error:?}"))?;
        if number >= io_apic.inputs() {
            return Err(none());
        }
        let destination = Destination::of_running(apic).map_err(|error| error.to_string())?;
        let is_timers = gsi == madt.isa_interrupt(pit::ISA_LINE).gsi;
        Ok(Self { io_apic, number, signal, destination, is_timers })
    }
}

fn madt() -> Result<&'static Madt, String> {
    let tables = acpi::tables().map_err(|error| error.to_string())?;
    tables.madt.as_ref().map_err(|error| format!("no I/O APIC is known: ACPI's table of CPUs: {error}"))
}

fn explain(error: NoComparator) -> String {
    let text = match error {
        NoComparator::NoHpet => "there is none at the address that ACPI names",
        NoComparator::NotPeriodic => "no comparator is periodic",
        NoComparator::NoRoute => "no comparator reaches an input of an I/O APIC that is free",
    };
    text.to_string()
}

/// Waits for NMIs that were on their way: some microseconds.
fn linger() {
    // Not `pause`: on an emulator that runs the CPUs in turn, each one would be another CPU's turn.
    cpu::nop_sled(cpu::SLED_INSTRUCTIONS);
}
