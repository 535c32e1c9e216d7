// NMI entry `naive`: save, call, return.
//
// Hazard: it has no answer to a nested NMI. After the first `iretq` of a fault inside the handler, the
// next NMI starts at the top of this same stack, overwrites everything below, and calls the handler a
// second time. It is the floor of every comparison, and the proof that the flaw is real: the handler's
// own marker catches the second call.
//
// Stack picture (type `Picture`), from the top: `hardware` pushed by the CPU; `padding`; `context`.

.text
.balign 64
.global nmi_naive_entry
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
nmi_naive_entry:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    push rax
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
    lea rdi, [rsp + {CONTEXT_TO_HARDWARE}]
    mov rsi, rbp
    call {run}
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
    lea rsp, [rsp + {PADDING}]
    // Unmasks NMIs; goes to the interrupted code.
    iretq
