//! A small cache model: which data accesses reach the last-level cache, and which of those miss it.
//!
//! Two direct-mapped levels with lines of 64 bytes, by virtual address. It is no model of any part: what matters is
//! that the counts depend on the addresses that the program touches, and that the machine knows them exactly.

const LINE_BYTES_LOG2: u32 = 6;
const FIRST_LINES: usize = 256;
const LAST_LINES: usize = 1024;

/// What one access was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hit {
    /// In the first level.
    First,
    /// In the last level: a reference.
    Last,
    /// In memory: a reference and a miss.
    Memory,
}

/// Both levels; each place holds the number of a line, and 0 is none.
#[derive(Clone, Debug)]
pub struct Cache {
    first: Vec<u64>,
    last: Vec<u64>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { first: vec![0; FIRST_LINES], last: vec![0; LAST_LINES] }
    }
}

impl Cache {
    /// Throws the line of an address out of both levels.
    pub fn flush(&mut self, address: u64) {
        let line = number(address);
        for level in [&mut self.first, &mut self.last] {
            let index = index(level, line);
            if level[index] == line {
                level[index] = 0;
            }
        }
    }

    /// Looks an address up, and keeps its line; one from memory brings its pair line into the last level.
    #[inline]
    pub fn touch(&mut self, address: u64) -> Hit {
        let line = number(address);
        if place(&mut self.first, line) {
            Hit::First
        } else if place(&mut self.last, line) {
            Hit::Last
        } else {
            place(&mut self.last, pair(line));
            Hit::Memory
        }
    }
}

/// Puts a line in its place; tells whether it was there.
#[inline]
fn place(lines: &mut [u64], line: u64) -> bool {
    let index = index(lines, line);
    std::mem::replace(&mut lines[index], line) == line
}

/// Returns the number of an address's line.
#[inline]
const fn number(address: u64) -> u64 {
    address >> LINE_BYTES_LOG2 | 1 << 63
}

/// Returns the number of the other line of the same 128 bytes.
#[inline]
const fn pair(line: u64) -> u64 {
    line ^ 1
}

#[inline]
fn index(lines: &[u64], line: u64) -> usize {
    usize::try_from(line).unwrap_or(0) & (lines.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::{Cache, Hit};

    #[test]
    fn a_line_is_missed_once_and_then_found_until_another_takes_its_place() {
        let mut cache = Cache::default();
        assert_eq!(cache.touch(0x1000), Hit::Memory);
        assert_eq!(cache.touch(0x1038), Hit::First);
        assert_eq!(cache.touch(0x1000 + (256 << 6)), Hit::Memory, "the same place of the first level");
        assert_eq!(cache.touch(0x1000), Hit::Last);
        assert_eq!(cache.touch(0x1000 + (1024 << 6)), Hit::Memory, "the same place of both");
        assert_eq!(cache.touch(0x1000), Hit::Memory);
    }

    #[test]
    fn a_line_from_memory_brings_its_pair_line_into_the_last_level_and_no_other() {
        let mut cache = Cache::default();
        assert_eq!(cache.touch(0x1040), Hit::Memory);
        assert_eq!([0x1000, 0x1080].map(|address| cache.touch(address)), [Hit::Last, Hit::Memory]);
        assert_eq!(cache.touch(0x10c0), Hit::Last, "the pair of the second miss");
        assert_eq!(cache.touch(0x1100), Hit::Memory, "what was prefetched brings nothing");
    }

    #[test]
    fn a_walk_over_lines_misses_every_other_one() {
        let mut cache = Cache::default();
        let misses = (0..10_000).filter(|line| cache.touch(0x10_0000 + (line << 6)) == Hit::Memory).count();
        assert_eq!(misses, 5000);
    }

    #[test]
    fn a_line_that_was_flushed_is_missed_and_its_neighbours_are_not() {
        let mut cache = Cache::default();
        cache.touch(0x1000);
        cache.touch(0x1040);
        cache.flush(0x1008);
        assert_eq!([cache.touch(0x1000), cache.touch(0x1040)], [Hit::Memory, Hit::First]);
    }
}
