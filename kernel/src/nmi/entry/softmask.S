// NMI entry `softmask`: a nested NMI poisons the return of its outer one, whose fault runs the handler again.
//
// Hazard: an exception inside the handler ends with `iretq`, which unmasks NMIs. The next NMI starts at
// the top of this same stack and overwrites the frame that the CPU pushed for the first one. So the
// frame is copied away first (that was Molnar's objection to the idea, and Torvalds' answer to it:
// linux-kernel, July 2010, on vmalloc faults in NMI).
//
// A second hazard comes with the idea: the `iretq` of a poisoned frame faults, and processors differ in
// what that does. Intel's unmask NMIs even so (SDM volume 3, "Handling Multiple NMIs"), QEMU's keep them
// masked. Nothing below depends on either.
//
// Stack picture (type `Picture`), from the top, which is where the CPU starts:
//   +-----------+
//   | hardware  |  pushed by the CPU; a nested NMI overwrites it
//   | scratch   |  RDX of a nested NMI; else it only keeps the stack aligned
//   | executing |  1 until the exit: an NMI is in progress
//   | saved     |  the outermost frame; written once, then only read: the handler looks at this one
//   | returning |  the frame that the exit uses; its CS is the null selector `POISONED_CS` from the moment
//   |           |  a nested NMI came until the run for it is about to start
//   | context   |  caller-saved registers, CR2, DR7. At the exit these words are free; the fault of a
//   +-----------+  poisoned `iretq` pushes its frame there (type `ReturnFault`)
//
// Steps, on every arrival
//   1. `executing` set: nested.
//   2. `returning` poisoned: nested. The exit has cleared `executing`, its `iretq` is about to fault, or
//      has, and a run is about to start. So poison is not only the message to the CPU, but state too, and
//      it lasts from the clear of `executing` until the fault has set it again, whatever code that takes.
//   3. RIP at the exit's `iretq`, in the kernel: nested, in the gap between the clear and the `iretq`. (A
//      user who jumps to this address gets there with a user CS, and an NMI may come before the fetch
//      faults.)
//   4. Else it is the first: copy the frame twice, and run.
// Nested, in all three cases: poison `returning`, which changes nothing where it is poisoned, and leave
// by `popfq; ret`, so that NMIs stay masked in the outer one until its next `iretq`. Nothing here depends on
// that either: no step assumes masked NMIs after the first frame is copied, and an `iretq` would do as well.
// The masked return is what was proposed, and it saves nested NMIs that would only ask for the same run.
//
// Steps, on every #GP
//   1. RIP not at the exit's `iretq`: somebody else's. To the shared path.
//   2. Set `executing`.
//   3. `returning` not poisoned: a frame that was bad when the NMI came. To the shared path, and not into a
//      loop. With `executing` set, NMIs leave the stack to that path.
//   4. Take the poison away, which may not come before 2, and run. At that `iretq` all registers, CR2 and
//      DR7 are the interrupted ones, so the run saves the same context as the first one.
//
// Parameters of the macro
//   name   prefix of the labels; the entry is `name`, vector 13 goes to `name`_return_fault
//   early  1: an `iretq` to the next instruction unmasks NMIs right after the frame is copied, and another
//          one at the first instruction of #GP, as a processor does that unmasks them when `iretq` faults
//   mutant empty; else a name from the list at the end: the entry then has that known defect
//
// Windows, and who closes them
//   entry .. `push 1`                           NMIs are masked by the CPU: nothing can have unmasked them
//   `push 1` .. clear of `executing`            step 1
//   clear .. `iretq`, not poisoned              step 3; the clear is the last instruction before, so the
//                                               window is the one address of the `iretq`
//   clear .. `iretq` .. #GP .. set, poisoned    step 2
//   set of `executing` .. poison away           step 1; the new poison is lost, and so it must be: the run
//                                               that it asks for is the one that is about to start
// Open, and of no effect in this kernel
//   An exception with a stack of its own in the third window: an NMI inside it would be taken for a first one
//   and overwrite `returning`. See the module page of the entries.
//   `iretq` .. #GP .. set, with a frame that was bad when the NMI came: an NMI there would be taken for a
//   first one and overwrite the frame of #GP. No interrupted code here has such a frame.

.macro nmi_softmask_entry name, early, mutant
.section .text.nmi_entry, "ax", @progbits
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    // 1.
.ifnc \mutant, no_executing_check
    cmp qword ptr [rsp + {HARDWARE_TO_EXECUTING}], 0
    jne \name\()_nested
.endif
    // 2.
.ifnc \mutant, no_poison_check
    cmp qword ptr [rsp + {HARDWARE_TO_RETURNING_CS}], {POISONED_CS}
    je \name\()_nested
.endif
    // 3.
.ifnc \mutant, no_gap_check
    cmp qword ptr [rsp + {HARDWARE_TO_RIP}], offset \name\()_iretq
    je \name\()_check_gap
.endif

// # State: RSP = hardware; all registers interrupted; NMIs masked.
\name\()_first:
    push rdx
    push 1
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
.rept 5
    push qword ptr [rsp + {PUSH_SAVED_TO_RETURNING}]
.endr
.if \early
    unmask_nmis \name\()_run
.endif

// # State: RSP = returning; all registers interrupted; DF unknown; NMIs masked or not.
\name\()_run:
    save_context {CONTEXT_TO_SAVED}, \mutant
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
.ifc \mutant, clear_early
    mov qword ptr [rsp + {CONTEXT_TO_EXECUTING}], 0
.endif
    restore_context \mutant
    mov qword ptr [rsp + {RETURNING_TO_EXECUTING}], 0
// # State: RSP = returning; all registers interrupted.
.global \name\()_iretq
\name\()_iretq:
    // Unmasks NMIs and goes to the interrupted code; or, poisoned, raises #GP here and may unmask NMIs.
    iretq

.balign 16
.global \name\()_return_fault
// # State: RSP = error code, above it IretFrame; all registers interrupted; DF unknown. If this is the
// poisoned `iretq`: RSP = ReturnFault.error; NMIs masked or not, as the processor has it.
\name\()_return_fault:
.if \early
    unmask_nmis \name\()_check_fault
\name\()_check_fault:
.endif
    // 1.
    cmp qword ptr [rsp + {ERROR_TO_RIP}], offset \name\()_iretq
    jne exception_stub_13
    // 2. From here step 1 of an arrival closes, so the poison is needed no more.
.ifnc \mutant, fault_not_executing
.ifnc \mutant, cure_early
    mov qword ptr [rsp + {ERROR_TO_EXECUTING}], 1
.endif
.endif
    // 3.
    cmp qword ptr [rsp + {ERROR_TO_RETURNING_CS}], {POISONED_CS}
    jne exception_stub_13
    lea rsp, [rsp + {ERROR_TO_RETURNING}]
    inc qword ptr [rsp + {RETURNING_TO_RERUN}]
    // 4. `pop` takes the address after it has moved RSP.
.ifnc \mutant, no_cure
    push qword ptr [rsp + {RETURNING_TO_SAVED_CS}]
    pop qword ptr [rsp + {RETURNING_TO_CS}]
.endif
.ifc \mutant, cure_early
    mov qword ptr [rsp + {RETURNING_TO_EXECUTING}], 1
.endif
    // From here a nested NMI asks for one more run.
    jmp \name\()_run

// # State: RSP = hardware; all registers interrupted; NMIs masked; RIP of the frame is the `iretq`.
\name\()_check_gap:
    cmp word ptr [rsp + {HARDWARE_TO_CS}], {KERNEL_CODE}
    jne \name\()_first

// # State: RSP = hardware; all registers interrupted; NMIs masked.
\name\()_nested:
    inc qword ptr [rsp + {HARDWARE_TO_NESTED}]
.ifc \mutant, poison_rip
    btr qword ptr [rsp + {HARDWARE_TO_RETURNING_RIP}], {CANONICAL_BIT}
.else
.ifnc \mutant, no_poison
    mov qword ptr [rsp + {HARDWARE_TO_RETURNING_CS}], {POISONED_CS}
.endif
.endif
    push rdx
    return_masked \mutant
.endm

nmi_softmask_entry nmi_softmask, 0
nmi_softmask_entry nmi_softmask_early, 1

// Known defects, one or more for each thing that the entry does about nesting; in the self-test image only.
//   no_executing_check   step 1 of an arrival is left out
//   no_poison_check      step 2 of an arrival is left out
//   no_gap_check         step 3 of an arrival is left out
//   clear_early          `executing` is cleared before the registers are restored
//   no_poison            a nested NMI leaves `returning` alone
//   poison_rip           a nested NMI makes RIP not canonical, in place of CS
//   fault_not_executing  #GP does not set `executing`
//   no_cure              #GP leaves the poison in
//   cure_early           #GP takes the poison away before it sets `executing`
//   flags_lost           the outer NMI gets the flags of the nested one
//   rsp_off              the outer NMI gets its RSP back one word too low
//   no_dr7_zero, no_dr7_restore, no_cr2_restore  of the context
.if {HAS_MUTANTS}
.irp mutant, no_executing_check, no_poison_check, no_gap_check, clear_early, no_poison, poison_rip
nmi_softmask_entry nmi_softmask_mutant_\mutant, 1, \mutant
.endr
.irp mutant, fault_not_executing, no_cure, cure_early, flags_lost, rsp_off
nmi_softmask_entry nmi_softmask_mutant_\mutant, 1, \mutant
.endr
.irp mutant, no_dr7_zero, no_dr7_restore, no_cr2_restore
nmi_softmask_entry nmi_softmask_mutant_\mutant, 1, \mutant
.endr
.endif
