//! AMD parts, from the K8 to Zen 5.
//!
//! Nothing in CPUID announces the four counters of the K7 and its successors: software knows them by the family. The
//! core extension is bit 23 of 8000_0001H:ECX, PerfMonV2 is leaf 8000_0022H.

mod bulldozer;
mod family_10h;
mod k8;
mod zen2;
mod zen3;
mod zen4;
mod zen5;

pub use bulldozer::BULLDOZER;
pub use family_10h::FAMILY_10H;
pub use k8::K8;
pub use zen2::ZEN2;
pub use zen3::ZEN3;
pub use zen4::ZEN4;
pub use zen5::ZEN5;

use super::AmdRegisters;
use crate::model::AmdEvents;

/// Four counters, each alone.
const LEGACY: AmdRegisters = AmdRegisters {
    counters: 4,
    core_extension: false,
    global: false,
    freeze: false,
    wide_select: true,
    events: AmdEvents::K8,
};

/// Six counters, each alone.
const CORE_EXTENSION: AmdRegisters = AmdRegisters { counters: 6, core_extension: true, ..LEGACY };

/// Six counters with global registers.
const PERFMON_V2: AmdRegisters =
    AmdRegisters { global: true, freeze: true, events: AmdEvents::Zen4, ..CORE_EXTENSION };
