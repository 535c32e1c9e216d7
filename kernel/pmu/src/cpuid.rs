//! Finds out what PMU this CPU has, from CPUID and three registers.
//!
//! Sources: SDM volume 2, `CPUID`; SDM volume 3, "Performance Monitoring"; APM volume 3, "Obtaining Processor
//! Information Via the CPUID Instruction".
//!
//! | what | Intel | AMD |
//! |---|---|---|
//! | interface | leaf 0AH:EAX\[7:0\] | 8000_0022H:EAX\[0\], 8000_0001H:ECX\[23\], else family 6 and up |
//! | general counters | 0AH:EAX\[15:8\] of \[23:16\] bits | 8000_0022H:EBX\[3:0\], 6 or 4, of 48 bits |
//! | fixed counters | 0AH:EDX\[4:0\] of \[12:5\] bits; from version 5 on also those in 0AH:ECX | none |
//! | events that are missing | 0AH:EBX, as many bits as EAX\[31:24\] says | none of them is architectural |
//! | writes in full width | `IA32_PERF_CAPABILITIES` bit 13, where 1:ECX\[15\] (PDCM) says that the register is there | always |
//! | freeze at a PMI | from version 2 on | 8000_0022H:EAX\[2\] |
//! | kind of core | 1AH:EAX\[31:24\], where 7:EDX\[15\] says that the processor is hybrid | |
//! | precise samples | 1:EDX\[21\] (DS) and `IA32_MISC_ENABLE` bit 12 clear | 8000_001BH (IBS) |
//! | branch records | 1CH:EAX\[7:0\], where 7:EDX\[19\] | |
//!
//! The registers and leaves may be a hypervisor's, and say anything. Counts are cut to what has an address, widths to
//! 64 bits; a counter of no bits is none. Fixed counters are believed: Linux 6.6 (`arch/x86/events/intel/core.c`)
//! assumes three of them on version 2 and up, for processors that forget to say so, but a general counter does the
//! same work.
//!
//! `raw-cpuid` reads what it has names for. It has none for 0AH:ECX, the later bits of 0AH:EBX, and leaves 1AH and
//! 1CH, and its [`CpuId`] does not hand out its reader; so [`detect`] takes the reader, and makes the other from it.

use core::fmt;

use raw_cpuid::{CpuId, CpuIdReader, CpuIdResult, FeatureInfo};

use crate::bus::MsrBus;
use crate::capabilities::{Capabilities, CoreKind, Extras, Interface};
use crate::counter::CounterSet;
use crate::driver::FIXED_MAX;
use crate::driver::amd::{AMD_CORE_COUNTERS, AMD_LEGACY_COUNTERS, AMD_V2_COUNTERS_MAX};
use crate::driver::intel::INTEL_GENERAL_MAX;

#[cfg(test)]
mod tests;

const IA32_MISC_ENABLE: u32 = 0x1a0;
const PERFMON_AVAILABLE: u64 = 1 << 7;
const PEBS_UNAVAILABLE: u64 = 1 << 12;

const IA32_PERF_CAPABILITIES: u32 = 0x345;
const FULL_WIDTH_WRITES: u64 = 1 << 13;

/// Width of AMD's counters, which no CPUID leaf says.
const AMD_WIDTH_BITS: u8 = 48;
/// First AMD family with counters (K7).
const AMD_FAMILY_MIN: u16 = 6;

/// Why there is no PMU to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPmu {
    /// The vendor is neither Intel nor AMD, nor Hygon.
    UnknownVendor,
    /// There is no CPUID leaf 1, which says the family.
    NoFamily,
    /// There is no CPUID leaf 0AH.
    NoLeaf,
    /// CPUID leaf 0AH says version 0.
    VersionZero,
    /// `IA32_MISC_ENABLE` bit 7 is clear.
    TurnedOff,
    /// The AMD family is older than the counters.
    OldFamily,
    /// There is an interface, but no counter.
    NoCounters,
}

impl fmt::Display for NoPmu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownVendor => "the vendor that CPUID leaf 0 names is neither Intel, AMD nor Hygon",
            Self::NoFamily => "CPUID has no leaf 1, which says the family",
            Self::NoLeaf => "CPUID has no leaf 0AH, which describes the counters",
            Self::VersionZero => "CPUID leaf 0AH says version 0",
            Self::TurnedOff => "IA32_MISC_ENABLE bit 7 says that performance monitoring is off",
            Self::OldFamily => "AMD processors have counters from family 6 on, and this one is older",
            Self::NoCounters => "CPUID describes an interface without counters",
        })
    }
}

/// Finds out what PMU there is, without changing it.
///
/// # Errors
/// [`NoPmu`] where there is none that a driver knows.
pub fn detect<R: CpuIdReader>(reader: &R, bus: &mut impl MsrBus) -> Result<Capabilities, NoPmu> {
    let cpuid = CpuId::with_cpuid_reader(reader.clone());
    let vendor = cpuid.get_vendor_info().ok_or(NoPmu::UnknownVendor)?;
    match vendor.as_str() {
        "GenuineIntel" => detect_intel(&cpuid, &Leaves::of(reader), bus),
        "AuthenticAMD" | "HygonGenuine" => detect_amd(&cpuid),
        _ => Err(NoPmu::UnknownVendor),
    }
}

fn detect_intel<R: CpuIdReader>(
    cpuid: &CpuId<R>,
    leaves: &Leaves<'_, R>,
    bus: &mut impl MsrBus,
) -> Result<Capabilities, NoPmu> {
    let features = cpuid.get_feature_info().ok_or(NoPmu::NoFamily)?;
    let perfmon = cpuid.get_performance_monitoring_info().ok_or(NoPmu::NoLeaf)?;
    let version = perfmon.version_id();
    if version == 0 {
        return Err(NoPmu::VersionZero);
    }
    // A hypervisor that does not know the register can't mean to turn anything off, but has no PEBS either.
    let misc = bus.read(IA32_MISC_ENABLE).unwrap_or(PERFMON_AVAILABLE | PEBS_UNAVAILABLE);
    if misc & PERFMON_AVAILABLE == 0 {
        return Err(NoPmu::TurnedOff);
    }
    let raw = leaves.read(0xa);
    let general = CounterSet::first_general(perfmon.number_of_counters().min(INTEL_GENERAL_MAX));
    let general_width_bits = perfmon.counter_bit_width().min(64);
    // Version 1 leaves EDX undefined.
    let fixed_width_bits = if version < 2 { 0 } else { perfmon.fixed_function_counters_bit_width().min(64) };
    with_counters(Capabilities {
        interface: Interface::Intel { version },
        family: family(&features),
        model: features.model_id(),
        core_kind: core_kind(leaves),
        general: unless_zero(general, general_width_bits),
        general_width_bits,
        fixed: unless_zero(intel_fixed(version, raw.edx, raw.ecx), fixed_width_bits),
        fixed_width_bits,
        full_width_writes: features.has_pdcm() && has_full_width_writes(bus),
        freeze_on_pmi: version >= 2,
        missing_events: raw.ebx | !low_bits(perfmon.ebx_length()),
        extras: Extras {
            pebs: features.has_ds() && misc & PEBS_UNAVAILABLE == 0,
            lbr_depth_entries: lbr_depth_entries(leaves),
            ..Extras::default()
        },
    })
}

/// Returns the fixed counters: the first ones up to version 4, any from version 5 on.
fn intel_fixed(version: u8, edx: u32, ecx: u32) -> CounterSet {
    let first = low_bits(u8::try_from(edx & 0x1f).unwrap_or(0));
    let bits = if version < 5 { first } else { first | ecx };
    CounterSet(u64::from(bits & low_bits(FIXED_MAX)) << 32)
}

fn has_full_width_writes(bus: &mut impl MsrBus) -> bool {
    bus.read(IA32_PERF_CAPABILITIES).is_ok_and(|bits| bits & FULL_WIDTH_WRITES != 0)
}

fn core_kind<R: CpuIdReader>(leaves: &Leaves<'_, R>) -> Option<CoreKind> {
    const HYBRID: u32 = 1 << 15;
    if leaves.read(7).edx & HYBRID == 0 {
        return None;
    }
    match leaves.read(0x1a).eax >> 24 {
        0x20 => Some(CoreKind::Atom),
        0x40 => Some(CoreKind::Core),
        _ => None,
    }
}

/// Returns the deepest stack of branch records: bit N of the leaf stands for 8 (N + 1) entries.
fn lbr_depth_entries<R: CpuIdReader>(leaves: &Leaves<'_, R>) -> u8 {
    const ARCHITECTURAL_LBR: u32 = 1 << 19;
    if leaves.read(7).edx & ARCHITECTURAL_LBR == 0 {
        return 0;
    }
    let depths = leaves.read(0x1c).eax & 0xff;
    u8::try_from(8 * (u32::BITS - depths.leading_zeros())).unwrap_or(0)
}

fn detect_amd<R: CpuIdReader>(cpuid: &CpuId<R>) -> Result<Capabilities, NoPmu> {
    let features = cpuid.get_feature_info().ok_or(NoPmu::NoFamily)?;
    if family(&features) < AMD_FAMILY_MIN {
        return Err(NoPmu::OldFamily);
    }
    let (interface, count) = amd_interface(cpuid);
    with_counters(Capabilities {
        interface,
        family: family(&features),
        model: features.model_id(),
        core_kind: None,
        general: CounterSet::first_general(count),
        general_width_bits: AMD_WIDTH_BITS,
        fixed: CounterSet::EMPTY,
        fixed_width_bits: 0,
        full_width_writes: true,
        freeze_on_pmi: amd_freezes(cpuid, interface),
        missing_events: 0,
        extras: amd_extras(cpuid),
    })
}

/// Returns the interface and how many counters it has. PerfMonV2 only adds registers to the core extension, so it is
/// not believed without that.
fn amd_interface<R: CpuIdReader>(cpuid: &CpuId<R>) -> (Interface, u8) {
    let has_core = cpuid
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|features| features.has_perf_cntr_extensions());
    if !has_core {
        return (Interface::AmdLegacy, AMD_LEGACY_COUNTERS);
    }
    match cpuid.get_extended_performance_monitoring_and_debug() {
        Some(perfmon) if perfmon.has_perf_mon_v2() => {
            (Interface::AmdPerfMonV2, perfmon.num_perf_ctr_core().min(AMD_V2_COUNTERS_MAX))
        }
        _ => (Interface::AmdCoreExtension, AMD_CORE_COUNTERS),
    }
}

fn amd_freezes<R: CpuIdReader>(cpuid: &CpuId<R>, interface: Interface) -> bool {
    interface == Interface::AmdPerfMonV2
        && cpuid
            .get_extended_performance_monitoring_and_debug()
            .is_some_and(|perfmon| perfmon.has_lbr_and_pmc_freeze())
}

/// Returns what instruction-based sampling there is. The first processors with it (family 10H) have no leaf to
/// describe it, and both kinds.
fn amd_extras<R: CpuIdReader>(cpuid: &CpuId<R>) -> Extras {
    let has_ibs =
        cpuid.get_extended_processor_and_feature_identifiers().is_some_and(|features| features.has_ibs());
    if !has_ibs {
        return Extras::default();
    }
    let (ibs_fetch, ibs_op) = match cpuid.get_instruction_based_sampling_capabilities() {
        Some(ibs) if ibs.has_feature_flags() => (ibs.has_fetch_sampling(), ibs.has_execution_sampling()),
        _ => (true, true),
    };
    Extras { ibs_fetch, ibs_op, ..Extras::default() }
}

fn with_counters(capabilities: Capabilities) -> Result<Capabilities, NoPmu> {
    if capabilities.counters().is_empty() { Err(NoPmu::NoCounters) } else { Ok(capabilities) }
}

fn unless_zero(counters: CounterSet, width_bits: u8) -> CounterSet {
    if width_bits == 0 { CounterSet::EMPTY } else { counters }
}

/// Returns the family. The sum of both fields does not fit into the byte that `raw-cpuid` adds them up in.
fn family(features: &FeatureInfo) -> u16 {
    let base = u16::from(features.base_family_id());
    if base == 0xf { base + u16::from(features.extended_family_id()) } else { base }
}

/// Returns a mask of this many bits; all of them from 32 on.
fn low_bits(bits: u8) -> u32 {
    u32::MAX.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0)
}

/// CPUID leaves by number, for what has no name.
struct Leaves<'a, R> {
    reader: &'a R,
    /// Highest leaf below the hypervisor's.
    leaf_max: u32,
}

impl<'a, R: CpuIdReader> Leaves<'a, R> {
    fn of(reader: &'a R) -> Self {
        Self { reader, leaf_max: reader.cpuid1(0).eax }
    }

    /// Reads a leaf, subleaf 0. One that is not there is all zeros: a processor would answer with its highest leaf
    /// instead.
    fn read(&self, leaf: u32) -> CpuIdResult {
        if leaf <= self.leaf_max {
            self.reader.cpuid2(leaf, 0)
        } else {
            CpuIdResult { eax: 0, ebx: 0, ecx: 0, edx: 0 }
        }
    }
}
