//! Xeon of the fourth generation (Sapphire Rapids): four fixed counters, architectural branch records.

use super::version_5;
use crate::profiles::{IntelRegisters, Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `sapphire-rapids`.
pub static SAPPHIRE_RAPIDS: Profile = Profile {
    id: "sapphire-rapids",
    name: "Intel Sapphire Rapids",
    leaves: &[
        genuine_intel(0x20),
        leaf(0x1, [0x0008_06f8, 0x0080_0800, 0x7ffe_fbff, 0xbfeb_fbff]),
        sub_leaf(0x7, 0, [0x2, 0xf3bf_bffb, 0xbb41_7fee, 0xffdd_4430]),
        sub_leaf(0x7, 1, [0x1c30, 0, 0, 0]),
        leaf(0xa, [0x0830_0805, 0, 0xf, 0x0000_8604]),
        leaf(0x1c, [0x4000_000b, 0x7, 0x7, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3934, 0x200, 0, 0]),
    ],
    registers: Registers::Intel(IntelRegisters { transactional: true, ..version_5(8, 4, 0x0001_f4ff) }),
};
