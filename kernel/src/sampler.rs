//! The sampler: from an overflow to a record in the ring.
//!
//! A record's payload is `[time, ip, return addresses...]`; its tag is a [`Tag`]. Nothing is encoded or looked
//! up in the NMI: the drain does that, and finds out which of the words are return addresses.

use nmiprof_pmu::{Overflow, Pmu, VirtualPmu};
use nmiprof_ring::Producer;

use crate::arch::apic::LocalApic;
use crate::arch::cpu;
use crate::callchain::{DEPTH_MAX, Walk};
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
    /// It was cut at a frame that is not mapped.
    pub faulted: bool,
}

impl Tag {
    const TRUNCATED: u64 = 1 << 0;
    const FAULTED: u64 = 1 << 1;

    const fn to_bits(self) -> u64 {
        let truncated = if self.truncated { Self::TRUNCATED } else { 0 };
        let faulted = if self.faulted { Self::FAULTED } else { 0 };
        truncated | faulted
    }

    /// Reads a record's tag.
    pub const fn from_bits(bits: u64) -> Self {
        Self { truncated: bits & Self::TRUNCATED != 0, faulted: bits & Self::FAULTED != 0 }
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
    #[inline(always)]
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
    #[inline(always)]
    fn store(&mut self, interrupted: &Interrupted<'_>) {
        #[cfg(feature = "selftest")]
        if crate::selftest::mutant_skips_this_write() {
            return;
        }
        if self.chains {
            return self.store_with_chain(interrupted);
        }
        let fixed: [u64; FIXED_WORDS] = [cpu::timestamp(), interrupted.frame.rip];
        // A drop is counted already.
        let _ = self.ring.store(Tag::default().to_bits(), fixed);
    }

    /// Stores a sample with its call chain.
    #[inline(always)]
    fn store_with_chain(&mut self, interrupted: &Interrupted<'_>) {
        let Ok(mut record) = self.ring.reserve(FIXED_WORDS + DEPTH_MAX) else { return };
        let frame = interrupted.frame;
        record.push(cpu::timestamp());
        record.push(frame.rip);
        let walk = record.extend(Walk::new(interrupted.thread_stack, frame.rsp, interrupted.frame_pointer));
        record.commit(Tag { truncated: !walk.is_complete(), faulted: false }.to_bits());
    }
}
