//! What a sample has, and which samples are kept.

use crate::arch::frame::IretFrame;

/// What a sample has besides time and address, and which samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Call chains.
    pub chains: bool,
    /// The address space.
    pub spaces: bool,
    /// Which samples are kept.
    pub kept: Kept,
}

impl Detail {
    /// The least there is.
    pub const PLAIN: Self = Self { chains: false, spaces: false, kept: Kept::ALL };
}

/// Which samples are kept, by the privilege level of the interrupted code: bit N stands for event N. For a PMU that
/// can't tell the levels apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Events whose samples of user code are kept.
    pub user: u16,
    /// Events whose samples of the kernel are kept.
    pub kernel: u16,
}

impl Kept {
    /// All samples.
    pub const ALL: Self = Self { user: u16::MAX, kernel: u16::MAX };

    pub(super) const fn has(self, event: u8, interrupted: &IretFrame) -> bool {
        let events = if interrupted.is_user() { self.user } else { self.kernel };
        events >> (event & 15) & 1 != 0
    }
}
