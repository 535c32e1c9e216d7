//! EPYC of the second generation (Rome): family 17H.

use super::CORE_EXTENSION;
use crate::model::AmdEvents;
use crate::profiles::{AmdRegisters, Profile, Registers, authentic_amd, leaf, sub_leaf};

/// The CPU `zen2`.
pub static ZEN2: Profile = Profile {
    id: "zen2",
    name: "AMD Zen 2",
    leaves: &[
        authentic_amd(0, 0x10),
        leaf(0x1, [0x0083_0f10, 0x0080_0800, 0x7ef8_320b, 0x178b_fbff]),
        sub_leaf(0x7, 0, [0, 0x219c_91a9, 0x0040_0004, 0]),
        authentic_amd(0x8000_0000, 0x8000_0020),
        leaf(0x8000_0001, [0x0083_0f10, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        leaf(0x8000_0008, [0x0000_3030, 0x018e_f757, 0x0000_707f, 0x0001_0000]),
        leaf(0x8000_001b, [0x3ff, 0, 0, 0]),
    ],
    registers: Registers::Amd(AmdRegisters { events: AmdEvents::Zen2, ..CORE_EXTENSION }),
};
