// NMI entry `latched`: the NMI stack only decides; the handler runs on a second stack, and an NMI that
// arrives meanwhile leaves a latch.
//
// Hazard: an exception inside the handler ends with `iretq`, which unmasks NMIs. The next NMI starts at
// the top of the NMI stack again. Here nothing that lives longer than the stub is on that stack, so there
// is nothing to overwrite. What remains is the exit: the latch is checked, and then it takes some
// instructions until `iretq` has completed. An NMI among them would set a latch that nobody looks at any
// more, or find no NMI in progress while the frame to return by is still on the second stack. After
// Desnoyers, "[RFC] Latched NMI handler" (2011), which counted nesting up and down. Two things are changed:
// the state is assigned 1 and 0, for a count is 0 again while a restarted handler runs, and the next NMI
// then resets the stack under it; and the restart saves nothing a second time.
//
// Pictures, from the top of each stack
//   NMI stack (type `Arrival`)            second stack (type `Body`)
//   +----------+                          +----------+
//   | counters |  and `second`: where     | block    |  state: 1 while an NMI is in progress
//   |          |  `block` is              |          |  latch: 1 if another one arrived meanwhile
//   | hardware |  pushed by the CPU       |          |  where `counters` is, and the CPU's area
//   | scratch  |  interrupted RDX         | frame    |  copy of `hardware`, for the handler and the exit
//   +----------+                          | context  |  caller-saved registers, CR2, DR7
//                                         +----------+  the handler's stack begins here
// `frame` and `context` are written once, by the first arrival, and only read until the final `iretq`.
// The other registers need no copy: `run` gives them back, and nothing else here changes them.
//
// Steps, on every arrival
//   1. RIP in the exit window, and not of user code: nested. What the window has restored so far is
//      restored again later: set the state, reset RSP to `context` and restart.
//   2. State set: nested. Set the latch and leave; it is checked right before the window.
//   3. Else it is the first. Set the state, copy the frame to the second stack, save the context, run.
// User code can't execute in the window but can jump there: an NMI may come before the fault of the fetch.
//
// Parameters of the macro
//   name        prefix of the labels; the entry is `name`
//   early       1: an `iretq` to the next instruction unmasks NMIs right after the frame is copied, and
//               likewise before a restart
//   nested_ret  1: a nested NMI returns by `popfq; ret`, so that NMIs stay masked in the outer one
//   mutant      empty; else a name from the list at the end: the entry then has that known defect
//
// Windows, and who closes them
//   entry .. state set                   NMIs are masked by the CPU: nothing can have unmasked them
//   state set .. check of `latch`        step 2: the check comes later
//   branch after the check .. `iretq`    step 1: wherever it is taken, before the branch, before or after the
//                                        state is cleared, or at `iretq`
//   step 1 .. restart                    NMIs are masked by the CPU, since the arrival itself
//   restart .. clear of `latch`          step 2: joins the run that is about to start
//   clear of `latch` .. call             step 2: asks for one more run
// The state could be cleared anywhere in the window, for step 1 comes first. It is cleared last, so that the
// state is free for one instruction only.
//
// Not closed: an exception with a stack of its own in the window, and an NMI inside it. Its RIP is not in the
// window, so its latch is lost or `frame` overwritten. See the module page of the entries.

.macro nmi_latched_entry name, early, nested_ret, mutant
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
    jb \name\()_in_window
.endif
// # State: RSP = scratch; RDX free; else as at the entry.
\name\()_outside:
    // 2.
    mov rdx, [rsp + {SCRATCH_TO_SECOND}]
    cmp qword ptr [rdx + {BLOCK_TO_STATE}], 0
    jne \name\()_nested
\name\()_first:
    // 3. `latch` is 0: it is never set while the state is 0, and the window does not end while it is set.
.ifc \mutant, literal_rfc
    inc qword ptr [rdx + {BLOCK_TO_STATE}]
.else
    mov qword ptr [rdx + {BLOCK_TO_STATE}], 1
.endif
    xchg rsp, rdx
    push qword ptr [rdx + {SCRATCH_TO_SS}]
    push qword ptr [rdx + {SCRATCH_TO_RSP}]
    push qword ptr [rdx + {SCRATCH_TO_RFLAGS}]
    push qword ptr [rdx + {SCRATCH_TO_CS}]
    push qword ptr [rdx + {SCRATCH_TO_RIP}]
    mov rdx, [rdx]
.if \early
    unmask_nmis \name\()_unmasked
.endif
// # State: RSP = frame; all registers interrupted; DF unknown; NMIs masked, or not if `early`. From here
// on nothing of this NMI is on the NMI stack.
\name\()_unmasked:
    save_context {CONTEXT_TO_FRAME}, \mutant
.global \name\()_run
// # State: RSP = context; RSI, RDX = last arguments of `run`; other caller-saved registers free; RBX, RBP,
// R12 to R15 interrupted; DF clear; NMIs masked or not.
\name\()_run:
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
// # State: as before the call, but the arguments are gone.
.ifc \mutant, clear_early
    mov qword ptr [rsp + {CONTEXT_TO_STATE}], 0
.endif
\name\()_check_latch:
    cmp qword ptr [rsp + {CONTEXT_TO_LATCH}], 0
.ifnc \mutant, window_late
.global \name\()_window
\name\()_window:
.endif
    jne \name\()_restart
.ifc \mutant, window_late
\name\()_window:
.endif
    restore_context \mutant
// # State: RSP = frame; all other registers interrupted; CR2 and DR7 interrupted.
.ifc \mutant, literal_rfc
    dec qword ptr [rsp + {FRAME_TO_STATE}]
.else
    mov qword ptr [rsp + {FRAME_TO_STATE}], 0
.endif
.ifc \mutant, window_short
\name\()_window_end:
.endif
.global \name\()_iretq
\name\()_iretq:
    // Unmasks NMIs; goes to the interrupted code.
    iretq
.ifnc \mutant, window_short
.global \name\()_window_end
\name\()_window_end:
.endif

// # State: RSP = scratch; RDX free; other caller-saved registers and DR7 are the interrupted ones or
// still the handler's; DF clear if the window was interrupted; NMIs masked.
\name\()_in_window:
    test byte ptr [rsp + {SCRATCH_TO_CS}], {SELECTOR_RPL}
    jnz \name\()_outside
    inc qword ptr [rsp + {SCRATCH_TO_NESTED}]
    mov rdx, [rsp + {SCRATCH_TO_SECOND}]
.ifc \mutant, save_again
    jmp \name\()_first
.endif
.ifnc \mutant, restart_state_free
.ifnc \mutant, literal_rfc
    mov qword ptr [rdx + {BLOCK_TO_STATE}], 1
.endif
.endif
.ifc \mutant, restart_keeps_rsp
    mov rsp, [rsp + {SCRATCH_TO_RSP}]
.else
    lea rsp, [rdx - {CONTEXT_TO_BLOCK}]
.endif
.if \early
    unmask_nmis \name\()_restart
.endif

.global \name\()_restart
// # State: RSP = context; caller-saved registers free; RBX, RBP, R12 to R15 interrupted; DR7 zero or
// interrupted; DF clear; state 1. NMIs masked if from step 1 and not `early`, else masked or not.
\name\()_restart:
    mov rax, [rsp + {CONTEXT_TO_COUNTERS}]
    inc qword ptr [rax + {COUNTERS_TO_RERUN}]
.ifnc \mutant, restart_keeps_dr7
    test byte ptr [rsp + {CONTEXT_TO_DR7}], {DR7_ENABLED}
    jz 1f
    xor eax, eax
    mov dr7, rax
1:
.endif
.ifc \mutant, context_again
    lea rsp, [rsp + {CONTEXT_TO_FRAME}]
    save_context {CONTEXT_TO_FRAME}
.endif
    lea rsi, [rsp + {CONTEXT_TO_FRAME}]
    mov rdx, rbp
.ifc \mutant, unlatch_late
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
    mov qword ptr [rsp + {CONTEXT_TO_LATCH}], 0
    jmp \name\()_check_latch
.endif
    // Last: what arrived until here has its run now.
.ifnc \mutant, latch_stays
    mov qword ptr [rsp + {CONTEXT_TO_LATCH}], 0
.endif
    jmp \name\()_run

// # State: RSP = scratch; RDX = block; NMIs masked.
\name\()_nested:
.ifnc \mutant, no_latch
    mov qword ptr [rdx + {BLOCK_TO_LATCH}], 1
.endif
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

nmi_latched_entry nmi_latched, 0, 0
nmi_latched_entry nmi_latched_early, 1, 0
nmi_latched_entry nmi_latched_nret, 0, 1
nmi_latched_entry nmi_latched_early_nret, 1, 1

// Known defects, one or more for each thing that the entry does about nesting; in the self-test image only.
//   no_window_check     step 1 is left out
//   window_late         the window starts one instruction late, after the branch
//   window_short        the window ends one instruction early, before the `iretq`
//   clear_early         the state is cleared before the check of `latch`
//   no_latch            a nested NMI leaves no latch
//   latch_stays         a restart leaves the latch set
//   unlatch_late        a restart clears the latch after its run
//   literal_rfc         the state is counted up and down, as in the proposal
//   restart_state_free  step 1 does not set the state
//   restart_keeps_rsp   step 1 goes on with the RSP of the interrupted window
//   restart_keeps_dr7   a restart runs with the breakpoints of the interrupted code
//   save_again          step 1 saves the frame again, that of the nested NMI
//   context_again       a restart saves the context again
//   no_dr7_zero, no_dr7_restore, no_cr2_restore  of the context
// and with `nested_ret`
//   flags_lost          the outer NMI gets the flags of the nested one
//   rsp_off             the outer NMI gets its RSP back one word too low
.if {HAS_MUTANTS}
.irp mutant, no_window_check, window_late, window_short, clear_early, no_latch, latch_stays, unlatch_late
nmi_latched_entry nmi_latched_mutant_\mutant, 1, 0, \mutant
.endr
.irp mutant, literal_rfc, restart_state_free, restart_keeps_rsp, restart_keeps_dr7, save_again, context_again
nmi_latched_entry nmi_latched_mutant_\mutant, 1, 0, \mutant
.endr
.irp mutant, no_dr7_zero, no_dr7_restore, no_cr2_restore
nmi_latched_entry nmi_latched_mutant_\mutant, 1, 0, \mutant
.endr
.irp mutant, no_window_check, no_latch, flags_lost, rsp_off
nmi_latched_entry nmi_latched_nret_mutant_\mutant, 1, 1, \mutant
.endr
.endif
