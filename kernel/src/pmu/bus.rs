//! The registers that the driver of this kernel's PMU has before it: the CPU's, or a model's.

use nmiprof_pmu::model::{ClockedModel, Line};
use nmiprof_pmu::{GeneralProtection, MsrBus};

use crate::arch::apic::LocalApic;
use crate::arch::cpu;
use crate::arch::msr_bus::CpuBus;

/// The registers of a PMU.
#[expect(clippy::large_enum_variant, reason = "there is one for each CPU, in a box already")]
pub enum Bus {
    /// Those of the CPU.
    Cpu(CpuBus),
    /// Those of a model that counts by formulas of the clock.
    Model(ClockedModel<LocalApic>),
}

impl Bus {
    /// Tells whether something other than hardware counts.
    pub const fn is_virtual(&self) -> bool {
        matches!(self, Self::Model(_))
    }

    /// Returns how many NMIs the timer raised, or will, that are no overflow, since the last call. They come of the
    /// model's way to interrupt: a part of a long period, or a deadline that moved at the last moment.
    pub const fn take_strays(&mut self) -> u32 {
        match self {
            Self::Cpu(_) => 0,
            Self::Model(bus) => bus.take_strays(),
        }
    }
}

impl MsrBus for Bus {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        match self {
            Self::Cpu(bus) => bus.read(msr),
            Self::Model(bus) => bus.read(msr),
        }
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        match self {
            Self::Cpu(bus) => bus.write(msr, value),
            Self::Model(bus) => bus.write(msr, value),
        }
    }

    fn read_lvtpc(&mut self) -> u32 {
        match self {
            Self::Cpu(bus) => bus.read_lvtpc(),
            Self::Model(bus) => bus.read_lvtpc(),
        }
    }

    fn write_lvtpc(&mut self, value: u32) {
        match self {
            Self::Cpu(bus) => bus.write_lvtpc(value),
            Self::Model(bus) => bus.write_lvtpc(value),
        }
    }
}

/// The model's clock is the time-stamp counter, its overflow line the timer in NMI mode, and a self-NMI is every
/// overflow for which the timer was too late.
impl Line for LocalApic {
    fn now(&self) -> u64 {
        cpu::timestamp()
    }

    fn arm(&self, ticks: u32) {
        nmiprof_pmu::CountdownTimer::arm(self, ticks);
    }

    fn remaining(&self) -> u32 {
        nmiprof_pmu::CountdownTimer::remaining(self)
    }

    fn raise(&self) {
        self.send_self_nmi();
    }
}
