//! The model of time: what an instruction costs, in cycles.
//!
//! One cycle each; more for multiplication, division and what talks to the outside; and what memory and wrong
//! predictions add. It is simple on purpose: the tests compare the profiler with the machine's own counts, and any
//! costs that differ between instructions show whether cycles are told from instructions.

use iced_x86::Mnemonic;

use super::cache::Hit;

/// The most that one instruction can take: its own cost, two accesses to memory, a wrong prediction.
pub const CYCLES_MAX: u64 = 64;

/// What a wrong prediction adds.
pub const MISPREDICTION: u64 = 7;

/// Returns what an instruction costs by itself.
#[must_use]
pub const fn of(mnemonic: Mnemonic) -> u8 {
    match mnemonic {
        Mnemonic::Imul | Mnemonic::Mul => 3,
        Mnemonic::Div | Mnemonic::Idiv => 12,
        Mnemonic::In | Mnemonic::Out | Mnemonic::Cpuid | Mnemonic::Wrmsr | Mnemonic::Rdmsr => 14,
        Mnemonic::Rdtsc | Mnemonic::Rdtscp | Mnemonic::Rdpmc | Mnemonic::Iretq | Mnemonic::Syscall => 10,
        _ => 1,
    }
}

/// Returns what an access adds.
#[must_use]
pub const fn of_access(hit: Hit) -> u64 {
    match hit {
        Hit::First => 0,
        Hit::Last => 4,
        Hit::Memory => 20,
    }
}

const _: () = assert!(14 + 2 * of_access(Hit::Memory) + MISPREDICTION <= CYCLES_MAX, "the bound is one");
