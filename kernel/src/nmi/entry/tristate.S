// NMI entry `tristate`: one state word, a frame that is never written twice, and a window at the exit.
//
// Hazard: an exception inside the handler ends with `iretq`, which unmasks NMIs. The next NMI starts at
// the top of this same stack and overwrites the frame that the CPU pushed for the first one. The state
// word tells it that it is nested; but the word has to be released *before* the `iretq` that leaves, and
// an NMI in between finds a free state on a stack whose frame is still needed. After the three states of
// i386 Linux (3.3 and later), where such an NMI simply nests, on a stack that grows; here the stack
// restarts at its top, so that NMI is recognized by its RIP and takes the run over.
//
// Stack picture (type `Picture`), from the top, which is where the CPU starts:
//   +-----------+
//   | hardware  |  pushed by the CPU; a nested NMI overwrites it, and nothing else: it pushes no word
//   | state     |  not running, executing or latched
//   | saved     |  the outermost frame; written once, then only read, at last by the `iretq`
//   | context   |  caller-saved registers, CR2, DR7; written before each run, always with the same values
//   +-----------+
//
// Steps, on every arrival
//   1. State not free: nested. Set it to latched and leave.
//   2. State free, RIP in the release window, and in kernel code: the exit was about to return from
//      `saved`, and all registers but RSP are the interrupted ones already. Point RSP at `saved` and run
//      once more. The NMI counts as nested, its run as a re-run. (User code can jump to the window's
//      addresses, where it faults: an NMI before that fault is a first one.)
//   3. Else it is the first. Set the state to executing, save the frame, and run.
// and after every run
//   4. Restore everything but RIP, RFLAGS and RSP; then decrement the state, in memory.
//   5. Not free: it was latched. Set it to executing and run again, from the registers as they are.
//   6. Free: return from `saved`.
//
// RSP decides nothing: the first instruction of SYSCALL runs on whatever RSP the user chose. Step 2 does
// not nest one level deeper: however often it happens, RSP is at `saved` when the next run starts.
//
// Parameters of the macro
//   name        prefix of the labels; the entry is `name`
//   early       1: an `iretq` to the next instruction unmasks NMIs right before each run's context is saved
//   mutant      empty; else a name from the list at the end: the entry then has that known defect
//
// Windows, and who closes them
//   entry .. state set                 NMIs are masked by the CPU: nothing can have unmasked them
//   state set .. decrement             step 1
//   decrement .. `iretq`, latched      step 1; the label `again` starts the one run that is due anyway
//   decrement .. `iretq`, free         step 2, in the label pair window .. window end
// The window is as short as it can be: two instructions, the branch and the `iretq`. The decrement is
// outside, for an NMI before it finds the state set. The first instruction after the `iretq` is outside,
// too: it belongs to the interrupted code.
//
// Not closed: an exception with a stack of its own in the release window, and an NMI inside it. That NMI finds
// the state free and a RIP elsewhere, would be taken for a first one and overwrite `saved`. See the module
// page of the entries.

.macro nmi_tristate_entry name, early, mutant
.section .text.nmi_entry, "ax", @progbits
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    // 1. Memory and RFLAGS only: the entry needs no register and no scratch word.
    cmp qword ptr [rsp + {HARDWARE_TO_STATE}], {NOT_RUNNING}
    jne \name\()_nested
    // 2. The upper end comes first: most of the kernel is linked above. Either order is correct.
.ifnc \mutant, no_window_check
    cmp qword ptr [rsp + {HARDWARE_TO_RIP}], offset \name\()_window_end
    jb \name\()_check_window
.endif

\name\()_first:
    // 3. The push sets the state.
.ifc \mutant, set_late
    push {NOT_RUNNING}
.else
    push {EXECUTING}
.endif
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
// # State: RSP = saved; all registers interrupted but RFLAGS; DF unknown; state set; NMIs masked, or,
// coming from `again`, perhaps not.
\name\()_execute:
.if \early
    // Unmasks NMIs; goes to the next instruction. Its frame lies where the context will be.
    unmask_nmis \name\()_unmasked
\name\()_unmasked:
.endif
.ifc \mutant, set_late
    mov qword ptr [rsp + {SAVED_TO_STATE}], {EXECUTING}
.endif
    save_context {CONTEXT_TO_SAVED}, \mutant
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
.ifc \mutant, release_early
    dec qword ptr [rsp + {CONTEXT_TO_STATE}]
    restore_context
    cmp qword ptr [rsp + {SAVED_TO_STATE}], {NOT_RUNNING}
.else
    // 4.
    restore_context \mutant
// # State: RSP = saved; all registers interrupted but RFLAGS; DF clear; NMIs masked or not.
    // Everything that `saved` does not hold is back: this one instruction gives the stack away.
    dec qword ptr [rsp + {SAVED_TO_STATE}]
.endif
.ifnc \mutant, window_late
.global \name\()_window
\name\()_window:
.endif
// From here until the `iretq` has completed, a nested NMI finds the state latched by an earlier one, and
// latches it again, or finds it free, and the RIP here.
    // 5.
    jnz \name\()_again
.ifc \mutant, window_late
\name\()_window:
.endif
.ifc \mutant, window_short
\name\()_window_end:
.endif
.global \name\()_iretq
\name\()_iretq:
    // 6. Unmasks NMIs; goes to the interrupted code.
    iretq
.ifnc \mutant, window_short
.global \name\()_window_end
\name\()_window_end:
.endif

// # State: RSP = hardware; all registers interrupted, or of the exit, which is the same; NMIs masked.
\name\()_check_window:
    cmp qword ptr [rsp + {HARDWARE_TO_RIP}], offset \name\()_window
    jb \name\()_first
    cmp qword ptr [rsp + {HARDWARE_TO_CS}], {KERNEL_CODE}
    jne \name\()_first
    inc qword ptr [rsp + {HARDWARE_TO_NESTED}]
.ifc \mutant, window_no_run
    iretq
.endif
    // Drops the frame of this NMI: the exit that it interrupted has nothing left to do but what follows.
.ifnc \mutant, window_keeps_rsp
    lea rsp, [rsp - {SAVED_TO_HARDWARE}]
.endif
// # State: RSP = saved; all registers interrupted but RFLAGS; DF clear; state free and NMIs masked (from
// step 2), or state set and NMIs masked or not (from step 5).
.global \name\()_again
\name\()_again:
    inc qword ptr [rsp + {SAVED_TO_RERUN}]
.ifc \mutant, save_again
    lea rsp, [rsp + {SAVED_TO_STATE}]
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
.endif
    // Assigned, not incremented: whoever latched the state again since the decrement is served by this
    // run, which has not started. From here a nested NMI asks for one more.
.ifnc \mutant, again_not_set
    mov qword ptr [rsp + {SAVED_TO_STATE}], {EXECUTING}
.endif
    jmp \name\()_execute

// # State: RSP = hardware; all registers those of the outer NMI; NMIs masked.
\name\()_nested:
    inc qword ptr [rsp + {HARDWARE_TO_NESTED}]
.ifnc \mutant, no_latch
    mov qword ptr [rsp + {HARDWARE_TO_STATE}], {LATCHED}
.endif
    // Unmasks NMIs; goes back into the outer NMI.
    iretq
.endm

nmi_tristate_entry nmi_tristate, 0
nmi_tristate_entry nmi_tristate_early, 1

// Known defects, one or more for each thing that the entry does about nesting; in the self-test image only.
//   no_window_check   step 2 is left out
//   window_late       the window starts one instruction late, at the `iretq`
//   window_short      the window ends one instruction early, before the `iretq`
//   set_late          the state is set after the frame is copied and NMIs are unmasked
//   release_early     the state is decremented before the registers are restored
//   no_latch          a nested NMI leaves the state alone
//   again_not_set     a re-run does not assign the state
//   window_no_run     step 2 returns into the window
//   window_keeps_rsp  step 2 leaves RSP at the frame of the nested NMI
//   save_again        a re-run saves the frame again
//   no_dr7_zero, no_dr7_restore, no_cr2_restore  of the context
.if {HAS_MUTANTS}
.irp mutant, no_window_check, window_late, window_short, set_late, release_early, no_latch, again_not_set
nmi_tristate_entry nmi_tristate_mutant_\mutant, 1, \mutant
.endr
.irp mutant, window_no_run, window_keeps_rsp, save_again, no_dr7_zero, no_dr7_restore, no_cr2_restore
nmi_tristate_entry nmi_tristate_mutant_\mutant, 1, \mutant
.endr
.endif
