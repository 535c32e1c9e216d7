//! What is left for the NMI of a CPU, by other CPUs and by itself, before an NMI IPI is sent there.
//!
//! An NMI carries no vector and no word of who sent it. So the sender first says here what it is about, and the
//! handler looks here at every NMI: the one look of the sample path at memory that others write. They write it when
//! they send and at no other time, so the line stays in the cache of its CPU. IPIs that merge into one NMI leave all
//! their messages, and one look finds them.

use core::sync::atomic::{AtomicU32, Ordering};

use x86_64::instructions::tlb;

use super::orders::Orders;
use crate::arch::exit;

/// What an NMI IPI is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Message {
    /// The NMI itself: it wakes, it starts a sampler, it makes the NMI of a self-test.
    Nudge = 1 << 0,
    /// Forget all cached translations: pages were unmapped that this CPU may know.
    Flush = 1 << 1,
    /// Halt for good: another CPU has last words to say.
    Halt = 1 << 2,
}

/// The mailbox of one CPU, on lines that nothing else is on.
#[repr(C, align(128))]
pub struct Mailbox {
    /// [`Message`]s not taken yet. Set by any CPU, taken by the NMI of this one.
    messages: AtomicU32,
    /// [`Message::Flush`]es obeyed. Written by the NMI of this CPU, read by whoever sent one; wraps.
    flushes: AtomicU32,
    /// Halts obeyed: 0 or 1.
    halted: AtomicU32,
    /// What the sampler's counters are to do.
    pub orders: Orders,
}

const _: () = assert!(
    size_of::<Mailbox>() == 128 && align_of::<Mailbox>() == 128,
    "soundness of the layout: what other CPUs write shares no line with what this one counts"
);

impl Mailbox {
    pub(super) const fn new() -> Self {
        let [messages, flushes, halted] = [const { AtomicU32::new(0) }; 3];
        Self { messages, flushes, halted, orders: Orders::new() }
    }

    /// Leaves a message; the NMI has to be sent after that.
    pub fn leave(&self, message: Message) {
        // Release: what the message is about comes first.
        self.messages.fetch_or(message as u32, Ordering::Release);
    }

    /// Tells whether a message was not taken yet.
    #[cfg(feature = "selftest")]
    pub(super) fn is_waiting(&self, message: Message) -> bool {
        self.messages.load(Ordering::Relaxed) & message as u32 != 0
    }

    /// Takes all messages, obeys them, and returns how many events they are: one, however many merged.
    ///
    /// # Context
    /// The NMI of this CPU.
    #[inline]
    pub(super) fn claim(&self) -> u32 {
        // A look first, for the exchange is locked: most NMIs are about something else. A message that is left
        // after it brings an NMI of its own.
        if self.messages.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.open();
        1
    }

    #[cold]
    fn open(&self) {
        // Acquire: pairs with `leave`.
        let messages = self.messages.swap(0, Ordering::Acquire);
        if messages & Message::Halt as u32 != 0 {
            self.halted.store(1, Ordering::Release);
            exit::halt();
        }
        if messages & Message::Flush as u32 != 0 {
            // Nothing is mapped as global, so this forgets everything.
            tlb::flush_all();
            // Release: whoever sees the count may use the frames.
            self.flushes.fetch_add(1, Ordering::Release);
        }
    }

    /// Returns how many times translations were forgotten; it wraps.
    pub fn flushes(&self) -> u32 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Tells whether the CPU has halted for good.
    pub fn has_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire) != 0
    }
}
