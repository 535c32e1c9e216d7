//! Events that have no generic name, or another code on some CPUs: what an event select that the PMU model leaves
//! undecoded means to this machine.
//!
//! Sources: Intel's event lists (Nehalem, Sandy Bridge, Skylake and later); PPRs of AMD's families 17H and 19H.

use super::Counts;

/// Returns how often what a select names has happened; 0 for what this machine does not know.
#[must_use]
pub const fn count(select: u64, is_intel: bool, counts: &Counts) -> u64 {
    if is_intel { intel(select, counts) } else { amd(select, counts) }
}

const fn intel(select: u64, counts: &Counts) -> u64 {
    match select {
        // BR_MISP_EXEC.ANY
        0x7f89 => counts.branch_misses,
        // BR_INST_RETIRED.NEAR_TAKEN
        0x20c4 => counts.taken_branches,
        // MEM_INST_RETIRED.ALL_LOADS, ALL_STORES
        0x81d0 => counts.loads,
        0x82d0 => counts.stores,
        // No micro-op issued; none executed; none dispatched.
        0x0180_010e => counts.stalled_frontend,
        0x0180_3fb1 | 0x0180_01b1 => counts.stalled_backend,
        _ => 0,
    }
}

const fn amd(select: u64, counts: &Counts) -> u64 {
    match select {
        // Retired taken branches.
        0xc4 => counts.taken_branches,
        // Dispatched loads, stores.
        0x0129 => counts.loads,
        0x0229 => counts.stores,
        _ => 0,
    }
}
