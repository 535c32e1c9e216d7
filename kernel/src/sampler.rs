//! The sampler: from an overflow to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Nothing is encoded in
//! the NMI: the drain does that.

use nmiprof_pmu::{Overflow, Pmu, VirtualPmu};
use nmiprof_ring::Producer;
use nmiprof_wire::Mode;

use crate::arch::apic::LocalApic;
use crate::arch::frame::IretFrame;
use crate::arch::layout::PAGE_BYTES;
use crate::arch::{cpu, paging};
use crate::callchain::{self, DEPTH_MAX, End};
use crate::memory::ring_memory::RingMemory;
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
    /// Frame number of the top-level table in CR3; 0 where it was not looked at.
    pub space: u64,
}

impl Tag {
    const TRUNCATED: u64 = 1 << 0;
    const SPACE_SHIFT: u32 = 8;

    const fn to_bits(self) -> u64 {
        (self.space << Self::SPACE_SHIFT) | if self.truncated { Self::TRUNCATED } else { 0 }
    }

    /// Reads a record's tag.
    pub const fn from_bits(bits: u64) -> Self {
        Self { truncated: bits & Self::TRUNCATED != 0, space: bits >> Self::SPACE_SHIFT }
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
    #[inline]
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
    #[inline]
    fn take(&mut self, interrupted: &Interrupted<'_>) {
        if !self.is_plain {
            let Interrupted { nmi, frame, frame_pointer } = interrupted;
            return self.take_in_detail(&nmi.counters, frame, *frame_pointer);
        }
        // Counted before the ring is tried, and independently of what becomes of the sample.
        interrupted.nmi.counters.overflows.increment();
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS) else { return };
        record.push(cpu::timestamp());
        record.push(interrupted.frame.rip);
        record.commit(Tag::default().to_bits());
    }

    /// Stores a sample with more than that: apart, so that a plain one does not pay for its registers.
    ///
    /// What the mode leaves out is no overflow: the event is that of the other privilege level.
    #[inline(never)]
    fn take_in_detail(&mut self, counters: &Counters, frame: &IretFrame, frame_pointer: u64) {
        if !self.detail.keeps(frame) {
            return;
        }
        counters.overflows.increment();
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        record.push(cpu::timestamp());
        record.push(frame.rip);
        let mut tag = Tag::default();
        if self.detail.chains {
            let end = callchain::walk(frame, frame_pointer, |address| {
                record.push(address);
            });
            if let End::Truncated(cut) = end {
                counters.count_cut_chain(cut);
                tag.truncated = true;
            }
        }
        if self.detail.spaces {
            tag.space = paging::loaded().start_address().as_u64() / PAGE_BYTES;
        }
        record.commit(tag.to_bits());
    }
}
