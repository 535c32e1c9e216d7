//! The sampler: from an overflow to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Nothing is encoded in
//! the NMI: the drain does that.

use nmiprof_pmu::{Overflow, Pmu, VirtualPmu};
use nmiprof_ring::Producer;

use crate::arch::apic::LocalApic;
use crate::arch::cpu;
use crate::arch::frame::IretFrame;
use crate::callchain::{self, DEPTH_MAX, End};
use crate::memory::ring_memory::RingMemory;
use crate::nmi::Interrupted;

/// Words of a payload before its return addresses.
pub const FIXED_WORDS: usize = 2;

/// What the NMI of one CPU samples with.
pub struct Sampler {
    /// The source of overflows.
    pub pmu: VirtualPmu<LocalApic>,
    ring: Producer<'static, RingMemory>,
    chains: bool,
}

/// The part of a record that is no word of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The call chain was cut.
    pub truncated: bool,
}

impl Tag {
    const TRUNCATED: u64 = 1 << 0;

    const fn to_bits(self) -> u64 {
        if self.truncated { Self::TRUNCATED } else { 0 }
    }

    /// Reads a record's tag.
    pub const fn from_bits(bits: u64) -> Self {
        Self { truncated: bits & Self::TRUNCATED != 0 }
    }
}

impl Sampler {
    /// Creates a sampler that writes to `ring`.
    pub const fn new(pmu: VirtualPmu<LocalApic>, ring: Producer<'static, RingMemory>, chains: bool) -> Self {
        Self { pmu, ring, chains }
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
                // Counted before the ring is tried, and independently of what becomes of the sample.
                interrupted.nmi.counters.overflows.increment();
                self.store(interrupted);
                1
            }
        }
    }

    /// Stores a sample; the ring counts it if it can't be.
    #[inline]
    fn store(&mut self, interrupted: &Interrupted<'_>) {
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        if self.chains {
            let Interrupted { frame, frame_pointer, .. } = interrupted;
            return self.store_with_chain(frame, *frame_pointer);
        }
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS) else { return };
        record.push(cpu::timestamp());
        record.push(interrupted.frame.rip);
        record.commit(Tag::default().to_bits());
    }

    /// Stores a sample with its call chain: apart, so that a flat one does not pay for its registers.
    #[inline(never)]
    fn store_with_chain(&mut self, frame: &IretFrame, frame_pointer: u64) {
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        record.push(cpu::timestamp());
        record.push(frame.rip);
        let end = callchain::walk(frame.rsp, frame_pointer, |address| {
            record.push(address);
        });
        record.commit(Tag { truncated: end == End::Truncated }.to_bits());
    }
}
