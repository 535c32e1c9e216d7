//! What is left for the NMI of a CPU, by other CPUs and by itself, before an NMI IPI is sent there.
//!
//! An NMI carries no vector and no word of who sent it. So the sender first says here what it is about, and the
//! handler looks here at every NMI: the one look of the sample path at memory that others write. They write it when
//! they send and at no other time, so the line stays in the cache of its CPU. IPIs that merge into one NMI leave all
//! their messages, and one look finds them.
//!
//! The reverse happens, too: a message is found by an NMI that was about something else, or about an earlier message,
//! and then its own NMI comes and finds nothing. From another CPU it may take its time, so it need not be back-to-back.
//! So whoever sends from another CPU counts, and so many empty NMIs as were sent and not yet seen are
//! [late](Mailbox::claims_late), for a while. (Linux reports them as unknown NMIs.)

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use x86_64::instructions::tlb;

use super::orders::Orders;
use crate::arch::percpu::SHARED_BYTES;
use crate::arch::{cpu, exit};

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

/// How long an NMI that was sent may take, in ticks of the clock: a tenth of a second. It takes a microsecond, but a CPU of
/// an emulator waits for its turn.
pub const LATE_TICKS: u64 = 1 << 28;

/// The mailbox of one CPU, on lines that nothing else is on.
#[repr(C, align(128))]
pub struct Mailbox {
    /// [`Message`]s not taken yet. Set by any CPU, taken by the NMI of this one.
    messages: AtomicU32,
    /// [`Message::Flush`]es obeyed. Written by the NMI of this CPU, read by whoever sent one; wraps.
    flushes: AtomicU32,
    /// Halts obeyed: 0 or 1.
    halted: AtomicU32,
    /// NMIs that other CPUs have sent, or are about to. Written by them; wraps.
    sent: AtomicU32,
    /// How many of these were sent when messages were last taken. Written by the NMI of this CPU, as the next two.
    sent_seen: AtomicU32,
    /// NMIs whose messages were taken and that may come still. They may also have merged.
    late: AtomicU32,
    /// Until when, by the time-stamp counter.
    late_until: AtomicU64,
    /// What the sampler's counters are to do.
    pub orders: Orders,
}

const _: () = assert!(
    size_of::<Mailbox>() == SHARED_BYTES && align_of::<Mailbox>() == SHARED_BYTES,
    "soundness of the layout: what other CPUs write shares no line with what this one counts"
);

impl Mailbox {
    pub(super) const fn new() -> Self {
        let [messages, flushes, halted, sent, sent_seen, late] = [const { AtomicU32::new(0) }; 6];
        let (late_until, orders) = (AtomicU64::new(0), Orders::new());
        Self { messages, flushes, halted, sent, sent_seen, late, late_until, orders }
    }

    /// Leaves a message of another CPU; the NMI has to be sent after that.
    pub fn leave_from_afar(&self, message: Message) {
        // Relaxed: the message, which is released, comes after it.
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.leave(message);
    }

    /// Leaves a message; the NMI has to be sent after that.
    pub(super) fn leave(&self, message: Message) {
        // Release: what the message is about comes first.
        self.messages.fetch_or(message as u32, Ordering::Release);
    }

    /// Tells whether a message was not taken yet.
    #[cfg(feature = "selftest")]
    pub(super) fn is_waiting(&self, message: Message) -> bool {
        self.messages.load(Ordering::Relaxed) & message as u32 != 0
    }

    /// Takes all messages, obeys them, and returns how many events they are: one, however many merged. `handled` is how
    /// many others this run has found: the NMI may have been theirs.
    ///
    /// # Context
    /// The NMI of this CPU.
    #[inline]
    pub(super) fn claim(&self, handled: u32) -> u32 {
        // A look first, for the exchange is locked: most NMIs are about something else. A message that is left
        // after it brings an NMI of its own.
        if self.messages.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.open(handled);
        1
    }

    #[cold]
    fn open(&self, handled: u32) {
        // Acquire: pairs with `leave`.
        let messages = self.messages.swap(0, Ordering::Acquire);
        self.note_sent(handled == 0);
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

    /// Notes how many NMIs may come still. One that found nothing but messages is one of those that were sent.
    fn note_sent(&self, is_alone: bool) {
        // Relaxed, here and below: what others write was acquired with the messages, and all else is this CPU's.
        let sent = self.sent.load(Ordering::Relaxed);
        let new = sent.wrapping_sub(self.sent_seen.load(Ordering::Relaxed));
        if new == 0 {
            // A message of this CPU: those that may come still may come still.
            return;
        }
        self.sent_seen.store(sent, Ordering::Relaxed);
        let late = self.late_left().saturating_add(new).saturating_sub(is_alone.into());
        self.late.store(late, Ordering::Relaxed);
        self.late_until.store(cpu::timestamp().wrapping_add(LATE_TICKS), Ordering::Relaxed);
    }

    /// Returns how many NMIs may come still.
    fn late_left(&self) -> u32 {
        let left_ticks = self.late_until.load(Ordering::Relaxed).wrapping_sub(cpu::timestamp());
        if left_ticks > LATE_TICKS { 0 } else { self.late.load(Ordering::Relaxed) }
    }

    /// Claims an NMI that found nothing, if it can be one whose message was taken before it came.
    ///
    /// # Context
    /// The NMI of this CPU.
    #[cold]
    pub(super) fn claims_late(&self) -> bool {
        let late = self.late_left();
        if late == 0 {
            return false;
        }
        self.late.store(late - 1, Ordering::Relaxed);
        true
    }

    /// Notes that an NMI that found nothing was explained by what came before it: it is none of those that may come.
    ///
    /// # Context
    /// As for [`Mailbox::claims_late`].
    #[inline]
    pub(super) fn late_was_explained(&self) {
        let late = self.late.load(Ordering::Relaxed);
        if late > 0 {
            self.late.store(late - 1, Ordering::Relaxed);
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
