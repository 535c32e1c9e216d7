// The interrupted code of a placement: known registers, a timer, a self-NMI, and a straight line.
//
// Hazard: the code under test may come back with anything changed, or not at all. So nothing here trusts a
// register after the line: RSP is kept in memory, the rest is stored as it is found. An NMI that can't go on
// leaves through `experiment_abandon`, whatever stack it is on.
//
// Steps of `experiment_run`
//   1. Keep the callee-saved registers and flags on the thread stack, and its RSP in memory.
//   2. Start the third NMI's source, by one store; then up to {PHASE_INSTRUCTIONS} no-operations, because its
//      clock is coarser than the timer's.
//   3. Load every register and flag from `Registers`, by pops; then RSP.
//   4. `experiment_arm`: start the timer, with the ticks in ECX. RDI is the page of the APIC's registers.
//   5. A lead of no-operations, so that the timer's NMI can also come first.
//   6. `experiment_send`: the self-NMI. It arrives at `experiment_line`.
//   7. The line: no-operations, until both NMIs must have come.
//   8. Store every register and flag to `Registers`, by pushes, and return RSP.
//
// Thread stack between 1 and 8, from the top: return address, RBX, RBP, R12 to R15, RFLAGS, address of the
// end of the `Registers` to fill.

.section .bss.experiment, "aw", @nobits
.balign {WORD}
experiment_thread_rsp:
    .skip {WORD}
// RSP of the experiment, before and after.
experiment_rsp:
    .skip {WORD}

.text
.balign 64
.global experiment_run
// # State: RDI = `Registers` to load; RSI = end of the `Registers` to fill; RDX = RSP of the experiment;
// RCX = address of the store of step 2, R8D = its value; R9 = no-operations to skip after it; called as an
// `extern "C"` function.
experiment_run:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    pushfq
    push rsi
    mov [rip + experiment_thread_rsp], rsp
    mov [rip + experiment_rsp], rdx
    lea rax, [rip + experiment_phase]
    add rax, r9
    mov [rcx], r8d
    jmp rax
experiment_phase:
.fill {PHASE_INSTRUCTIONS}, 1, {NOP}
    // From here on, {LOAD_INSTRUCTIONS} instructions to `experiment_arm`.
    mov rsp, rdi
.irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    pop \register
.endr
    popfq
    mov rsp, [rip + experiment_rsp]
// # State: all registers and flags are those of the experiment.
.global experiment_arm
experiment_arm:
    mov [rdi + {INITIAL_COUNT}], ecx
.fill {LEAD_INSTRUCTIONS}, 1, {NOP}
.global experiment_send
experiment_send:
    mov dword ptr [rdi + {COMMAND}], {SELF_NMI}
.global experiment_line
experiment_line:
.fill {LINE_INSTRUCTIONS}, 1, {NOP}
.global experiment_line_end
experiment_line_end:
    mov [rip + experiment_rsp], rsp
    mov rsp, [rip + experiment_thread_rsp]
    mov rsp, [rsp]
    pushfq
.irp register, r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax
    push \register
.endr
    mov rsp, [rip + experiment_thread_rsp]
    mov rax, [rip + experiment_rsp]
// # State: RSP = end of the `Registers` to fill, on the thread stack; RAX = result; the rest unknown.
experiment_return:
    pop rsi
    popfq
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

.global experiment_abandon
// # State: on any stack, at any depth of NMI; all registers unknown; NMIs masked or not.
experiment_abandon:
    mov rsp, [rip + experiment_thread_rsp]
    and rsp, -{STACK_ALIGN}
    cld
    call {recover}
    mov rsp, [rip + experiment_thread_rsp]
    mov rax, rsp
    push {KERNEL_DATA}
    push rax
    push {RFLAGS_RESERVED}
    push {KERNEL_CODE}
    push offset experiment_abandoned
    // Unmasks NMIs; goes to the next instruction.
    iretq
// # State: RSP as for `experiment_return`.
experiment_abandoned:
    xor eax, eax
    jmp experiment_return
