//! From what was interrupted to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Which of the words are return addresses
//! the drain finds out.

use nmiprof_ring::Producer;

use super::{Detail, Tag};
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{cpu, paging};
use crate::callchain::{self, Cut, DEPTH_MAX, End, Walk, Walked};
use crate::memory::ring_memory::RingMemory;
use crate::memory::stack::{self, Frames};
use crate::nmi::Interrupted;
use crate::nmi::counters::Counters as NmiCounts;

/// Words of a payload before its return addresses.
pub const FIXED_WORDS: usize = 2;

/// Where samples go, and what they are made of.
pub(super) struct Store {
    ring: Producer<'static, RingMemory>,
    detail: Detail,
    /// The frames on the stack of the thread that made this.
    frames: Frames,
}

impl Store {
    pub(super) fn new(ring: Producer<'static, RingMemory>, detail: Detail) -> Self {
        Self { ring, detail, frames: stack::current().frames() }
    }

    /// Gives the ring back.
    pub(super) fn into_ring(self) -> Producer<'static, RingMemory> {
        self.ring
    }

    /// Stores a sample of time and address; the ring counts it if it can't be.
    #[inline(always)]
    pub(super) fn plain(&mut self, interrupted: &Interrupted<'_>) {
        count_overflow(&interrupted.nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), interrupted.frame.rip];
        // A drop is counted already.
        let _ = self.ring.store(Tag::default().to_bits(), fixed);
    }

    /// Stores a sample with its call chain.
    #[inline(always)]
    pub(super) fn with_chain(&mut self, interrupted: &Interrupted<'_>) {
        count_overflow(&interrupted.nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let frame = interrupted.frame;
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), frame.rip];
        record.push_all(fixed);
        let walk = record.extend(Walk::new(self.frames, frame.rsp, interrupted.frame_pointer));
        record.commit(Tag { truncated: !walk.is_complete(), ..Tag::default() }.to_bits());
    }

    /// Stores a sample of an event with whatever the detail says.
    pub(super) fn any(&mut self, interrupted: &Interrupted<'_>, event: u8) {
        let Interrupted { nmi, frame, frame_pointer } = *interrupted;
        // What is not kept is no overflow: the event is that of the other privilege level.
        if !self.detail.kept.has(event, frame) {
            return;
        }
        count_overflow(&nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let spaces = self.detail.spaces;
        let space = if spaces { paging::loaded().start_address().as_u64() / PAGE_BYTES } else { 0 };
        let tag = Tag { event, space, ..Tag::default() };
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), frame.rip];
        record.push_all(fixed);
        if !self.detail.chains {
            return record.commit(tag.to_bits());
        }
        let Walked { end, user } = callchain::walk(frame, frame_pointer, DEPTH_MAX, |address| {
            record.push(address);
        });
        let (truncated, faulted) = (end != End::Complete, end == End::Truncated(Cut::Fault));
        record.commit(Tag { truncated, faulted, user, ..tag }.to_bits());
    }
}

/// Counts an overflow: before the ring is tried, and independently of what becomes of the sample.
#[inline(always)]
fn count_overflow(counters: &NmiCounts) {
    counters.overflows.increment();
}
