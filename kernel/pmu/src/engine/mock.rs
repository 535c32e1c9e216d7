//! A unit for the tests: counters are array entries, and overflow when the test lets them count far enough.

use crate::capabilities::{Capabilities, Extras, Interface};
use crate::counter::{Counter, CounterSet};
use crate::unit::{CounterUnit, Encoding};

/// Counters of which the tests are in control.
#[derive(Clone, Debug)]
pub(crate) struct Mock {
    capabilities: Capabilities,
    load_max: u64,
    pub(crate) values: [u64; Counter::COUNT],
    pub(crate) programmed: [Option<Encoding>; Counter::COUNT],
    pub(crate) enabled: CounterSet,
    pub(crate) status: CounterSet,
    /// Events that were counted, by the event code (below 16).
    pub(crate) truth: [u64; 16],
    /// Interrupts that a CPU would have got.
    pub(crate) interrupts: u64,
    /// Events that the enabled counters count in each call of `take_overflows`, as if nothing stopped them.
    pub(crate) unstoppable_events: u64,
    /// Events that the counters still count while they are being stopped.
    pub(crate) events_at_disable: u64,
    pub(crate) in_pmi: bool,
    /// Accesses: what a register write or read would be.
    pub(crate) accesses: u64,
}

impl Mock {
    /// Creates four general counters of 16 bits and two fixed ones of 20 bits.
    pub(crate) fn new(interface: Interface) -> Self {
        let capabilities = Capabilities {
            interface,
            family: 6,
            model: 0,
            core_kind: None,
            general: CounterSet(0b1111),
            general_width_bits: 16,
            fixed: CounterSet(0b11 << 32),
            fixed_width_bits: 20,
            full_width_writes: true,
            freeze_on_pmi: false,
            missing_events: 0,
            extras: Extras::default(),
        };
        Self {
            capabilities,
            load_max: 1000,
            values: [0; Counter::COUNT],
            programmed: [None; Counter::COUNT],
            enabled: CounterSet::EMPTY,
            status: CounterSet::EMPTY,
            truth: [0; 16],
            interrupts: 0,
            unstoppable_events: 0,
            events_at_disable: 0,
            in_pmi: false,
            accesses: 0,
        }
    }

    /// Makes all counters as wide as real ones.
    pub(crate) fn wide(mut self) -> Self {
        (self.capabilities.general_width_bits, self.capabilities.fixed_width_bits) = (48, 48);
        self.load_max = (1 << 46) - 1;
        self
    }

    /// Lets all enabled counters whose event has this code count; returns whether one overflowed.
    pub(crate) fn count(&mut self, select: u64, events: u64) -> bool {
        assert!(!self.in_pmi, "nothing counts in the handler");
        let before = self.interrupts;
        self.count_anyway(Some(select), events);
        self.interrupts != before
    }

    fn count_anyway(&mut self, select: Option<u64>, events: u64) {
        for counter in self.enabled.iter() {
            let encoding =
                self.programmed[usize::from(counter.number())].expect("an enabled counter is programmed");
            if select.is_none_or(|select| select == encoding.select) {
                let end = 1 << self.capabilities.width_bits(counter);
                let value = &mut self.values[usize::from(counter.number())];
                *value += events;
                self.truth[usize::try_from(encoding.select).expect("a small code")] += events;
                if *value >= end {
                    *value -= end;
                    self.status = self.status.union(counter.set());
                    self.interrupts += 1;
                }
                assert!(*value < end, "a test counts less than a lap at once");
            }
        }
    }
}

impl CounterUnit for Mock {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn reset(&mut self) {
        self.programmed = [None; Counter::COUNT];
        self.enabled = CounterSet::EMPTY;
        self.status = CounterSet::EMPTY;
    }

    fn shut_down(&mut self) {
        self.reset();
    }

    fn program(&mut self, counter: Counter, encoding: Option<Encoding>) {
        assert!(!self.enabled.contains(counter), "a counter is stopped before it is programmed");
        assert!(encoding.is_none_or(|encoding| encoding.counters.contains(counter)));
        self.accesses += 1;
        self.programmed[usize::from(counter.number())] = encoding;
    }

    fn load_max(&self, counter: Counter) -> u64 {
        if counter.is_fixed() { self.load_max * 2 } else { self.load_max }
    }

    fn load(&mut self, counter: Counter, events: u64) {
        assert!((1..=self.load_max(counter)).contains(&events), "{events} events");
        assert!(self.programmed[usize::from(counter.number())].is_some());
        self.accesses += 1;
        self.values[usize::from(counter.number())] = (1 << self.capabilities.width_bits(counter)) - events;
        self.status = self.status.without(counter.set());
    }

    fn read(&mut self, counter: Counter) -> u64 {
        self.accesses += 1;
        self.values[usize::from(counter.number())]
    }

    fn enable(&mut self, counters: CounterSet) {
        self.accesses += 1;
        self.enabled = self.enabled.union(counters);
    }

    fn disable(&mut self, counters: CounterSet) {
        self.accesses += 1;
        if self.events_at_disable != 0 {
            self.count_anyway(None, self.events_at_disable);
        }
        self.enabled = self.enabled.without(counters);
    }

    fn begin_pmi(&mut self) {
        assert!(!self.in_pmi);
        self.accesses += 1;
        self.in_pmi = true;
    }

    fn take_overflows(&mut self) -> CounterSet {
        assert!(self.in_pmi, "begun first");
        self.accesses += 1;
        if self.unstoppable_events != 0 {
            self.count_anyway(None, self.unstoppable_events);
        }
        core::mem::take(&mut self.status)
    }

    fn recover(&mut self) {
        self.enabled = CounterSet::EMPTY;
        self.status = CounterSet::EMPTY;
    }

    fn end_pmi(&mut self) {
        assert!(self.in_pmi);
        self.accesses += 1;
        self.in_pmi = false;
    }
}

/// A generator of random numbers (Marsaglia, "Xorshift RNGs", 2003).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }

    pub(crate) fn index(&mut self, end: u64) -> usize {
        usize::try_from(self.below(end)).expect("fits")
    }
}
