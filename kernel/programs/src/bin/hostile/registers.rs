//! Attacks that a program survives: what it has in its registers, and whether it is still there.

#![expect(unsafe_code, reason = "loads every register and executes SYSCALL")]

use core::arch::asm;

/// `clock`, which returns at once.
const CLOCK: u64 = 3;
/// `yield`, which comes back by way of other threads.
const YIELD: u64 = 4;
/// Odd, with bits set all over.
const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Calls the kernel again and again, with known values in all registers.
pub(crate) fn check(rounds: u64) -> u64 {
    let wrong =
        (0..rounds).filter(|round| !survives(if round % 2 == 0 { CLOCK } else { YIELD }, PATTERN ^ round));
    wrong.count().min(1) as u64
}

/// Tells whether every register but those of SYSCALL comes back.
#[inline(never)]
fn survives(call: u64, seed: u64) -> bool {
    let mut wanted = [0_u64; 12];
    let mut value = seed;
    for word in &mut wanted {
        value = value.wrapping_mul(PATTERN).rotate_left(7);
        *word = value;
    }
    let mut found = [0_u64; 12];
    // SAFETY: RBX, RBP and RSP are kept on the stack; the rest is declared.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push r11",
            "mov rbx, [rcx + 8 * 0]",
            "mov rbp, [rcx + 8 * 1]",
            "mov rdx, [rcx + 8 * 2]",
            "mov rsi, [rcx + 8 * 3]",
            "mov rdi, [rcx + 8 * 4]",
            "mov r8, [rcx + 8 * 5]",
            "mov r9, [rcx + 8 * 6]",
            "mov r10, [rcx + 8 * 7]",
            "mov r12, [rcx + 8 * 8]",
            "mov r13, [rcx + 8 * 9]",
            "mov r14, [rcx + 8 * 10]",
            "mov r15, [rcx + 8 * 11]",
            "syscall",
            "pop rcx",
            "mov [rcx + 8 * 0], rbx",
            "mov [rcx + 8 * 1], rbp",
            "mov [rcx + 8 * 2], rdx",
            "mov [rcx + 8 * 3], rsi",
            "mov [rcx + 8 * 4], rdi",
            "mov [rcx + 8 * 5], r8",
            "mov [rcx + 8 * 6], r9",
            "mov [rcx + 8 * 7], r10",
            "mov [rcx + 8 * 8], r12",
            "mov [rcx + 8 * 9], r13",
            "mov [rcx + 8 * 10], r14",
            "mov [rcx + 8 * 11], r15",
            "pop rbp",
            "pop rbx",
            inout("rax") call => _,
            inout("rcx") wanted.as_ptr() => _,
            inout("r11") found.as_mut_ptr() => _,
            out("rdx") _, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _,
            out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    found == wanted
}

/// Calls the kernel with flags that must not reach it: direction, nested task, alignment check, identification. (NT
/// would make `iretq` fault, so a kernel that kept it would not come back.)
pub(crate) fn check_flags(rounds: u64) -> u64 {
    const FLAGS: u64 = (1 << 10) | (1 << 14) | (1 << 18) | (1 << 21);
    let mut wrong = 0;
    for _ in 0..rounds {
        let found: u64;
        // SAFETY: the flags are cleared again before any other code runs.
        unsafe {
            asm!(
                "pushfq",
                "or [rsp], {flags}",
                "popfq",
                "syscall",
                "pushfq",
                "mov {found}, [rsp]",
                "not {flags}",
                "and [rsp], {flags}",
                "popfq",
                flags = inout(reg) FLAGS => _,
                found = out(reg) found,
                inout("rax") YIELD => _,
                out("rcx") _,
                out("r11") _,
            );
        }
        wrong |= (found & FLAGS) ^ FLAGS;
    }
    u64::from(wrong != 0)
}

/// Loads the data segment registers with a selector of ring 3, and looks at them after other threads ran.
pub(crate) fn check_selectors(rounds: u64) -> u64 {
    const USER_DATA: u32 = 0x1b;
    let mut wrong = 0;
    // SAFETY: no code here uses a segment's base, and the descriptor is flat.
    unsafe {
        asm!("mov ds, {0:e}", "mov es, {0:e}", "mov fs, {0:e}", "mov gs, {0:e}", in(reg) USER_DATA);
    }
    for _ in 0..rounds {
        nmiprof_programs::call::yield_now();
        let [ds, es, fs, gs]: [u32; 4];
        // SAFETY: reads selectors.
        unsafe {
            asm!(
                "mov {0:e}, ds", "mov {1:e}, es", "mov {2:e}, fs", "mov {3:e}, gs",
                out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs,
            );
        }
        wrong += u64::from([ds, es, fs, gs] != [USER_DATA; 4]);
    }
    wrong.min(1)
}

/// Calls the kernel with every eighth address from `first` to `last` as its stack pointer, and with the direction flag
/// set: the mark of an NMI exit. The first instructions of the entry run with that stack pointer.
pub(crate) fn check_stack_pointers(first: u64, last: u64, rounds: u64) -> u64 {
    let mut wrong = 0;
    for _ in 0..rounds {
        for stack in (first..=last).step_by(8) {
            let found: u64;
            // SAFETY: RSP is restored before any other code runs, and nothing is pushed meanwhile: the kernel has
            // stacks of its own.
            unsafe {
                asm!(
                    "mov {kept}, rsp",
                    "std",
                    "mov rsp, {stack}",
                    "syscall",
                    "mov {found}, rsp",
                    "mov rsp, {kept}",
                    "cld",
                    kept = out(reg) _,
                    stack = in(reg) stack,
                    found = out(reg) found,
                    inout("rax") CLOCK => _,
                    out("rcx") _,
                    out("r11") _,
                );
            }
            wrong += u64::from(found != stack);
        }
    }
    wrong.min(1)
}
