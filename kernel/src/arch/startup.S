// Where another CPU starts: real mode to 64-bit Rust in the higher half.
//
// A startup message names a page below 1 MiB. The code between `startup_page_begin` and `startup_page_end` is copied
// there and runs there.
//
// Hazard: it knows nothing of where it is, so it reads relative to CS and jumps to absolute addresses only. What it
// needs besides (tables, descriptors, the code after it) is that of the boot CPU, in the image below 16 MiB, so nothing
// in the copy has to be patched. And no NMI may come before this CPU has an interrupt table: its local sources are
// masked by INIT, and no other CPU sends one before it says that it is up.
//
// Steps
//   1. Load the boot page tables, which map the first 4 GiB at 0 as well, and the boot descriptors.
//   2. Turn on PAE, long mode with no-execute, paging and protection, caches; all at once, without 32-bit mode.
//   3. Jump to the image at its load address, then to the higher half.
//   4. Load the master's page tables, which map stacks, and the stack that was left; enter Rust.

.section .rodata.startup, "a", @progbits
.code16
.global startup_page_begin
// # State: real mode, CS = page / 16, IP = 0, IF = 0; nothing else is known.
startup_page_begin:
    cli
    cld
    mov ax, cs
    mov ds, ax
    mov ss, ax                              // the stack is the rest of this page
    mov sp, {PAGE_BYTES}
    lgdt [startup_gdt_offset]

    mov eax, cr4
    or eax, {CR4_PAE}
    mov cr4, eax
    mov eax, offset boot_pml4 - {KERNEL_BASE}
    mov cr3, eax

    mov ecx, {IA32_EFER}
    rdmsr
    or eax, {EFER_LME_NXE}
    wrmsr

    mov eax, cr0
    and eax, {CR0_CACHES_ON}
    or eax, {CR0_PG_WP_PE}
    mov cr0, eax

    // A far return to 64-bit code: Intel syntax has no portable far jump.
    mov eax, {BOOT_CODE_SELECTOR}
    push eax
    mov eax, offset startup_low - {KERNEL_BASE}
    push eax
    data32 retf

.balign 8
startup_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - {KERNEL_BASE}
.global startup_page_end
startup_page_end:
.set startup_gdt_offset, startup_gdt_pointer - startup_page_begin

.section .text.boot, "ax", @progbits
.code64
// # State: 64-bit at the load address, boot page tables.
startup_low:
    movabs rax, offset startup_high
    jmp rax

// # State: 64-bit in the higher half; data segments not loaded, no stack.
startup_high:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov rax, [rip + {root}]
    mov cr3, rax
    mov rsp, [rip + {stack}]
    xor ebp, ebp                            // ends every call chain
    push rbp
    jmp {entry}
.text
