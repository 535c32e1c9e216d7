// What every NMI entry saves before it calls Rust, and restores after (type `Context`).
//
// Saving CR2 comes before anything that can fault, and so does zeroing DR7: a breakpoint in the handler
// would otherwise raise #DB inside it. Both come back before the entry's state drops.

.ifndef NMI_CONTEXT_MACROS
.set NMI_CONTEXT_MACROS, 1

// # State before: all registers interrupted. After: RSP = Context; DF clear; RSI, RDX = the last two
// arguments of `run`: the frame of the interrupted code, which is `frame` bytes above RSP, and the interrupted
// RBP. The first one, RDI, is the CPU's area: each entry knows how far the top of its stack is.
.macro save_context frame
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    mov rax, cr2
    push rax
    mov rax, dr7
    push rax
    test al, {DR7_ENABLED}
    jz 1f
    xor eax, eax
    mov dr7, rax
1:
    cld
    lea rsi, [rsp + \frame]
    mov rdx, rbp
.endm

// Unmasks NMIs in the middle of an entry, and goes to `target`: for the forms with early unmasking.
// # State: any; after: RSP and all registers as before, RFLAGS not.
.macro unmask_nmis target
    push {KERNEL_DATA}
    push rsp
    add qword ptr [rsp], {WORD}
    pushfq
    push {KERNEL_CODE}
    push offset \target
    iretq
.endm

// # State before: RSP = Context. After: all registers interrupted but RSP, which is above the context.
.macro restore_context
    pop rax
    test al, {DR7_ENABLED}
    jz 1f
    mov dr7, rax
1:
    pop rax
    mov rdx, cr2
    cmp rax, rdx
    je 1f
    mov cr2, rax
1:
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
.endm

.endif
