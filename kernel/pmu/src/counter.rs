//! Names of counters, and sets of them.
//!
//! A counter's number is the position of its bit in Intel's global registers (SDM volume 3, "Performance
//! Monitoring", `IA32_PERF_GLOBAL_CTRL`): general-purpose counters from 0, fixed-function counters from 32.
//! AMD's counters are numbered from 0 as well.

use core::fmt;

/// Number of the first fixed-function counter.
const FIXED_FIRST: u8 = 32;

/// One counter of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counter(u8);

impl Counter {
    /// Numbers that a counter can have.
    pub const COUNT: usize = 64;

    /// Returns the general-purpose counter of this index; `None` from 32 on.
    #[must_use]
    pub const fn general(index: u8) -> Option<Self> {
        if index < FIXED_FIRST { Some(Self(index)) } else { None }
    }

    /// Returns the fixed-function counter of this index; `None` from 32 on.
    #[must_use]
    pub const fn fixed(index: u8) -> Option<Self> {
        if index < FIXED_FIRST { Some(Self(FIXED_FIRST + index)) } else { None }
    }

    /// Returns the number: below [`Counter::COUNT`].
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns the index among the counters of its kind.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0 % FIXED_FIRST
    }

    /// Tells whether it counts one event only, which its index says.
    #[must_use]
    pub const fn is_fixed(self) -> bool {
        self.0 >= FIXED_FIRST
    }

    /// Returns the set of this counter alone.
    #[must_use]
    pub const fn set(self) -> CounterSet {
        CounterSet(1 << self.0)
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_fixed() { "fixed" } else { "general" };
        write!(f, "{kind} counter {}", self.index())
    }
}

/// A set of counters: bit N stands for the counter of number N.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CounterSet(pub u64);

impl CounterSet {
    /// No counter.
    pub const EMPTY: Self = Self(0);

    /// Returns the first `count` general-purpose counters.
    #[must_use]
    pub const fn first_general(count: u8) -> Self {
        if count >= FIXED_FIRST { Self(0xffff_ffff) } else { Self((1 << count) - 1) }
    }

    /// Tells whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many counters it has.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Tells whether it has this counter.
    #[must_use]
    pub const fn contains(self, counter: Counter) -> bool {
        self.0 & counter.set().0 != 0
    }

    /// Returns the counters of either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the counters of both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the counters of this set that the other one does not have.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns the counters, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Counter> {
        let mut left = self.0;
        core::iter::from_fn(move || {
            let number = u8::try_from(left.trailing_zeros()).ok().filter(|number| *number < 64)?;
            left &= left - 1;
            Some(Counter(number))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_counters_in_order() {
        let (first, fixed) = (Counter::general(3).expect("exists"), Counter::fixed(1).expect("exists"));
        let set = fixed.set().union(first.set());
        assert_eq!(set.iter().collect::<Vec<_>>(), [first, fixed]);
        assert_eq!((fixed.number(), fixed.index(), fixed.is_fixed()), (33, 1, true));
        assert_eq!(set.without(first.set()), fixed.set());
        assert_eq!(CounterSet(u64::MAX).iter().count(), Counter::COUNT);
        assert_eq!(CounterSet::first_general(6), CounterSet(0b11_1111));
        assert_eq!(CounterSet::first_general(255).count(), 32);
    }
}
