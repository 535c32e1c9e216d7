//! What the PMU of a CPU offers, as its driver found it.

use core::fmt;

use crate::counter::{Counter, CounterSet};

/// The interface of a PMU: which registers there are, and how they work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Intel architectural performance monitoring (CPUID leaf 0AH) of this version, 1 and up.
    Intel {
        /// Version of the leaf.
        version: u8,
    },
    /// AMD's four counters without a CPUID bit (K7 and up): MSR C001_0000H to C001_0007H.
    AmdLegacy,
    /// AMD's core extension (CPUID 8000_0001H:ECX bit 23): six counters, MSR C001_0200H and up.
    AmdCoreExtension,
    /// AMD's PerfMonV2 (CPUID 8000_0022H): the core extension with global registers.
    AmdPerfMonV2,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intel { version } => write!(f, "intel-v{version}"),
            Self::AmdLegacy => f.write_str("amd-legacy"),
            Self::AmdCoreExtension => f.write_str("amd-core-extension"),
            Self::AmdPerfMonV2 => f.write_str("amd-perfmon-v2"),
        }
    }
}

/// What kind of core of a hybrid processor this is (CPUID leaf 1AH).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreKind {
    /// A performance core.
    Core,
    /// An efficient core.
    Atom,
}

/// Precise samples and branch records: detected and listed, not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Intel's processor event based sampling (debug store with `IA32_MISC_ENABLE` bit 12 clear).
    pub pebs: bool,
    /// Intel's architectural last-branch records (CPUID.7:EDX bit 19): deepest stack in entries, else 0.
    pub lbr_depth_entries: u8,
    /// AMD's instruction-based sampling of fetches.
    pub ibs_fetch: bool,
    /// AMD's instruction-based sampling of micro-ops.
    pub ibs_op: bool,
}

/// What the PMU of a CPU offers.
///
/// | field | type | unit | meaning |
/// |---|---|---|---|
/// | `interface` | [`Interface`] | | registers and their semantics |
/// | `family`, `model` | u16, u8 | | of the CPU, extended fields included: which event codes it knows |
/// | `core_kind` | option | | on a hybrid processor |
/// | `general` | set | | general-purpose counters |
/// | `general_width_bits` | u8 | bits | of each |
/// | `fixed` | set | | fixed-function counters |
/// | `fixed_width_bits` | u8 | bits | of each |
/// | `full_width_writes` | bool | | general counters can be written in full width (`IA32_PERF_CAPABILITIES` bit 13) |
/// | `freeze_on_pmi` | bool | | all counters can be stopped by an overflow (`IA32_DEBUGCTL` bit 12) |
/// | `missing_events` | u32 | bits | architectural events that CPUID.0AH:EBX says are not there |
/// | `extras` | [`Extras`] | | what else there is |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Which registers there are.
    pub interface: Interface,
    /// Family of the CPU, the extended one included.
    pub family: u16,
    /// Model of the CPU, the extended one included.
    pub model: u8,
    /// What kind of core of a hybrid processor this is.
    pub core_kind: Option<CoreKind>,
    /// General-purpose counters.
    pub general: CounterSet,
    /// Width of each of them.
    pub general_width_bits: u8,
    /// Fixed-function counters.
    pub fixed: CounterSet,
    /// Width of each of them.
    pub fixed_width_bits: u8,
    /// Whether general counters can be written in full width.
    pub full_width_writes: bool,
    /// Whether an overflow can stop all counters.
    pub freeze_on_pmi: bool,
    /// Architectural events that are not there: bits as in CPUID.0AH:EBX.
    pub missing_events: u32,
    /// What else there is.
    pub extras: Extras,
}

impl Capabilities {
    /// Returns all counters.
    #[must_use]
    pub const fn counters(&self) -> CounterSet {
        self.general.union(self.fixed)
    }

    /// Returns the width of a counter.
    #[must_use]
    pub const fn width_bits(&self, counter: Counter) -> u8 {
        if counter.is_fixed() { self.fixed_width_bits } else { self.general_width_bits }
    }
}
