//! Attacks that a program does not survive.

#![expect(unsafe_code, reason = "does what must not be done")]

use core::arch::asm;
use core::hint::black_box;
use core::ptr;

/// Reads a word that may not be the program's.
pub(crate) fn read(address: u64) -> u64 {
    // SAFETY: none; that is the point.
    unsafe { ptr::read_volatile(pointer(address)) }
}

/// Writes a word that may not be the program's.
pub(crate) fn write(address: u64) -> u64 {
    // SAFETY: none; that is the point.
    unsafe { ptr::write_volatile(pointer(address), 1) };
    1
}

fn pointer(address: u64) -> *mut u64 {
    ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or_default())
}

/// Goes to an address that may not be the program's.
pub(crate) fn jump(address: u64) -> u64 {
    jump_on(address, 0)
}

/// Goes to an address, on a stack and with the direction flag that the NMI exit uses as a mark.
pub(crate) fn jump_on(address: u64, stack: u64) -> u64 {
    // SAFETY: none; that is the point.
    unsafe {
        asm!(
            "std",
            "mov rsp, {stack}",
            "jmp {address}",
            stack = in(reg) stack,
            address = in(reg) address,
            options(noreturn),
        );
    }
}

/// Calls itself until there is no stack any more.
#[inline(never)]
#[expect(unconditional_recursion, reason = "that is the point")]
pub(crate) fn overflow(depth: u64) -> u64 {
    overflow(black_box(depth) + 1) + 1
}

/// Never ends.
pub(crate) fn spin() -> u64 {
    loop {
        black_box(0);
    }
}

/// Sets the trap flag before a system call, which must not step through the kernel; the step after it ends this.
pub(crate) fn step() -> u64 {
    // SAFETY: changes one flag, which ends the program.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "mov eax, 3",
            "popfq",
            "syscall",
            "nop",
            out("rax") _,
            out("rcx") _,
            out("r11") _,
        );
    }
    1
}

/// Executes an instruction that a program may not, or may but must not survive.
#[expect(clippy::multiple_unsafe_ops_per_block, reason = "each is a line of the same table")]
pub(crate) fn instruction(number: u64) -> u64 {
    // SAFETY: (all of them) none; each raises an exception.
    unsafe {
        match number {
            0 => asm!("cli"),
            1 => asm!("hlt"),
            2 => asm!("mov rax, cr3", out("rax") _),
            3 => asm!("mov cr0, rax", in("rax") 0_u64),
            4 => asm!("in al, 0x60", out("al") _),
            5 => asm!("out 0xf4, al", in("al") 0_u8),
            6 => asm!("wrmsr", in("ecx") 0xc000_0102_u32, in("eax") 0_u32, in("edx") 0_u32),
            7 => asm!("swapgs"),
            8 => asm!("int 2"),
            9 => asm!("int 0x20"),
            10 => asm!("int3"),
            11 => asm!(".byte 0xf1"),
            12 => asm!("ud2"),
            13 => asm!("div {0:e}", in(reg) 0_u32, inout("eax") 1_u32 => _, inout("edx") 0_u32 => _),
            14 => asm!("fld1"),
            15 => asm!("addps xmm0, xmm0"),
            16 => asm!("fwait"),
            17 => asm!("mov ss, {0:e}", in(reg) 0x10_u32),
            18 => asm!("mov ds, {0:e}", in(reg) 0x28_u32),
            19 => asm!("lldt {0:x}", in(reg) 0_u16),
            20 => asm!("sysretq", in("rcx") 0x1234_u64, in("r11") 0_u64),
            21 => {
                asm!("push 0x10", "push rsp", "pushfq", "push 0x08", "push {0}", "iretq", in(reg) 0x20_0000_u64)
            }
            22 => asm!("mov {0}, dr7", out(reg) _),
            23 => asm!("sysenter"),
            24 => asm!("rdpmc", in("ecx") 0, out("eax") _, out("edx") _),
            25 => asm!("wrgsbase {0}", in(reg) 1_u64 << 47),
            26 => asm!("jmp {0}", in(reg) 1_u64 << 63),
            27 => asm!("push 0x33", "push 0", "retfq"),
            _ => return 2,
        }
    }
    1
}
