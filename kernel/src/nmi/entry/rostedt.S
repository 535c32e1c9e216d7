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
//   1. RIP in the repeat window: a run is about to start anyway, and `returning` is being written. Leave.
//   2. `executing` set: nested. Redirect `returning` to the repeat label and leave.
//   3. DF set and RSP at `returning`: nested, in the gap between the clear of `executing` and the
//      `iretq`. As 2. (The exit sets DF for this; SYSCALL clears it, so a user who chooses such an RSP
//      can't be mistaken for the gap.)
//   4. Else it is the first. Save the frame, and run.
//
// Windows, and who closes them
//   entry .. `push 1`                  NMIs are masked by the CPU: nothing can have unmasked them
//   repeat .. window end               step 1
//   window end .. clear of `executing` step 2
//   clear of `executing` .. `iretq`    step 3

.text
.balign 64
.global nmi_rostedt_entry
// # State: RSP = hardware; all registers interrupted; DF unknown; GS unknown (not used); NMIs masked.
nmi_rostedt_entry:
    inc qword ptr [rsp + {HARDWARE_TO_ENTRIES}]
    push rdx
    // 1. Unsigned distance from the window's start: one comparison for both ends.
    mov rdx, [rsp + {SCRATCH_TO_RIP}]
    sub rdx, offset nmi_rostedt_repeat
    cmp rdx, offset NMI_ROSTEDT_WINDOW_LEN
    jb nmi_rostedt_nested_leave
    // 2.
    cmp qword ptr [rsp + {SCRATCH_TO_EXECUTING}], 0
    jne nmi_rostedt_nested
    // 3.
    test dword ptr [rsp + {SCRATCH_TO_RFLAGS}], {RFLAGS_DF}
    jnz nmi_rostedt_check_gap

nmi_rostedt_first:
    mov rdx, [rsp]
    push 1
.rept 5
    push qword ptr [rsp + {PUSH_HARDWARE_TO_SAVED}]
.endr
    jmp nmi_rostedt_copy

// # State: RSP = saved; all registers interrupted; DF clear; reached by the redirected `iretq` only, so
// NMIs are unmasked.
.global nmi_rostedt_repeat
nmi_rostedt_repeat:
    mov qword ptr [rsp + {SAVED_TO_EXECUTING}], 1
    inc qword ptr [rsp + {SAVED_TO_RERUN}]
nmi_rostedt_copy:
.rept 5
    push qword ptr [rsp + {PUSH_SAVED_TO_RETURNING}]
.endr
.global nmi_rostedt_window_end
nmi_rostedt_window_end:
// From here a nested NMI redirects `returning`.

// # State: RSP = returning; all registers interrupted.
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
    lea rdi, [rsp + {CONTEXT_TO_SAVED}]
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
// # State: RSP = returning; all registers interrupted.
    std
    mov qword ptr [rsp + {RETURNING_TO_EXECUTING}], 0
// From here until the `iretq` has completed, a nested NMI finds DF set and RSP at `returning`.
    // Unmasks NMIs; goes to the interrupted code, or to the repeat label.
.global nmi_rostedt_iretq
nmi_rostedt_iretq:
    iretq

// # State: RSP = scratch; RDX free.
nmi_rostedt_check_gap:
    lea rdx, [rsp - {RETURNING_TO_SCRATCH}]
    cmp rdx, [rsp + {SCRATCH_TO_RSP}]
    jne nmi_rostedt_first

// # State: RSP = scratch; RDX free; NMIs masked.
nmi_rostedt_nested:
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_RIP}], offset nmi_rostedt_repeat
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_CS}], {KERNEL_CODE}
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_RFLAGS}], {RFLAGS_RESERVED}
    lea rdx, [rsp - {SAVED_TO_SCRATCH}]
    mov [rsp + {SCRATCH_TO_RETURNING_RSP}], rdx
    mov qword ptr [rsp + {SCRATCH_TO_RETURNING_SS}], {KERNEL_DATA}
nmi_rostedt_nested_leave:
    inc qword ptr [rsp + {SCRATCH_TO_NESTED}]
    pop rdx
    // Unmasks NMIs; goes back into the outer NMI.
    iretq

.set NMI_ROSTEDT_WINDOW_LEN, nmi_rostedt_window_end - nmi_rostedt_repeat
