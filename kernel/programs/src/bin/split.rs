//! A known split of instructions: `split [ROUNDS]` spends three quarters of them in one function and a quarter in
//! another, but for the few that call them.
//!
//! Exit status: 0.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "counts instructions, which takes assembly"))]

nmiprof_programs::program!(split::main);

#[cfg(target_os = "none")]
mod split {
    use core::arch::asm;

    use nmiprof_programs::Arguments;

    /// Turns of the shorter loop, of two instructions each.
    const TURNS: u64 = 10_000;

    pub(crate) fn main(arguments: Arguments) -> u64 {
        for _ in 0..arguments.number(1, 10_000) {
            three_quarters();
            one_quarter();
        }
        0
    }

    #[inline(never)]
    fn three_quarters() {
        // SAFETY: counts a register down.
        unsafe { asm!("2: dec {0}", "jnz 2b", inout(reg) 3 * TURNS => _, options(nomem, nostack)) };
    }

    #[inline(never)]
    fn one_quarter() {
        // SAFETY: as above.
        unsafe { asm!("2: dec {0}", "jnz 2b", inout(reg) TURNS => _, options(nomem, nostack)) };
    }
}
