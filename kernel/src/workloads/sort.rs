//! Quicksort of the same numbers over and over.
//!
//! Checked for order, and for the sum of what was sorted.

use alloc::vec::Vec;

use super::{Numbers, Workload};

const LEN: usize = 8192;
/// Below this length insertion is faster.
const SHORT: usize = 12;

/// Numbers, and a copy to sort.
pub(super) struct Sort {
    numbers: Vec<u32>,
    sorted: Vec<u32>,
    sum: u64,
}

impl Sort {
    pub(super) fn new() -> Self {
        let mut random = Numbers::new(2);
        let numbers: Vec<u32> = (0..LEN).map(|_| random.next()).collect();
        let sum = sum_of(&numbers);
        Self { sorted: numbers.clone(), numbers, sum }
    }
}

impl Workload for Sort {
    #[inline(never)]
    fn step(&mut self) -> bool {
        self.sorted.copy_from_slice(&self.numbers);
        quicksort(&mut self.sorted);
        self.sorted.is_sorted() && sum_of(&self.sorted) == self.sum
    }
}

#[inline(never)]
fn quicksort(numbers: &mut [u32]) {
    if numbers.len() <= SHORT {
        return insertion_sort(numbers);
    }
    let middle = partition(numbers);
    let (lower, upper) = numbers.split_at_mut(middle);
    quicksort(lower);
    quicksort(&mut upper[1..]);
}

/// Splits around the median of three and returns where it ended up.
#[inline(never)]
fn partition(numbers: &mut [u32]) -> usize {
    let last = numbers.len() - 1;
    numbers.swap(median_of_three(numbers, 0, last / 2, last), last);
    let pivot = numbers[last];
    let mut middle = 0;
    for index in 0..last {
        if numbers[index] < pivot {
            numbers.swap(index, middle);
            middle += 1;
        }
    }
    numbers.swap(middle, last);
    middle
}

#[inline]
fn median_of_three(numbers: &[u32], a: usize, b: usize, c: usize) -> usize {
    let (x, y, z) = (numbers[a], numbers[b], numbers[c]);
    match (x < y, y < z, x < z) {
        (true, true, _) | (false, false, _) => b,
        (true, false, true) | (false, true, false) => c,
        _ => a,
    }
}

#[inline(never)]
fn insertion_sort(numbers: &mut [u32]) {
    for end in 1..numbers.len() {
        let mut index = end;
        while index > 0 && numbers[index - 1] > numbers[index] {
            numbers.swap(index - 1, index);
            index -= 1;
        }
    }
}

fn sum_of(numbers: &[u32]) -> u64 {
    numbers.iter().map(|number| u64::from(*number)).sum()
}
