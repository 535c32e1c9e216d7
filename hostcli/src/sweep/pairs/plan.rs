//! Rows of pairs, over machines that may die at any of them.

use nmiprof_wire::{Landing, Pair};

use crate::sweep::combination::{Combination, PairRequest};
use crate::sweep::placer::{ChunkEnd, Placer};
use crate::sweep::run::{Death, SweepError};

/// Most pairs of one machine, unless one row has more.
pub const CHUNK_PAIRS: u32 = 1 << 15;
/// Pairs at the end of a row whose third NMI landed after the return, each at the instruction after the one
/// before.
pub const AFTER_RETURN: usize = 16;

/// Rows to be done: ticks of the second NMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The first row.
    pub first: u32,
    /// The last row.
    pub last: u32,
}

/// Groups ticks into rows that follow each other.
#[must_use]
pub fn ranges(ticks: impl IntoIterator<Item = u32>) -> Vec<Rows> {
    let mut ranges: Vec<Rows> = Vec::new();
    for tick in ticks {
        match ranges.last_mut() {
            Some(range) if range.last + 1 == tick => range.last = tick,
            _ => ranges.push(Rows { first: tick, last: tick }),
        }
    }
    ranges
}

/// What is to be done of one combination.
#[derive(Clone, Copy, Debug)]
pub struct PairsPlan<'a> {
    /// What is swept.
    pub combination: &'a Combination,
    /// Known defect of the entry; empty for none.
    pub mutant: &'a str,
    /// The first gap of each row.
    pub gap_first: u32,
    /// The last gap that is done if the third NMI does not land after the return before.
    pub gap_max: u32,
    /// The interrupted instruction.
    pub return_address: u64,
    /// Deaths after which there is no point in going on.
    pub deaths_max: usize,
    /// Whether the first machine with a failed pair is the last.
    pub stops_at_failure: bool,
}

/// What came of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairsEnd {
    /// Pairs at which a machine died, as ticks and gap.
    pub deaths: Vec<(Death, u32)>,
    /// Whether the kernel noticed something.
    pub has_failed: bool,
    /// Whether nothing was left out.
    pub is_whole: bool,
}

/// Where a machine begins: a row, and a gap in it.
type Place = (u32, u32);

impl PairsPlan<'_> {
    /// Does the rows, in the order given. Each machine's pairs go to `take`, in the order of ticks and gaps.
    ///
    /// # Errors
    /// [`SweepError`] where the kernel refuses, or the host fails.
    pub fn run(
        &self,
        rows: &[Rows],
        placer: &dyn Placer,
        take: &mut dyn FnMut(&[Pair]),
    ) -> Result<PairsEnd, SweepError> {
        let mut end = PairsEnd::default();
        for Rows { first, last } in rows {
            let mut place = (*first, self.gap_first);
            while place.0 <= *last {
                if end.deaths.len() >= self.deaths_max || (self.stops_at_failure && end.has_failed) {
                    return Ok(end);
                }
                place = self.chunk(place, *last, placer, &mut end, take)?;
            }
        }
        end.is_whole = true;
        Ok(end)
    }

    /// Does the pairs from `place` on in one machine, and returns where the next one goes on.
    fn chunk(
        &self,
        place: Place,
        last: u32,
        placer: &dyn Placer,
        end: &mut PairsEnd,
        take: &mut dyn FnMut(&[Pair]),
    ) -> Result<Place, SweepError> {
        let (first, gap_first) = place;
        // A row that a machine died in is finished alone: its other gaps are not those of the rows after it.
        let rows = (CHUNK_PAIRS / (self.gap_max - self.gap_first + 1)).max(1);
        let is_whole_row = gap_first == self.gap_first;
        let last = if is_whole_row { last.min(first.saturating_add(rows - 1)) } else { first };
        let gaps = (gap_first, self.gap_max);
        let chunk =
            placer.pairs(self.combination, &PairRequest { mutant: self.mutant, first, last, gaps })?;
        let (count, next) = self.in_order(&chunk.pairs, place);
        let pairs = chunk.pairs.get(..count).unwrap_or_default();
        end.has_failed |= pairs.iter().any(|pair| pair.failures != 0);
        take(pairs);
        let why = match chunk.end {
            ChunkEnd::Refused(why) => return Err(SweepError::Refused(why)),
            ChunkEnd::Complete if next.0 > last => return Ok(next),
            ChunkEnd::Complete => "the report of a pair did not come".to_owned(),
            ChunkEnd::Died(why) => why,
        };
        // It may have died after its last pair: that one did not end well then.
        let (ticks, gap) = if next.0 > last { (last, self.gap_max) } else { next };
        end.deaths.push((Death { ticks, reason: why }, gap));
        end.has_failed = true;
        Ok(if gap < self.gap_max { (ticks, gap + 1) } else { (ticks + 1, self.gap_first) })
    }

    /// Counts the pairs that come in the order that was asked for, and returns what should come after them.
    fn in_order(&self, pairs: &[Pair], place: Place) -> (usize, Place) {
        let (mut expected, mut after_return) = (place, 0);
        for (count, pair) in pairs.iter().enumerate() {
            if (pair.ticks, pair.gap) != expected {
                return (count, expected);
            }
            let is_beyond =
                (1..=BEYOND_BYTES).contains(&pair.third.address().wrapping_sub(self.return_address));
            after_return = if is_beyond { after_return + 1 } else { 0 };
            let is_over = after_return == AFTER_RETURN || pair.gap == self.gap_max;
            expected = if is_over { (pair.ticks + 1, self.gap_first) } else { (pair.ticks, pair.gap + 1) };
            after_return = if is_over { 0 } else { after_return };
        }
        (pairs.len(), expected)
    }
}

/// Longest way from the interrupted instruction on for which a row goes on.
const BEYOND_BYTES: u64 = 1 << 12;

/// Tells whether a row goes on up to well after the return: at its end the third NMI lands beyond the interrupted
/// instruction, tick after tick at the next address.
#[must_use]
pub fn has_returned(row: &[Pair], return_address: u64) -> bool {
    let Some(tail) = row.len().checked_sub(AFTER_RETURN).and_then(|start| row.get(start..)) else {
        return false;
    };
    let is_next = |pair: &[Pair]| match pair {
        [one, next] => next.third.address() == one.third.address() + 1,
        _ => false,
    };
    let is_beyond = |landing: Landing| landing.address() > return_address;
    tail.first().is_some_and(|pair| is_beyond(pair.third)) && tail.windows(2).all(is_next)
}

#[cfg(test)]
mod tests;
