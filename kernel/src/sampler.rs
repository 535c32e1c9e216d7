//! The sampler: from an overflow to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Nothing is encoded or looked
//! up in the NMI: the drain does that, and finds out which of the words are return addresses.

use nmiprof_pmu::{Overflow, Pmu, VirtualPmu};
use nmiprof_ring::Producer;
use nmiprof_wire::Mode;

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{cpu, paging};
use crate::callchain::{self, Cut, DEPTH_MAX, End, Walk, Walked};
use crate::memory::ring_memory::RingMemory;
use crate::memory::stack::{self, Frames};
use crate::nmi::Interrupted;
use crate::nmi::counters::Counters;

/// Words of a payload before its return addresses.
pub const FIXED_WORDS: usize = 2;

/// What the NMI of one CPU samples with.
pub struct Sampler {
    /// The source of overflows.
    pub pmu: VirtualPmu<LocalApic>,
    ring: Producer<'static, RingMemory>,
    detail: Detail,
    form: Form,
    /// The frames on the stack of the thread that made this.
    frames: Frames,
}

/// How a sample is stored: the usual details have code of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Time and address.
    Plain,
    /// Those and the call chain of the one thread that there is.
    Chain,
    /// Whatever the detail says.
    Any,
}

impl Form {
    const fn of(detail: Detail) -> Self {
        match detail {
            Detail { chains: false, spaces: false, mode: Mode::Any } => Self::Plain,
            Detail { chains: true, spaces: false, mode: Mode::Any } => Self::Chain,
            _ => Self::Any,
        }
    }
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
        Self { pmu, ring, detail, form: Form::of(detail), frames: stack::current().frames() }
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
                // In this order, and not by a jump for all three: the plain one is the yardstick.
                if self.form == Form::Plain {
                    self.store_plain(interrupted);
                } else if self.form == Form::Chain {
                    self.store_with_chain(interrupted);
                } else {
                    self.store_any(&interrupted.nmi.counters, interrupted.frame, interrupted.frame_pointer);
                }
                1
            }
        }
    }

    /// Stores a sample of time and address; the ring counts it if it can't be.
    #[inline(always)]
    fn store_plain(&mut self, interrupted: &Interrupted<'_>) {
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
    fn store_with_chain(&mut self, interrupted: &Interrupted<'_>) {
        count_overflow(&interrupted.nmi.counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let frame = interrupted.frame;
        record.push(cpu::timestamp());
        record.push(frame.rip);
        let walk = record.extend(Walk::new(self.frames, frame.rsp, interrupted.frame_pointer));
        record.commit(Tag { truncated: !walk.is_complete(), ..Tag::default() }.to_bits());
    }

    /// Stores a sample with whatever the detail says: apart, so that the usual ones do not pay for its registers.
    #[inline(never)]
    fn store_any(&mut self, counters: &Counters, frame: &IretFrame, frame_pointer: u64) {
        // What the mode leaves out is no overflow: the event is that of the other privilege level.
        if !self.detail.keeps(frame) {
            return;
        }
        count_overflow(counters);
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let spaces = self.detail.spaces;
        let space = if spaces { paging::loaded().start_address().as_u64() / PAGE_BYTES } else { 0 };
        let tag = Tag { space, ..Tag::default() };
        record.push(cpu::timestamp());
        record.push(frame.rip);
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
fn count_overflow(counters: &Counters) {
    counters.overflows.increment();
}
