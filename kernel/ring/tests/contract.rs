//! Goal: the promises of the interface that the model does not reach: limits, refusals, corruption, a second
//! split.
//!
//! Method: small examples, one per promise; headers are broken by writing into the memory behind the ring's
//! back.
#![cfg(not(loom))]

mod pages;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use nmiprof_ring::{CapacityError, Consumer, Corrupt, DropCause, MAX_PAYLOAD_WORDS, MAX_RECORD_WORDS};
use nmiprof_ring::{PAGE_WORDS, Producer, Ring, TAG_BITS};
use pages::Pages;

fn ring(pages: usize) -> Ring<Pages> {
    Ring::new(Pages::new(pages)).unwrap()
}

fn push(producer: &mut Producer<'_, Pages>, tag: u64, payload: &[u64]) {
    let mut grant = producer.reserve(payload.len()).unwrap();
    assert!(payload.iter().all(|&word| grant.push(word)));
    grant.commit(tag);
}

fn drain(consumer: &mut Consumer<'_, Pages>) -> Result<Vec<(u64, Vec<u64>)>, Corrupt> {
    let mut records = Vec::new();
    consumer.drain(usize::MAX, |record| {
        records.push((record.tag(), record.words().collect()));
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

/// Overwrites one word of the memory, as a stray write would.
fn scribble(consumer: &Consumer<'_, Pages>, index: usize, word: u64) {
    consumer.memory().words[index].store(word, Ordering::Relaxed);
}

#[test]
fn a_capacity_that_is_no_power_of_two_is_refused() {
    for pages in [0, 3, 6] {
        let refused = Ring::new(Pages::new(pages)).err();
        assert_eq!(refused, Some(CapacityError::NotPowerOfTwo { pages }));
    }
}

#[test]
fn both_ends_can_live_for_ever_and_move_to_other_threads() {
    fn send<T: Send>() {}
    type Ends<'a> = (Producer<'a, Pages>, Consumer<'a, Pages>);
    let _: fn(&'static mut Ring<Pages>) -> Ends<'static> = Ring::split;
    send::<Ends<'static>>();
}

#[test]
fn a_grant_takes_no_more_words_than_were_reserved() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    let mut grant = producer.reserve(2).unwrap();
    assert_eq!([7, 8, 9].map(|word| grant.push(word)), [true, true, false]);
    grant.commit(1);
    assert_eq!(drain(&mut consumer), Ok(vec![(1, vec![7, 8])]));
}

#[test]
fn a_grant_takes_from_an_iterator_what_was_reserved_and_gives_back_the_rest() {
    for position in [0, PAGE_WORDS as u64 - 5] {
        let mut ring = Ring::starting_at(Pages::new(1), position).unwrap();
        let (mut producer, mut consumer) = ring.split();
        let mut grant = producer.reserve(7).unwrap();
        assert!(grant.push(1));
        assert_eq!(grant.extend(2..100).next(), Some(8), "at {position}");
        assert!(!grant.push(8));
        grant.commit(1);
        producer.store(2, []).unwrap();
        assert_eq!(drain(&mut consumer), Ok(vec![(1, (1..=7).collect()), (2, vec![])]));
    }
}

#[test]
fn a_reservation_beyond_the_longest_record_counts_as_the_longest() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    let mut grant = producer.reserve(usize::MAX).unwrap();
    assert_eq!((0..1000).filter(|&word| grant.push(word)).count(), MAX_PAYLOAD_WORDS);
    grant.commit(1);
    assert_eq!(consumer.used_words(), MAX_RECORD_WORDS as u64);
    assert_eq!(drain(&mut consumer), Ok(vec![(1, Vec::from_iter(0..MAX_PAYLOAD_WORDS as u64))]));
}

#[test]
fn a_grant_that_is_dropped_leaves_no_trace() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    assert!(producer.reserve(1).unwrap().push(5));
    assert!(consumer.is_empty());
    push(&mut producer, 2, &[6]);
    assert_eq!(drain(&mut consumer), Ok(vec![(2, vec![6])]));
    assert_eq!(consumer.drops().total(), 0);
}

#[test]
fn a_tag_keeps_its_low_bits_and_spares_the_length() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, u64::MAX, &[]);
    assert_eq!(drain(&mut consumer), Ok(vec![(u64::MAX >> (64 - TAG_BITS), vec![])]));
}

#[test]
fn the_space_comes_back_at_the_end_of_a_batch() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    (0..PAGE_WORDS as u64).for_each(|tag| push(&mut producer, tag, &[]));
    let taken = consumer.drain(3, |_| {
        assert_eq!(producer.reserve(0).err(), Some(DropCause::RingFull));
        ControlFlow::Continue(())
    });
    assert_eq!((taken, consumer.used_words()), (Ok(3), PAGE_WORDS as u64 - 3));
    assert!(producer.reserve(2).is_ok());
    assert_eq!(producer.reserve(3).err(), Some(DropCause::RingFull));
    assert_eq!(consumer.drops().ring_full, 4);
}

#[test]
fn the_record_that_a_drain_breaks_at_comes_first_next_time() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    (0..3).for_each(|tag| push(&mut producer, tag, &[]));
    let taken = consumer.drain(usize::MAX, |record| match record.tag() {
        1 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(taken, Ok(1));
    assert_eq!(drain(&mut consumer), Ok(vec![(1, vec![]), (2, vec![])]));
}

#[test]
fn a_second_split_goes_on_where_the_first_stopped() {
    let mut ring = ring(1);
    {
        let (mut producer, _) = ring.split();
        push(&mut producer, 1, &[10]);
        let full =
            (0..PAGE_WORDS).find_map(|_| producer.reserve(MAX_PAYLOAD_WORDS).map(|g| g.commit(0)).err());
        assert_eq!(full, Some(DropCause::RingFull));
    }
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 2, &[]);
    let records = drain(&mut consumer).unwrap();
    assert_eq!((records.first(), records.last()), (Some(&(1, vec![10])), Some(&(2, vec![]))));
    assert_eq!(consumer.drops().ring_full, 1);
}

#[test]
fn a_header_without_a_length_is_corrupt_and_stays_so() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 1, &[11]);
    push(&mut producer, 2, &[]);
    scribble(&consumer, 2, 0xabcd_ef00);
    let mut tags = Vec::new();
    for _ in 0..2 {
        let corrupt = consumer.drain(usize::MAX, |record| {
            tags.push(record.tag());
            ControlFlow::Continue(())
        });
        assert_eq!(corrupt, Err(Corrupt { position: 2 }));
    }
    assert_eq!((tags, consumer.used_words()), (vec![1], 1));
}

#[test]
fn a_header_that_reaches_past_the_published_words_is_corrupt() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 1, &[11]);
    for record_words in [3, MAX_RECORD_WORDS as u64] {
        scribble(&consumer, 0, record_words);
        assert_eq!(drain(&mut consumer), Err(Corrupt { position: 0 }));
    }
    scribble(&consumer, 0, 2);
    assert_eq!(drain(&mut consumer), Ok(vec![(0, vec![11])]));
}
