//! EPYC of the third generation (Milan): family 19H, leaf 8000_0022H is there and empty.

use super::CORE_EXTENSION;
use crate::model::AmdEvents;
use crate::profiles::{AmdRegisters, Profile, Registers, authentic_amd, leaf, sub_leaf};

/// The CPU `zen3`.
pub static ZEN3: Profile = Profile {
    id: "zen3",
    name: "AMD Zen 3",
    leaves: &[
        authentic_amd(0, 0x10),
        leaf(0x1, [0x00a0_0f11, 0x0040_0800, 0x7eda_320b, 0x178b_fbff]),
        sub_leaf(0x7, 0, [0, 0x219c_97a9, 0x0040_068c, 0x10]),
        authentic_amd(0x8000_0000, 0x8000_0023),
        leaf(0x8000_0001, [0x00a0_0f11, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        leaf(0x8000_0008, [0x0000_3030, 0x91be_f75f, 0x0000_603f, 0x0001_0007]),
        leaf(0x8000_001b, [0x3ff, 0, 0, 0]),
        leaf(0x8000_0022, [0, 0, 0, 0]),
    ],
    registers: Registers::Amd(AmdRegisters { events: AmdEvents::Zen2, ..CORE_EXTENSION }),
};
