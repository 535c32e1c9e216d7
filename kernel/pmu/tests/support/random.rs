//! Random choices that a seed repeats.
//!
//! `SplitMix64` (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014): every seed is a good one,
//! so that each program can have its own, made from the first.

use nmiprof_pmu::CounterSet;

/// The seed, unless `NMIPROF_SEED` gives another.
const SEED: u64 = 0x6e6d_6970_726f_6601;

/// Returns the seed of this run, and prints it.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("NMIPROF_SEED").ok();
    let seed =
        given.map_or(SEED, |text| parse(&text).unwrap_or_else(|| panic!("NMIPROF_SEED={text}: no number")));
    println!("NMIPROF_SEED={seed:#x}");
    seed
}

fn parse(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `end`, which is not 0.
    pub(crate) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) const fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(u64::try_from(from.len()).expect("fits"));
        from[usize::try_from(index).expect("fits")]
    }

    /// Returns some of the set; all of it every fourth time.
    pub(crate) fn subset(&mut self, of: CounterSet) -> CounterSet {
        if self.one_in(4) { of } else { CounterSet(of.0 & self.next()) }
    }

    /// Returns a number of any magnitude, up to `max`, which is not 0: 1 and up.
    pub(crate) const fn magnitude(&mut self, max: u64) -> u64 {
        let bits = self.below(64 - max.leading_zeros() as u64) + 1;
        let number = self.next() >> (64 - bits);
        if number == 0 || number > max { 1 } else { number }
    }
}
