//! Interned call chains.

use alloc::boxed::Box;
use alloc::vec;

use nmiprof_ring::Record;
use nmiprof_wire::{CutChains, Frame, StacksEncoder, stacks};

use crate::callchain::{self, Cut, DEPTH_MAX};
use crate::memory::ring_memory::RingMemory;
use crate::sampler::{FIXED_WORDS, Tag};
use crate::stream;

/// Interned call chains of one epoch: an open-addressed hash table of tree nodes.
pub(super) struct Chains {
    cpu: u16,
    slots: Box<[Slot]>,
    used: usize,
    encoder: StacksEncoder,
    cut: CutChains,
    /// Bytes of coded nodes that went out since they were last asked for.
    sent_bytes: usize,
}

/// A node of the tree; `node` 0 is an empty slot (0 is a root, which is never stored).
#[derive(Clone, Copy, Default)]
struct Slot {
    ip: u64,
    parent: u32,
    node: u32,
}

impl Chains {
    const SLOTS: usize = 1 << 13;
    /// One chain more always fits below this; and probing stays short.
    const USED_MAX: usize = Self::SLOTS * 3 / 4 - DEPTH_MAX;

    pub(super) fn new(cpu: u16) -> Self {
        let slots = vec![Slot::default(); Self::SLOTS].into_boxed_slice();
        Self { cpu, slots, used: 0, encoder: StacksEncoder::new(), cut: CutChains::default(), sent_bytes: 0 }
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.encoder.epoch()
    }

    pub(super) const fn is_nearly_full(&self) -> bool {
        self.used > Self::USED_MAX
    }

    /// Returns the node of a record's innermost caller.
    pub(super) fn intern(&mut self, record: &Record<'_, RingMemory>) -> u32 {
        let tag = Tag::from_bits(record.tag());
        let callers = callchain::genuine(record.words().skip(FIXED_WORDS), tag.user);
        let end = FIXED_WORDS + callers;
        let cut = Self::find_cut(tag, callers, end < record.len());
        if let Some(cut) = cut {
            self.count(cut);
        }
        let root = if cut.is_some() { stacks::ROOT_TRUNCATED } else { stacks::ROOT_COMPLETE };
        let callers = (FIXED_WORDS..end).rev().filter_map(|index| record.word(index));
        callers.fold(root, |parent, ip| self.node(parent, ip))
    }

    /// Returns how many chains were cut so far, by cause.
    pub(super) const fn cut(&self) -> CutChains {
        self.cut
    }

    /// Tells why a chain of so many callers was cut, if it was. What is no return address is a wrong pointer that
    /// the walk could not see.
    const fn find_cut(tag: Tag, callers: usize, has_garbage: bool) -> Option<Cut> {
        match tag {
            _ if has_garbage => Some(Cut::Pointer),
            Tag { faulted: true, .. } => Some(Cut::Fault),
            Tag { truncated: true, .. } if callers == DEPTH_MAX => Some(Cut::Depth),
            Tag { truncated: true, .. } => Some(Cut::Pointer),
            _ => None,
        }
    }

    const fn count(&mut self, cut: Cut) {
        match cut {
            Cut::Depth => self.cut.depth += 1,
            Cut::Pointer => self.cut.pointer += 1,
            Cut::Fault => self.cut.fault += 1,
        }
    }

    fn node(&mut self, parent: u32, ip: u64) -> u32 {
        let mut index = Self::hash(parent, ip);
        // Ends: the table is never full.
        loop {
            let slot = self.slots[index];
            if slot.node == 0 {
                break;
            }
            if slot.ip == ip && slot.parent == parent {
                return slot.node;
            }
            index = (index + 1) % Self::SLOTS;
        }
        let node = self.define(parent, ip);
        self.slots[index] = Slot { ip, parent, node };
        self.used += 1;
        node
    }

    fn define(&mut self, parent: u32, ip: u64) -> u32 {
        if self.encoder.is_full() {
            self.send();
        }
        self.encoder.push(parent, ip).expect("an encoder that is not full takes a node of this epoch")
    }

    pub(super) fn send(&mut self) {
        if !self.encoder.is_empty() {
            let stacks = self.encoder.stacks(self.cpu);
            stream::send(&Frame::Stacks(stacks));
            self.sent_bytes += stacks.nodes.len();
            self.encoder.clear();
        }
    }

    /// Returns how many bytes of coded nodes went out since the last call.
    pub(super) const fn take_sent_bytes(&mut self) -> usize {
        core::mem::replace(&mut self.sent_bytes, 0)
    }

    pub(super) fn next_epoch(&mut self) {
        self.slots.fill(Slot::default());
        self.used = 0;
        self.encoder.next_epoch();
    }

    /// Multiplicative hashing by 2^64 over the golden ratio (Knuth).
    fn hash(parent: u32, ip: u64) -> usize {
        let mixed = (ip ^ u64::from(parent).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> (u64::BITS - Self::SLOTS.ilog2())).unwrap_or_default()
    }
}
