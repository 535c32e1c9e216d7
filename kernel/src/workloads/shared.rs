//! Counts on cache lines that every CPU writes: what a profile of contention looks like.
//!
//! On real CPUs each addition waits for its line to come from another one's cache, so the samples pile up at the locked
//! instruction (at the one after it, with skid), and a step takes the longer the more CPUs take part; alone, it is
//! fast. An emulator that runs the CPUs in turn shows no waiting.
//!
//! Nobody waits for anybody, so a step is always the same work. Each task owns one bit of the words that all of them
//! write: it sets the bit by an addition and clears it by a subtraction, which reach no other bit, and what the word
//! was before says whether the task's last change is still there. An addition that got lost on the way is noticed by
//! its owner or by the one whose bit it took along.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Workload;
use crate::arch::percpu::CPUS_MAX;

/// Visits of every line in a step.
const ROUNDS_PER_STEP: usize = 4_000;
/// Lines that are shared.
const LINES: usize = 8;
/// Words of a cache line.
const WORDS: usize = 8;

/// What all tasks write. Written by any CPU, each its own bit.
static TABLE: [Line; LINES] = [const { Line([const { AtomicU64::new(0) }; WORDS]) }; LINES];
/// Tasks made so far.
static TASKS: AtomicU32 = AtomicU32::new(0);

/// One cache line.
#[repr(align(64))]
struct Line([AtomicU64; WORDS]);

const _: () = assert!(
    WORDS * u64::BITS as usize >= CPUS_MAX as usize,
    "soundness of the check: every CPU's task has a bit of its own"
);

/// One CPU's part.
pub(super) struct Shared {
    word: usize,
    bit: u64,
}

impl Shared {
    /// Takes the next bit. A run makes one task for each CPU.
    pub(super) fn new() -> Self {
        // Relaxed: a number, and nothing else.
        let number = TASKS.fetch_add(1, Ordering::Relaxed);
        Self { word: (number / u64::BITS) as usize % WORDS, bit: 1 << (number % u64::BITS) }
    }
}

impl Workload for Shared {
    #[inline(never)]
    fn step(&mut self) -> bool {
        (0..ROUNDS_PER_STEP).all(|_| TABLE.iter().all(|line| self.visit(&line.0[self.word])))
    }
}

impl Shared {
    /// Sets the bit and clears it again; tells whether it was as it should be, both times.
    fn visit(&self, word: &AtomicU64) -> bool {
        let was_clear = add(word, self.bit) & self.bit == 0;
        let was_set = add(word, self.bit.wrapping_neg()) & self.bit != 0;
        was_clear && was_set
    }
}

/// Adds to a shared word; returns what it was before.
#[inline(never)]
fn add(word: &AtomicU64, amount: u64) -> u64 {
    #[cfg(feature = "selftest")]
    if crate::selftest::mutant_loses_writes() {
        let before = word.load(Ordering::Relaxed);
        word.store(before.wrapping_add(amount), Ordering::Relaxed);
        return before;
    }
    // Relaxed: the words guard nothing.
    word.fetch_add(amount, Ordering::Relaxed)
}
