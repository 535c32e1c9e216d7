//! Known defects of the dispatcher, to show that the staged situations notice; self-test image only.

use super::Interrupted;
use super::mailbox::Mailbox;

/// A dispatcher broken in one known way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Not broken.
    None,
    /// An NMI elsewhere does not clear the swallow flag.
    KeepSwallow,
    /// Back-to-back is judged by what the last arrival interrupted: for a run that a nested NMI asked for that is
    /// the handler, not the outermost code.
    WrongRip,
    /// Every NMI is taken for back-to-back.
    AlwaysBackToBack,
    /// No NMI is that of an IPI whose message was taken before.
    NeverLate,
    /// Every NMI is, that nothing else explains.
    AlwaysLate,
}

impl Defect {
    /// Every defect, with its name on the command line.
    const ALL: [(&'static str, Self); 5] = [
        ("dispatch-keep-swallow", Self::KeepSwallow),
        ("dispatch-wrong-rip", Self::WrongRip),
        ("dispatch-always-b2b", Self::AlwaysBackToBack),
        ("dispatch-never-late", Self::NeverLate),
        ("dispatch-always-late", Self::AlwaysLate),
    ];

    /// Returns the defect with that name; names of other defects are not of the dispatcher.
    pub fn named(name: &str) -> Self {
        Self::ALL.iter().find(|(known, _)| *known == name).map_or(Self::None, |(_, defect)| *defect)
    }

    /// Returns what the dispatcher takes for the interrupted address.
    #[inline]
    pub fn rip(self, interrupted: &Interrupted<'_>) -> u64 {
        match self {
            Self::None | Self::KeepSwallow | Self::NeverLate | Self::AlwaysLate => interrupted.frame.rip,
            Self::WrongRip => interrupted.nmi.stack().last_arrival().rip,
            // No instruction is there, but every NMI seems to come from there.
            Self::AlwaysBackToBack => 1,
        }
    }

    /// Tells whether the dispatcher takes an NMI for that of an IPI whose message was taken before.
    pub fn is_late(self, mailbox: &Mailbox) -> bool {
        match self {
            Self::NeverLate => false,
            Self::AlwaysLate => true,
            _ => mailbox.claims_late(),
        }
    }

    /// Tells whether an NMI elsewhere leaves the swallow flag alone.
    pub fn keeps_swallow(self) -> bool {
        self == Self::KeepSwallow
    }
}
