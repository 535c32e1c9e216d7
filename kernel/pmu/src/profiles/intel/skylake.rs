//! Core of the sixth generation (Skylake, client): version 4.

use crate::profiles::{IntelRegisters, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `skylake`.
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
