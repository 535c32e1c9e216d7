//! Core i7 of the first generation (Nehalem): version 3, with one architectural event missing.

use crate::profiles::{IntelRegisters, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `nehalem`.
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
