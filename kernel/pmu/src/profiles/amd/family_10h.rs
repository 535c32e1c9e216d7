//! Phenom II (Deneb): family 10H, four counters, instruction-based sampling.

use super::LEGACY;
use crate::profiles::{Profile, Registers, authentic_amd, leaf};

/// The CPU `family-10h`.
pub static FAMILY_10H: Profile = Profile {
    id: "family-10h",
    name: "AMD Phenom II (family 10h)",
    leaves: &[
        authentic_amd(0, 0x5),
        leaf(0x1, [0x0010_0f42, 0x0004_0800, 0x0080_2009, 0x178b_fbff]),
        authentic_amd(0x8000_0000, 0x8000_001b),
        leaf(0x8000_0001, [0x0010_0f42, 0x1000_1a86, 0x0000_37ff, 0xefd3_fbff]),
        leaf(0x8000_0008, [0x0000_3030, 0, 0x2003, 0]),
        leaf(0x8000_001b, [0x1f, 0, 0, 0]),
    ],
    registers: Registers::Amd(LEGACY),
};
