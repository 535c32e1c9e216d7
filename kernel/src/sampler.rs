//! The sampler: from an overflow to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Nothing is encoded or looked
//! up in the NMI: the drain does that, and finds out which of the words are return addresses.

use nmiprof_pmu::{Overflow, Pmu, VirtualPmu};
use nmiprof_ring::{Grant, Producer};
use nmiprof_wire::Mode;

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{cpu, paging};
use crate::callchain::{self, Cut, DEPTH_MAX, End, Walk};
use crate::memory::ring_memory::RingMemory;
use crate::memory::stack::StackRange;
use crate::nmi::Interrupted;

/// Words of a payload before its return addresses.
pub const FIXED_WORDS: usize = 2;

/// What the NMI of one CPU samples with.
pub struct Sampler {
    /// The source of overflows.
    pub pmu: VirtualPmu<LocalApic>,
    ring: Producer<'static, RingMemory>,
    detail: Detail,
    /// The detail is the least there is.
    is_plain: bool,
}

/// What a sample has besides time and address, and which samples are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Call chains.
    pub chains: bool,
    /// The address space.
    pub spaces: bool,
    /// Which samples are kept.
    pub mode: Mode,
}

impl Detail {
    /// The least there is.
    pub const PLAIN: Self = Self { chains: false, spaces: false, mode: Mode::Any };

    const fn keeps(self, interrupted: &IretFrame) -> bool {
        match self.mode {
            Mode::Any => true,
            Mode::User => interrupted.is_user(),
            Mode::Kernel => !interrupted.is_user(),
        }
    }
}

/// The part of a record that is no word of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The call chain was cut.
    pub truncated: bool,
    /// It was cut at a frame that is not mapped.
    pub faulted: bool,
    /// It goes on into user code, or begins there.
    pub user: bool,
    /// Frame number of the top-level table in CR3; 0 where it was not looked at.
    pub space: u64,
}

impl Tag {
    const TRUNCATED: u64 = 1 << 0;
    const FAULTED: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    const SPACE_SHIFT: u32 = 8;

    const fn to_bits(self) -> u64 {
        let truncated = if self.truncated { Self::TRUNCATED } else { 0 };
        let faulted = if self.faulted { Self::FAULTED } else { 0 };
        let user = if self.user { Self::USER } else { 0 };
        (self.space << Self::SPACE_SHIFT) | truncated | faulted | user
    }

    /// Reads a record's tag.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            truncated: bits & Self::TRUNCATED != 0,
            faulted: bits & Self::FAULTED != 0,
            user: bits & Self::USER != 0,
            space: bits >> Self::SPACE_SHIFT,
        }
    }
}

impl Sampler {
    /// Creates a sampler that writes to `ring`.
    pub fn new(pmu: VirtualPmu<LocalApic>, ring: Producer<'static, RingMemory>, detail: Detail) -> Self {
        Self { pmu, ring, detail, is_plain: detail == Detail::PLAIN }
    }

    /// Gives the ring back.
    pub fn into_ring(self) -> Producer<'static, RingMemory> {
        self.ring
    }

    /// Takes a sample if this NMI is an overflow, and returns how many events it handled.
    ///
    /// # Context
    /// NMI; may fault, at the first touch of a ring page.
    #[inline(always)]
    pub fn handle(&mut self, interrupted: &Interrupted<'_>) -> u32 {
        match self.pmu.poll() {
            Overflow::NotMine => 0,
            Overflow::Partial => 1,
            Overflow::Complete => {
                self.take(interrupted);
                1
            }
        }
    }

    /// Stores a sample; the ring counts it if it can't be.
    #[inline(always)]
    fn take(&mut self, interrupted: &Interrupted<'_>) {
        if !self.is_plain {
            return self.take_in_detail(interrupted);
        }
        // Counted before the ring is tried, and independently of what becomes of the sample.
        interrupted.nmi.counters.overflows.increment();
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), interrupted.frame.rip];
        // A drop is counted already.
        let _ = self.ring.store(Tag::default().to_bits(), fixed);
    }

    /// Stores a sample with more than that.
    ///
    /// What the mode leaves out is no overflow: the event is that of the other privilege level.
    #[inline(always)]
    fn take_in_detail(&mut self, interrupted: &Interrupted<'_>) {
        if !self.detail.keeps(interrupted.frame) {
            return;
        }
        interrupted.nmi.counters.overflows.increment();
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let frame = interrupted.frame;
        record.push(cpu::timestamp());
        record.push(frame.rip);
        let mut tag = Tag::default();
        if self.detail.chains {
            push_chain(&mut record, &mut tag, frame, interrupted.frame_pointer);
        }
        if self.detail.spaces {
            tag.space = paging::loaded().start_address().as_u64() / PAGE_BYTES;
        }
        record.commit(tag.to_bits());
    }
}

/// Stores the call chain of interrupted code: the kernel's part, and then the user's.
#[inline(always)]
fn push_chain(
    record: &mut Grant<'_, RingMemory>,
    tag: &mut Tag,
    interrupted: &IretFrame,
    frame_pointer: u64,
) {
    let stack = StackRange::of_thread(interrupted.rsp).filter(|_| !interrupted.is_user());
    if let Some(stack) = &stack {
        let walk = record.extend(Walk::new(stack, interrupted.rsp, frame_pointer));
        if walk.is_complete() {
            return;
        }
        return push_user(record, tag, |depth, push| {
            callchain::walk_on(stack, interrupted.rsp, &walk, depth, push)
        });
    }
    push_user(record, tag, |depth, push| {
        if interrupted.is_user() {
            callchain::walk_user(interrupted.rsp, frame_pointer, depth, push)
        } else {
            // On no stack of a thread.
            End::Truncated(Cut::Pointer)
        }
    });
}

/// Stores what a walk over user code hands out, as far as there is room, and how it ended.
#[cold]
fn push_user(
    record: &mut Grant<'_, RingMemory>,
    tag: &mut Tag,
    walk: impl FnOnce(usize, &mut dyn FnMut(u64)) -> End,
) {
    let end = walk(record.room(), &mut |address| {
        record.push(address);
    });
    tag.user = true;
    tag.truncated = end != End::Complete;
    tag.faulted = end == End::Truncated(Cut::Fault);
}
