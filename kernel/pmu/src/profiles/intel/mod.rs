//! Intel parts with architectural performance monitoring of versions 1 to 5.
//!
//! `IA32_PERF_CAPABILITIES` is not part of CPUID dumps; its values are *typical*: composed of what the SDM (volume 4)
//! says of each field and of what Linux reports for these parts at boot (depth and format of the branch records, PEBS
//! format, full-width counters).

mod alder_lake_e;
mod alder_lake_p;
mod core_duo;
mod ice_lake;
mod nehalem;
mod penryn;
mod sandy_bridge;
mod sapphire_rapids;
mod skylake;

pub use alder_lake_e::ALDER_LAKE_E;
pub use alder_lake_p::ALDER_LAKE_P;
pub use core_duo::CORE_DUO;
pub use ice_lake::ICE_LAKE;
pub use nehalem::NEHALEM;
pub use penryn::PENRYN;
pub use sandy_bridge::SANDY_BRIDGE;
pub use sapphire_rapids::SAPPHIRE_RAPIDS;
pub use skylake::SKYLAKE;

use super::{IntelRegisters, Leaf, leaf, sub_leaf};

/// Leaf 7 of both kinds of core.
const ALDER_LAKE_FEATURES: Leaf = sub_leaf(0x7, 0, [0x2, 0x239c_27eb, 0x98c0_07ac, 0xfc18_c410]);

/// Leaf 0AH of both kinds of core.
const ALDER_LAKE_COUNTERS: Leaf = leaf(0xa, [0x0730_0605, 0, 0x7, 0x0000_8603]);

/// What parts of version 5 share: they no longer count for other threads (CPUID.0AH:EDX bit 15), they list their fixed
/// counters as a bit map too (ECX), and they have adaptive PEBS.
const fn version_5(general: u8, fixed: u8, capabilities: u64) -> IntelRegisters {
    IntelRegisters {
        version: 5,
        general,
        general_width_bits: 48,
        fixed,
        fixed_width_bits: 48,
        capabilities: Some(capabilities),
        missing_events: 0,
        any_thread: false,
        pin_control: false,
        transactional: false,
    }
}
