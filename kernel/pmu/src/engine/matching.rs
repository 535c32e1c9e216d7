//! Events to counters, as many as fit.
//!
//! Counters are not alike: fixed ones count one event each, and some events can be counted by some general counters
//! only. Whether events fit is a matching of a bipartite graph, and it is solved exactly, by augmenting paths: an event
//! that finds its counters taken may push the event on one of them to another counter, and that one the next
//! (Kuhn, "The Hungarian Method for the Assignment Problem", 1955; the search is breadth first, so that nothing
//! recurses). With 16 events that costs less than thinking about a heuristic, and no request is refused that fits.
//! Fixed counters are tried first: what can be counted there leaves a general counter free.

use super::schedule::index_u8;
use super::types::{EVENTS_MAX, Request};
use crate::counter::{Counter, CounterSet};

/// Counters of a turn, by event.
pub(super) type Turn = [Option<Counter>; EVENTS_MAX];

/// Events matched to counters, as far as they were added.
#[derive(Clone, Copy)]
pub(super) struct Matching {
    wanted: [CounterSet; EVENTS_MAX],
    counters: Turn,
    /// Events by counter.
    events: [Option<u8>; Counter::COUNT],
}

impl Matching {
    pub(super) fn new(requests: &[Request], usable: CounterSet) -> Self {
        let mut wanted = [CounterSet::EMPTY; EVENTS_MAX];
        for (slot, request) in wanted.iter_mut().zip(requests) {
            *slot = request.encoding.counters.intersection(usable);
        }
        Self { wanted, counters: [None; EVENTS_MAX], events: [None; Counter::COUNT] }
    }

    /// Returns the counter of each event that was added.
    pub(super) const fn counters(&self) -> &Turn {
        &self.counters
    }

    /// Matches one more event, moving others if need be; tells whether that can be done.
    pub(super) fn add(&mut self, event: usize) -> bool {
        let mut search = Search::from(index_u8(event));
        while let Some(from) = search.next() {
            for counter in self.counters_for(from).into_iter().flat_map(CounterSet::iter) {
                if search.reach(counter, from) {
                    match self.events.get(usize::from(counter.number())).copied().flatten() {
                        None => return self.augment(counter, &search),
                        Some(other) => search.push(other),
                    }
                }
            }
        }
        false
    }

    /// Returns the counters of an event: fixed ones, then general ones.
    fn counters_for(&self, event: u8) -> [CounterSet; 2] {
        let wanted = self.wanted.get(usize::from(event)).copied().unwrap_or_default();
        let general = wanted.intersection(CounterSet::first_general(u8::MAX));
        [wanted.without(general), general]
    }

    /// Gives a free counter to the event from which it was reached, that one's counter to the next event, and so on.
    fn augment(&mut self, free: Counter, search: &Search) -> bool {
        let mut counter = free;
        for _ in 0..EVENTS_MAX {
            let event = search.reached_from(counter);
            let holder = self.events.get_mut(usize::from(counter.number()));
            let (Some(holder), Some(held)) = (holder, self.counters.get_mut(usize::from(event))) else {
                return false;
            };
            *holder = Some(event);
            match held.replace(counter) {
                None => return true,
                Some(left) => counter = left,
            }
        }
        false
    }
}

/// A breadth-first search for a free counter: from events to counters they want, from those to the events on them.
struct Search {
    reached: CounterSet,
    /// By counter, the event that wants it.
    reached_from: [u8; Counter::COUNT],
    /// Events, each once at most.
    queue: [u8; EVENTS_MAX],
    queued: usize,
    taken: usize,
}

impl Search {
    fn from(event: u8) -> Self {
        let (reached_from, queue) = ([0; Counter::COUNT], [event; EVENTS_MAX]);
        Self { reached: CounterSet::EMPTY, reached_from, queue, queued: 1, taken: 0 }
    }

    fn next(&mut self) -> Option<u8> {
        let event = self.queue.iter().take(self.queued).nth(self.taken).copied()?;
        self.taken += 1;
        Some(event)
    }

    fn push(&mut self, event: u8) {
        if let Some(slot) = self.queue.get_mut(self.queued) {
            *slot = event;
            self.queued += 1;
        }
    }

    /// Notes that an event wants a counter; tells whether none had before.
    fn reach(&mut self, counter: Counter, event: u8) -> bool {
        let is_new = !self.reached.contains(counter);
        self.reached = self.reached.union(counter.set());
        if let Some(from) = self.reached_from.get_mut(usize::from(counter.number())).filter(|_| is_new) {
            *from = event;
        }
        is_new
    }

    fn reached_from(&self, counter: Counter) -> u8 {
        self.reached_from.get(usize::from(counter.number())).copied().unwrap_or(u8::MAX)
    }
}
