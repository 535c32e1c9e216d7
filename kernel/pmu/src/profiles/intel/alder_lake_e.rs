//! Core of the twelfth generation (Alder Lake), an efficient core (Gracemont).

use super::{ALDER_LAKE_COUNTERS, ALDER_LAKE_FEATURES, version_5};
use crate::profiles::{Profile, Registers, genuine_intel, leaf, sub_leaf};

/// The CPU `alder-lake-e`.
pub static ALDER_LAKE_E: Profile = Profile {
    id: "alder-lake-e",
    name: "Intel Alder Lake (E-core)",
    leaves: &[
        genuine_intel(0x20),
        leaf(0x1, [0x0009_0672, 0x4080_0800, 0x7ffa_fbbf, 0xbfeb_fbff]),
        ALDER_LAKE_FEATURES,
        ALDER_LAKE_COUNTERS,
        leaf(0x1a, [0x2000_0001, 0, 0, 0]),
        leaf(0x1c, [0xc000_000b, 0x7, 0x7, 0]),
        sub_leaf(0x20, 0, [0, 1, 0, 0]),
        leaf(0x8000_0000, [0x8000_0008, 0, 0, 0]),
        leaf(0x8000_0001, [0, 0, 0x121, 0x2c10_0000]),
        leaf(0x8000_0008, [0x0000_3027, 0, 0, 0]),
    ],
    registers: Registers::Intel(version_5(6, 3, 0x0001_74ff)),
};
