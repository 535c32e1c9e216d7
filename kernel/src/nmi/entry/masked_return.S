// The return of a nested NMI without `iret`: NMIs stay masked in the outer one, until that executes one.
// After Torvalds' proposal (linux-kernel, July 2010).

.ifndef NMI_MASKED_RETURN_MACROS
.set NMI_MASKED_RETURN_MACROS, 1

// RIP and RFLAGS go onto the outer NMI's stack: code without a red zone leaves these two words free. That
// RSP is lower on this same stack, or on another one, so they overlap nothing that is read here. `popfq`
// can't give RF back; only breakpoints need it, and the handler runs with none.
// # State before: RSP = scratch, where the interrupted RDX is, right below the CPU's frame; all other
// registers those of the outer NMI; NMIs masked.
.macro return_masked mutant
    mov rdx, rsp
    mov rsp, [rdx + {SCRATCH_TO_RSP}]
.ifc \mutant, rsp_off
    sub rsp, {WORD}
.endif
    push qword ptr [rdx + {SCRATCH_TO_RIP}]
.ifnc \mutant, flags_lost
    push qword ptr [rdx + {SCRATCH_TO_RFLAGS}]
    mov rdx, [rdx]
    popfq
.else
    mov rdx, [rdx]
.endif
    // NMIs stay masked; goes back into the outer NMI.
    ret
.endm

.endif
