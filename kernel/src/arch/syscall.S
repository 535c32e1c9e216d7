// The entry and exit of SYSCALL.
//
// Hazard: SYSCALL changes neither RSP nor the GS base. The first instructions run at CPL 0 on whatever stack
// pointer the user chose, which may point into the NMI stack, and with the user's GS base. Interrupts are
// masked by FMASK, nothing here can fault, and #DB, #MC, #DF and NMI have stacks of their own; so what can
// come in is one of those, and none of them looks at GS or trusts RSP.
// On the way out, SYSRET faults at CPL 0 on the user's RSP if RCX is not canonical (Intel). It always is: it
// comes from the frame that the entry made of the RCX that SYSCALL left, the kernel never changes it, and the
// last page of the user half can't be mapped, so the address after a SYSCALL is canonical.
//
// Steps
//   1. SWAPGS, and fetch the thread's stack through GS. SWAPGS again: from there on GS is the user's, always.
//   2. Build at the top of that stack the frame that an interrupt of user code would leave there, and the
//      registers that a call does not keep.
//   3. `handle_syscall`, which puts the result into the frame's RAX.
//   4. Restore, take RIP, RFLAGS and RSP out of the frame, and SYSRET.
//
// Stack picture (type `SyscallFrame`), from the top of the thread's kernel stack: `interrupted`, `saved`.

.text
.balign 64
.global syscall_entry
// # State: CPL 0; RCX = user RIP; R11 = user RFLAGS; all else is the user's, RSP and the GS base included;
// IF, TF, DF, NT, AC, RF clear.
syscall_entry:
    swapgs
// # State: as before, but the GS base is the CPU's area.
    mov gs:[{USER_RSP}], rsp
    mov rsp, gs:[{STACK_TOP}]
    push {USER_DATA}
    push qword ptr gs:[{USER_RSP}]
    swapgs
// # State: RSP = IretFrame.rsp at the top of the thread's stack; the GS base is the user's, from here on.
    push r11
    push {USER_CODE}
    push rcx
    push_caller_saved
// # State: RSP = SyscallFrame.
    mov rdi, rsp
    call {handle_syscall}
.global syscall_exit
// # State: RSP = SyscallFrame; RBX, RBP, R12 to R15 are the user's; IF clear.
syscall_exit:
    pop_caller_saved
    mov rcx, [rsp + {FRAME_TO_RIP}]
    mov r11, [rsp + {FRAME_TO_RFLAGS}]
    mov rsp, [rsp + {FRAME_TO_RSP}]
// # State: all registers are the user's, RSP included; CPL 0; IF clear.
.global syscall_sysretq
syscall_sysretq:
    // Goes to user code. NMIs are as they were: this is no `iret`.
    sysretq
.global syscall_end
syscall_end:
