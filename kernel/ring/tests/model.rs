//! Goal: the ring is a queue that drops the newest, and counts every drop under its cause.
//!
//! Method: random pushes, abandoned grants, drains and failing touches run against the ring and against a
//! model made of a `VecDeque` and three numbers. Records of up to 255 words over rings of one to four pages
//! cross page edges and the end of the ring all the time; positions start at 0 or shortly before they wrap at
//! 2^64. A failure prints its seed and the shrunken list of operations.
#![cfg(not(loom))]

mod pages;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use nmiprof_ring::{
    Consumer, DropCause, Drops, MAX_PAYLOAD_WORDS, PAGE_WORDS, Producer, Record, Ring, TouchError,
};
use pages::Pages;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Clone, Debug)]
enum Op {
    /// Reserves and commits, or reserves, writes and lets go.
    Push {
        payload_words: usize,
        spare_words: usize,
        commit: bool,
    },
    Drain {
        records_max: usize,
        break_at: usize,
    },
    FailNextTouch(TouchError),
}

fn op() -> impl Strategy<Value = Op> {
    let payload_words = prop_oneof![0..8usize, 0..=MAX_PAYLOAD_WORDS, Just(MAX_PAYLOAD_WORDS)];
    let push = (payload_words, 0..4usize, prop::bool::weighted(0.9))
        .prop_map(|(payload_words, spare_words, commit)| Op::Push { payload_words, spare_words, commit });
    let drain =
        (0..12usize, 0..16usize).prop_map(|(records_max, break_at)| Op::Drain { records_max, break_at });
    let failure = prop_oneof![Just(TouchError::NoFrame), Just(TouchError::Fault)];
    prop_oneof![12 => push, 3 => drain, 1 => failure.prop_map(Op::FailNextTouch)]
}

/// What the ring should be: the simplest thing that behaves like it.
#[derive(Default)]
struct Model {
    records: VecDeque<(u64, Vec<u64>)>,
    capacity_words: usize,
    used_words: usize,
    /// Where the next record begins, counted from the start of the first page in use.
    end_words: usize,
    pages_touched: usize,
    failures: VecDeque<TouchError>,
    drops: Drops,
}

impl Model {
    /// Foretells the fate of a reservation of `record_words`, header included.
    fn reserve(&mut self, record_words: usize) -> Result<(), DropCause> {
        if self.used_words + record_words > self.capacity_words {
            self.drops.ring_full += 1;
            return Err(DropCause::RingFull);
        }
        let pages_needed = (self.end_words + record_words).div_ceil(PAGE_WORDS);
        while self.pages_touched < pages_needed.min(self.capacity_words / PAGE_WORDS) {
            match self.failures.pop_front() {
                None => self.pages_touched += 1,
                Some(TouchError::NoFrame) => {
                    self.drops.no_frame += 1;
                    return Err(DropCause::NoFrame);
                }
                Some(TouchError::Fault) => {
                    self.drops.fault += 1;
                    return Err(DropCause::Fault);
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, tag: u64, payload: Vec<u64>) {
        self.used_words += payload.len() + 1;
        self.end_words += payload.len() + 1;
        self.records.push_back((tag, payload));
    }

    fn take(&mut self) -> Option<(u64, Vec<u64>)> {
        let record = self.records.pop_front()?;
        self.used_words -= record.1.len() + 1;
        Some(record)
    }
}

/// Words that occur nowhere else in the run.
fn payload(serial: u64, words: usize) -> Vec<u64> {
    (0..words as u64).map(|i| serial << 16 | 0x8000 | i).collect()
}

fn push(
    producer: &mut Producer<'_, Pages>,
    model: &mut Model,
    serial: u64,
    (payload_words, spare_words, commit): (usize, usize, bool),
) {
    let payload_words_max = (payload_words + spare_words).min(MAX_PAYLOAD_WORDS);
    let foretold = model.reserve(payload_words_max + 1);
    let payload = payload(serial, payload_words);
    let granted = match (<[u64; 2]>::try_from(&payload[..]), spare_words, commit) {
        (Ok(pair), 0, true) if serial.is_multiple_of(2) => producer.store(serial, pair),
        _ => producer.reserve(payload_words + spare_words).map(|mut grant| {
            // The serial number says how many words are pushed one by one; the others follow at once.
            let (single, others) = payload.split_at(payload.len().min(usize::try_from(serial % 4).unwrap()));
            assert!(single.iter().all(|&word| grant.push(word)));
            assert_eq!(grant.extend(others.iter().copied()).next(), None);
            if commit {
                grant.commit(serial);
            }
        }),
    };
    assert_eq!(granted, foretold);
    if granted.is_ok() && commit {
        model.commit(serial, payload);
    }
}

fn drain(consumer: &mut Consumer<'_, Pages>, model: &mut Model, records_max: usize, break_at: usize) {
    let expected = records_max.min(break_at).min(model.records.len());
    let mut seen = 0;
    let taken = consumer.drain(records_max, |record: Record<'_, Pages>| {
        if seen == break_at {
            return ControlFlow::Break(());
        }
        seen += 1;
        let (tag, payload) = model.take().expect("a record that the model does not have");
        assert_eq!((record.tag(), record.len(), record.word(payload.len())), (tag, payload.len(), None));
        assert!(record.words().eq(payload));
        ControlFlow::Continue(())
    });
    assert_eq!((taken, seen), (Ok(expected), expected));
}

fn run(pages: usize, start: u64, ops: Vec<Op>) {
    let mut ring = Ring::starting_at(Pages::new(pages), start).unwrap();
    let (mut producer, mut consumer) = ring.split();
    let end_words = usize::try_from(start % PAGE_WORDS as u64).unwrap();
    let mut model = Model { capacity_words: pages * PAGE_WORDS, end_words, ..Model::default() };
    for (serial, op) in (1..).zip(ops) {
        match op {
            Op::Push { payload_words, spare_words, commit } => {
                push(&mut producer, &mut model, serial, (payload_words, spare_words, commit));
            }
            Op::Drain { records_max, break_at } => drain(&mut consumer, &mut model, records_max, break_at),
            Op::FailNextTouch(failure) => {
                model.failures.push_back(failure);
                consumer.memory().failures.lock().unwrap().push_back(failure);
            }
        }
        assert_eq!(consumer.drops(), model.drops);
        assert_eq!(consumer.used_words(), model.used_words as u64);
        assert_eq!(consumer.is_empty(), model.records.is_empty());
        assert_eq!(consumer.memory().touched.lock().unwrap().len(), model.pages_touched);
    }
    drain(&mut consumer, &mut model, usize::MAX, usize::MAX);
    assert!(consumer.is_empty() && model.records.is_empty());
}

fn config() -> ProptestConfig {
    let seeds = FileFailurePersistence::Direct("tests/model.seeds");
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        // Miri has no current directory to find a file in.
        failure_persistence: if cfg!(miri) { None } else { Some(Box::new(seeds)) },
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    // cases 61 and 62: wrap, records at a page edge, a full ring with exact drop counts
    #[test]
    fn the_ring_behaves_as_a_queue_that_drops_the_newest(
        pages in prop_oneof![Just(1usize), Just(2), Just(4)],
        words_before_wrap in prop_oneof![Just(0), 0..6 * PAGE_WORDS as u64],
        ops in prop::collection::vec(op(), if cfg!(miri) { 1..24 } else { 1..300 }),
    ) {
        run(pages, 0u64.wrapping_sub(words_before_wrap), ops);
    }
}
