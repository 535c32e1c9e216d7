//! Goal: a page is touched when the first record needs it, once, in order; a touch that fails costs one
//! record.
//!
//! Method: a memory that keeps a diary of its touches, panics on a word of an untouched page, and fails on
//! demand.
#![cfg(not(loom))]

mod pages;

use std::ops::ControlFlow;

use nmiprof_ring::{Consumer, DropCause, Drops, MAX_PAYLOAD_WORDS, PAGE_WORDS};
use nmiprof_ring::{Producer, Ring, TouchError};
use pages::Pages;

fn ring(pages: usize) -> Ring<Pages> {
    Ring::new(Pages::new(pages)).unwrap()
}

fn push(producer: &mut Producer<'_, Pages>, payload_words: usize) -> Result<(), DropCause> {
    let mut grant = producer.reserve(payload_words)?;
    assert!((0..payload_words as u64).all(|word| grant.push(word)));
    grant.commit(payload_words as u64);
    Ok(())
}

/// Takes everything and returns the tags, which `push` makes the payload lengths.
fn drain(consumer: &mut Consumer<'_, Pages>) -> Vec<u64> {
    let mut tags = Vec::new();
    let taken = consumer.drain(usize::MAX, |record| {
        assert!(record.words().eq(0..record.tag()));
        tags.push(record.tag());
        ControlFlow::Continue(())
    });
    assert_eq!(taken, Ok(tags.len()));
    tags
}

fn touched(consumer: &Consumer<'_, Pages>) -> Vec<usize> {
    consumer.memory().touched.lock().unwrap().clone()
}

fn fail_next_touch(consumer: &Consumer<'_, Pages>, failure: TouchError) {
    consumer.memory().failures.lock().unwrap().push_back(failure);
}

/// Fills the first page but for `words`, with four records.
fn fill_first_page_but(producer: &mut Producer<'_, Pages>, words: usize) {
    const QUARTER_WORDS: usize = PAGE_WORDS / 4;
    for short_words in [0, 0, 0, words] {
        push(producer, QUARTER_WORDS - 1 - short_words).unwrap();
    }
}

#[test]
fn nothing_is_touched_before_the_first_record() {
    let mut ring = ring(4);
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((drain(&mut consumer), touched(&consumer)), (vec![], vec![]));
    push(&mut producer, 0).unwrap();
    assert_eq!(touched(&consumer), [0]);
}

#[test]
fn each_page_is_touched_once_and_in_order() {
    const RECORD_WORDS: usize = PAGE_WORDS / 4;
    let mut ring = ring(4);
    let (mut producer, mut consumer) = ring.split();
    let records_in_two_laps = 2 * 4 * PAGE_WORDS / RECORD_WORDS;
    for record in 0..records_in_two_laps {
        push(&mut producer, RECORD_WORDS - 1).unwrap();
        drain(&mut consumer);
        let pages_begun = record * RECORD_WORDS / PAGE_WORDS + 1;
        assert_eq!(touched(&consumer), Vec::from_iter(0..pages_begun.min(4)));
    }
}

#[test]
fn a_record_that_ends_with_its_page_leaves_the_next_page_alone() {
    let mut ring = ring(2);
    let (mut producer, consumer) = ring.split();
    fill_first_page_but(&mut producer, 0);
    assert_eq!(touched(&consumer), [0]);
}

// case 18
#[test]
fn a_record_over_two_pages_touches_both() {
    let mut ring = ring(2);
    let (mut producer, mut consumer) = ring.split();
    fill_first_page_but(&mut producer, 1);
    drain(&mut consumer);
    push(&mut producer, 1).unwrap();
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0, 1], vec![1]));
}

// case 18
#[test]
fn one_record_touches_two_absent_pages() {
    let mut ring = Ring::starting_at(Pages::new(4), PAGE_WORDS as u64 - 1).unwrap();
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 1).unwrap();
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0, 1], vec![1]));
}

// case 18, case 22
#[test]
fn a_page_whose_neighbour_fails_is_not_touched_again() {
    let mut ring = Ring::starting_at(Pages::new(4), PAGE_WORDS as u64 - 1).unwrap();
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 0).unwrap();
    fail_next_touch(&consumer, TouchError::NoFrame);
    assert_eq!(push(&mut producer, 1), Err(DropCause::NoFrame));
    push(&mut producer, 1).unwrap();
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0, 1], vec![0, 1]));
}

#[test]
fn a_second_split_touches_every_page_anew_from_the_page_it_stands_in() {
    let mut ring = ring(2);
    {
        let (mut producer, mut consumer) = ring.split();
        fill_first_page_but(&mut producer, 1);
        drain(&mut consumer);
    }
    let (mut producer, mut consumer) = ring.split();
    push(&mut producer, 1).unwrap();
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0, 0, 1], vec![1]));
}

#[test]
fn a_record_over_the_end_of_the_ring_touches_nothing_new() {
    let mut ring = ring(1);
    let (mut producer, mut consumer) = ring.split();
    fill_first_page_but(&mut producer, 1);
    drain(&mut consumer);
    push(&mut producer, MAX_PAYLOAD_WORDS).unwrap();
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0], vec![MAX_PAYLOAD_WORDS as u64]));
}

// case 22
#[test]
fn a_failed_touch_is_counted_by_its_cause_and_a_later_one_succeeds() {
    let mut ring = ring(2);
    let (mut producer, mut consumer) = ring.split();
    for failure in [TouchError::NoFrame, TouchError::Fault, TouchError::NoFrame] {
        fail_next_touch(&consumer, failure);
        assert_eq!(push(&mut producer, 3), Err(DropCause::from(failure)));
        assert!(consumer.is_empty());
    }
    push(&mut producer, 3).unwrap();
    assert_eq!(consumer.drops(), Drops { ring_full: 0, no_frame: 2, fault: 1 });
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0], vec![3]));
}

#[test]
fn a_record_that_still_fits_is_stored_after_a_longer_one_missed_its_page() {
    let mut ring = ring(2);
    let (mut producer, mut consumer) = ring.split();
    fill_first_page_but(&mut producer, 2);
    drain(&mut consumer);
    fail_next_touch(&consumer, TouchError::NoFrame);
    assert_eq!(push(&mut producer, 2), Err(DropCause::NoFrame));
    push(&mut producer, 1).unwrap();
    assert_eq!((touched(&consumer), drain(&mut consumer)), (vec![0], vec![1]));
}

#[test]
fn a_full_ring_is_not_touched_further() {
    let mut ring = ring(1);
    let (mut producer, consumer) = ring.split();
    fill_first_page_but(&mut producer, 0);
    fail_next_touch(&consumer, TouchError::Fault);
    assert_eq!(push(&mut producer, 0), Err(DropCause::RingFull));
    assert_eq!(consumer.drops(), Drops { ring_full: 1, no_frame: 0, fault: 0 });
}
