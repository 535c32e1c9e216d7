//! AMD parts, from the K8 to Zen 5.
//!
//! Nothing in CPUID announces the four counters of the K7 and its successors: software knows them by the family. The
//! core extension is bit 23 of 8000_0001H:ECX, PerfMonV2 is leaf 8000_0022H.

use super::{AmdRegisters, Profile, Registers, authentic_amd, leaf, sub_leaf};
use crate::model::AmdEvents;

/// Athlon 64 (Venice): family 0FH, four counters, event codes of 8 bits.
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

/// Phenom II (Deneb): family 10H, four counters, instruction-based sampling.
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

/// FX (Zambezi): family 15H, the first with the core extension.
pub static BULLDOZER: Profile = Profile {
    id: "bulldozer",
    name: "AMD FX (family 15h)",
    leaves: &[
        authentic_amd(0, 0xd),
        leaf(0x1, [0x0060_0f12, 0x0008_0800, 0x1e98_220b, 0x178b_fbff]),
        authentic_amd(0x8000_0000, 0x8000_001e),
        leaf(0x8000_0001, [0x0060_0f12, 0x1000_0000, 0x01c9_bfff, 0x2fd3_fbff]),
        leaf(0x8000_0008, [0x0000_3030, 0, 0x4007, 0]),
        leaf(0x8000_001b, [0xff, 0, 0, 0]),
    ],
    registers: Registers::Amd(CORE_EXTENSION),
};

/// EPYC of the second generation (Rome): family 17H.
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

/// EPYC of the third generation (Milan): family 19H, leaf 8000_0022H is there and empty.
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

/// EPYC of the fourth generation (Genoa): family 19H, the first with PerfMonV2.
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

/// EPYC of the fifth generation (Turin): family 1AH, PerfMonV2.
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

/// Four counters, each alone.
const LEGACY: AmdRegisters = AmdRegisters {
    counters: 4,
    core_extension: false,
    global: false,
    freeze: false,
    wide_select: true,
    events: AmdEvents::K8,
};

/// Six counters, each alone.
const CORE_EXTENSION: AmdRegisters = AmdRegisters { counters: 6, core_extension: true, ..LEGACY };

/// Six counters with global registers.
const PERFMON_V2: AmdRegisters =
    AmdRegisters { global: true, freeze: true, events: AmdEvents::Zen4, ..CORE_EXTENSION };
