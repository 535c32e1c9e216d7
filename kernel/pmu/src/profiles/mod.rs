//! CPUs that the model can be: what CPUID says there, and what the PMU really is.
//!
//! The two are kept apart on purpose. A driver finds the PMU by CPUID; the model acts by [`Registers`], which was
//! written from the manuals, not computed from the leaves. So a driver that misreads a leaf meets registers that
//! differ from its idea of them, and a CPU that lies ([`Registers::Forgotten`]) is as easy to state as one that
//! does not.
//!
//! A profile is also a CPUID reader for `raw-cpuid`. Only the leaves that tell something of the CPU's identity or of
//! its PMU are listed; others read as 0, which is what a CPU answers for a leaf that it does not have. Intel answers
//! a leaf beyond the last one with the data of the last basic leaf (SDM volume 2, CPUID), AMD with 0: the profiles do
//! the same, because a driver that forgets to look at the last leaf's number then reads nonsense.
//!
//! The leaves were taken from dumps of the parts (the CPUID collection of InstLatx64) unless a comment says *typical*.

mod amd;
mod intel;
mod qemu;

use raw_cpuid::{CpuIdReader, CpuIdResult};

use crate::model::AmdEvents;

pub use amd::{BULLDOZER, FAMILY_10H, K8, ZEN2, ZEN3, ZEN4, ZEN5};
pub use intel::{
    ALDER_LAKE_E, ALDER_LAKE_P, CORE_DUO, ICE_LAKE, NEHALEM, PENRYN, SANDY_BRIDGE, SAPPHIRE_RAPIDS, SKYLAKE,
};
pub use qemu::QEMU64;

/// All profiles.
pub const ALL: [&Profile; 17] = [
    &CORE_DUO,
    &PENRYN,
    &NEHALEM,
    &SANDY_BRIDGE,
    &SKYLAKE,
    &ICE_LAKE,
    &ALDER_LAKE_P,
    &ALDER_LAKE_E,
    &SAPPHIRE_RAPIDS,
    &K8,
    &FAMILY_10H,
    &BULLDOZER,
    &ZEN2,
    &ZEN3,
    &ZEN4,
    &ZEN5,
    &QEMU64,
];

/// Finds a profile by its name in one word.
#[must_use]
pub fn find(id: &str) -> Option<&'static Profile> {
    ALL.iter().find(|profile| profile.id == id).copied()
}

/// A CPU.
#[derive(Debug)]
pub struct Profile {
    /// Name of the part in one word.
    pub id: &'static str,
    /// Name of the part.
    pub name: &'static str,
    /// What CPUID answers.
    pub leaves: &'static [Leaf],
    /// Which registers the PMU really has.
    pub registers: Registers,
}

/// The answer of CPUID to one leaf.
#[derive(Clone, Copy, Debug)]
pub struct Leaf {
    /// Number of the leaf (EAX).
    pub number: u32,
    /// Number of the sub-leaf (ECX); `None` where ECX does not matter.
    pub sub: Option<u32>,
    /// EAX, EBX, ECX, EDX.
    pub registers: [u32; 4],
}

/// The registers of a PMU.
#[derive(Clone, Copy, Debug)]
pub enum Registers {
    /// Intel's, of any version.
    Intel(IntelRegisters),
    /// AMD's, of any kind.
    Amd(AmdRegisters),
    /// None, and nothing says so: every register reads as 0 and forgets what is written, without #GP.
    Forgotten,
}

/// What an Intel PMU has.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `version` | u8 | | of architectural performance monitoring |
/// | `general`, `fixed` | u8 | counters | |
/// | `general_width_bits`, `fixed_width_bits` | u8 | bits | |
/// | `capabilities` | option | | `IA32_PERF_CAPABILITIES`, where there is one |
/// | `missing_events` | u32 | bits | architectural events that are not there, as in CPUID.0AH:EBX |
/// | `any_thread` | bool | | counters can count for the whole core |
/// | `pin_control` | bool | | bit 19 of an event select can be written |
/// | `transactional` | bool | | event selects have the bits for transactions (32, 33) |
#[derive(Clone, Copy, Debug)]
pub struct IntelRegisters {
    /// Version of architectural performance monitoring.
    pub version: u8,
    /// General-purpose counters.
    pub general: u8,
    /// Width of each of them.
    pub general_width_bits: u8,
    /// Fixed-function counters.
    pub fixed: u8,
    /// Width of each of them.
    pub fixed_width_bits: u8,
    /// `IA32_PERF_CAPABILITIES`, where there is one.
    pub capabilities: Option<u64>,
    /// Architectural events that are not there: bits as in CPUID.0AH:EBX.
    pub missing_events: u32,
    /// Whether counters can count for all threads of the core.
    pub any_thread: bool,
    /// Whether the pin control bit of an event select can be written.
    pub pin_control: bool,
    /// Whether event selects have the bits for transactions.
    pub transactional: bool,
}

/// What an AMD PMU has.
#[derive(Clone, Copy, Debug)]
pub struct AmdRegisters {
    /// Counters.
    pub counters: u8,
    /// Whether there are the registers from C001_0200H on.
    pub core_extension: bool,
    /// Whether there are the global registers from C000_0300H on.
    pub global: bool,
    /// Whether an overflow can stop all counters (CPUID 8000_0022H:EAX bit 2).
    pub freeze: bool,
    /// Whether event selects have bits above 31 (family 10H on).
    pub wide_select: bool,
    /// Which event codes it knows.
    pub events: AmdEvents,
}

impl Profile {
    /// Returns what CPUID answers: EAX, EBX, ECX, EDX.
    #[must_use]
    pub fn leaf(&self, number: u32, sub: u32) -> [u32; 4] {
        let (number, sub) = if self.is_listed(number) { (number, sub) } else { (self.fallback(), 0) };
        let found =
            self.leaves.iter().find(|leaf| leaf.number == number && leaf.sub.is_none_or(|own| own == sub));
        found.map_or([0; 4], |leaf| leaf.registers)
    }

    /// Tells whether this is a part of Intel's.
    #[must_use]
    pub fn is_intel(&self) -> bool {
        self.highest(0).is_some_and(|[_, ebx, ..]| ebx == GENU)
    }

    /// Tells whether the leaf is not beyond the last one of its range.
    fn is_listed(&self, number: u32) -> bool {
        let range = number & 0xffff_0000;
        matches!(range, 0 | 0x8000_0000) && self.highest(range).is_some_and(|[last, ..]| number <= last)
    }

    /// Returns the leaf that is answered in place of one that is not there.
    fn fallback(&self) -> u32 {
        match self.highest(0) {
            Some([last, GENU, ..]) => last,
            _ => u32::MAX,
        }
    }

    /// Returns the leaf that names the last leaf of a range.
    fn highest(&self, range: u32) -> Option<[u32; 4]> {
        self.leaves.iter().find(|leaf| leaf.number == range).map(|leaf| leaf.registers)
    }
}

impl CpuIdReader for &'static Profile {
    fn cpuid2(&self, eax: u32, ecx: u32) -> CpuIdResult {
        let [eax, ebx, ecx, edx] = self.leaf(eax, ecx);
        CpuIdResult { eax, ebx, ecx, edx }
    }
}

/// The first letters of "GenuineIntel", as EBX of leaf 0 has them.
const GENU: u32 = 0x756e_6547;

/// Returns leaf 0 of an Intel part.
const fn genuine_intel(last: u32) -> Leaf {
    leaf(0, [last, GENU, 0x6c65_746e, 0x4965_6e69])
}

/// Returns leaf 0 or 8000_0000H of an AMD part.
const fn authentic_amd(number: u32, last: u32) -> Leaf {
    leaf(number, [last, 0x6874_7541, 0x444d_4163, 0x6974_6e65])
}

/// Returns a leaf that has no sub-leaves.
const fn leaf(number: u32, registers: [u32; 4]) -> Leaf {
    Leaf { number, sub: None, registers }
}

/// Returns a sub-leaf.
const fn sub_leaf(number: u32, sub: u32, registers: [u32; 4]) -> Leaf {
    Leaf { number, sub: Some(sub), registers }
}
