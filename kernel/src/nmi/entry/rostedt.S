// NMI entry `rostedt`: nested NMIs by an on-stack variable, two copies of the frame, and a repeat label.
//
// Hazard: an exception inside the handler ends with `iretq`, which unmasks NMIs. The next NMI starts at
// the top of this same stack and overwrites the frame that the CPU pushed for the first one. After
// Rostedt, "x86: Add workaround to NMI iret woes" (Linux 3.3).
//
// Stack picture (type `Picture`), from the top, which is where the CPU starts:
//   +-----------+
//   | hardware  |  pushed by the CPU; a nested NMI overwrites it
//   | scratch   |  interrupted RDX; a nested NMI overwrites it
//   | executing |  1 from here until the exit: an NMI is in progress
//   | saved     |  the outermost frame; written once, then only read
//   | returning |  the frame that the exit uses: copied from `saved` before each run, and redirected to
//   |           |  `nmi_rostedt_repeat` by a nested NMI
//   | context   |  caller-saved registers, CR2, DR7
//   +-----------+
//
// Steps, on every arrival
//   1. RIP in the repeat window, and in kernel code: a run is about to start anyway, and `returning` is
//      being written. Leave. (User code can jump to the window's addresses, where it faults: an NMI before
//      that fault is a first one.)
//   2. `executing` set: nested. Redirect `returning` to the repeat label and leave.
//   3. DF set and RSP at `returning`, in kernel code: nested, in the gap between the clear of `executing`
//      and the `iretq`. As 2. (The exit sets DF for this; SYSCALL clears it, so a user who chooses such an
//      RSP can't be mistaken for the gap.)
//   4. Else it is the first. Save the frame, and run.
//
// Parameters of the macro
//   name        prefix of the labels; the entry is `name`
//   early       1: an `iretq` to the window unmasks NMIs right after the frame is saved
//   nested_ret  1: a nested NMI returns by `popfq; ret`, so that NMIs stay masked in the outer one
//
// Windows, and who closes them
//   entry .. `push 1`                  NMIs are masked by the CPU: nothing can have unmasked them
//   repeat .. window end               step 1
//   window end .. clear of `executing` step 2
//   clear of `executing` .. `iretq`    step 3

//   mutant      0; else a number from the list at the end: the entry then has that known defect
.macro nmi_rostedt_entry name, early, nested_ret, mutant
.text
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    push rdx
    // 1. Unsigned distance from the window's start: one comparison for both ends.
.if \mutant != 1
    mov rdx, [rsp + {SCRATCH_TO_RIP}]
    sub rdx, offset \name\()_repeat
    cmp rdx, offset \name\()_window_len
    jb \name\()_check_window
.endif
\name\()_outside:
    // 2.
    cmp qword ptr [rsp + {SCRATCH_TO_EXECUTING}], 0
    jne \name\()_nested
    // 3.
.if \mutant != 2
    test dword ptr [rsp + {SCRATCH_TO_RFLAGS}], {RFLAGS_DF}
    jnz \name\()_check_gap
.endif

\name\()_first:
    mov rdx, [rsp]
    push 1
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
.if \early
    // Below `saved`, where `returning` will be. Unmasks NMIs; goes to the window, where step 1 closes.
    unmask_nmis \name\()_copy
.else
    jmp \name\()_copy
.endif

// # State: RSP = saved; all registers interrupted; DF clear; reached by the redirected `iretq` only, so
// NMIs are unmasked.
.global \name\()_repeat
\name\()_repeat:
    mov qword ptr [rsp + {SAVED_TO_EXECUTING}], 1
    inc qword ptr [rsp + {SAVED_TO_RERUN}]
.if \mutant == 5
    lea rsp, [rsp + {SAVED_TO_EXECUTING}]
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
.endif
\name\()_copy:
.rept 5
    push qword ptr [rsp + {PUSH_SAVED_TO_RETURNING}]
.endr
.global \name\()_window_end
\name\()_window_end:
// From here a nested NMI redirects `returning`.
    save_context {CONTEXT_TO_SAVED}
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
.if \mutant == 3
    mov qword ptr [rsp + {CONTEXT_TO_EXECUTING}], 0
.endif
.if \mutant == 4
    mov rax, cr2
    mov [rsp + {CONTEXT_TO_CR2}], rax
.endif
    restore_context
// # State: RSP = returning; all registers interrupted.
    std
    mov qword ptr [rsp + {RETURNING_TO_EXECUTING}], 0
// From here until the `iretq` has completed, a nested NMI finds DF set and RSP at `returning`.
.global \name\()_iretq
\name\()_iretq:
    // Unmasks NMIs; goes to the interrupted code, or to the repeat label.
    iretq

// # State: RSP = scratch; RDX free.
\name\()_check_gap:
    lea rdx, [rsp - {RETURNING_TO_SCRATCH}]
    cmp rdx, [rsp + {SCRATCH_TO_RSP}]
    jne \name\()_first
    test byte ptr [rsp + {SCRATCH_TO_CS}], {SELECTOR_RPL}
    jnz \name\()_first
    jmp \name\()_nested

// # State: RSP = scratch; RDX free; NMIs masked; RIP of the frame is in the window.
\name\()_check_window:
    test byte ptr [rsp + {SCRATCH_TO_CS}], {SELECTOR_RPL}
    jz \name\()_nested_leave
    jmp \name\()_outside

// # State: RSP = scratch; RDX free; NMIs masked.
\name\()_nested:
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_RIP}], offset \name\()_repeat
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_CS}], {KERNEL_CODE}
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_RFLAGS}], {RFLAGS_RESERVED}
    lea rdx, [rsp - {SAVED_TO_SCRATCH}]
    mov [rsp + {SCRATCH_TO_RETURNING_RSP}], rdx
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_SS}], {KERNEL_DATA}
\name\()_nested_leave:
    inc qword ptr [rsp + {SCRATCH_TO_NESTED}]
.if \nested_ret
    // RIP and RFLAGS go onto the outer NMI's stack: code without a red zone leaves these words free.
    // SS is not needed for that, so its place keeps RAX meanwhile.
    mov [rsp + {SCRATCH_TO_SS}], rax
    mov rdx, [rsp + {SCRATCH_TO_RSP}]
    mov rax, [rsp + {SCRATCH_TO_RIP}]
    mov [rdx - {WORD}], rax
    mov rax, [rsp + {SCRATCH_TO_RFLAGS}]
    mov [rdx - 2 * {WORD}], rax
    lea rax, [rdx - 2 * {WORD}]
    mov [rsp + {SCRATCH_TO_RSP}], rax
    mov rax, [rsp + {SCRATCH_TO_SS}]
    pop rdx
    mov rsp, [rsp + {HARDWARE_TO_RSP}]
    popfq
    // NMIs stay masked; goes back into the outer NMI.
    ret
.else
    pop rdx
    // Unmasks NMIs; goes back into the outer NMI.
    iretq
.endif
.set \name\()_window_len, \name\()_window_end - \name\()_repeat
.endm

nmi_rostedt_entry nmi_rostedt, 0, 0, 0
nmi_rostedt_entry nmi_rostedt_early, 1, 0, 0
nmi_rostedt_entry nmi_rostedt_nret, 0, 1, 0
nmi_rostedt_entry nmi_rostedt_early_nret, 1, 1, 0

// Known defects, one for each thing that the entry does about nesting; in the self-test image only.
//   1  no-window-check   step 1 is left out
//   2  no-gap-check      step 3 is left out
//   3  clear-early       `executing` is cleared before the registers are restored
//   4  no-cr2-restore    CR2 is left as the handler has it
//   5  save-again        a run for a nested NMI saves the frame again
.if {HAS_MUTANTS}
nmi_rostedt_entry nmi_rostedt_mutant_1, 1, 0, 1
nmi_rostedt_entry nmi_rostedt_mutant_2, 1, 0, 2
nmi_rostedt_entry nmi_rostedt_mutant_3, 1, 0, 3
nmi_rostedt_entry nmi_rostedt_mutant_4, 1, 0, 4
nmi_rostedt_entry nmi_rostedt_mutant_5, 1, 0, 5
.endif
