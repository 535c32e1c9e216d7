//! Which event is counted by which counter, and when.
//!
//! Whether events fit at once is found exactly (`matching`), not by a rule of thumb.
//!
//! The events of a group count at the same time or not at all. Where not all groups fit at once they take *turns*, as
//! perf's do (Linux 6.x, `kernel/events/core.c`): the list of groups is rotated by one each time, and each group goes in
//! that still fits. So every group is the first of one turn, and counts at least that often. All turns are planned when
//! the events are set, for a change of turn happens in an NMI.

use core::fmt;

use super::matching::{Matching, Turn};
use super::types::{EVENTS_MAX, Rate, Request};
use crate::counter::{Counter, CounterSet};

/// The turns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    turns: [Turn; EVENTS_MAX],
    turns_count: usize,
}

impl Schedule {
    /// Has one turn without events.
    pub(super) const EMPTY: Self = Self { turns: [[None; EVENTS_MAX]; EVENTS_MAX], turns_count: 1 };

    /// Plans the turns.
    pub(super) fn plan(requests: &[Request], usable: CounterSet) -> Result<Self, ScheduleError> {
        let groups = Groups::of(requests)?;
        let mut schedule = Self::EMPTY;
        for first in 0..groups.count {
            let (turn, is_complete) = groups.turn(first, requests, usable)?;
            if let Some(slot) = schedule.turns.get_mut(first) {
                *slot = turn;
            }
            schedule.turns_count = first.saturating_add(1);
            if is_complete {
                break;
            }
        }
        Ok(schedule)
    }

    /// Returns how many turns there are: 1 if all events fit at once.
    pub(super) const fn turns_count(&self) -> usize {
        self.turns_count
    }

    /// Returns the counter of an event in a turn.
    pub(super) fn counter(&self, turn: usize, event: usize) -> Option<Counter> {
        *self.turns.get(turn)?.get(event)?
    }
}

/// Requests that stand side by side and have one group number, as ranges.
struct Groups {
    /// Index of the first event, and of the first one behind.
    ranges: [(usize, usize); EVENTS_MAX],
    count: usize,
}

impl Groups {
    /// Finds the groups, and checks what can be checked without counters.
    fn of(requests: &[Request]) -> Result<Self, ScheduleError> {
        if requests.len() > EVENTS_MAX {
            return Err(ScheduleError::TooManyEvents { count: requests.len() });
        }
        let mut groups = Self { ranges: [(0, 0); EVENTS_MAX], count: 0 };
        let mut first = 0;
        while let Some(request) = requests.get(first) {
            let same = requests.iter().skip(first).take_while(|other| other.group == request.group).count();
            let behind = first + same;
            check(requests, first, behind)?;
            if let Some(slot) = groups.ranges.get_mut(groups.count) {
                *slot = (first, behind);
            }
            groups.count += 1;
            first = behind;
        }
        Ok(groups)
    }

    /// Plans the turn in which this group is the first; tells whether all groups are in it.
    fn turn(
        &self,
        first: usize,
        requests: &[Request],
        usable: CounterSet,
    ) -> Result<(Turn, bool), ScheduleError> {
        let mut matching = Matching::new(requests, usable);
        let mut is_complete = true;
        for index in (0..self.count).map(|nth| (first + nth) % self.count) {
            let Some(&(begin, behind)) = self.ranges.get(index) else { continue };
            let before = matching;
            let Some(unmatched) = (begin..behind).find(|event| !matching.add(*event)) else { continue };
            if index == first {
                return Err(refusal(requests, unmatched, usable));
            }
            matching = before;
            is_complete = false;
        }
        Ok((*matching.counters(), is_complete))
    }
}

/// Checks the rates of a group, and that it is in one place.
fn check(requests: &[Request], first: usize, behind: usize) -> Result<(), ScheduleError> {
    let Some((earlier, rest)) = requests.split_at_checked(first) else { return Ok(()) };
    let Some(request) = rest.first() else { return Ok(()) };
    if earlier.iter().any(|other| other.group == request.group) {
        return Err(ScheduleError::ScatteredGroup { event: index_u8(first), group: request.group });
    }
    let has_no_rate = |request: &Request| matches!(request.rate, Rate::Period(0) | Rate::Frequency(0));
    match rest.iter().take(behind - first).position(has_no_rate) {
        Some(nth) => Err(ScheduleError::NoRate { event: index_u8(first + nth) }),
        None => Ok(()),
    }
}

/// Says why a group does not fit even alone.
fn refusal(requests: &[Request], event: usize, usable: CounterSet) -> ScheduleError {
    let (wanted, group) = requests
        .get(event)
        .map_or((CounterSet::EMPTY, 0), |request| (request.encoding.counters, request.group));
    let event = index_u8(event);
    if wanted.intersection(usable).is_empty() {
        ScheduleError::NoCounter { event, wanted, usable }
    } else {
        ScheduleError::GroupTooBig { group, event, usable }
    }
}

/// Narrows the index of an event, which is below [`EVENTS_MAX`].
pub(super) fn index_u8(index: usize) -> u8 {
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// Why requests can't be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleError {
    /// The engine runs.
    Running,
    /// There are more events than an engine has room for.
    TooManyEvents {
        /// Number of events.
        count: usize,
    },
    /// The period or the frequency of an event is 0.
    NoRate {
        /// Index of the event.
        event: u8,
    },
    /// An event has the group number of events that it does not stand beside.
    ScatteredGroup {
        /// Index of the event.
        event: u8,
        /// Number of the group.
        group: u8,
    },
    /// No usable counter can count an event.
    NoCounter {
        /// Index of the event.
        event: u8,
        /// Counters that its encoding allows.
        wanted: CounterSet,
        /// Counters that can be used.
        usable: CounterSet,
    },
    /// The events of a group can't all be counted at the same time.
    GroupTooBig {
        /// Number of the group.
        group: u8,
        /// Index of the first event that finds no counter.
        event: u8,
        /// Counters that can be used.
        usable: CounterSet,
    },
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Running => f.write_str("events can't be changed while they are counted: stop first"),
            Self::TooManyEvents { count } => {
                write!(f, "{count} events, at most {EVENTS_MAX} can be set")
            }
            Self::NoRate { event } => write!(f, "event {event}: its period or frequency is 0"),
            Self::ScatteredGroup { event, group } => {
                write!(f, "event {event}: the other events of group {group} do not stand beside it")
            }
            Self::NoCounter { event, wanted, usable } => {
                write!(f, "event {event}: needs one of counters {:#x}, usable are {:#x}", wanted.0, usable.0)
            }
            Self::GroupTooBig { group, event, usable } => write!(
                f,
                "group {group}: no counter is left for its event {event}, {} are usable ({:#x})",
                usable.count(),
                usable.0
            ),
        }
    }
}

impl core::error::Error for ScheduleError {}

#[cfg(test)]
mod tests {
    //! Goal: what fits is scheduled, whatever the order; what does not is refused with its name; turns are fair.
    //! Method: examples, and a comparison with a search through all assignments on random requests.
    use super::*;
    use crate::engine::mock::Random;
    use crate::unit::Encoding;

    fn request(counters: u64, group: u8) -> Request {
        let counters = CounterSet(counters);
        Request {
            encoding: Encoding { select: 0, counters, user: true, kernel: true },
            rate: Rate::Count,
            group,
        }
    }

    fn singles(counters: &[u64]) -> Vec<Request> {
        (0..).zip(counters).map(|(group, set)| request(*set, group)).collect()
    }

    fn numbers(schedule: &Schedule, turn: usize) -> Vec<Option<u8>> {
        (0..EVENTS_MAX).map(|event| schedule.counter(turn, event).map(Counter::number)).collect()
    }

    /// Tries all assignments.
    fn fits(wanted: &[u64], taken: u64) -> bool {
        let Some((first, rest)) = wanted.split_first() else { return true };
        CounterSet(first & !taken).iter().any(|counter| fits(rest, taken | counter.set().0))
    }

    #[test]
    fn an_event_that_goes_anywhere_makes_way() {
        let schedule = Schedule::plan(&singles(&[0b111, 0b11, 0b1]), CounterSet(0b111)).expect("fits");
        assert_eq!(numbers(&schedule, 0)[..4], [Some(2), Some(1), Some(0), None]);
        assert_eq!(schedule.turns_count(), 1);
    }

    #[test]
    fn a_fixed_counter_is_taken_first() {
        let schedule = Schedule::plan(&singles(&[0b11 | 1 << 33]), CounterSet(u64::MAX)).expect("fits");
        assert_eq!(numbers(&schedule, 0)[0], Some(33));
        let usable = CounterSet(0b11);
        let schedule = Schedule::plan(&singles(&[0b11 | 1 << 33]), usable).expect("fits without it");
        assert_eq!(numbers(&schedule, 0)[0], Some(0));
    }

    #[test]
    fn exactly_what_fits_is_scheduled_at_once() {
        let seed = 0x5eed_0001;
        println!("seed {seed:#x}");
        let mut random = Random(seed);
        let mut fitted = 0;
        for round in 0..2000 {
            let count = 1 + random.below(6);
            let wanted: Vec<u64> = (0..count).map(|_| 1 + random.below(63)).collect();
            let group: Vec<Request> = wanted.iter().map(|set| request(*set, 0)).collect();
            let planned = Schedule::plan(&group, CounterSet(0b1_1111));
            let can_fit = fits(&wanted.iter().map(|set| set & 0b1_1111).collect::<Vec<_>>(), 0);
            assert_eq!(planned.is_ok(), can_fit, "round {round}: {wanted:?}");
            fitted += u32::from(can_fit);
            let Ok(schedule) = planned else { continue };
            let mut taken = CounterSet::EMPTY;
            for (event, set) in wanted.iter().enumerate() {
                let counter = schedule.counter(0, event).expect("all of a group");
                assert!(CounterSet(*set).contains(counter) && !taken.contains(counter), "round {round}");
                taken = taken.union(counter.set());
            }
        }
        assert!((400..1600).contains(&fitted), "both outcomes are tried: {fitted}");
    }

    #[test]
    fn groups_that_do_not_fit_at_once_take_turns_as_wholes() {
        let seed = 0x5eed_0002;
        println!("seed {seed:#x}");
        let mut random = Random(seed);
        for _ in 0..500 {
            let groups: Vec<u8> = (0..6).flat_map(|group| vec![group; 1 + random.index(2)]).collect();
            let requests: Vec<Request> = groups.iter().map(|group| request(0b111, *group)).collect();
            let schedule = Schedule::plan(&requests, CounterSet(0b111)).expect("each group fits");
            assert_eq!(schedule.turns_count(), 6);
            for turn in 0..6 {
                let counted: Vec<bool> = numbers(&schedule, turn).iter().map(Option::is_some).collect();
                for (event, group) in groups.iter().enumerate() {
                    assert!(counted[event] || usize::from(*group) != turn, "it is the first of its turn");
                    let other = groups.iter().position(|other| other == group).expect("exists");
                    assert_eq!(counted[event], counted[other]);
                }
            }
        }
    }

    #[test]
    fn singles_that_take_turns_get_equal_shares() {
        let schedule = Schedule::plan(&singles(&[0b1111; 10]), CounterSet(0b1111)).expect("each fits");
        for event in 0..10 {
            let turns = (0..10).filter(|turn| schedule.counter(*turn, event).is_some()).count();
            assert_eq!(turns, 4, "event {event}");
        }
    }

    #[test]
    fn what_can_never_be_counted_is_refused_by_name() {
        let usable = CounterSet(0b11);
        let plan = |requests: &[Request]| Schedule::plan(requests, usable).expect_err("refused");
        let refused = plan(&singles(&[0b11, 0b100]));
        assert_eq!(refused, ScheduleError::NoCounter { event: 1, wanted: CounterSet(0b100), usable });
        assert_eq!(refused.to_string(), "event 1: needs one of counters 0x4, usable are 0x3");
        let refused = plan(&[request(1, 0), request(3, 4), request(3, 4), request(3, 4)]);
        assert_eq!(refused, ScheduleError::GroupTooBig { group: 4, event: 3, usable });
        assert_eq!(refused.to_string(), "group 4: no counter is left for its event 3, 2 are usable (0x3)");
        let refused = plan(&[request(1, 0), request(1, 1), request(1, 0)]);
        assert_eq!(refused, ScheduleError::ScatteredGroup { event: 2, group: 0 });
        let refused = plan(&[request(1, 0), Request { rate: Rate::Period(0), ..request(2, 0) }]);
        assert_eq!(refused, ScheduleError::NoRate { event: 1 });
        assert_eq!(plan(&singles(&[3; 17])), ScheduleError::TooManyEvents { count: 17 });
    }

    #[test]
    fn no_events_are_one_empty_turn() {
        let schedule = Schedule::plan(&[], CounterSet::EMPTY).expect("nothing to refuse");
        assert_eq!((schedule.turns_count(), schedule.counter(0, 0)), (1, None));
    }
}
