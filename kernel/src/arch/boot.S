// Two entries, PVH and Multiboot2: 32-bit protected mode to 64-bit Rust in the higher half.
//
// Both protocols enter with flat 32-bit segments and paging off, and with the address of their information in EBX. They
// differ in EAX, which is the magic number in Multiboot2 and nothing in PVH: so each has an entry of its own.
//
// Hazard: the image is linked at KERNEL_BASE + load address, but runs at its load address until paging
// is on. Every symbol used before the jump to `long_mode_high` is written as `symbol - KERNEL_BASE`.
//
// Steps
//   1. Load CR3 with the boot page tables below, which are complete at link time.
//   2. Turn on PAE, long mode with no-execute, paging; load a 64-bit code segment.
//   3. Jump to the higher half, load the boot stack, call `boot_entry(protocol, information)`.
//
// The boot tables map the first 4 GiB, with 2 MiB pages, three times: at 0 (for the instructions that
// turn paging on), at the direct map, and (the first GiB) at KERNEL_BASE. `memory::kernel_space`
// replaces all of it.

.section .note.Xen, "a", @note
.balign 4
    .long 4                                 // size of the name
    .long 4                                 // size of the value
    .long {XEN_ELFNOTE_PHYS32_ENTRY}
    .asciz "Xen"
    .long pvh_start - {KERNEL_BASE}

// The loader looks for this within the first 32 KiB of the file: the linker script puts it first of all.
.section .multiboot2, "a", @progbits
.balign 8
multiboot2_header:
    .long {MULTIBOOT2_HEADER_MAGIC}
    .long {MULTIBOOT2_I386}
    .long multiboot2_header_end - multiboot2_header
    .long -({MULTIBOOT2_HEADER_MAGIC} + {MULTIBOOT2_I386} + (multiboot2_header_end - multiboot2_header))

    // Without a memory map there is nothing to run in.
    .balign 8
    .short {MULTIBOOT2_TAG_REQUEST}, 0
    .long 12
    .long {MULTIBOOT2_MEMORY_MAP}

    .balign 8
    .short {MULTIBOOT2_TAG_ENTRY}, 0
    .long 12
    .long multiboot2_start - {KERNEL_BASE}

    // Any framebuffer will do, and none is no reason not to boot. Without this tag UEFI leaves no screen at all.
    .balign 8
    .short {MULTIBOOT2_TAG_FRAMEBUFFER}, {MULTIBOOT2_OPTIONAL}
    .long 20
    .long 0, 0, 0

    .balign 8
    .short {MULTIBOOT2_TAG_ALIGN_MODULES}, 0
    .long 8

    .balign 8
    .short {MULTIBOOT2_TAG_END}, 0
    .long 8
multiboot2_header_end:

.section .text.boot, "ax", @progbits
.code32
.global pvh_start
// # State: 32-bit, flat segments, paging off, IF = 0; EBX = physical address of hvm_start_info; no stack.
pvh_start:
    mov esi, {PROTOCOL_PVH}
    jmp start

.global multiboot2_start
// # State: as above, but EAX = magic number, EBX = physical address of the information.
multiboot2_start:
    mov esi, eax

// # State: as above; ESI = protocol.
start:
    cld
    lea esp, [boot_stack_top - {KERNEL_BASE}]
    lea eax, [boot_pml4 - {KERNEL_BASE}]
    mov cr3, eax

    mov eax, cr4
    or eax, {CR4_PAE}
    mov cr4, eax

    mov ecx, {IA32_EFER}
    rdmsr
    or eax, {EFER_LME_NXE}
    wrmsr

    mov eax, cr0
    or eax, {CR0_PG_WP}
    mov cr0, eax

    lgdt [boot_gdt_pointer - {KERNEL_BASE}]
    // A far jump to 64-bit code. The selector is pushed because Intel syntax has no portable `ljmp`.
    push {BOOT_CODE_SELECTOR}
    lea eax, [long_mode_low - {KERNEL_BASE}]
    push eax
    retf

.code64
// # State: 64-bit at the load address; EBX = information, ESI = protocol (upper halves zeroed below).
long_mode_low:
    movabs rax, offset long_mode_high
    jmp rax

// # State: 64-bit in the higher half; data segments not loaded.
long_mode_high:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    lea rsp, [rip + boot_stack_top]
    xor ebp, ebp                            // ends every call chain
    mov edi, esi
    mov esi, ebx
    call {boot_entry}
    ud2

.section .data.boot_tables, "aw", @progbits
.balign 4096
boot_pml4:
    .quad boot_pdpt_low - {KERNEL_BASE} + {TABLE}
    .zero ({DIRECT_MAP_SLOT} - 1) * 8
    .quad boot_pdpt_low - {KERNEL_BASE} + {TABLE}
    .zero ({KERNEL_SLOT} - {DIRECT_MAP_SLOT} - 1) * 8
    .quad boot_pdpt_high - {KERNEL_BASE} + {TABLE}
boot_pdpt_low:
    .set gib, 0
    .rept 4
    .quad boot_pd - {KERNEL_BASE} + gib * 4096 + {TABLE}
    .set gib, gib + 1
    .endr
    .zero (512 - 4) * 8
boot_pdpt_high:
    .zero 510 * 8
    .quad boot_pd - {KERNEL_BASE} + {TABLE}
    .zero 8
boot_pd:
    .set page, 0
    .rept 4 * 512
    .quad page * 0x200000 + {HUGE_PAGE}
    .set page, page + 1
    .endr

.section .rodata.boot, "a", @progbits
.balign 8
boot_gdt:
    .quad 0
    .quad {BOOT_CODE_DESCRIPTOR}
boot_gdt_pointer:
    .short boot_gdt_pointer - boot_gdt - 1
    .long boot_gdt - {KERNEL_BASE}

.section .bss.boot_stack, "aw", @nobits
.balign 16
    .zero {BOOT_STACK_LEN}
boot_stack_top:
.text
