//! Core Duo T2400 (Yonah): version 1, with no global register and no fixed counter.

use crate::profiles::{IntelRegisters, Profile, Registers, genuine_intel, leaf};

/// The CPU `core-duo`.
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
