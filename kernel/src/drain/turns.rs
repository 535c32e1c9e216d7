//! The drains of all CPUs, in turn.
//!
//! There is one line and one thread that feeds it. A CPU that samples much must not keep it from the others, so where
//! there are several each has its share of a turn, and another one is first each time.

use alloc::vec::Vec;

use super::Drain;

/// Records that one CPU may have in a turn, where there are others.
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

    /// Sends what waits, where it fills a block and the line has room.
    ///
    /// # Panics
    /// If a ring is corrupt.
    pub fn poll(&mut self) {
        let len = self.drains.len();
        let records_max = if len == 1 { usize::MAX } else { RECORDS_PER_TURN };
        let first = self.first;
        let turns = (0..len).map(|turn| (first + turn) % len);
        // A line that is behind has room for one of them at a time: the next one's turn is then the next CPU's.
        for index in turns {
            if self.drains[index].poll(records_max) {
                self.first = (index + 1) % len;
            }
        }
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
