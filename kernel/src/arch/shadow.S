// A thread that changes its stack by `mov ss; mov rsp`, and an NMI at any instruction of that.
//
// Hazard: hardware takes no interrupt, not even an NMI, between the two instructions (SDM volume 3, "Masking
// Exceptions and Interrupts When Switching Stacks"), so that none finds a new SS with an old RSP. QEMU's TCG does
// take NMIs there. The frame has to tell both registers as they are at that instruction, and bring them back.
//
// Steps of `shadow_run`
//   1. Start the timer, whose NMI comes so many instructions later.
//   2. A lead of no-operations, then both instructions, then no-operations until the NMI must have come.
//   3. Return RSP as it was after the line, on the stack of the caller.

.text
.balign 64
.global shadow_run
// # State: RDI = page of the APIC's registers; ESI = ticks; RDX = the other RSP; ECX = selector for SS; called
// as an `extern "C"` function, which it is throughout: only caller-saved registers change.
shadow_run:
    mov r8, rsp
    mov [rdi + {INITIAL_COUNT}], esi
.fill {SHADOW_LEAD}, 1, {NOP}
    mov ss, ecx
.global shadow_of_mov_ss
shadow_of_mov_ss:
    mov rsp, rdx
.global shadow_other_stack
shadow_other_stack:
.fill {SHADOW_LINE}, 1, {NOP}
    mov rax, rsp
    mov rsp, r8
.global shadow_end
shadow_end:
    ret
