//! EPYC of the fifth generation (Turin): family 1AH, PerfMonV2.

use super::PERFMON_V2;
use crate::profiles::{Profile, Registers, authentic_amd, leaf, sub_leaf};

/// The CPU `zen5`.
pub static ZEN5: Profile = Profile {
    id: "zen5",
    name: "AMD Zen 5",
    leaves: &[
        authentic_amd(0, 0x10),
        leaf(0x1, [0x00b0_0f21, 0x0040_0800, 0x7efa_320b, 0x178b_fbff]),
        sub_leaf(0x7, 0, [0x1, 0xf1bf_97ab, 0x1941_5fce, 0x1000_0110]),
        authentic_amd(0x8000_0000, 0x8000_0028),
        leaf(0x8000_0001, [0x00b0_0f21, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        leaf(0x8000_0008, [0x0000_3934, 0x79be_f25f, 0x0000_703f, 0x0001_0007]),
        leaf(0x8000_001b, [0x0008_1bff, 0, 0, 0]),
        leaf(0x8000_0022, [0x7, 0x0030_4106, 0xfff, 0]),
    ],
    registers: Registers::Amd(PERFMON_V2),
};
