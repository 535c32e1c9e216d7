//! Core 2 of the second generation (Penryn): version 2.

use crate::profiles::{IntelRegisters, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `penryn`.
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
