//! Intel parts with architectural performance monitoring up to version 4.
//!
//! `IA32_PERF_CAPABILITIES` is not part of CPUID dumps; its values are *typical*: composed of what the SDM (volume 4)
//! says of each field and of what Linux reports for these parts at boot (depth and format of the branch records, PEBS
//! format, full-width counters).

use super::{IntelRegisters, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// Core Duo T2400 (Yonah): version 1, with no global register and no fixed counter.
pub static CORE_DUO: Profile = Profile {
    id: "core-duo",
    name: "Intel Core Duo (Yonah)",
    leaves: &[
        genuine_intel(0xa),
        leaf(0x1, [0x0000_06e8, 0x0001_0800, 0x0000_c109, 0xafe9_fbff]),
        leaf(0xa, [0x0728_0201, 0, 0, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0, 0x0010_0000]),
        leaf(0x8000_0008, [0x0000_2020, 0, 0, 0]),
    ],
    // ECX bit 15 of leaf 1 is set on this part, so the register is there; all of its fields are 0 (typical).
    registers: Registers::Intel(IntelRegisters {
        version: 1,
        general: 2,
        general_width_bits: 40,
        fixed: 0,
        fixed_width_bits: 0,
        capabilities: Some(0),
        missing_events: 0,
        any_thread: false,
        pin_control: true,
        transactional: false,
    }),
};

/// Core 2 of the second generation (Penryn): version 2.
pub static PENRYN: Profile = Profile {
    id: "penryn",
    name: "Intel Core 2 (Penryn)",
    leaves: &[
        genuine_intel(0xd),
        leaf(0x1, [0x0001_067a, 0x0002_0800, 0x0400_e39d, 0xbfeb_fbff]),
        leaf(0xa, [0x0728_0202, 0, 0, 0x0000_0503]),
        sub_leaf(0xd, 0, [0x3, 0x240, 0x240, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x1, 0x2010_0000]),
        leaf(0x8000_0008, [0x0000_3024, 0, 0, 0]),
    ],
    registers: Registers::Intel(IntelRegisters {
        version: 2,
        general: 2,
        general_width_bits: 40,
        fixed: 3,
        fixed_width_bits: 40,
        capabilities: Some(0x00c1),
        missing_events: 0,
        any_thread: false,
        pin_control: true,
        transactional: false,
    }),
};

/// Core i7 of the first generation (Nehalem): version 3, with one architectural event missing.
pub static NEHALEM: Profile = Profile {
    id: "nehalem",
    name: "Intel Core i7 (Nehalem)",
    leaves: &[
        genuine_intel(0xb),
        leaf(0x1, [0x0001_06a4, 0x0010_0800, 0x0098_e3bd, 0xbfeb_fbff]),
        leaf(0xa, [0x0730_0403, 0x40, 0, 0x0000_0603]),
        sub_leaf(0xb, 0, [0x1, 0x2, 0x100, 0]),
        sub_leaf(0xb, 1, [0x4, 0x8, 0x201, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x1, 0x2810_0000]),
        leaf(0x8000_0008, [0x0000_3024, 0, 0, 0]),
    ],
    registers: Registers::Intel(IntelRegisters {
        version: 3,
        general: 4,
        general_width_bits: 48,
        fixed: 3,
        fixed_width_bits: 48,
        capabilities: Some(0x11c3),
        missing_events: 0x40,
        any_thread: true,
        pin_control: true,
        transactional: false,
    }),
};

/// Core of the second generation (Sandy Bridge) without threads, so that each core has eight counters: version 3.
pub static SANDY_BRIDGE: Profile = Profile {
    id: "sandy-bridge",
    name: "Intel Sandy Bridge (no threads)",
    leaves: &[
        genuine_intel(0xd),
        leaf(0x1, [0x0002_06a7, 0x0010_0800, 0x1fba_e3ff, 0xbfeb_fbff]),
        leaf(0xa, [0x0730_0803, 0, 0, 0x0000_0603]),
        sub_leaf(0xd, 0, [0x7, 0x340, 0x340, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x1, 0x2810_0000]),
        leaf(0x8000_0008, [0x0000_3024, 0, 0, 0]),
    ],
    registers: Registers::Intel(IntelRegisters {
        version: 3,
        general: 8,
        general_width_bits: 48,
        fixed: 3,
        fixed_width_bits: 48,
        capabilities: Some(0x31c3),
        missing_events: 0,
        any_thread: true,
        pin_control: false,
        transactional: false,
    }),
};

/// Core of the sixth generation (Skylake, client): version 4.
pub static SKYLAKE: Profile = Profile {
    id: "skylake",
    name: "Intel Skylake (client)",
    leaves: &[
        genuine_intel(0x16),
        leaf(0x1, [0x0005_06e3, 0x0010_0800, 0x7ffa_fbbf, 0xbfeb_fbff]),
        sub_leaf(0x7, 0, [0, 0x029c_6fbf, 0, 0x9c00_2400]),
        leaf(0xa, [0x0730_0404, 0, 0, 0x0000_0603]),
        leaf(0x16, [0xfa0, 0x1068, 0x64, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3027, 0, 0, 0]),
    ],
    registers: Registers::Intel(IntelRegisters {
        version: 4,
        general: 4,
        general_width_bits: 48,
        fixed: 3,
        fixed_width_bits: 48,
        capabilities: Some(0x33c5),
        missing_events: 0,
        any_thread: true,
        pin_control: false,
        transactional: true,
    }),
};
