// What every NMI entry saves before it calls Rust, and restores after (type `Context`).
//
// Saving CR2 comes before anything that can fault, and so does zeroing DR7: a breakpoint in the handler
// would otherwise raise #DB inside it. Both come back before the entry's state drops.
//
// `mutant` is empty, or the name of a known defect: see the list at the end of each entry's file. Here are
//   no_dr7_zero     breakpoints of the interrupted code stay on in the handler
//   no_dr7_restore  DR7 stays 0
//   no_cr2_restore  CR2 stays as the handler has it

.ifndef NMI_CONTEXT_MACROS
.set NMI_CONTEXT_MACROS, 1

// # State before: all registers interrupted. After: RSP = Context; DF clear; RSI, RDX = the last two
// arguments of `run`: the frame of the interrupted code, which is `frame` bytes above RSP, and the interrupted
// RBP. The first one, RDI, is the CPU's area: each entry knows how far the top of its stack is.
.macro save_context frame, mutant
    push_caller_saved
    mov rax, cr2
    push rax
    mov rax, dr7
    push rax
.ifnc \mutant, no_dr7_zero
    test al, {DR7_ENABLED}
    jz 1f
    xor eax, eax
    mov dr7, rax
1:
.endif
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
.macro restore_context mutant
    pop rax
.ifnc \mutant, no_dr7_restore
    test al, {DR7_ENABLED}
    jz 1f
    mov dr7, rax
1:
.endif
    pop rax
.ifnc \mutant, no_cr2_restore
    mov rdx, cr2
    cmp rax, rdx
    je 1f
    mov cr2, rax
1:
.endif
    pop_caller_saved
.endm

.endif
