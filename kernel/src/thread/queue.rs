//! The queue of all threads: who is next.

use alloc::boxed::Box;
use alloc::vec::Vec;

use nmiprof_wire::ProcessOutcome;

use super::{MAIN, Thread};
use crate::arch::switch::Target;
use crate::process::Process;

/// Whether a thread can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It can.
    Ready,
    /// Not before something happens.
    Waiting,
    /// Never again.
    Ended(ProcessOutcome),
}

/// All threads, in the order in which they take turns.
#[expect(clippy::vec_box, reason = "a switch writes to its thread while the queue may grow")]
pub(super) struct Queue(Vec<Box<Thread>>);

/// What to do next.
pub(super) enum Choice {
    /// Go on.
    Stay,
    /// Continue with another thread.
    Switch {
        /// Where to note the RSP of the one that runs.
        save_rsp: *mut u64,
        target: Target,
        /// Top of the other one's kernel stack.
        stack_top: u64,
    },
    /// Wait: nobody can run.
    Idle,
}

impl Queue {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, thread: Box<Thread>) {
        self.0.push(thread);
    }

    pub(super) fn find(&mut self, id: u32) -> Option<&mut Thread> {
        self.0.iter_mut().find(|thread| thread.id == id).map(|thread| &mut **thread)
    }

    pub(super) fn set_state(&mut self, id: u32, state: State) {
        if let Some(thread) = self.find(id) {
            thread.state = state;
        }
    }

    /// Lets thread 0 run again, if it waits: it is the only one that does.
    pub(super) fn wake(&mut self) {
        if let Some(main) = self.find(MAIN)
            && main.state == State::Waiting
        {
            main.state = State::Ready;
        }
    }

    /// Chooses the next thread after `current` that can run.
    pub(super) fn choose(&mut self, current: u32) -> Choice {
        let Some(here) = self.0.iter().position(|thread| thread.id == current) else {
            return Choice::Stay;
        };
        let len = self.0.len();
        let mut turns = (1..=len).map(|turn| (here + turn) % len);
        let Some(next) = turns.find(|index| self.0[*index].state == State::Ready) else {
            return Choice::Idle;
        };
        if next == here {
            return Choice::Stay;
        }
        let Thread { id, rsp, root, stack, .. } = &*self.0[next];
        let (target, stack_top) = (Target { id: *id, rsp: *rsp, root: *root }, stack.top);
        Choice::Switch { save_rsp: &raw mut self.0[here].rsp, target, stack_top }
    }

    /// Takes out a thread that has ended. None of them runs: this is called by one that does.
    pub(super) fn take_ended(&mut self) -> Option<Box<Thread>> {
        self.ended().map(|index| self.0.remove(index))
    }

    /// Finds a thread that has ended.
    pub(super) fn ended(&self) -> Option<usize> {
        self.0.iter().position(|thread| thread.outcome().is_some())
    }

    pub(super) fn stop_processes(&mut self) {
        for thread in self.0.iter_mut().filter(|thread| thread.process.is_some()) {
            if thread.outcome().is_none() {
                thread.state = State::Ended(ProcessOutcome::Stopped);
            }
        }
    }

    #[cfg(feature = "selftest")]
    pub(super) fn for_each_stack(&self, look: &mut dyn FnMut(&super::StackRange)) {
        self.0.iter().filter(|thread| thread.process.is_some()).for_each(|thread| look(&thread.stack));
    }

    pub(super) fn has_running(&self) -> bool {
        self.0.iter().any(|thread| thread.process.is_some() && thread.outcome().is_none())
    }

    pub(super) fn processes(&self) -> usize {
        self.0.iter().filter(|thread| thread.process.is_some()).count()
    }

    pub(super) fn for_each_process(&self, look: &mut dyn FnMut(&Process)) {
        self.0.iter().filter_map(|thread| thread.process.as_ref()).for_each(look);
    }
}
