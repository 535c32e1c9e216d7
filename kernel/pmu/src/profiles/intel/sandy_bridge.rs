//! Core of the second generation (Sandy Bridge) without threads, so that each core has eight counters: version 3.

use crate::profiles::{IntelRegisters, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `sandy-bridge`.
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
