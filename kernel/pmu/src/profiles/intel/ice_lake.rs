//! Core of the tenth generation (Ice Lake, client): four fixed counters.

use super::version_5;
use crate::profiles::{Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `ice-lake`.
pub static ICE_LAKE: Profile = Profile {
    id: "ice-lake",
    name: "Intel Ice Lake (client)",
    leaves: &[
        genuine_intel(0x1b),
        leaf(0x1, [0x0007_06e5, 0x0010_0800, 0x7ffa_fbbf, 0xbfeb_fbff]),
        sub_leaf(0x7, 0, [0, 0xf2bf_27ef, 0x4040_5f4e, 0xbc00_0410]),
        leaf(0xa, [0x0830_0805, 0, 0xf, 0x0000_8604]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3027, 0, 0, 0]),
    ],
    registers: Registers::Intel(version_5(8, 4, 0xf4c5)),
};
