//! What the self-test reads on the NMI stack, how it repairs it, and where the entries are.

#![expect(
    unsafe_code,
    reason = "reads and writes the NMI stack while no NMI is handled, and names linker symbols"
)]

use core::ops::Range;
use core::ptr;

use super::NmiStack;
use crate::arch::frame::{IretFrame, WORD};

/// Words at the bottom that nothing may reach.
const CANARY_WORDS: usize = 256;
const CANARY: u64 = 0x6261_7279_6361_6e61;

unsafe extern "C" {
    safe static __nmi_entry_start: u8;
    safe static __nmi_entry_end: u8;
}

/// Returns the addresses of the code of all NMI entries.
pub fn text() -> Range<u64> {
    (&raw const __nmi_entry_start).addr() as u64..(&raw const __nmi_entry_end).addr() as u64
}

impl NmiStack {
    /// Returns the frame that the CPU pushed for the last arrival, as far as the entry left it alone: no entry
    /// changes its RIP.
    ///
    /// # Context
    /// Thread, while no NMI can arrive.
    pub fn last_arrival(&self) -> IretFrame {
        // SAFETY: the words lie in the mapped stack, where the CPU starts to push.
        unsafe { ptr::read_volatile(self.last_frame() as *const IretFrame) }
    }

    /// Returns the addresses of everything that entries write: this stack, and what is at the top of the second
    /// one, if there is one.
    pub fn used_by_entries(&self) -> [Range<u64>; 2] {
        [self.0.bottom..self.0.top, self.second_words()]
    }

    /// Writes the canary.
    ///
    /// # Context
    /// As [`NmiStack::last_arrival`].
    pub fn paint_canary(&self) {
        for index in 0..CANARY_WORDS {
            // SAFETY: the word lies at the bottom of the mapped stack, which is unused now.
            unsafe { ptr::write_volatile(self.word(index), CANARY) };
        }
    }

    /// Tells whether the canary is still there.
    ///
    /// # Context
    /// As [`NmiStack::last_arrival`].
    pub fn canary_is_intact(&self) -> bool {
        // SAFETY: the word lies at the bottom of the mapped stack.
        (0..CANARY_WORDS).all(|index| unsafe { ptr::read_volatile(self.word(index)) } == CANARY)
    }

    /// Makes the stack what it was before the first NMI: zeros, but for the canary, the counters, and the frame of
    /// the last arrival, which the next one overwrites.
    ///
    /// # Context
    /// On another stack, at the end of an NMI that was abandoned.
    pub fn make_idle(&self) {
        let words = (self.last_frame() - self.0.bottom) / WORD as u64;
        for index in CANARY_WORDS..usize::try_from(words).unwrap_or(CANARY_WORDS) {
            // SAFETY: the word lies in the mapped stack, below the frame; nothing on it is used any more.
            unsafe { ptr::write_volatile(self.word(index), 0) };
        }
    }

    fn last_frame(&self) -> u64 {
        self.top().as_u64() - size_of::<IretFrame>() as u64
    }

    const fn word(&self, index: usize) -> *mut u64 {
        (self.0.bottom as *mut u64).wrapping_add(index)
    }
}
