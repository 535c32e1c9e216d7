//! FX (Zambezi): family 15H, the first with the core extension.

use super::CORE_EXTENSION;
use crate::profiles::{Profile, Registers, authentic_amd, leaf};

/// The CPU `bulldozer`.
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
