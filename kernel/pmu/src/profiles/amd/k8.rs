//! Athlon 64 (Venice): family 0FH, four counters, event codes of 8 bits.

use super::LEGACY;
use crate::profiles::{AmdRegisters, Profile, Registers, authentic_amd, leaf};

/// The CPU `k8`.
pub static K8: Profile = Profile {
    id: "k8",
    name: "AMD Athlon 64 (K8)",
    leaves: &[
        authentic_amd(0, 0x1),
        leaf(0x1, [0x0002_0ff0, 0x0000_0800, 0x1, 0x078b_fbff]),
        authentic_amd(0x8000_0000, 0x8000_0018),
        leaf(0x8000_0001, [0x0002_0ff0, 0x10a, 0x1, 0xe3d3_fbff]),
        leaf(0x8000_0008, [0x0000_3028, 0, 0, 0]),
    ],
    registers: Registers::Amd(AmdRegisters { wide_select: false, ..LEGACY }),
};
