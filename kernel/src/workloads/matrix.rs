//! Matrix product by recursive halving, down to blocks that are multiplied directly.
//!
//! Checked with Freivalds' method: (A B) v = A (B v) for a fixed vector v.

use alloc::vec;
use alloc::vec::Vec;

use super::{Numbers, Workload};

const SIZE: usize = 32;
const BLOCK: usize = 8;
const PRODUCTS_PER_STEP: usize = 3;

/// Two matrices and their product, row by row, modulo 2^32.
pub(super) struct Matrix {
    a: Vec<u32>,
    b: Vec<u32>,
    product: Vec<u32>,
}

/// A square part of the three matrices: where it starts, and its size.
#[derive(Clone, Copy)]
struct Part {
    row: usize,
    column: usize,
    inner: usize,
    size: usize,
}

impl Matrix {
    pub(super) fn new() -> Self {
        let mut numbers = Numbers::new(1);
        let mut random = || (0..SIZE * SIZE).map(|_| numbers.next()).collect::<Vec<_>>();
        let (a, b) = (random(), random());
        Self { a, b, product: vec![0; SIZE * SIZE] }
    }

    #[inline(never)]
    fn multiply(&mut self, part: Part) {
        if part.size == BLOCK {
            return self.multiply_block(part);
        }
        let half = part.size / 2;
        for corner in 0..8 {
            let offset = |bit: usize| if corner & bit == 0 { 0 } else { half };
            self.multiply(Part {
                row: part.row + offset(1),
                column: part.column + offset(2),
                inner: part.inner + offset(4),
                size: half,
            });
        }
    }

    #[inline(never)]
    fn multiply_block(&mut self, part: Part) {
        for row in part.row..part.row + part.size {
            for column in part.column..part.column + part.size {
                let sum = dot(&self.a, &self.b, row, column, part);
                let cell = &mut self.product[row * SIZE + column];
                *cell = cell.wrapping_add(sum);
            }
        }
    }

    #[inline(never)]
    fn is_right(&self) -> bool {
        let mut numbers = Numbers::new(5);
        let vector: Vec<u32> = (0..SIZE).map(|_| numbers.next()).collect();
        apply(&self.product, &vector) == apply(&self.a, &apply(&self.b, &vector))
    }
}

impl Workload for Matrix {
    #[inline(never)]
    fn step(&mut self) -> bool {
        (0..PRODUCTS_PER_STEP).all(|_| {
            self.product.fill(0);
            self.multiply(Part { row: 0, column: 0, inner: 0, size: SIZE });
            self.is_right()
        })
    }
}

/// Multiplies the part of a row of `a` with the part of a column of `b`.
#[inline]
fn dot(a: &[u32], b: &[u32], row: usize, column: usize, part: Part) -> u32 {
    let inner = part.inner..part.inner + part.size;
    inner.fold(0, |sum: u32, k| sum.wrapping_add(a[row * SIZE + k].wrapping_mul(b[k * SIZE + column])))
}

#[inline(never)]
fn apply(matrix: &[u32], vector: &[u32]) -> Vec<u32> {
    let rows = matrix.chunks_exact(SIZE);
    rows.map(|row| row.iter().zip(vector).fold(0, |sum: u32, (m, v)| sum.wrapping_add(m.wrapping_mul(*v))))
        .collect()
}
