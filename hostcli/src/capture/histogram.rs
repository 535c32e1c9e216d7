//! Samples counted by where they fell.

use std::collections::HashMap;

use super::{ChainId, Sample, SampleBlock};

/// Most places that are told apart; further ones are counted together as address 0 without callers.
pub const PLACES_MAX: usize = 1 << 22;

/// Where samples fall: what an export or a report tells apart at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Index of the event.
    pub event: u8,
    /// The CPU.
    pub cpu: u16,
    /// The interrupted instruction.
    pub ip: u64,
    /// The call chain.
    pub chain: ChainId,
    /// Number of the process; 0 for none.
    pub process: u32,
}

/// Number of samples at each place.
///
/// The map's hash is keyed, so that no capture can be made to fill one bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    places: HashMap<Place, u64>,
}

impl Histogram {
    /// Counts the samples of one block.
    pub fn count(&mut self, block: &SampleBlock<'_>) {
        for sample in block.samples {
            let Sample { ip, chain, process, count, .. } = *sample;
            let place = Place { event: block.event, cpu: block.cpu, ip, chain, process };
            self.count_at(place, count.into());
        }
    }

    fn count_at(&mut self, place: Place, samples: u64) {
        let is_full = self.places.len() >= PLACES_MAX;
        if let Some(count) = self.places.get_mut(&place) {
            *count += samples;
            return;
        }
        let anywhere = Place { ip: 0, chain: ChainId::UNKNOWN, ..place };
        *self.places.entry(if is_full { anywhere } else { place }).or_default() += samples;
    }

    /// Returns all places and their counts, in an order that depends on nothing but the samples.
    #[must_use]
    pub fn sorted(&self) -> Vec<(Place, u64)> {
        let mut places: Vec<_> = self.places.iter().map(|(place, count)| (*place, *count)).collect();
        places.sort_unstable();
        places
    }

    /// Tells whether there are no samples.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the number of samples of an event.
    #[must_use]
    pub fn samples_of(&self, event: u8) -> u64 {
        let of_event = self.places.iter().filter(|(place, _)| place.event == event);
        of_event.map(|(_, count)| count).sum()
    }
}
