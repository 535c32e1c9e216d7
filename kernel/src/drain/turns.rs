//! The drains of all CPUs, in turn.
//!
//! There is one line and one thread that feeds it. A CPU that samples much must not keep it from the others, so where
//! there are several each has its share of a turn, and another one is first each time.

use alloc::vec::Vec;

use super::Drain;
use crate::arch::cpu;

/// Records that one CPU may have in a turn.
const RECORDS_PER_TURN: usize = 512;

/// The drains of all CPUs that sample.
pub struct Drains {
    drains: Vec<Drain>,
    /// Who is first.
    first: usize,
}

impl Drains {
    /// Begins with that of one CPU.
    pub fn new(drain: Drain) -> Self {
        Self { drains: Vec::from([drain]), first: 0 }
    }

    /// Adds that of another CPU.
    pub fn add(&mut self, drain: Drain) {
        self.drains.push(drain);
    }

    /// Goes through all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Drain> {
        self.drains.iter()
    }

    /// Goes through all of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Drain> {
        self.drains.iter_mut()
    }

    /// Returns the first CPU's.
    pub fn first_mut(&mut self) -> &mut Drain {
        &mut self.drains[0]
    }

    /// Sends what waits, where it fills a block and the line has room: each CPU's share at least, and more until
    /// `deadline`, by this CPU's clock. CPUs that sample faster than this one drains must not keep it from its own work.
    ///
    /// # Panics
    /// If a ring is corrupt.
    pub fn poll(&mut self, deadline: u64) {
        while self.poll_each() && cpu::timestamp() < deadline {}
    }

    /// Gives every CPU a turn; tells whether one of them had something to send.
    fn poll_each(&mut self) -> bool {
        let (len, first) = (self.drains.len(), self.first);
        let mut has_sent = false;
        // A line that is behind has room for one of them at a time: the next one's turn is then the next CPU's.
        for index in (0..len).map(|turn| (first + turn) % len) {
            if self.drains[index].poll(RECORDS_PER_TURN) {
                self.first = (index + 1) % len;
                has_sent = true;
            }
        }
        has_sent
    }

    /// Sends everything that waits; what a line that stands still leaves is given up.
    ///
    /// # Panics
    /// If a ring is corrupt.
    pub fn flush_or_abandon(&mut self) {
        for drain in &mut self.drains {
            if !drain.flush() {
                drain.abandon();
            }
        }
    }
}
