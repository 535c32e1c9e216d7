//! The CPU's own registers, for the PMU's driver.
//!
//! The driver may name any register and any value. What it can reach is limited here to those of the PMU, so that
//! nothing that it writes does anything to memory: the registers of Intel's debug store, which names buffers, are
//! not among them. Every access may raise #GP and then is an error.

#![expect(unsafe_code, reason = "reads and writes model-specific registers")]

use nmiprof_pmu::{GeneralProtection, MsrBus};

use super::apic::LocalApic;
use super::fallible;

/// Registers that the driver may reach: first and last of each run.
///
/// Sources: SDM volume 4, "Architectural MSRs"; APM volume 2, "Performance Monitoring Counters"; "Processor
/// Programming Reference" for family 19h.
const REACHABLE: [(u32, u32); 12] = [
    (0x0c1, 0x0d0),             // IA32_PMC0 and up
    (0x186, 0x195),             // IA32_PERFEVTSEL0 and up
    (0x1a0, 0x1a0),             // IA32_MISC_ENABLE
    (0x1d9, 0x1d9),             // IA32_DEBUGCTL
    (0x309, 0x318),             // IA32_FIXED_CTR0 and up
    (0x345, 0x345),             // IA32_PERF_CAPABILITIES
    (0x38d, 0x392),             // IA32_FIXED_CTR_CTRL, IA32_PERF_GLOBAL_*
    (0x4c1, 0x4d0),             // IA32_A_PMC0 and up
    (0xc000_0300, 0xc000_0303), // PerfCntrGlobal*
    (0xc001_0000, 0xc001_0007), // PERF_LEGACY_CTL0 and up
    (0xc001_0200, 0xc001_021f), // PERF_CTL0 and up
    (0xc001_1030, 0xc001_103c), // IBS_*, to look at
];

/// The registers of the CPU that uses it.
#[derive(Clone, Copy, Debug)]
pub struct CpuBus {
    apic: LocalApic,
}

impl CpuBus {
    /// Names the CPU with this APIC.
    pub const fn new(apic: LocalApic) -> Self {
        Self { apic }
    }
}

impl MsrBus for CpuBus {
    fn read(&mut self, msr: u32) -> Result<u64, GeneralProtection> {
        reachable(msr)?;
        // SAFETY: reading a register of the PMU changes nothing.
        unsafe { fallible::read_msr(msr) }.map_err(|_| GeneralProtection)
    }

    fn write(&mut self, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        reachable(msr)?;
        // SAFETY: a register of the PMU counts and interrupts, and does nothing to memory: no register that names a
        // buffer is reachable (checked above).
        unsafe { fallible::write_msr(msr, value) }.map_err(|_| GeneralProtection)
    }

    fn read_lvtpc(&mut self) -> u32 {
        self.apic.read_lvtpc()
    }

    fn write_lvtpc(&mut self, value: u32) {
        self.apic.write_lvtpc(value);
    }
}

fn reachable(msr: u32) -> Result<(), GeneralProtection> {
    let is_listed = REACHABLE.iter().any(|(first, last)| (*first..=*last).contains(&msr));
    if is_listed { Ok(()) } else { Err(GeneralProtection) }
}
