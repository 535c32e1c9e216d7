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
//   1. RIP in the repeat window, and in the kernel: a run is about to start anyway, and `returning` is being
//      written. Leave.
//   2. `executing` set: nested. Redirect `returning` to the repeat label and leave.
//   3. DF set, RSP at `returning`, in the kernel: nested, in the gap between the clear of `executing` and the
//      `iretq`. As 2. (The exit sets DF for this; SYSCALL clears it, so its first instruction, which runs on
//      the RSP that the user chose, can't be mistaken for the gap.)
//   4. Else it is the first. Save the frame, and run.
// User code can have any RIP, RSP and DF: it can't execute at the window's addresses, but an NMI may come
// before the fault of the fetch. So 1 and 3 ask for the CS, where they are about to say yes.
//
// Parameters of the macro
//   name        prefix of the labels; the entry is `name`
//   early       1: an `iretq` to the window unmasks NMIs right after the frame is saved
//   nested_ret  1: a nested NMI returns by `popfq; ret`, so that NMIs stay masked in the outer one
//   mutant      empty; else a name from the list at the end: the entry then has that known defect
//
// Windows, and who closes them
//   entry .. `push 1`                  NMIs are masked by the CPU: nothing can have unmasked them
//   repeat .. window end               step 1
//   window end .. clear of `executing` step 2
//   clear of `executing` .. `iretq`    step 3
//
// Not closed: an exception with a stack of its own in the gap, and an NMI inside it. Its RSP is elsewhere, so
// it would be taken for a first one and overwrite `saved`. See the module page of the entries.

.macro nmi_rostedt_entry name, early, nested_ret, mutant
.section .text.nmi_entry, "ax", @progbits
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    push rdx
    // 1. Unsigned distance from the window's start: one comparison for both ends.
.ifnc \mutant, no_window_check
    mov rdx, [rsp + {SCRATCH_TO_RIP}]
    sub rdx, offset \name\()_window
    cmp rdx, offset \name\()_window_len
    jb \name\()_check_window
.endif
// # State: RSP = scratch; RDX free; else as at the entry.
\name\()_outside:
    // 2.
    cmp qword ptr [rsp + {SCRATCH_TO_EXECUTING}], 0
    jne \name\()_nested
    // 3.
.ifnc \mutant, no_gap_check
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
.ifnc \mutant, window_late
\name\()_window:
.endif
.ifnc \mutant, repeat_not_executing
    mov qword ptr [rsp + {SAVED_TO_EXECUTING}], 1
.endif
.ifc \mutant, window_late
\name\()_window:
.endif
    inc qword ptr [rsp + {SAVED_TO_RERUN}]
.ifc \mutant, save_again
    lea rsp, [rsp + {SAVED_TO_EXECUTING}]
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
.endif
\name\()_copy:
.rept 4
    push qword ptr [rsp + {PUSH_SAVED_TO_RETURNING}]
.endr
.ifc \mutant, window_short
\name\()_window_end:
.endif
    push qword ptr [rsp + {PUSH_SAVED_TO_RETURNING}]
.ifnc \mutant, window_short
.global \name\()_window_end
\name\()_window_end:
.endif
// From here a nested NMI redirects `returning`.
    save_context {CONTEXT_TO_SAVED}, \mutant
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
.ifc \mutant, clear_early
    mov qword ptr [rsp + {CONTEXT_TO_EXECUTING}], 0
.endif
    restore_context \mutant
// # State: RSP = returning; all registers interrupted.
    std
    mov qword ptr [rsp + {RETURNING_TO_EXECUTING}], 0
// From here until the `iretq` has completed, a nested NMI finds DF set and RSP at `returning`.
.global \name\()_iretq
\name\()_iretq:
    // Unmasks NMIs; goes to the interrupted code, or to the repeat label.
    iretq

// # State: RSP = scratch; RDX free; RIP of the frame is in the window; NMIs masked.
\name\()_check_window:
    test byte ptr [rsp + {SCRATCH_TO_CS}], {SELECTOR_RPL}
    jz \name\()_nested_leave
    jmp \name\()_outside

// # State: RSP = scratch; RDX free; DF of the frame is set; NMIs masked.
\name\()_check_gap:
    lea rdx, [rsp - {RETURNING_TO_SCRATCH}]
    cmp rdx, [rsp + {SCRATCH_TO_RSP}]
    jne \name\()_first
    test byte ptr [rsp + {SCRATCH_TO_CS}], {SELECTOR_RPL}
    jnz \name\()_first

// # State: RSP = scratch; RDX free; NMIs masked.
\name\()_nested:
.ifnc \mutant, no_redirect
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_RIP}], offset \name\()_repeat
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_CS}], {KERNEL_CODE}
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_RFLAGS}], {RFLAGS_RESERVED}
    lea rdx, [rsp - {SAVED_TO_SCRATCH}]
    mov [rsp + {SCRATCH_TO_RETURNING_RSP}], rdx
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_SS}], {KERNEL_DATA}
.endif
\name\()_nested_leave:
    inc qword ptr [rsp + {SCRATCH_TO_NESTED}]
.if \nested_ret
    return_masked \mutant
.else
    pop rdx
    // Unmasks NMIs; goes back into the outer NMI.
    iretq
.endif
.set \name\()_window_len, \name\()_window_end - \name\()_window
.endm

nmi_rostedt_entry nmi_rostedt, 0, 0
nmi_rostedt_entry nmi_rostedt_early, 1, 0
nmi_rostedt_entry nmi_rostedt_nret, 0, 1
nmi_rostedt_entry nmi_rostedt_early_nret, 1, 1

// Known defects, one or more for each thing that the entry does about nesting; in the self-test image only.
//   no_window_check       step 1 is left out
//   window_late           the window starts one instruction late, after `executing` is set
//   window_short          the window ends one instruction early, before the last word of `returning`
//   no_gap_check          step 3 is left out
//   clear_early           `executing` is cleared before the registers are restored
//   no_redirect           a nested NMI leaves `returning` alone
//   repeat_not_executing  a run for a nested NMI does not set `executing`
//   save_again            a run for a nested NMI saves the frame again
//   no_dr7_zero, no_dr7_restore, no_cr2_restore  of the context
// and with `nested_ret`
//   flags_lost            the outer NMI gets the flags of the nested one
//   rsp_off               the outer NMI gets its RSP back one word too low
.if {HAS_MUTANTS}
.irp mutant, no_window_check, window_late, window_short, no_gap_check, clear_early, no_redirect
nmi_rostedt_entry nmi_rostedt_mutant_\mutant, 1, 0, \mutant
.endr
.irp mutant, repeat_not_executing, save_again, no_dr7_zero, no_dr7_restore, no_cr2_restore
nmi_rostedt_entry nmi_rostedt_mutant_\mutant, 1, 0, \mutant
.endr
.irp mutant, no_window_check, no_gap_check, no_redirect, flags_lost, rsp_off
nmi_rostedt_entry nmi_rostedt_nret_mutant_\mutant, 1, 1, \mutant
.endr
.endif
