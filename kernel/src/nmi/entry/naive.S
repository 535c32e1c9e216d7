// NMI entry `naive`: save, call, return.
//
// Hazard: it has no answer to a nested NMI. After the first `iretq` of a fault inside the handler, the
// next NMI starts at the top of this same stack, overwrites everything below, and calls the handler a
// second time. It is the floor of every comparison, and the proof that the flaw is real: the handler's
// own marker catches the second call.
//
// Stack picture (type `Picture`), from the top: `hardware` pushed by the CPU; `context`.

.macro nmi_naive_entry name, early
.section .text.nmi_entry, "ax", @progbits
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
.if \early
    // Unmasks NMIs; goes to the next instruction.
    unmask_nmis \name\()_unmasked
\name\()_unmasked:
.endif
    save_context {CONTEXT_TO_HARDWARE}
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
    restore_context
.global \name\()_iretq
\name\()_iretq:
    // Unmasks NMIs; goes to the interrupted code.
    iretq
.endm

nmi_naive_entry nmi_naive, 0
nmi_naive_entry nmi_naive_early, 1
