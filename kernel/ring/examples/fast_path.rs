//! The sample path alone, to be read as assembly:
//! `cargo rustc -p nmiprof-ring --release --example fast_path -- --emit asm`
//!
//! `store_sample` stores a record of three words, over a memory as cheap to index as the kernel's.

use std::hint::black_box;
use std::ops::ControlFlow;

use nmiprof_ring::sync::AtomicU64;
use nmiprof_ring::{
    DropCause, Memory, PAGE_WORDS, PageIndex, Pages, Producer, Ring, TouchError, WordIndex, WordRange,
};

const PAGES: usize = 16;
const WORDS: usize = PAGES * PAGE_WORDS;

static MEMORY: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

struct Present;

impl Memory for Present {
    fn pages(&self) -> usize {
        PAGES
    }

    #[inline]
    fn word(&self, index: WordIndex) -> &AtomicU64 {
        // The remainder is one more `and`, which stands in for the kernel's unchecked index.
        &MEMORY[index.get() % WORDS]
    }

    #[inline]
    fn words(&self, range: WordRange) -> &[AtomicU64] {
        &MEMORY[range.get()]
    }

    fn touch(&self, _: PageIndex) -> Result<(), TouchError> {
        Ok(())
    }

    fn release(&self, _: Pages) {}
}

/// Stores one record of three words.
#[inline(never)]
fn store_sample(
    producer: &mut Producer<'_, Present>,
    ip: u64,
    task: u64,
    time: u64,
) -> Result<(), DropCause> {
    producer.store(1, [ip, task, time])
}

fn main() {
    let mut ring = Ring::new(Present).expect("a power of two of pages");
    let (mut producer, mut consumer) = ring.split();
    let stored =
        (0..10_000).filter(|&ip| store_sample(&mut producer, ip, black_box(1), black_box(2)).is_ok()).count();
    let mut ips = 0;
    let drained = consumer.drain(usize::MAX, |record| {
        ips += record.word(0).unwrap_or(0);
        ControlFlow::Continue(())
    });
    println!("{stored} samples stored, {drained:?} drained, sum of addresses {ips}, {:?}", consumer.drops());
}
