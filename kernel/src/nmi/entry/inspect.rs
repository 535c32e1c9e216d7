//! What the self-test reads on the NMI stack, how it repairs it, and where the entries are.

#![expect(
    unsafe_code,
    reason = "reads and writes the NMI stacks while no NMI is handled, and names linker symbols"
)]

use core::ops::Range;
use core::ptr;

use super::NmiStack;
use super::latched::second_stack;
use crate::arch::frame::{IretFrame, WORD};
use crate::memory::stack::StackRange;

/// Words at the bottom that nothing may reach.
const CANARY_WORDS: u64 = 256;
/// What unused words hold.
const PAINT: u64 = 0x6261_7279_6361_6e61;
/// Words at the top that are never painted: the entries keep their state there from one NMI to the next.
const STATE_WORDS: u64 = 32;

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

    /// Paints this stack, and the second one if there is one, but for the entries' state.
    ///
    /// # Context
    /// As [`NmiStack::last_arrival`].
    pub fn paint(&self) {
        self.stacks().for_each(paint);
    }

    /// Returns the deepest use of either stack since [`NmiStack::paint`], in bytes from its top; not less than
    /// what is never painted. It is the deepest word *written*: what a frame reserves and leaves alone does not show.
    ///
    /// # Context
    /// As [`NmiStack::last_arrival`].
    pub fn deepest_use(&self) -> u64 {
        self.stacks().map(used_bytes).max().unwrap_or_default()
    }

    /// Tells whether nothing has come near the bottom of either stack.
    ///
    /// # Context
    /// As [`NmiStack::last_arrival`].
    pub fn canary_is_intact(&self) -> bool {
        self.stacks().all(|stack| (0..CANARY_WORDS).all(|index| read(stack, index) == PAINT))
    }

    /// Makes the stack what it was before the first NMI: painted, with zeros at the top, but for the counters and
    /// the frame of the last arrival, which the next one overwrites.
    ///
    /// # Context
    /// On another stack, at the end of an NMI that was abandoned.
    pub fn make_idle(&self) {
        let words = (self.last_frame() - self.0.bottom) / WORD as u64;
        for index in CANARY_WORDS..words {
            let is_state = index >= state_start(self.0);
            // SAFETY: the word lies in the mapped stack, below the frame; nothing on it is used any more.
            unsafe { ptr::write_volatile(word(self.0, index), if is_state { 0 } else { PAINT }) };
        }
    }

    fn last_frame(&self) -> u64 {
        self.top().as_u64() - size_of::<IretFrame>() as u64
    }

    /// Returns this stack and the second one, if there is one.
    pub fn stacks(&self) -> impl Iterator<Item = StackRange> {
        core::iter::once(self.0).chain(second_stack(self))
    }
}

fn paint(stack: StackRange) {
    for index in 0..state_start(stack) {
        // SAFETY: the word lies in the mapped stack, which is unused now below the entries' state.
        unsafe { ptr::write_volatile(word(stack, index), PAINT) };
    }
}

fn used_bytes(stack: StackRange) -> u64 {
    let painted = (0..state_start(stack)).take_while(|index| read(stack, *index) == PAINT).count() as u64;
    stack.top - stack.bottom - painted * WORD as u64
}

/// Returns the index of the first word that is never painted.
const fn state_start(stack: StackRange) -> u64 {
    (stack.top - stack.bottom) / WORD as u64 - STATE_WORDS
}

fn read(stack: StackRange, index: u64) -> u64 {
    // SAFETY: the callers name a word of the mapped stack.
    unsafe { ptr::read_volatile(word(stack, index)) }
}

const fn word(stack: StackRange, index: u64) -> *mut u64 {
    (stack.bottom + index * WORD as u64) as *mut u64
}
