//! An arithmetic parser by recursive descent: deep call chains of changing shape.
//!
//! Checked against the value that was computed while the text was made.

use alloc::format;
use alloc::string::String;

use super::{Numbers, Workload};

const DEPTH: u32 = 9;
const PARSES_PER_STEP: usize = 100;

/// An expression as text, and its value.
pub(super) struct Parse {
    text: String,
    value: u32,
}

impl Parse {
    pub(super) fn new() -> Self {
        let (text, value) = expression_of(DEPTH, &mut Numbers::new(4));
        Self { text, value }
    }
}

impl Workload for Parse {
    #[inline(never)]
    fn step(&mut self) -> bool {
        (0..PARSES_PER_STEP).all(|_| Parser { rest: self.text.as_bytes() }.sum() == self.value)
    }
}

/// Makes an expression of the given depth and computes its value.
fn expression_of(depth: u32, numbers: &mut Numbers) -> (String, u32) {
    if depth == 0 {
        let number = numbers.next() % 1000;
        return (format!("{number}"), number);
    }
    let (left, x) = expression_of(depth - 1, numbers);
    let (right, y) = expression_of(depth - 1 - numbers.next() % depth, numbers);
    match numbers.next() % 3 {
        0 => (format!("({left}+{right})"), x.wrapping_add(y)),
        1 => (format!("({left}-{right})"), x.wrapping_sub(y)),
        _ => (format!("({left}*{right})"), x.wrapping_mul(y)),
    }
}

/// The text that is left.
struct Parser<'a> {
    rest: &'a [u8],
}

impl Parser<'_> {
    /// Parses `product (('+' | '-') product)*`.
    #[inline(never)]
    fn sum(&mut self) -> u32 {
        let mut value = self.product();
        while let Some(operator) = self.take_if(|byte| matches!(byte, b'+' | b'-')) {
            let right = self.product();
            value = if operator == b'+' { value.wrapping_add(right) } else { value.wrapping_sub(right) };
        }
        value
    }

    /// Parses `factor ('*' factor)*`.
    #[inline(never)]
    fn product(&mut self) -> u32 {
        let mut value = self.factor();
        while self.take_if(|byte| byte == b'*').is_some() {
            value = value.wrapping_mul(self.factor());
        }
        value
    }

    /// Parses `number | '(' sum ')'`.
    #[inline(never)]
    fn factor(&mut self) -> u32 {
        if self.take_if(|byte| byte == b'(').is_none() {
            return self.number();
        }
        let value = self.sum();
        self.take_if(|byte| byte == b')');
        value
    }

    #[inline(never)]
    fn number(&mut self) -> u32 {
        let mut value = 0_u32;
        while let Some(digit) = self.take_if(|byte| byte.is_ascii_digit()) {
            value = value.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
        }
        value
    }

    #[inline]
    fn take_if(&mut self, accept: impl Fn(u8) -> bool) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        accept(*first).then(|| {
            self.rest = rest;
            *first
        })
    }
}
