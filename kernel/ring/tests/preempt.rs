//! Goal: an NMI that pushes records in the middle of a drain, on the same CPU, tears, loses or doubles
//! nothing.
//!
//! Method: the drain is counted first, operation by operation; then it runs again for every k, with a whole
//! push of the producer right before its k-th atomic operation. Each run starts from the same fill level and
//! ends with a drain in peace. The pushes are numbered, so that the record stream and the drop counter must
//! add up exactly: what was pushed is received once, whole and in order, or counted.
//!
//! Not for Miri: one thread and no unsafe code, but thousands of drains.
#![cfg(all(feature = "preempt", not(any(loom, miri))))]

mod pages;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;

use nmiprof_ring::sync::with_preemption;
use nmiprof_ring::{Consumer, Drops, MAX_PAYLOAD_WORDS, PAGE_WORDS, Producer, Ring};
use pages::Pages;

/// A producer that numbers its pushes from 0 in the tag, and derives the payload from the number.
struct Pusher {
    producer: Producer<'static, Pages>,
    payload_words: usize,
    pushes: u64,
    refused: Vec<u64>,
}

impl Pusher {
    fn push(&mut self) {
        match self.producer.reserve(self.payload_words) {
            Ok(mut grant) => {
                assert!(payload(self.pushes, self.payload_words).all(|word| grant.push(word)));
                grant.commit(self.pushes);
            }
            Err(_) => self.refused.push(self.pushes),
        }
        self.pushes += 1;
    }
}

fn payload(number: u64, words: usize) -> impl Iterator<Item = u64> {
    (1..=words as u64).map(move |word| number << 16 | word)
}

/// The state before a drain: how long records are, how many lie ready, and where in the page the first one
/// begins.
#[derive(Clone, Copy, Debug)]
struct Scene {
    payload_words: usize,
    ready: usize,
    gone: usize,
    /// One page that is kept, or two that are decommitted one by one.
    pages: usize,
}

impl Scene {
    /// Makes the ring. It is leaked: the injected closure has to live for ever.
    fn set(self) -> (Pusher, Consumer<'static, Pages>) {
        let mut ring = Ring::starting_at(Pages::new(self.pages), u64::MAX).unwrap();
        if self.pages > 1 {
            ring = ring.decommitting(1).unwrap();
        }
        let (producer, mut consumer) = Box::leak(Box::new(ring)).split();
        let Self { payload_words, ready, gone, .. } = self;
        let mut pusher = Pusher { producer, payload_words, pushes: 0, refused: Vec::new() };
        for _ in 0..gone {
            pusher.push();
            assert_eq!(consumer.drain(1, |_| ControlFlow::Continue(())), Ok(1));
        }
        (0..ready).for_each(|_| pusher.push());
        (pusher, consumer)
    }

    /// Drains with a push before each atomic operation that `at` selects; checks all; returns operations and
    /// pushes.
    fn drain_with_pushes(self, at: impl Fn(u64) -> bool + 'static) -> (u64, u64) {
        let (pusher, consumer) = self.set();
        self.drain_between_pushes(pusher, consumer, at)
    }

    fn drain_between_pushes(
        self,
        pusher: Pusher,
        mut consumer: Consumer<'static, Pages>,
        at: impl Fn(u64) -> bool + 'static,
    ) -> (u64, u64) {
        let pushes_before = pusher.pushes;
        let pusher = Rc::new(RefCell::new(pusher));
        let operations = Rc::new(Cell::new(0));
        let handler = {
            let (pusher, operations) = (Rc::clone(&pusher), Rc::clone(&operations));
            move || {
                if at(operations.get()) {
                    pusher.borrow_mut().push();
                }
                operations.set(operations.get() + 1);
            }
        };
        let mut received = with_preemption(handler, || self.receive(&mut consumer));
        received.extend(self.receive(&mut consumer));
        let pusher = pusher.borrow();
        self.check(&pusher, &received, consumer.drops());
        (operations.get(), pusher.pushes - pushes_before)
    }

    /// Drains once, and checks each record against its number.
    fn receive(self, consumer: &mut Consumer<'static, Pages>) -> Vec<u64> {
        let mut received = Vec::new();
        let taken = consumer.drain(usize::MAX, |record| {
            assert!(record.words().eq(payload(record.tag(), self.payload_words)), "torn: {}", record.tag());
            received.push(record.tag());
            ControlFlow::Continue(())
        });
        assert_eq!(taken, Ok(received.len()));
        received
    }

    /// Every number from the first undrained one on was received or refused: once, and in order.
    fn check(self, pusher: &Pusher, received: &[u64], drops: Drops) {
        let expected = (self.gone as u64..pusher.pushes).filter(|number| !pusher.refused.contains(number));
        assert!(received.iter().copied().eq(expected), "{self:?}: received {received:?}");
        assert_eq!(drops, Drops { ring_full: pusher.refused.len() as u64, ..Drops::default() });
    }
}

/// Short and long records; empty, one, some and as many as fit; from the start and over the end of the ring.
fn scenes() -> impl Iterator<Item = Scene> {
    [1, 2].into_iter().flat_map(scenes_over)
}

fn scenes_over(pages: usize) -> impl Iterator<Item = Scene> {
    let lengths = [0, 1, 31, MAX_PAYLOAD_WORDS].into_iter();
    lengths.flat_map(move |payload_words| {
        let full = pages * PAGE_WORDS / (payload_words + 1);
        [0, 1, full - 1, full].into_iter().flat_map(move |ready| {
            // Where space comes back page by page, there may be no room for so many after others are gone.
            let most_gone = if pages == 1 { full - 1 } else { 1 };
            [0, most_gone].into_iter().map(move |gone| Scene { payload_words, ready, gone, pages })
        })
    })
}

// case 61, case 63
#[test]
fn a_push_before_any_one_operation_of_the_drain_harms_nothing() {
    for scene in scenes() {
        let (operations, pushes) = scene.drain_with_pushes(|_| false);
        assert!(operations >= 1 && pushes == 0, "{scene:?}: at least head is loaded");
        for k in 0..operations {
            let (operations_seen, pushes) = scene.drain_with_pushes(move |operation| operation == k);
            assert_eq!(pushes, 1, "{scene:?}: the push before operation {k} did not happen");
            assert!(operations_seen >= operations, "{scene:?}: the drain went short after a push before {k}");
        }
    }
}

// case 61, case 62: the storm fills the ring, and every refusal is counted
#[test]
fn a_push_before_every_operation_of_the_drain_harms_nothing() {
    for scene in scenes() {
        let (operations, pushes) = scene.drain_with_pushes(|_| true);
        assert_eq!(pushes, operations, "{scene:?}");
    }
}

#[test]
fn a_drain_has_one_operation_per_word_and_two_per_batch() {
    let full = Scene { payload_words: 0, ready: PAGE_WORDS, gone: 0, pages: 1 };
    let (operations, _) = full.drain_with_pushes(|_| false);
    let load_of_head_and_store_of_tail = 2;
    assert_eq!(operations, PAGE_WORDS as u64 + load_of_head_and_store_of_tail);
}

// A page that is given back before it is released loses the record that an NMI writes to it in between.
#[cfg(feature = "mutants")]
#[test]
fn a_tail_that_is_published_before_the_release_is_noticed() {
    let noticed = scenes_over(2).filter(|scene| {
        let (operations, _) = scene.drain_with_pushes(|_| false);
        (0..operations + 2).any(|k| {
            let (pusher, mut consumer) = scene.set();
            consumer.publish_before_release();
            let attempt = move || scene.drain_between_pushes(pusher, consumer, move |at| at == k);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)).is_err()
        })
    });
    assert!(noticed.count() > 0, "no push in the gap did any harm");
}
