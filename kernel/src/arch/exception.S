// Entries of the CPU exceptions (all but vector 2), which share one path.
//
// Hazard: an exception can be raised inside the NMI handler, and its `iretq` then unmasks NMIs while that
// handler still runs. That is the flaw which the NMI entries survive; nothing here depends on it.
// An NMI can also arrive at any instruction below; it runs on its own stack and gives CR2 back.
//
// There are two returns. `iretq` is the usual one. The masked return (Desnoyers' first proposal, 2010: never
// to execute `iret` inside an NMI) puts RIP and RFLAGS below the interrupted stack pointer and leaves by
// `popfq; ret`, which leaves NMIs as they are. Code without a red zone has nothing in those two words, but
// this very frame may: the CPU pushed it right there. So everything is read before they are written.
//
// Stack picture (type `TrapFrame`), from the top:
//   ss, rsp, rflags, cs, rip      pushed by the CPU
//   error                         pushed by the CPU or as 0 by the stub
//   vector                        pushed by the stub
//   rax .. r11                    `CallerSaved`

.macro exception_stub vector
    .balign 16
// # State: RSP = IretFrame.
exception_stub_\vector:
    push 0
    push \vector
    jmp exception_common
.endm

.macro exception_stub_with_error vector
    .balign 16
// # State: RSP = error code, above it IretFrame.
exception_stub_\vector:
    push \vector
    jmp exception_common
.endm

.text
.irp vector, 0, 1, 3, 4, 5, 6, 7, 9, 15, 16, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 31
    exception_stub \vector
.endr
.irp vector, 8, 10, 11, 12, 13, 14, 17, 21, 29, 30
    exception_stub_with_error \vector
.endr
// Vector 2 has an entry of its own, chosen at run time; one of them has a stub before vector 13's, too.
.global exception_stub_13
.set exception_stub_2, 0

.balign 16
// # State: RSP = TrapFrame.vector; every register but RSP is the interrupted one; DF unknown.
exception_common:
    push_caller_saved
    cld
    mov rdi, rsp
    call {handle_exception}
    test al, al
    jnz exception_return_masked
    pop_caller_saved
    lea rsp, [rsp + {VECTOR_TO_INTERRUPTED}]
.global exception_iretq
exception_iretq:
    // Unmasks NMIs, even if this exception was raised inside an NMI.
    iretq

// # State: RSP = TrapFrame; every register is free; this exception was raised at CPL 0 inside an NMI.
exception_return_masked:
    mov rax, [rsp + {FRAME_TO_RSP}]
    mov rcx, [rsp + {FRAME_TO_RIP}]
    mov rdx, [rsp + {FRAME_TO_RFLAGS}]
    mov [rax - {WORD}], rcx
    mov [rax - 2 * {WORD}], rdx
    lea rax, [rax - 2 * {WORD}]
    // The vector has served its purpose: its place is where RSP will be after the registers.
    mov [rsp + {FRAME_TO_VECTOR}], rax
    pop_caller_saved
    mov rsp, [rsp]
    popfq
    // NMIs stay masked; goes to the interrupted code, inside the NMI.
    ret

.section .rodata.exception_stubs, "a", @progbits
.balign 8
.global exception_stubs
exception_stubs:
.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    .quad exception_stub_\vector
.endr
.text
