// A stub at vector 2, before an NMI entry, that writes down what each arrival interrupted.
//
// Hazard: the entry behind it must find the stack and every register as the CPU left them, and on a nested
// arrival the words below the CPU's frame belong to the outer NMI. So nothing is pushed: the two registers that
// are used are kept in memory. NMIs are masked from the arrival to the jump, whatever it interrupted, so no
// second arrival can come in between and one place for them is enough. RFLAGS change; they are in the frame.
//
// Every path has {INSTRUCTIONS} instructions, so that the entry starts at a known tick.

.section .bss.arrivals, "aw", @nobits
.balign {WORD}
arrival_recorder_rax:
    .skip {WORD}
arrival_recorder_rcx:
    .skip {WORD}

.text
.balign 64
.global arrival_recorder
// # State: RSP = IretFrame on the NMI stack; all registers interrupted; DF and GS unknown; NMIs masked.
arrival_recorder:
    mov [rip + arrival_recorder_rax], rax
    mov [rip + arrival_recorder_rcx], rcx
    // Those that are too many overwrite the last place.
    mov rax, [rip + {LOG} + {COUNT}]
    inc qword ptr [rip + {LOG} + {COUNT}]
    mov ecx, {LAST}
    cmp rax, rcx
    cmova rax, rcx
    shl eax, {ARRIVAL_SHIFT}
    lea rcx, [rip + {LOG} + {ARRIVALS}]
    add rcx, rax
    mov rax, [rsp + {FRAME_RIP}]
    mov [rcx + {ARRIVAL_RIP}], rax
    mov rax, [rip + {LOG} + {RUNS}]
    mov eax, [rax]
    mov [rcx + {ARRIVAL_RUNS}], rax
    mov rax, [rip + arrival_recorder_rax]
    mov rcx, [rip + arrival_recorder_rcx]
    // # State: as at the start, but for RFLAGS.
    jmp qword ptr [rip + {LOG} + {ENTRY}]
