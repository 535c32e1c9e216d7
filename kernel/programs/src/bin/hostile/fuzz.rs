//! Attacks on the system calls: bad pointers, and random ones.

use nmiprof_program::abi::{
    Call, CallError, MAP_END, MAP_START, PROGRAM_START, STACK_BYTES, STACK_TOP, USER_END,
};
use nmiprof_programs::{call, print};

/// Addresses that are not the program's, or end soon after they begin.
const ADDRESSES: [u64; 16] = [
    0,
    1,
    PROGRAM_START - 1,
    MAP_START - 1,
    MAP_END,
    STACK_TOP - STACK_BYTES - 1,
    STACK_TOP - 1,
    USER_END - 1,
    USER_END,
    1 << 47,
    (1 << 63) - 1,
    0xffff_8000_0000_0000,
    0xffff_9000_0000_0000,
    0xffff_a000_0000_0000,
    0xffff_ffff_8010_0000,
    u64::MAX,
];
/// Lengths that reach beyond whatever is there.
const LENGTHS: [u64; 8] = [1, 8, 4095, 4096, 4097, 1 << 32, 1 << 63, u64::MAX];

/// Hands every bad address with every length to every call that takes them.
pub(crate) fn pointers() -> u64 {
    let mut accepted = 0;
    for address in ADDRESSES {
        for length in LENGTHS {
            let written = call::raw(Call::Write as u64, address, length);
            // The one byte below the stack's top is the program's.
            let is_own = address == STACK_TOP - 1 && length == 1;
            accepted += u64::from(written != CallError::BadAddress.code() && !is_own);
        }
    }
    for length in [0, MAP_END - MAP_START + 1, 1 << 47, u64::MAX] {
        accepted += u64::from(CallError::from_result(call::raw(Call::Map as u64, length, 0)).is_none());
    }
    for number in [5, 6, 1 << 31, 1 << 32, (1 << 32) + 1, u64::MAX] {
        accepted += u64::from(call::raw(number, 0, 0) != CallError::NoSuchCall.code());
    }
    print!("{accepted} accepted");
    accepted.min(1)
}

/// Takes memory until there is none, and uses it.
pub(crate) fn eat() -> u64 {
    const PIECE_BYTES: u64 = 1 << 20;
    let mut eaten = 0;
    while call::map(PIECE_BYTES).is_ok() {
        eaten += 1;
    }
    print!("ate {eaten} MiB");
    u64::from(call::map(PIECE_BYTES) != Err(CallError::NoMemory))
}

/// Makes random calls, none of which is `exit`.
pub(crate) fn calls(seed: u64, count: u64) -> u64 {
    print!("seed {seed}, {count} calls");
    let mut random = Random(seed);
    let mut strange = 0;
    for _ in 0..count {
        let number = match random.next() % 8 {
            0..5 => 1 + random.next() % 4,
            5 | 6 => 5 + random.next() % 100,
            _ => random.next() | 1 << 40,
        };
        let (first, second) = (random.value(), random.value());
        let result = call::raw(number, first, second);
        // Everything that may come out: an error, or something that is no error's number.
        let is_known = Call::from_number(number).is_some();
        strange += u64::from(!is_known && result != CallError::NoSuchCall.code());
        let is_error_like = result > (-4096_i64).cast_unsigned();
        strange += u64::from(is_error_like && CallError::from_result(result).is_none());
    }
    print!("{strange} strange results");
    strange.min(1)
}

/// Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut seed = self.0;
        seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        seed ^ (seed >> 31)
    }

    /// Returns a value that is near something interesting, small, or anything at all.
    fn value(&mut self) -> u64 {
        let random = self.next();
        match random % 4 {
            0 => ADDRESSES[(random >> 8) as usize % ADDRESSES.len()]
                .wrapping_add(self.next() % 32)
                .wrapping_sub(16),
            1 => LENGTHS[(random >> 8) as usize % LENGTHS.len()],
            2 => (random >> 8) % 9000,
            _ => self.next(),
        }
    }
}
