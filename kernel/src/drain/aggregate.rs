//! Samples counted in the drain, for lines that are slower than samples come.
//!
//! With `aggregate=on` the drain doesn't send samples but counts them in a table: by event, address, call chain and
//! process. Its content goes out as tallies, which together say the same as the samples would, but for their times. A
//! line carries any sampling rate by that, because code has only so many addresses; three more things have to hold:
//!
//! - **The ring is drained while a tally is on its way.** A table that is sent is closed, and another one counts
//!   meanwhile. One tally is sent at a time, between two looks at the ring.
//! - **The line is not filled with the same places again and again.** A table stays open until what it will cost has
//!   been saved up, by [`BYTES_PER_HELLO`] about every second. So the sending interval follows from the number of
//!   places, and tallies and their call chains take half of a line of 115,200 baud at most, from the start on. The
//!   end of the run sends one table more, however long the line takes for it.
//! - **A table that is full is closed at once**, and its successor starts empty. Where there are more places than a
//!   table has, the line is the limit again: a table that is full and can't be closed, for the one before it is still on
//!   its way, leaves records in the ring, and then the ring drops and counts as always.
//!
//! A tally names call chains of the epoch in which its table was open. A new epoch may have begun when it is sent, but
//! not two: a table is closed only after the one before it was sent. The reader keeps two epochs for that.
//!
//! Samples get their numbers when they are sent, like those of blocks, so the host finds what the line lost in the
//! same way.

use alloc::boxed::Box;
use alloc::vec;
use core::mem;

use nmiprof_wire::{Aggregate, BlockHeader, Frame, Sample, TallyEncoder, TallyEntry};

use super::Samples;
use super::chains::Chains;
use crate::stream;

/// What a line of 115,200 baud with 8 data bits and a stop bit carries in a second.
const LINE_BYTES_PER_S: usize = 11_520;
/// What tallies may take from a description of the run to the next one, a second later: half of the line.
const BYTES_PER_HELLO: usize = LINE_BYTES_PER_S / 2;
/// What a tally costs beside its entries: header, checksum and framing, rounded up.
const TALLY_OVERHEAD_BYTES: usize = 64;
/// What an entry costs, as a guess beforehand: its share of that is in it.
const ENTRY_BYTES: usize = 4;

/// Samples that wait in tables.
pub(super) struct Tallies {
    /// The kernel sends each sample as well: then these have numbers of their own.
    beside_samples: bool,
    processes: bool,
    /// Samples that went out in tallies: the number of the next one.
    sent: u64,
    open: Table,
    closed: Closed,
    encoder: TallyEncoder,
    /// Bytes of the line that were saved up; spent ones are less.
    saved_bytes: isize,
}

/// A table on its way out.
struct Closed {
    table: Table,
    /// Entries that went out.
    done: usize,
    /// Epoch of the call chains that its entries name.
    epoch: Option<u32>,
}

impl Tallies {
    fn new(beside_samples: bool, chains: bool, processes: bool) -> Self {
        Self {
            beside_samples,
            processes,
            sent: 0,
            open: Table::new(),
            closed: Closed { table: Table::new(), done: 0, epoch: None },
            encoder: TallyEncoder::new(chains, processes),
            saved_bytes: 0,
        }
    }

    /// Closes the open table, whose call chains are defined, and opens an empty one.
    fn close(&mut self, epoch: Option<u32>) {
        mem::swap(&mut self.open, &mut self.closed.table);
        self.closed.table.sort();
        self.closed.done = 0;
        self.closed.epoch = epoch;
    }

    /// Sends the next tally of the closed table: of one event.
    fn send_one(&mut self, cpu: u16, dropped: u64) {
        let Self { closed: Closed { table, done, epoch }, encoder, .. } = self;
        let Some(event) = table.entry(*done).map(|entry| entry.event) else {
            return;
        };
        while let Some(entry) = table.entry(*done).filter(|entry| entry.event == event)
            && encoder.push(entry.coded()).is_ok()
        {
            *done += 1;
        }
        let processes = self.processes;
        let header = BlockHeader { cpu, event, first_sample: self.sent, dropped, chains: *epoch, processes };
        let tally = encoder.tally(header, table.first_time, table.last_time);
        stream::send(&Frame::Tally(tally));
        let line_bytes = tally.entries.len() + TALLY_OVERHEAD_BYTES;
        self.sent += tally.samples;
        encoder.clear();
        if *done == table.used {
            table.clear();
        }
        self.spend(line_bytes);
    }

    /// Sends what is left of the closed table.
    fn finish(&mut self, cpu: u16, dropped: u64) {
        while self.closed.table.used > 0 {
            self.send_one(cpu, dropped);
        }
    }

    /// Tells whether one more record has room, which may need the open table to be closed: then the one before it has to be
    /// gone.
    pub(super) fn has_room(&self, must_close: bool) -> bool {
        let line_has_room = !self.beside_samples || stream::has_room();
        let may_close = self.closed.table.used == 0 && stream::has_room();
        line_has_room && (may_close || !(must_close || self.open.used == Table::USED_MAX))
    }

    /// Gives up what was counted, and so many samples besides: they have their numbers and are sent to nobody.
    fn abandon(&mut self, besides: u64) {
        let waiting = self.open.samples_from(0) + self.closed.table.samples_from(self.closed.done);
        self.sent += waiting + besides;
        self.open.clear();
        self.closed.table.clear();
    }

    /// Saves up for what waits, and tells whether that is enough and nothing else is on its way.
    const fn saves_enough(&mut self) -> bool {
        let cost = (self.open.used * ENTRY_BYTES).cast_signed();
        self.saved_bytes = self.saved_bytes.saturating_add_unsigned(BYTES_PER_HELLO);
        self.saved_bytes >= cost && self.closed.table.used == 0
    }

    const fn spend(&mut self, bytes: usize) {
        self.saved_bytes = self.saved_bytes.saturating_sub_unsigned(bytes);
    }
}

/// What the drain does with samples that are counted. Nothing here does anything where none are.
impl Samples {
    /// Makes room for counted samples where they are wanted.
    pub(super) fn aggregate(&mut self, aggregate: Aggregate) {
        let [chains, processes] = [self.chains.is_some(), !self.spaces.is_empty()];
        self.tallies = match aggregate {
            Aggregate::Off => None,
            Aggregate::On => Some(Box::new(Tallies::new(false, chains, processes))),
            Aggregate::Both => Some(Box::new(Tallies::new(true, chains, processes))),
        };
    }

    /// Counts a sample, and tells whether that is all that it is wanted for.
    pub(super) fn tally(&mut self, event: u8, sample: Sample) -> bool {
        let Some(tallies) = &mut self.tallies else {
            return false;
        };
        let beside_samples = tallies.beside_samples;
        if !tallies.open.count(event, sample) {
            self.close_tallies();
            let counted = self.tallies.as_mut().is_some_and(|tallies| tallies.open.count(event, sample));
            debug_assert!(counted, "an empty table takes a sample");
        }
        !beside_samples
    }

    /// Puts the open table on its way. Another one may have to get there first.
    pub(super) fn close_tallies(&mut self) {
        let Some(tallies) = &mut self.tallies else {
            return;
        };
        tallies.finish(self.cpu, self.dropped);
        if let Some(chains) = &mut self.chains {
            chains.send();
            tallies.spend(chains.take_sent_bytes());
        }
        tallies.close(self.chains.as_ref().map(Chains::epoch));
    }

    /// Sends one tally, if there is one to be sent.
    pub(super) fn send_tally(&mut self) {
        if let Some(tallies) = &mut self.tallies {
            tallies.send_one(self.cpu, self.dropped);
        }
    }

    /// Tells whether a table is on its way.
    pub(super) fn has_closed_table(&self) -> bool {
        self.tallies.as_ref().is_some_and(|tallies| tallies.closed.table.used > 0)
    }

    /// Gives up what was counted, and so many samples besides.
    pub(super) fn abandon_tallies(&mut self, besides: u64) {
        if let Some(tallies) = &mut self.tallies {
            tallies.abandon(besides);
        }
    }

    /// Tells, about once a second, whether the line has room for the next epoch.
    pub(super) fn has_line_for_epoch(&mut self) -> bool {
        self.tallies.as_mut().is_none_or(|tallies| tallies.saves_enough())
    }

    /// Returns how many samples went out: the number of the next one.
    pub(super) fn numbered(&self) -> u64 {
        let instead = self.tallies.as_ref().filter(|tallies| !tallies.beside_samples);
        instead.map_or(self.sent, |tallies| tallies.sent)
    }
}

/// Number of samples by place: an open-addressed hash table of fixed size.
struct Table {
    slots: Box<[Entry]>,
    used: usize,
    first_time: u64,
    last_time: u64,
}

/// A place, and how many samples fell there: 0 in an empty slot.
#[derive(Clone, Copy, Default)]
struct Entry {
    ip: u64,
    stack: u32,
    process: u32,
    samples: u32,
    event: u8,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// What is told apart: event, call chain, process and address. In this order tallies are sent: it makes their deltas
/// small.
type Place = (u8, u32, u32, u64);

impl Entry {
    const fn place(&self) -> Place {
        (self.event, self.stack, self.process, self.ip)
    }

    const fn coded(&self) -> TallyEntry {
        let Self { ip, stack, process, samples, .. } = *self;
        TallyEntry { ip, stack, process, samples }
    }
}

impl Table {
    /// Every instruction of a hot path under every one of its callers is a place: tens of thousands, in a megabyte.
    /// The self-test image has fewer, so that tables fill up there.
    const SLOTS: usize = if cfg!(feature = "selftest") { 1 << 11 } else { 1 << 15 };
    /// Probing stays short below this.
    const USED_MAX: usize = Self::SLOTS * 3 / 4;

    fn new() -> Self {
        let slots = vec![Entry::default(); Self::SLOTS].into_boxed_slice();
        Self { slots, used: 0, first_time: u64::MAX, last_time: 0 }
    }

    /// Counts a sample; refuses it where the table is full, or the place's own number.
    fn count(&mut self, event: u8, sample: Sample) -> bool {
        let Sample { time, ip, stack, process } = sample;
        let is_full = self.used == Self::USED_MAX;
        let slot = self.slot_of((event, stack, process, ip));
        let samples = slot.samples;
        let is_new = samples == 0;
        if samples == u32::MAX || (is_new && is_full) {
            return false;
        }
        *slot = Entry { ip, stack, process, samples: samples + 1, event };
        self.used += usize::from(is_new);
        self.first_time = self.first_time.min(time);
        self.last_time = self.last_time.max(time);
        true
    }

    /// Finds the slot of a place, or the empty one that it would get.
    fn slot_of(&mut self, place: Place) -> &mut Entry {
        let mut index = hash(place);
        // Ends: the table is never full.
        while self.slots[index].samples > 0 && self.slots[index].place() != place {
            index = (index + 1) % Self::SLOTS;
        }
        &mut self.slots[index]
    }

    /// Brings the entries to the front, in order. They can't be counted further then.
    fn sort(&mut self) {
        let mut front = 0;
        for index in 0..self.slots.len() {
            if self.slots[index].samples > 0 {
                self.slots.swap(front, index);
                front += 1;
            }
        }
        self.slots[..front].sort_unstable_by_key(Entry::place);
    }

    /// Returns an entry of a sorted table.
    fn entry(&self, index: usize) -> Option<Entry> {
        self.slots[..self.used].get(index).copied()
    }

    /// Counts the samples of all slots from one on.
    fn samples_from(&self, index: usize) -> u64 {
        self.slots.iter().skip(index).map(|entry| u64::from(entry.samples)).sum()
    }

    fn clear(&mut self) {
        self.slots.fill(Entry::default());
        (self.used, self.first_time, self.last_time) = (0, u64::MAX, 0);
    }
}

/// Hashes multiplicatively by 2^64 over the golden ratio (Knuth).
fn hash((event, stack, process, ip): Place) -> usize {
    let [event, stack, process] = [event.into(), stack.into(), process.into()];
    let words =
        ip ^ u64::rotate_left(stack, 32) ^ u64::rotate_left(process, 24) ^ u64::rotate_left(event, 56);
    let mixed = words.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed >> (u64::BITS - Table::SLOTS.ilog2())).unwrap_or_default()
}
