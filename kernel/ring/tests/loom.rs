//! Goal: a reader on another CPU beside the writer sees whole records, each once and in order (case 63).
//!
//! Method: loom runs every interleaving of two threads, and lets each load return every value that the memory
//! model allows, over a ring of one toy page. The writer pushes more than the ring holds, so that it refills
//! words that the reader has just given back. The reader drains while the writer runs, and once more after it
//! has ended. Each test also names outcomes that some interleaving must have had: an exploration that stays
//! shallow fails.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p nmiprof-ring --release --test loom`
#![cfg(loom)]

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use loom::thread;
use nmiprof_ring::sync::AtomicU64;
use nmiprof_ring::{
    Consumer, DropCause, Drops, Memory, PAGE_WORDS, PageIndex, Pages, Producer, Ring, TouchError, WordIndex,
    WordRange,
};

/// A memory that checks that the pages in use are present. What is present is no part of the model: loom
/// takes turns between its own operations only, so the flags are right in each interleaving.
struct Words {
    words: Vec<AtomicU64>,
    present: Vec<AtomicBool>,
}

impl Words {
    fn new(pages: usize) -> Self {
        let words = (0..pages * PAGE_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { words, present: (0..pages).map(|_| AtomicBool::new(false)).collect() }
    }
}

impl Memory for Words {
    fn pages(&self) -> usize {
        self.present.len()
    }

    fn word(&self, index: WordIndex) -> &AtomicU64 {
        let index = index.get();
        assert!(self.present[index / PAGE_WORDS].load(Ordering::Relaxed), "word {index} has no frame");
        &self.words[index]
    }

    fn words(&self, range: WordRange) -> &[AtomicU64] {
        let range = range.get();
        let is_present = |index: usize| self.present[index / PAGE_WORDS].load(Ordering::Relaxed);
        assert!(range.clone().all(is_present), "words {range:?} have no frame");
        &self.words[range]
    }

    fn touch(&self, page: PageIndex) -> Result<(), TouchError> {
        self.present[page.get()].store(true, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, pages: Pages) {
        for page in pages {
            assert!(self.present[page.get()].swap(false, Ordering::Relaxed), "released twice");
        }
    }
}

/// A ring that loom's threads can borrow for ever; positions wrap at 2^64 after the first page.
fn split_ring(pages: usize) -> (Producer<'static, Words>, Consumer<'static, Words>) {
    Box::leak(Box::new(Ring::starting_at(Words::new(pages), u64::MAX).unwrap())).split()
}

/// As [`split_ring`], of two pages that are decommitted one by one.
fn split_decommitting_ring() -> (Producer<'static, Words>, Consumer<'static, Words>) {
    let ring = Ring::starting_at(Words::new(2), 0u64.wrapping_sub(PAGE_WORDS as u64)).unwrap();
    Box::leak(Box::new(ring.decommitting(1).unwrap())).split()
}

/// Pushes records numbered from 1, and returns the numbers that were stored.
fn push_all(producer: &mut Producer<'_, Words>, payload_words: &[usize]) -> Vec<u64> {
    let mut stored = Vec::new();
    for (number, &words) in (1..).zip(payload_words) {
        if push(producer, number, words).is_ok() {
            stored.push(number);
        }
    }
    stored
}

/// Stores records of two words whole, others at once after the first word.
fn push(producer: &mut Producer<'_, Words>, number: u64, words: usize) -> Result<(), DropCause> {
    let word = |index: u64| number << 8 | index;
    if words == 2 {
        return producer.store(number, [word(1), word(2)]);
    }
    let mut grant = producer.reserve(words)?;
    assert_eq!(grant.push(word(1)), words > 0);
    assert_eq!(grant.extend((2..=words as u64).map(word)).next(), None);
    grant.commit(number);
    Ok(())
}

/// Drains up to `records_max` and appends the numbers; a stale or torn word does not fit its record's number.
fn drain(consumer: &mut Consumer<'_, Words>, records_max: usize, received: &mut Vec<u64>) {
    let taken = consumer.drain(records_max, |record| {
        let number = record.tag();
        assert!(record.words().eq((1..=record.len() as u64).map(|word| number << 8 | word)), "torn {number}");
        received.push(number);
        ControlFlow::Continue(())
    });
    taken.expect("no header is corrupt");
}

/// What one interleaving came to: records received beside the writer, and records refused.
type Outcome = (usize, usize);

/// Runs the writer beside two drains, checks that what was stored was received, and returns all outcomes.
fn race(payload_words: &'static [usize], records_max: usize) -> BTreeSet<Outcome> {
    let outcomes = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&outcomes);
    loom::model(move || {
        let (mut producer, mut consumer) = split_ring(1);
        let writer = thread::spawn(move || push_all(&mut producer, payload_words));
        let mut received = Vec::new();
        drain(&mut consumer, records_max, &mut received);
        drain(&mut consumer, records_max, &mut received);
        let received_beside = received.len();
        let stored = writer.join().unwrap();
        drain(&mut consumer, usize::MAX, &mut received);
        assert_eq!(received, stored);
        let refused = payload_words.len() - stored.len();
        assert_eq!(consumer.drops(), Drops { ring_full: refused as u64, ..Drops::default() });
        seen.lock().unwrap().insert((received_beside, refused));
    });
    outcomes.lock().unwrap().clone()
}

// case 63
#[test]
fn a_reader_beside_the_writer_sees_whole_records_in_order() {
    assert_eq!(race(&[2, 2], usize::MAX), BTreeSet::from([(0, 0), (1, 0), (2, 0)]));
}

// case 61, case 63: records of three words over a ring of eight, the third over its end
#[test]
fn words_given_back_are_refilled_only_after_they_were_read() {
    let outcomes = race(&[2, 2, 2, 2], usize::MAX);
    assert!(outcomes.contains(&(4, 0)), "no interleaving refilled all: {outcomes:?}");
    assert!(outcomes.contains(&(0, 2)), "no interleaving filled the ring: {outcomes:?}");
}

// case 62, case 63
#[test]
fn records_taken_one_by_one_make_room_for_as_much_as_they_held() {
    let outcomes = race(&[6, 0, 6], 1);
    assert!(outcomes.contains(&(0, 1)) && outcomes.contains(&(2, 0)), "{outcomes:?}");
}

// case 63: loads that come after a store can't be told by their values, so the reader leaves a mark beside
// each load
#[test]
fn a_writer_that_gets_room_sees_all_that_the_reader_did_before() {
    let room_given = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&room_given);
    loom::model(move || {
        let (mut producer, mut consumer) = split_ring(1);
        push_all(&mut producer, &[6]);
        let mark: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        let reader = thread::spawn(move || {
            let taken = consumer.drain(1, |_| {
                mark.store(1, Ordering::Relaxed);
                ControlFlow::Continue(())
            });
            assert_eq!(taken, Ok(1));
        });
        if producer.reserve(6).is_ok() {
            assert_eq!(mark.load(Ordering::Relaxed), 1);
            seen.store(true, Ordering::Relaxed);
        }
        reader.join().unwrap();
    });
    assert!(room_given.load(Ordering::Relaxed), "no interleaving gave room beside the reader");
}

// case 63: records of seven words over two pages of eight, the third over the end of the ring
#[test]
fn a_page_is_released_before_the_writer_may_touch_it_again() {
    let refilled = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&refilled);
    loom::model(move || {
        let (mut producer, mut consumer) = split_decommitting_ring();
        let writer = thread::spawn(move || push_all(&mut producer, &[6, 6, 6]));
        let mut received = Vec::new();
        drain(&mut consumer, usize::MAX, &mut received);
        drain(&mut consumer, usize::MAX, &mut received);
        let stored = writer.join().unwrap();
        drain(&mut consumer, usize::MAX, &mut received);
        assert_eq!(received, stored);
        if stored.len() == 3 && consumer.pages_released() > 0 {
            seen.store(true, Ordering::Relaxed);
        }
    });
    assert!(refilled.load(Ordering::Relaxed), "no interleaving wrote to a page that was released");
}

#[test]
fn the_drops_before_a_record_are_counted_once_it_was_received() {
    let received_beside = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&received_beside);
    loom::model(move || {
        let (mut producer, mut consumer) = split_ring(1);
        // Seven of the eight words are taken: a record of two does not fit, one of one does.
        push_all(&mut producer, &[6]);
        let writer = thread::spawn(move || push_all(&mut producer, &[1, 0]));
        let mut received = Vec::new();
        drain(&mut consumer, usize::MAX, &mut received);
        if received == [1, 2] {
            assert_eq!(consumer.drops().ring_full, 1);
            seen.store(true, Ordering::Relaxed);
        }
        writer.join().unwrap();
    });
    assert!(received_beside.load(Ordering::Relaxed), "no interleaving received the record beside the writer");
}
