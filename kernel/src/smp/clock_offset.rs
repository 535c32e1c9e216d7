//! How far another CPU's time-stamp counter is off.
//!
//! CPU 0 asks for the other one's time many times. Whatever the answer that came back fastest says was read somewhere
//! between question and answer, so the middle of the two is wrong by half of that time at most (Cristian,
//! "Probabilistic Clock Synchronization", 1989). Where the counters run together, as they do on most machines, the
//! offset found is smaller than that and means nothing; the host takes it for none then.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use super::assignment::{assign, is_parked};
use crate::arch::cpu;
use crate::arch::percpu;
use crate::arch::startup::wait_until;

/// Questions asked.
const ROUNDS: u64 = 64;
/// Longest time for an answer.
const TICKS_MAX: u64 = 1 << 32;

/// The question that was asked last, counted from 1. Written by CPU 0.
static QUESTION: Line = Line(AtomicU64::new(0));
/// The other CPU's time when it saw that question.
static ANSWER: Line = Line(AtomicU64::new(0));
/// The question that was answered last. Written by the other CPU.
static ANSWERED: Line = Line(AtomicU64::new(0));

/// A word on a pair of cache lines of its own.
#[repr(align(128))]
struct Line(AtomicU64);

/// Returns the clock of a parked CPU less this one's, and how wrong that may be, both in ticks.
///
/// # Context
/// CPU 0, thread.
pub(super) fn measure(index: u16) -> (i64, u64) {
    let Some(cpu) = percpu::of(index) else { return (0, u64::MAX) };
    QUESTION.0.store(0, Ordering::Relaxed);
    ANSWERED.0.store(0, Ordering::Relaxed);
    assign(cpu, TICKS_MAX, Box::new(|_| answer()));
    let best = (1..=ROUNDS).map(ask).min_by_key(|(_, uncertainty)| *uncertainty);
    wait_until(TICKS_MAX, || is_parked(index));
    best.unwrap_or((0, u64::MAX))
}

/// Asks once; returns offset and uncertainty.
fn ask(round: u64) -> (i64, u64) {
    let before = cpu::timestamp();
    // Release and Acquire, in all of this: question, reading and answer keep their order.
    QUESTION.0.store(round, Ordering::Release);
    if !wait_until(TICKS_MAX, || ANSWERED.0.load(Ordering::Acquire) == round) {
        return (0, u64::MAX);
    }
    let after = cpu::timestamp();
    let half = after.wrapping_sub(before).div_ceil(2);
    let other = ANSWER.0.load(Ordering::Relaxed);
    (other.wrapping_sub(before.wrapping_add(half)).cast_signed(), half)
}

/// Answers all questions.
fn answer() {
    for round in 1..=ROUNDS {
        wait_until(TICKS_MAX, || QUESTION.0.load(Ordering::Acquire) >= round);
        ANSWER.0.store(time(), Ordering::Relaxed);
        ANSWERED.0.store(round, Ordering::Release);
    }
}

#[cfg(not(feature = "selftest"))]
fn time() -> u64 {
    cpu::timestamp()
}

/// Reads the clock, which the self-test may set wrong.
#[cfg(feature = "selftest")]
fn time() -> u64 {
    cpu::timestamp().wrapping_add_signed(crate::selftest::clock_skew())
}
