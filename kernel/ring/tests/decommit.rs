//! Goal: a ring that decommits takes a page's frame away after its records were drained and before the producer
//! may write there again; so each page is touched in each lap, and no record is lost.
//!
//! Method: a memory that panics on a word of an absent page, small examples, and random pushes and drains
//! against a queue.
#![cfg(not(loom))]

mod pages;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use nmiprof_ring::{
    CapacityError, Consumer, DropCause, MAX_PAYLOAD_WORDS, PAGE_WORDS, Producer, Ring, TouchError,
};
use pages::Pages;
use proptest::prelude::*;

/// Words of the records of the examples: four fill a page.
const QUARTER_WORDS: usize = PAGE_WORDS / 4;

fn ring(pages: usize, batch_pages: usize) -> Ring<Pages> {
    Ring::new(Pages::new(pages)).unwrap().decommitting(batch_pages).unwrap()
}

fn push(producer: &mut Producer<'_, Pages>, tag: u64, record_words: usize) -> Result<(), DropCause> {
    let mut grant = producer.reserve(record_words - 1)?;
    assert!((1..record_words as u64).all(|word| grant.push(tag << 16 | word)));
    grant.commit(tag);
    Ok(())
}

/// Fills pages with records of a quarter page each.
fn fill(producer: &mut Producer<'_, Pages>, pages: usize) {
    (0..4 * pages as u64).for_each(|tag| push(producer, tag, QUARTER_WORDS).unwrap());
}

fn drain(consumer: &mut Consumer<'_, Pages>, records_max: usize) -> Vec<u64> {
    let mut tags = Vec::new();
    let taken = consumer.drain(records_max, |record| {
        assert!(record.words().eq((1..=record.len() as u64).map(|word| record.tag() << 16 | word)));
        tags.push(record.tag());
        ControlFlow::Continue(())
    });
    assert_eq!(taken, Ok(tags.len()));
    tags
}

fn present(consumer: &Consumer<'_, Pages>) -> Vec<usize> {
    consumer.memory().touched.lock().unwrap().clone()
}

fn released(consumer: &Consumer<'_, Pages>) -> Vec<usize> {
    consumer.memory().released.lock().unwrap().clone()
}

#[test]
fn every_page_is_touched_and_released_in_every_lap() {
    let mut ring = ring(2, 1);
    let (mut producer, mut consumer) = ring.split();
    for page in 0..if cfg!(miri) { 3 } else { 10 } {
        fill(&mut producer, 1);
        assert_eq!(present(&consumer), [page % 2]);
        assert_eq!(drain(&mut consumer, usize::MAX), [0, 1, 2, 3]);
        assert_eq!((present(&consumer), consumer.pages_released()), (vec![], page as u64 + 1));
    }
}

#[test]
fn space_comes_back_when_a_batch_of_whole_pages_is_drained() {
    let mut ring = ring(4, 2);
    let (mut producer, mut consumer) = ring.split();
    fill(&mut producer, 4);
    drain(&mut consumer, 7);
    assert_eq!(released(&consumer), [], "one page and three quarters");
    assert_eq!(push(&mut producer, 0, 1), Err(DropCause::RingFull));
    drain(&mut consumer, 4);
    assert_eq!(released(&consumer), [0, 1], "two pages and three quarters");
    assert_eq!(consumer.used_words(), 5 * QUARTER_WORDS as u64);
    fill(&mut producer, 2);
    assert_eq!(push(&mut producer, 0, 1), Err(DropCause::RingFull), "the rest is not given back");
}

// case 18: a record across two absent pages, in a later lap
#[test]
fn a_record_across_two_pages_touches_both_again() {
    let mut ring = ring(4, 1);
    let (mut producer, mut consumer) = ring.split();
    for lap in 1..4 {
        fill(&mut producer, 1);
        push(&mut producer, 9, QUARTER_WORDS - 1).unwrap();
        for _ in 0..2 {
            push(&mut producer, 9, QUARTER_WORDS).unwrap();
        }
        push(&mut producer, 9, QUARTER_WORDS + 1).unwrap();
        fill(&mut producer, 1);
        assert_eq!(drain(&mut consumer, usize::MAX).len(), 12);
        // Three pages each time: over a ring of four the edges come round.
        assert_eq!((present(&consumer), consumer.pages_released()), (vec![], 3 * lap));
    }
}

// case 22
#[test]
fn a_failed_touch_in_a_later_lap_costs_one_record() {
    let mut ring = ring(2, 1);
    let (mut producer, mut consumer) = ring.split();
    fill(&mut producer, 2);
    drain(&mut consumer, usize::MAX);
    consumer.memory().failures.lock().unwrap().push_back(TouchError::NoFrame);
    assert_eq!(push(&mut producer, 1, 2), Err(DropCause::NoFrame));
    push(&mut producer, 2, 2).unwrap();
    assert_eq!((drain(&mut consumer, usize::MAX), present(&consumer)), (vec![2], vec![0]));
}

#[test]
fn a_second_split_does_not_hand_out_what_was_drained() {
    let mut ring = ring(2, 1);
    {
        let (mut producer, mut consumer) = ring.split();
        fill(&mut producer, 1);
        assert_eq!(drain(&mut consumer, 3), [0, 1, 2]);
    }
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 7, 2).unwrap();
    assert_eq!((drain(&mut consumer, usize::MAX), released(&consumer)), (vec![3, 7], vec![0]));
}

#[test]
fn a_batch_of_no_page_or_of_all_is_refused() {
    for (pages, batch_pages) in [(1, 1), (2, 0), (2, 2), (4, 5)] {
        let refused = Ring::new(Pages::new(pages)).unwrap().decommitting(batch_pages).err();
        assert_eq!(refused, Some(CapacityError::Batch { batch_pages, pages }));
    }
}

/// Pushes and drains at random; returns the pages released.
fn run(pages: usize, batch_pages: usize, start: u64, steps: &[(usize, usize)]) -> u64 {
    let ring = Ring::starting_at(Pages::new(pages), start).unwrap();
    let mut ring = ring.decommitting(batch_pages).unwrap();
    let (mut producer, mut consumer) = ring.split();
    let (mut queue, mut next) = (VecDeque::new(), 0);
    for &(record_words, records_max) in steps {
        if push(&mut producer, next, record_words).is_ok() {
            queue.push_back(next);
        }
        next += 1;
        let expected: Vec<u64> = queue.drain(..records_max.min(queue.len())).collect();
        assert_eq!(drain(&mut consumer, records_max), expected);
        let used_pages = usize::try_from(consumer.used_words()).unwrap() / PAGE_WORDS;
        // Beyond what is used: a page begun at either end, a batch not full, and one touched for a record
        // that was not stored.
        let mut present = present(&consumer);
        present.sort_unstable();
        present.dedup();
        assert!(present.len() <= used_pages + batch_pages + 3, "{present:?} of {used_pages}");
    }
    assert!(drain(&mut consumer, usize::MAX).into_iter().eq(queue));
    consumer.pages_released()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    // cases 61 and 62
    #[test]
    fn no_record_is_lost_or_torn_while_pages_come_and_go(
        (pages, batch_pages) in prop_oneof![Just((2usize, 1usize)), Just((4, 1)), Just((4, 3)), Just((8, 2))],
        words_before_wrap in prop_oneof![Just(0), 0..6 * PAGE_WORDS as u64],
        steps in prop::collection::vec((1..=MAX_PAYLOAD_WORDS + 1, 0..6usize), if cfg!(miri) { 1..24 } else { 1..300 }),
    ) {
        run(pages, batch_pages, 0u64.wrapping_sub(words_before_wrap), &steps);
    }
}

#[test]
fn a_long_run_releases_as_many_pages_as_it_fills() {
    let steps = vec![(MAX_PAYLOAD_WORDS + 1, 3); if cfg!(miri) { 12 } else { 200 }];
    let words = steps.len() * (MAX_PAYLOAD_WORDS + 1);
    assert!(run(4, 1, 0, &steps) >= (words / PAGE_WORDS) as u64 - 1);
}
