//! Threads: the kernel's own, and one for each process.
//!
//! The scheduler is round robin. A tick takes the CPU away from user code always, and from the kernel where no
//! [`NoPreemption`] says otherwise; system calls run with interrupts disabled, so they end before it comes.
//! Thread 0 is the one that booted: it samples, drains, and reaps the others.
//!
//! **Nothing here is used by the NMI path**, neither the lock nor what it guards. An NMI between the change of
//! CR3 and that of "current" finds them in disagreement and does not care.
//!
//! All of them run on CPU 0. (On several the queue would have to be one for each, and "current" with it.)

#![expect(unsafe_code, reason = "switches between threads")]

mod queue;

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use nmiprof_wire::ProcessOutcome;
use spin::Mutex;
use x86_64::VirtAddr;
use x86_64::instructions::interrupts::{self, without_interrupts};

use crate::arch::percpu::{self, PerCpu};
use crate::arch::switch;
use crate::arch::{cpu, paging};
use crate::memory::stack::StackRange;
use crate::process::Process;
use queue::{Choice, Queue, State};

/// Every thread. Locked with interrupts disabled only, and never for longer than a look.
static QUEUE: Mutex<Queue> = Mutex::new(Queue::new());

/// Number of the thread that booted.
pub const MAIN: u32 = 0;

/// A thread that does not run, or the one that does.
pub struct Thread {
    /// Its number, which is its process's, too.
    pub id: u32,
    state: State,
    /// RSP while it does not run.
    rsp: u64,
    /// Its address space, as CR3 has it.
    root: u64,
    stack: StackRange,
    /// What it runs, where that is user code.
    pub process: Option<Process>,
}

impl Thread {
    /// Returns how its process ended, if it has one and that has ended.
    pub const fn outcome(&self) -> Option<ProcessOutcome> {
        match self.state {
            State::Ended(outcome) => Some(outcome),
            State::Ready | State::Waiting => None,
        }
    }
}

/// Makes what runs now thread 0.
///
/// # Context
/// Thread, once.
pub fn adopt_main(stack: StackRange) {
    let root = paging::loaded().start_address().as_u64();
    let main = Thread { id: MAIN, state: State::Ready, rsp: 0, root, stack, process: None };
    without_interrupts(|| QUEUE.lock().push(Box::new(main)));
}

/// Makes a thread for a process, which starts in user mode at `entry` and on `user_stack`.
///
/// # Context
/// Thread.
pub fn spawn(process: Process, entry: u64, user_stack: u64, stack: StackRange) {
    // SAFETY: the stack is the new thread's own.
    let rsp = unsafe { switch::prepare_user(&stack, entry, user_stack) };
    let (id, root) = (process.number, process.root());
    let thread = Thread { id, state: State::Ready, rsp, root, stack, process: Some(process) };
    let thread = Box::new(thread);
    without_interrupts(|| QUEUE.lock().push(thread));
}

/// Hands the process of the thread that runs this to `look`; `None` where it has none.
///
/// # Context
/// Thread, interrupts disabled: a system call.
pub fn with_process<R>(look: impl FnOnce(&mut Process) -> R) -> Option<R> {
    QUEUE.lock().find(switch::current())?.process.as_mut().map(look)
}

/// Tells how many processes have not been reaped.
pub fn processes() -> usize {
    without_interrupts(|| QUEUE.lock().processes())
}

/// Tells whether a process has not ended.
pub fn has_running() -> bool {
    without_interrupts(|| QUEUE.lock().has_running())
}

/// Hands every process that has not been reaped to `look`.
///
/// # Context
/// Thread. What `look` does keeps interrupts disabled.
pub fn for_each_process(mut look: impl FnMut(&Process)) {
    without_interrupts(|| QUEUE.lock().for_each_process(&mut look));
}

/// Tells whether a process has ended and was not reaped.
///
/// # Context
/// Thread.
pub fn has_ended() -> bool {
    without_interrupts(|| QUEUE.lock().ended().is_some())
}

/// Takes a thread that has ended out of the queue.
///
/// # Context
/// Thread 0.
pub fn take_ended() -> Option<Box<Thread>> {
    without_interrupts(|| QUEUE.lock().take_ended())
}

/// Ends every process, wherever it is.
///
/// # Context
/// Thread 0.
pub fn stop_processes() {
    without_interrupts(|| QUEUE.lock().stop_processes());
}

/// Makes the frames by which the processes start unusable, each in another way.
#[cfg(feature = "selftest")]
pub fn spoil_returns() {
    without_interrupts(|| QUEUE.lock().for_each_stack(&mut |stack| switch::spoil_user(stack)));
}

/// Lets others run.
///
/// # Context
/// Thread.
pub fn yield_now() {
    without_interrupts(schedule);
}

/// Lets others run until the next tick, or until a process ends. With nobody to run, the CPU halts.
///
/// A process that has ended already and waits for its burial is no reason to wait: it may have been the last one.
///
/// # Context
/// Thread 0, while there is a tick.
pub fn wait_for_tick() {
    without_interrupts(|| {
        {
            let mut queue = QUEUE.lock();
            if queue.ended().is_some() {
                return;
            }
            queue.set_state(switch::current(), State::Waiting);
        }
        schedule();
    });
}

/// Ends the thread that runs this.
///
/// # Context
/// A thread with a process, on its kernel stack or an interrupt stack: neither is used by it again.
///
/// # Panics
/// Never: a thread that has ended does not run.
pub fn end(outcome: ProcessOutcome) -> ! {
    interrupts::disable();
    {
        let mut queue = QUEUE.lock();
        queue.set_state(switch::current(), State::Ended(outcome));
        queue.wake();
    }
    schedule();
    unreachable!("a thread that has ended runs again")
}

/// Reacts to the tick.
///
/// # Context
/// The tick's interrupt.
pub fn tick() {
    QUEUE.lock().wake();
    let may_switch = percpu::find().is_some_and(|cpu| cpu.preempt_off.load(Ordering::Relaxed) == 0);
    if may_switch {
        schedule();
    }
}

/// Continues with the next thread that can run; returns when it is this one's turn.
///
/// # Context
/// Interrupts disabled.
fn schedule() {
    loop {
        let choice = QUEUE.lock().choose(switch::current());
        match choice {
            Choice::Stay => return,
            Choice::Switch { save_rsp, target, stack_top } => {
                set_kernel_stack(stack_top);
                // SAFETY: (1) (caller) interrupts are disabled; (2) the target was suspended by this function, or
                // prepared, and thread 0 takes threads out of the queue only when they have ended; (3)
                // `save_rsp` is in the box of the thread that runs now.
                return unsafe { switch::switch(save_rsp, &target) };
            }
            Choice::Idle => {
                // The tick may wake somebody, but not switch: this loop does.
                let _no_preemption = NoPreemption::new();
                percpu::current().nmi.note_halt();
                cpu::wait_for_interrupt();
            }
        }
    }
}

/// Says where interrupts and system calls of user code start.
fn set_kernel_stack(top: u64) {
    let cpu = percpu::current();
    cpu.ring_zero_stack.set(VirtAddr::new(top));
    cpu.syscall_stack.top.store(top, Ordering::Relaxed);
}

/// While one of these lives, the tick does not take the CPU away from the thread that made it.
pub struct NoPreemption(Option<&'static PerCpu>);

impl NoPreemption {
    /// Begins such a time; before the CPU's area is there, no tick is.
    pub fn new() -> Self {
        let cpu = percpu::find();
        if let Some(cpu) = cpu {
            // Relaxed: only this CPU looks.
            cpu.preempt_off.fetch_add(1, Ordering::Relaxed);
        }
        Self(cpu)
    }
}

impl Drop for NoPreemption {
    fn drop(&mut self) {
        if let Some(cpu) = self.0 {
            cpu.preempt_off.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
