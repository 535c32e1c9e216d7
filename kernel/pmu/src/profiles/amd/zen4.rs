//! EPYC of the fourth generation (Genoa): family 19H, the first with PerfMonV2.

use super::PERFMON_V2;
use crate::profiles::{Profile, Registers, authentic_amd, leaf, sub_leaf};

/// The CPU `zen4`.
pub static ZEN4: Profile = Profile {
    id: "zen4",
    name: "AMD Zen 4",
    leaves: &[
        authentic_amd(0, 0x10),
        leaf(0x1, [0x00a1_0f11, 0x00c0_0800, 0x7efa_320b, 0x178b_fbff]),
        sub_leaf(0x7, 0, [0x1, 0xf1bf_97a9, 0x0041_5fce, 0x1000_0010]),
        authentic_amd(0x8000_0000, 0x8000_0028),
        leaf(0x8000_0001, [0x00a1_0f11, 0x4000_0000, 0x75c2_37ff, 0x2fd3_fbff]),
        leaf(0x8000_0008, [0x0000_3934, 0x79be_f25f, 0x0000_80bf, 0x0001_0007]),
        leaf(0x8000_001b, [0xbff, 0, 0, 0]),
        leaf(0x8000_0022, [0x7, 0x0030_4106, 0xfff, 0]),
    ],
    registers: Registers::Amd(PERFMON_V2),
};
