//! AMD's three interfaces.
//!
//! Sources: APM volume 2, "Performance Monitoring Counters" and "Performance Monitoring Version 2"; the PPRs of
//! families 17H and 19H for the same registers; the BKDGs of families 0FH and 10H for the width of event codes.
//!
//! | interface | what | MSR |
//! |---|---|---|
//! | legacy | `PerfEvtSeln`, `PerfCtrn` | C001_0000H + n, C001_0004H + n |
//! | core extension | `PERF_CTLn`, `PERF_CTRn` | C001_0200H + 2n, C001_0201H + 2n |
//! | PerfMonV2 | and `PerfCntrGlobalStatus`, `PerfCntrGlobalCtl`, `PerfCntrGlobalStatusClr` | C000_0300H, C000_0301H, C000_0302H |
//!
//! # Known facts
//! - A count is written in full width, whatever the interface.
//! - The LVT entry keeps its mask bit clear when it delivers a PMI. Some hypervisors set it as on Intel, so the
//!   driver writes the entry in every handler on every vendor.
//! - Clearing EN does not take back an NMI that is on its way. A handler that finds several overflows leaves empty
//!   NMIs behind (Linux 6.6, `arch/x86/events/amd/core.c`, keeps a time window for them). Which NMI is whose is the
//!   engine's question; here nothing waits.
//! - Early microcode sets reserved bits of `PerfCntrGlobalStatus` (same source). Bits that are no counter's are
//!   neither returned nor acknowledged.
//! - CPUID 8000_0022H:EAX bit 2 offers a freeze at overflow. It is not used: what clears it is described for single
//!   models only, and stopping takes one write anyway.

use super::registers::{GENERAL_MAX, Global, Registers};
use crate::unit::select;

/// Counters of the legacy interface.
pub(crate) const AMD_LEGACY_COUNTERS: u8 = 4;

/// Counters of the core extension.
pub(crate) const AMD_CORE_COUNTERS: u8 = 6;

/// Counters that PerfMonV2 can number: their MSRs end right before the L3 cache's at C001_0230H.
pub(crate) const AMD_V2_COUNTERS_MAX: u8 = 15;
const _: () = assert!(AMD_V2_COUNTERS_MAX as usize <= GENERAL_MAX);

/// First family whose event codes have 12 bits: before it the select's bits above 31 are reserved.
const FAMILY_OF_WIDE_CODES: u16 = 0x10;

/// Returns the registers of the legacy interface.
pub(super) const fn legacy(family: u16) -> Registers {
    let high = if family < FAMILY_OF_WIDE_CODES { 0 } else { select::EVENT_HIGH };
    Registers {
        select_first: 0xc001_0000,
        count_first: 0xc001_0004,
        stride: 1,
        general_max: AMD_LEGACY_COUNTERS,
        select_valid: SELECT_VALID | high,
        write_bits: 64,
        fixed: None,
        global: None,
        debug_control: None,
    }
}

/// Returns the registers of the core extension.
pub(super) const fn core_extension() -> Registers {
    Registers {
        select_first: 0xc001_0200,
        count_first: 0xc001_0201,
        stride: 2,
        general_max: AMD_CORE_COUNTERS,
        ..legacy(FAMILY_OF_WIDE_CODES)
    }
}

/// Returns the registers of PerfMonV2.
pub(super) const fn perfmon_v2() -> Registers {
    let global = Global { control: 0xc000_0301, status: 0xc000_0300, acknowledge: 0xc000_0302, frozen: 0 };
    Registers { general_max: AMD_V2_COUNTERS_MAX, global: Some(global), ..core_extension() }
}

const SELECT_VALID: u64 = select::EVENT | select::UMASK | select::EDGE | select::INV | select::CMASK;
