//! Intel's architectural performance monitoring, version by version.
//!
//! Sources: SDM volume 3, "Performance Monitoring"; SDM volume 4, "Architectural MSRs".
//!
//! | from | what | MSR |
//! |---|---|---|
//! | 1 | `IA32_PERFEVTSELn`, `IA32_PMCn` | 186H + n, 0C1H + n |
//! | 2 | `IA32_FIXED_CTRn`, `IA32_FIXED_CTR_CTRL` | 309H + n, 38DH |
//! | 2 | `IA32_PERF_GLOBAL_STATUS`, `_CTRL`, `_OVF_CTRL` | 38EH, 38FH, 390H |
//! | 2 | `IA32_DEBUGCTL` bit 12: freeze at a PMI | 1D9H |
//! | 4 | `IA32_PERF_GLOBAL_STATUS_RESET` is 390H's new name; status bit 59 (`CTR_FRZ`) | 390H |
//! | `IA32_PERF_CAPABILITIES` bit 13 | `IA32_A_PMCn`, written in full width | 4C1H + n |
//!
//! # Choices
//! - **Ten general counters.** CPUID can say 255, but volume 4 names the MSRs of ten. Going on would reach registers
//!   that are something else: event select 19 would be `IA32_PERF_CTL`, which sets the clock of the CPU.
//! - **Frozen only from version 4 on.** Before it, the freeze clears bits of `IA32_PERF_GLOBAL_CTRL` behind the back
//!   of the driver's copy; from it on a status bit says so, and the acknowledgment thaws.
//! - **`ANY` in versions 3 and 4 only.** Before it the bit is reserved; version 5 may take it back, and says so in a
//!   CPUID bit, but an event of two threads tells nothing about an instruction of one.
//! - **Short writes keep the high half 0.** A write of `IA32_PMCn` takes 32 bits and copies bit 31 upwards whatever
//!   stands above, so nothing has to.

use super::registers::{Fixed, GENERAL_MAX, Global, Registers};
use crate::capabilities::Capabilities;
use crate::unit::select;

/// Counters whose MSRs volume 4 names.
pub(crate) const INTEL_GENERAL_MAX: u8 = 10;
const _: () = assert!(INTEL_GENERAL_MAX as usize <= GENERAL_MAX);

/// Returns the registers of this version.
pub(super) const fn registers(version: u8, capabilities: &Capabilities) -> Registers {
    let full_width = capabilities.full_width_writes;
    let has_global = version >= 2;
    Registers {
        select_first: 0x186,
        count_first: if full_width { 0x4c1 } else { 0xc1 },
        stride: 1,
        general_max: INTEL_GENERAL_MAX,
        select_valid: select_valid(version),
        write_bits: if full_width { 64 } else { 32 },
        fixed: if has_global { Some(Fixed { control: 0x38d, count_first: 0x309 }) } else { None },
        global: if has_global { Some(global(version)) } else { None },
        debug_control: if has_global && capabilities.freeze_on_pmi { Some(0x1d9) } else { None },
    }
}

const fn global(version: u8) -> Global {
    let frozen = if version >= 4 { 1 << 59 } else { 0 };
    Global { control: 0x38f, status: 0x38e, acknowledge: 0x390, frozen }
}

const fn select_valid(version: u8) -> u64 {
    let any = if version == 3 || version == 4 { select::ANY } else { 0 };
    select::EVENT | select::UMASK | select::EDGE | select::INV | select::CMASK | any
}
