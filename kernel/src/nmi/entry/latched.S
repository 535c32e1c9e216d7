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
//   2. State set: nested. Set the latch and leave; the window's first instruction checks it.
//   3. Else it is the first. Set the state, copy the frame to the second stack, save the context, run.
// User code can't execute in the window but can jump there: an NMI may come before the fault of the fetch.
//
// Parameters of the macro
//   name        prefix of the labels; the entry is `name`
//   early       1: an `iretq` to the next instruction unmasks NMIs right after the frame is copied, and
//               likewise before a restart
//   nested_ret  1: a nested NMI returns by `popfq; ret`, so that NMIs stay masked in the outer one
//
// Windows, and who closes them
//   entry .. state set                   NMIs are masked by the CPU: nothing can have unmasked them
//   state set .. start of the window     step 2: `latch` is checked later, by the window
//   check of `latch` .. `iretq`          step 1: wherever it is taken, at the check, between check and
//                                        branch, before or after the state is cleared, or at `iretq`
//   step 1 .. restart                    NMIs are masked by the CPU, since the arrival itself
//   restart .. clear of `latch`          step 2: joins the run that is about to start
//   clear of `latch` .. call             step 2: asks for one more run
// Not closed: an exception inside the window with an NMI inside the exception. Its RIP is not in the
// window, so its latch is lost or `frame` overwritten. Nothing in the window can fault but `iretq` to bad
// user segments; #MC, and #DB by a breakpoint set on this very code, are fatal.

.macro nmi_latched_entry name, early, nested_ret
.text
.balign 64
.global \name
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
\name:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    push rdx
    // 1. Unsigned distance from the window's start: one comparison for both ends.
    mov rdx, [rsp + {SCRATCH_TO_RIP}]
    sub rdx, offset \name\()_window
    cmp rdx, offset \name\()_window_len
    jb \name\()_in_window
// # State: RSP = scratch; RDX free; else as at the entry.
\name\()_outside:
    // 2.
    mov rdx, [rsp + {SCRATCH_TO_SECOND}]
    cmp qword ptr [rdx + {BLOCK_TO_STATE}], 0
    jne \name\()_nested
    // 3. `latch` is 0: it is never set while the state is 0, and the window does not end while it is set.
    mov qword ptr [rdx + {BLOCK_TO_STATE}], 1
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
    save_context {CONTEXT_TO_FRAME}
.global \name\()_run
// # State: RSP = context; RSI, RDX = last arguments of `run`; other caller-saved registers free; RBX, RBP,
// R12 to R15 interrupted; DF clear; NMIs masked or not.
\name\()_run:
    mov rdi, [rsp + {CONTEXT_TO_CPU}]
    call {run}
.global \name\()_window
// # State: as before the call, but the arguments are gone.
\name\()_window:
    cmp qword ptr [rsp + {CONTEXT_TO_LATCH}], 0
    jne \name\()_restart
    restore_context
// # State: RSP = frame; all other registers interrupted; CR2 and DR7 interrupted.
    mov qword ptr [rsp + {FRAME_TO_STATE}], 0
.global \name\()_iretq
\name\()_iretq:
    // Unmasks NMIs; goes to the interrupted code.
    iretq
.global \name\()_window_end
\name\()_window_end:

// # State: RSP = scratch; RDX free; other caller-saved registers and DR7 are the interrupted ones or
// still the handler's; DF clear if the window was interrupted; NMIs masked.
\name\()_in_window:
    test byte ptr [rsp + {SCRATCH_TO_CS}], {SELECTOR_RPL}
    jnz \name\()_outside
    inc qword ptr [rsp + {SCRATCH_TO_NESTED}]
    mov rdx, [rsp + {SCRATCH_TO_SECOND}]
    mov qword ptr [rdx + {BLOCK_TO_STATE}], 1
    lea rsp, [rdx - {CONTEXT_TO_BLOCK}]
.if \early
    unmask_nmis \name\()_restart
.endif

.global \name\()_restart
// # State: RSP = context; caller-saved registers free; RBX, RBP, R12 to R15 interrupted; DR7 zero or
// interrupted; DF clear; state 1. NMIs masked if from step 1 and not `early`, else masked or not.
\name\()_restart:
    mov rax, [rsp + {CONTEXT_TO_COUNTERS}]
    inc qword ptr [rax + {COUNTERS_TO_RERUN}]
    test byte ptr [rsp + {CONTEXT_TO_DR7}], {DR7_ENABLED}
    jz 1f
    xor eax, eax
    mov dr7, rax
1:
    lea rsi, [rsp + {CONTEXT_TO_FRAME}]
    mov rdx, rbp
    // Last: what arrived until here has its run now.
    mov qword ptr [rsp + {CONTEXT_TO_LATCH}], 0
    jmp \name\()_run

// # State: RSP = scratch; RDX = block; NMIs masked.
\name\()_nested:
    mov qword ptr [rdx + {BLOCK_TO_LATCH}], 1
    inc qword ptr [rsp + {SCRATCH_TO_NESTED}]
.if \nested_ret
    // RIP and RFLAGS go onto the outer NMI's stack: code without a red zone leaves these words free.
    push rax
    mov rdx, [rsp + {RAX_TO_RSP}]
    mov rax, [rsp + {RAX_TO_RIP}]
    mov [rdx - {WORD}], rax
    mov rax, [rsp + {RAX_TO_RFLAGS}]
    mov [rdx - 2 * {WORD}], rax
    sub rdx, 2 * {WORD}
    mov [rsp + {RAX_TO_RSP}], rdx
    pop rax
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
.set \name\()_window_len, \name\()_window_end - \name\()_window
.endm

nmi_latched_entry nmi_latched, 0, 0
nmi_latched_entry nmi_latched_early, 1, 0
nmi_latched_entry nmi_latched_nret, 0, 1
nmi_latched_entry nmi_latched_early_nret, 1, 1
