//! Prime numbers by the sieve of Eratosthenes: `sieve [EXPONENT [ROUNDS]]` counts those below 10^EXPONENT.
//!
//! Checked against the number of primes below each power of ten (OEIS A006880). Exit status: 0 right, 1 wrong, 2
//! for an exponent that it does not know.

#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

nmiprof_programs::program!(sieve::main);

#[cfg(target_os = "none")]
mod sieve {
    use alloc::vec;

    use nmiprof_programs::{Arguments, print};

    /// Primes below 10^n, from n = 1 on.
    const COUNTS: [usize; 8] = [4, 25, 168, 1_229, 9_592, 78_498, 664_579, 5_761_455];

    pub(crate) fn main(arguments: Arguments) -> u64 {
        let exponent = arguments.number(1, 6);
        let index = usize::try_from(exponent.wrapping_sub(1)).unwrap_or(usize::MAX);
        let Some(expected) = COUNTS.get(index) else {
            print!("10^{exponent}: there is no count to compare with");
            return 2;
        };
        let mut composite = vec![false; (1..=exponent).fold(1, |power, _| power * 10)];
        let mut wrong = 0;
        for _ in 0..arguments.number(2, 10) {
            clear(&mut composite);
            strike_out(&mut composite);
            wrong += u64::from(count(&composite) != *expected);
        }
        print!("{} primes below 10^{exponent}, {wrong} wrong rounds", count(&composite));
        wrong.min(1)
    }

    #[inline(never)]
    fn clear(composite: &mut [bool]) {
        composite.fill(false);
    }

    #[inline(never)]
    fn strike_out(composite: &mut [bool]) {
        let mut factor = 2;
        while factor * factor < composite.len() {
            if !composite[factor] {
                strike_out_multiples(composite, factor);
            }
            factor += 1;
        }
    }

    #[inline(never)]
    fn strike_out_multiples(composite: &mut [bool], factor: usize) {
        let mut multiple = factor * factor;
        while let Some(slot) = composite.get_mut(multiple) {
            *slot = true;
            multiple += factor;
        }
    }

    #[inline(never)]
    fn count(composite: &[bool]) -> usize {
        composite.iter().skip(2).filter(|composite| !**composite).count()
    }
}
