//! The tag of a record: what a sample has that needs no word of its own.

/// The part of a record that is no word of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The call chain was cut.
    pub truncated: bool,
    /// It was cut at a frame that is not mapped.
    pub faulted: bool,
    /// It goes on into user code, or begins there.
    pub user: bool,
    /// Index of the event, below 16.
    pub event: u8,
    /// Frame number of the top-level table in CR3; 0 where it was not looked at.
    pub space: u64,
}

impl Tag {
    const TRUNCATED: u64 = 1 << 0;
    const FAULTED: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const EVENT_SHIFT: u32 = 3;
    const EVENT_MASK: u64 = 0xf;
    const SPACE_SHIFT: u32 = 8;

    pub(super) const fn to_bits(self) -> u64 {
        let truncated = if self.truncated { Self::TRUNCATED } else { 0 };
        let faulted = if self.faulted { Self::FAULTED } else { 0 };
        let user = if self.user { Self::USER } else { 0 };
        let event = (self.event as u64 & Self::EVENT_MASK) << Self::EVENT_SHIFT;
        (self.space << Self::SPACE_SHIFT) | event | truncated | faulted | user
    }

    /// Reads a record's tag.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            truncated: bits & Self::TRUNCATED != 0,
            faulted: bits & Self::FAULTED != 0,
            user: bits & Self::USER != 0,
            event: (bits >> Self::EVENT_SHIFT & Self::EVENT_MASK) as u8,
            space: bits >> Self::SPACE_SHIFT,
        }
    }
}
