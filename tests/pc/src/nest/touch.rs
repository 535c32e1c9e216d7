//! The first touch of a ring page inside an NMI: which NMI makes it, and the record that it leaves.

use super::Broken;
use crate::harness::LIMIT;
use crate::machine::{Machine, Stopped};

/// More NMIs than there are samples in a page.
const NMIS_MAX: u64 = 1000;
const PAGE_BYTES: u64 = 4096;
const WORD_BYTES: u64 = 8;
/// Where a record has its time, which another NMI puts off, and where its address; after the header.
const TIME: usize = 1;
const ADDRESS: usize = 2;

/// What an NMI that touched a page first has left in the ring.
#[derive(Debug)]
pub(super) struct Touch {
    page: u64,
    /// Address and content of each word of its record.
    record: Vec<(u64, u64)>,
}

/// Words of the ring around a page, by address; those that are not mapped are 0.
pub(super) struct Words(Vec<(u64, u64)>);

/// Runs to the page fault of an NMI; tells which NMI from here on that is.
///
/// # Panics
/// If none comes.
pub(super) fn find(machine: &mut Machine, entry: u64, page_fault: u64) -> u64 {
    let mut nmis = 0;
    while nmis < NMIS_MAX {
        assert_eq!(machine.run_to_any(&[entry, page_fault], LIMIT), Stopped::Label, "NMIs, and a page fault");
        match machine.registers().rip {
            address if address == entry => nmis += 1,
            _ if nmis > 0 => return nmis,
            _ => (),
        }
    }
    panic!("{NMIS_MAX} NMIs without a page fault");
}

impl Words {
    /// Reads the page and the one before it, where a record may begin that reaches into it.
    pub(super) fn read(machine: &mut Machine, page: u64) -> Self {
        let words = 0..2 * PAGE_BYTES / WORD_BYTES;
        let addresses = words.map(|index| page - PAGE_BYTES + index * WORD_BYTES);
        Self(addresses.map(|address| (address, machine.read_word(address).unwrap_or(0))).collect())
    }
}

impl Touch {
    /// Compares the words of the ring before and after an NMI that interrupted the instruction at `ip`.
    ///
    /// # Panics
    /// If what it wrote is no sample of that instruction.
    pub(super) fn new(page: u64, before: Words, after: Words, ip: u64) -> Self {
        let pairs = before.0.into_iter().zip(after.0);
        let record: Vec<_> = pairs.filter(|(old, new)| old != new).map(|(_, new)| new).collect();
        assert_eq!(
            record.get(ADDRESS).map(|(_, word)| *word),
            Some(ip),
            "a record of the sample: {record:x?}"
        );
        Self { page, record }
    }

    /// Judges what is in the ring, which `read` reads: the same record, with a time of its own, and none after it.
    pub(super) fn judge(&self, mut read: impl FnMut(u64) -> Option<u64>) -> Result<(), Broken> {
        if read(self.page).is_none() {
            return Err(Broken::Unmapped);
        }
        let mut is_there = |(index, (address, word)): (usize, &(u64, u64))| match read(*address) {
            Some(found) if index == TIME => found >= *word,
            found => found == Some(*word),
        };
        let is_whole = self.record.iter().enumerate().all(&mut is_there);
        let end = self.record.last().map_or(self.page, |(address, _)| address + WORD_BYTES);
        let is_last = read(end).unwrap_or(0) == 0;
        if is_whole && is_last { Ok(()) } else { Err(Broken::Sample) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Touch, Words};
    use crate::nest::Broken;

    const PAGE: u64 = 0x9000;
    /// Header, time, address.
    const RECORD: [u64; 3] = [3, 100, 0x1234];

    /// Judges a page that holds these words after a record was made of [`RECORD`].
    fn judged(words: Option<&[u64]>) -> Result<(), Broken> {
        let at = |words: &[u64]| -> Vec<_> { (PAGE..).step_by(8).zip(words.to_vec()).collect() };
        let touch = Touch::new(PAGE, Words(at(&[0; 4])), Words(at(&[3, 100, 0x1234, 0])), 0x1234);
        let found = words.map(at).unwrap_or_default();
        touch.judge(|address| found.iter().find(|(at, _)| *at == address).map(|(_, word)| *word))
    }

    #[test]
    fn the_same_record_passes_and_so_does_a_later_one() {
        assert_eq!(judged(Some(&RECORD)), Ok(()));
        assert_eq!(judged(Some(&[3, 101, 0x1234, 0])), Ok(()));
    }

    #[test]
    fn a_page_that_is_missing_is_noticed() {
        assert_eq!(judged(None), Err(Broken::Unmapped));
    }

    #[test]
    fn a_record_that_is_missing_or_another_one_or_two_of_them_are_noticed() {
        for words in
            [[0; 4], [3, 99, 0x1234, 0], [3, 100, 0x1235, 0], [4, 100, 0x1234, 0], [3, 100, 0x1234, 3]]
        {
            assert_eq!(judged(Some(&words)), Err(Broken::Sample), "{words:x?}");
        }
    }
}
