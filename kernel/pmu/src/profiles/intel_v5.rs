//! Intel parts with architectural performance monitoring of version 5.
//!
//! They no longer count for other threads (CPUID.0AH:EDX bit 15), they list their fixed counters as a bit map too
//! (ECX), and they have adaptive PEBS. `IA32_PERF_CAPABILITIES` is *typical*, see `intel.rs`.

use super::{IntelRegisters, Leaf, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// Core of the tenth generation (Ice Lake, client): four fixed counters.
pub static ICE_LAKE: Profile = Profile {
    id: "ice-lake",
    name: "Intel Ice Lake (client)",
    leaves: &[
        genuine_intel(0x1b),
        leaf(0x1, [0x0007_06e5, 0x0010_0800, 0x7ffa_fbbf, 0xbfeb_fbff]),
        sub_leaf(0x7, 0, [0, 0xf2bf_27ef, 0x4040_5f4e, 0xbc00_0410]),
        leaf(0xa, [0x0830_0805, 0, 0xf, 0x0000_8604]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3027, 0, 0, 0]),
    ],
    registers: Registers::Intel(version_5(8, 4, 0xf4c5)),
};

/// Core of the twelfth generation (Alder Lake), a performance core (Golden Cove).
///
/// Both kinds of core announce what the smaller one has: six general counters and three fixed ones.
pub static ALDER_LAKE_P: Profile = Profile {
    id: "alder-lake-p",
    name: "Intel Alder Lake (P-core)",
    leaves: &[
        genuine_intel(0x20),
        leaf(0x1, [0x0009_0672, 0x0080_0800, 0x7ffa_fbbf, 0xbfeb_fbff]),
        ALDER_LAKE_FEATURES,
        ALDER_LAKE_COUNTERS,
        leaf(0x1a, [0x4000_0001, 0, 0, 0]),
        leaf(0x1c, [0x4000_000b, 0x7, 0x7, 0]),
        sub_leaf(0x20, 0, [0, 1, 0, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3027, 0, 0, 0]),
    ],
    registers: Registers::Intel(version_5(6, 3, 0x0001_f4ff)),
};

/// Core of the twelfth generation (Alder Lake), an efficient core (Gracemont).
pub static ALDER_LAKE_E: Profile = Profile {
    id: "alder-lake-e",
    name: "Intel Alder Lake (E-core)",
    leaves: &[
        genuine_intel(0x20),
        leaf(0x1, [0x0009_0672, 0x4080_0800, 0x7ffa_fbbf, 0xbfeb_fbff]),
        ALDER_LAKE_FEATURES,
        ALDER_LAKE_COUNTERS,
        leaf(0x1a, [0x2000_0001, 0, 0, 0]),
        leaf(0x1c, [0xc000_000b, 0x7, 0x7, 0]),
        sub_leaf(0x20, 0, [0, 1, 0, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3027, 0, 0, 0]),
    ],
    registers: Registers::Intel(version_5(6, 3, 0x0001_74ff)),
};

/// Xeon of the fourth generation (Sapphire Rapids): four fixed counters, architectural branch records.
pub static SAPPHIRE_RAPIDS: Profile = Profile {
    id: "sapphire-rapids",
    name: "Intel Sapphire Rapids",
    leaves: &[
        genuine_intel(0x20),
        leaf(0x1, [0x0008_06f8, 0x0080_0800, 0x7ffe_fbff, 0xbfeb_fbff]),
        sub_leaf(0x7, 0, [0x2, 0xf3bf_bffb, 0xbb41_7fee, 0xffdd_4430]),
        sub_leaf(0x7, 1, [0x1c30, 0, 0, 0]),
        leaf(0xa, [0x0830_0805, 0, 0xf, 0x0000_8604]),
        leaf(0x1c, [0x4000_000b, 0x7, 0x7, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3934, 0x200, 0, 0]),
    ],
    registers: Registers::Intel(IntelRegisters { transactional: true, ..version_5(8, 4, 0x0001_f4ff) }),
};

/// Leaf 7 of both kinds of core.
const ALDER_LAKE_FEATURES: Leaf = sub_leaf(0x7, 0, [0x2, 0x239c_27eb, 0x98c0_07ac, 0xfc18_c410]);

/// Leaf 0AH of both kinds of core.
const ALDER_LAKE_COUNTERS: Leaf = leaf(0xa, [0x0730_0605, 0, 0x7, 0x0000_8603]);

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
