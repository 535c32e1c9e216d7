// Interrupts that are no NMIs: the tick, the serial line, and spurious ones. And the way back to user code by `iret`.
//
// Hazard: the `iretq` that returns to user code faults, at CPL 0, if the frame's selectors are bad. No such
// frame is ever made: the CPU pushed it, or `prepare_user` wrote it. If one were bad nevertheless, the exception
// table sends the fault to `interrupt_return_failed`, which ends the process.
//
// Stack picture, from the top: the frame that the CPU pushed, on the thread's kernel stack if it interrupted
// user code, else below the interrupted RSP; `CallerSaved`.

.text
.balign 16
.global interrupt_tick
// # State: RSP = IretFrame; all registers interrupted; IF clear; DF and GS unknown (not used).
interrupt_tick:
    push_caller_saved
    cld
    call {handle_tick}
interrupt_leave:
    pop_caller_saved
.global interrupt_iretq
// # State: RSP = IretFrame; all registers interrupted.
interrupt_iretq:
    // Goes to the interrupted code, or to a new process. NMIs are not masked here in the first place.
    iretq
.global interrupt_iretq_end
interrupt_iretq_end:

.pushsection .extable, "a"
    .quad interrupt_iretq, interrupt_return_failed
.popsection

// # State: RSP = the IretFrame that was bad; all else unknown; IF as the fault found it, which is clear.
interrupt_return_failed:
    and rsp, -{STACK_ALIGN}
    call {return_failed}
    ud2

.balign 16
.global interrupt_serial
// # State: as at `interrupt_tick`.
interrupt_serial:
    push_caller_saved
    cld
    call {handle_serial}
    jmp interrupt_leave

.balign 16
.global interrupt_spurious
// # State: RSP = IretFrame; all registers interrupted. There is nothing to do, and nothing to acknowledge.
interrupt_spurious:
    iretq
