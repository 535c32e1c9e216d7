//! A pointer chase: one cycle through all of memory's slots, in random order.
//!
//! Checked by coming home after exactly as many hops as there are slots.

use alloc::vec::Vec;

use super::{Numbers, Workload};

const SLOTS: u32 = 1 << 16;
const ROUNDS_PER_STEP: usize = 5;

/// Where each slot points to.
pub(super) struct Chase {
    next: Vec<u32>,
}

impl Chase {
    /// Makes a random permutation of one cycle (Sattolo's algorithm).
    pub(super) fn new() -> Self {
        let mut numbers = Numbers::new(3);
        let mut next: Vec<u32> = (0..SLOTS).collect();
        for last in (1..SLOTS).rev() {
            next.swap(last as usize, (numbers.next() % last) as usize);
        }
        Self { next }
    }

    #[inline(never)]
    fn chase(&self, start: u32, hops: u32) -> u32 {
        (0..hops).fold(start, |slot, _| self.follow(slot))
    }

    #[inline]
    fn follow(&self, slot: u32) -> u32 {
        self.next[slot as usize]
    }
}

impl Workload for Chase {
    #[inline(never)]
    fn step(&mut self) -> bool {
        (0..ROUNDS_PER_STEP).all(|_| {
            let halfway = self.chase(0, SLOTS / 2);
            halfway != 0 && self.chase(halfway, SLOTS / 2) == 0
        })
    }
}
