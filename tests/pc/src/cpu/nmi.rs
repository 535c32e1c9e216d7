//! The CPU's NMI input: masked from delivery to the next `iret`, with one NMI latched meanwhile.
//!
//! Sources: SDM volume 3, "Handling Multiple NMIs"; APM volume 2, "Non-Maskable Interrupt". The manuals differ about an
//! `iret` that faults: the SDM says that it unmasks NMIs all the same ("an execution of the IRET instruction unblocks
//! NMIs even if the instruction causes a fault"), QEMU 7.2 keeps them masked. So both can be chosen.

/// What an `iret` that faults does to NMIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IretFault {
    /// Unmasks them (SDM).
    #[default]
    Unmasks,
    /// Keeps them masked (QEMU 7.2).
    Keeps,
}

/// The input.
#[derive(Clone, Debug, Default)]
pub struct NmiLine {
    is_masked: bool,
    is_pending: bool,
    /// NMIs that arrive right after one is taken, one after each.
    following: u32,
    /// NMIs that arrived at the input.
    pub raised: u64,
    /// Those that found one latched already, and were lost in it.
    pub merged: u64,
    /// Those that were taken.
    pub taken: u64,
}

impl NmiLine {
    /// Lets an NMI arrive.
    pub fn raise(&mut self) {
        self.raised += 1;
        self.merged += u64::from(self.is_pending);
        self.is_pending = true;
    }

    /// Lets one arrive, and so many more, each right after the one before was taken.
    pub fn raise_in_a_row(&mut self, more: u32) {
        self.following = more;
        self.raise();
    }

    /// Tells whether one is to be taken.
    #[must_use]
    pub const fn is_deliverable(&self) -> bool {
        self.is_pending && !self.is_masked
    }

    /// Tells whether NMIs are masked.
    #[must_use]
    pub const fn is_masked(&self) -> bool {
        self.is_masked
    }

    /// Tells whether one is latched.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Takes it.
    pub fn take(&mut self) {
        self.is_pending = false;
        self.is_masked = true;
        self.taken += 1;
        if self.following > 0 {
            self.following -= 1;
            self.raise();
        }
    }

    /// Unmasks.
    pub fn unmask(&mut self) {
        self.is_masked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::NmiLine;

    #[test]
    fn one_nmi_is_latched_while_they_are_masked_and_further_ones_are_lost_in_it() {
        let mut line = NmiLine::default();
        line.raise();
        line.take();
        (0..3).for_each(|_| line.raise());
        assert!(!line.is_deliverable());
        line.unmask();
        assert!(line.is_deliverable());
        line.take();
        line.unmask();
        assert!(!line.is_deliverable());
        assert_eq!((line.raised, line.taken, line.merged), (4, 2, 2));
    }

    #[test]
    fn nmis_in_a_row_come_one_after_the_other() {
        let mut line = NmiLine::default();
        line.raise_in_a_row(2);
        for is_pending in [true, true, false] {
            assert!(line.is_deliverable());
            line.take();
            assert_eq!(line.is_pending(), is_pending);
            line.unmask();
        }
        assert_eq!((line.raised, line.taken, line.merged), (3, 3, 0));
    }
}
