// The switch from one thread to another.
//
// Hazard: an NMI can come at any instruction below, where the stack is the new thread's already and the
// address space still the old one's, or where CR3 is the new one's and "current" the old one's. Nothing in
// the NMI path looks at "current": the address space of a sample is the one in CR3, and its stack is found
// from RSP. All kernel stacks are in the kernel half, whose tables are the same in every address space.
//
// Steps
//   1. Push the registers that a call keeps, and note RSP with the old thread.
//   2. Take the new thread's RSP, then its CR3, then say who runs. The order does not matter to anyone: the
//      stack comes first so that both others are different for a while.
//   3. Pop the registers of the new thread and return to where it left: to its own call of this, or, for a
//      new one, to `thread_start_user`.
//
// Stack picture of a thread that does not run (type `Suspended`), lowest address first:
//   r15, r14, r13, r12, rbp, rbx, return address

.text
.balign 64
.global switch_to
// # State: RDI = where to note RSP; RSI = RSP to take; RDX = CR3 to take; RCX = address of "current"; R8D =
// what to write there; called as an `extern "C"` function, with interrupts disabled.
switch_to:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
// # State: RSP = Suspended of the new thread; CR3 and "current" are the old one's.
.global switch_to_space
switch_to_space:
    mov cr3, rdx
// # State: as before, but CR3 is the new thread's.
    mov [rcx], r8d
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
.global switch_to_end
switch_to_end:

.balign 16
.global thread_start_user
// # State: RSP = IretFrame of a new process, at the top of its kernel stack; all else is the kernel's, so
// nothing of it may stay.
thread_start_user:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    jmp interrupt_iretq
