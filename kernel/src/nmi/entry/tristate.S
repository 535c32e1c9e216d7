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
// Not closed: an exception other than an NMI in the release window. There is none in sound code (the NMI
// runs with IF clear, `saved` is mapped, and its selectors are those that the CPU pushed), but a machine
// check, a breakpoint of the interrupted code on the window or the state, or an `iretq` that faults would
// run its handler with the state free, and an NMI inside that handler would be taken for a first one and
// overwrite `saved`.

.macro nmi_tristate_entry name, early
.text
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    // 1. Memory and RFLAGS only: the entry needs no register and no scratch word.
    cmp qword ptr [rsp + {HARDWARE_TO_STATE}], {NOT_RUNNING}
    jne \name\()_nested
    // 2. The upper end comes first: most of the kernel is linked above. Either order is correct.
    cmp qword ptr [rsp + {HARDWARE_TO_RIP}], offset \name\()_window_end
    jb \name\()_check_window

\name\()_first:
    // 3. The push sets the state.
    push {EXECUTING}
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
    save_context {CONTEXT_TO_SAVED}
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
    // 4.
    restore_context
// # State: RSP = saved; all registers interrupted but RFLAGS; DF clear; NMIs masked or not.
    // Everything that `saved` does not hold is back: this one instruction gives the stack away.
    dec qword ptr [rsp + {SAVED_TO_STATE}]
.global \name\()_window
\name\()_window:
// From here until the `iretq` has completed, a nested NMI finds the state latched by an earlier one, and
// latches it again, or finds it free, and the RIP here.
    // 5.
    jnz \name\()_again
.global \name\()_iretq
\name\()_iretq:
    // 6. Unmasks NMIs; goes to the interrupted code.
    iretq
.global \name\()_window_end
\name\()_window_end:

// # State: RSP = hardware; all registers interrupted, or of the exit, which is the same; NMIs masked.
\name\()_check_window:
    cmp qword ptr [rsp + {HARDWARE_TO_RIP}], offset \name\()_window
    jb \name\()_first
    cmp qword ptr [rsp + {HARDWARE_TO_CS}], {KERNEL_CODE}
    jne \name\()_first
    inc qword ptr [rsp + {HARDWARE_TO_NESTED}]
    // Drops the frame of this NMI: the exit that it interrupted has nothing left to do but what follows.
    lea rsp, [rsp - {SAVED_TO_HARDWARE}]
// # State: RSP = saved; all registers interrupted but RFLAGS; DF clear; state free and NMIs masked (from
// step 2), or state set and NMIs masked or not (from step 5).
.global \name\()_again
\name\()_again:
    inc qword ptr [rsp + {SAVED_TO_RERUN}]
    // Assigned, not incremented: whoever latched the state again since the decrement is served by this
    // run, which has not started. From here a nested NMI asks for one more.
    mov qword ptr [rsp + {SAVED_TO_STATE}], {EXECUTING}
    jmp \name\()_execute

// # State: RSP = hardware; all registers those of the outer NMI; NMIs masked.
\name\()_nested:
    inc qword ptr [rsp + {HARDWARE_TO_NESTED}]
    mov qword ptr [rsp + {HARDWARE_TO_STATE}], {LATCHED}
    // Unmasks NMIs; goes back into the outer NMI.
    iretq
.endm

nmi_tristate_entry nmi_tristate, 0
nmi_tristate_entry nmi_tristate_early, 1
