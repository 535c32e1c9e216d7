//! The other CPUs' parts in a run.
//!
//! Each takes its seat, one CPU after the other, while all but CPU 0 halt: the self-tests are disturbed by nobody then.
//! When the run starts each goes to work, and when it stops each leaves its seat and is parked again.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use nmiprof_wire::Options;

use super::refuse;
use super::seat::{Seat, Setup};
use crate::arch::percpu::{self, PerCpu};
use crate::arch::startup::wait_until;
use crate::drain::Drain;
use crate::lock::Mutex;
use crate::nmi::mailbox::Message;
use crate::pmu::source::TickSource;
use crate::workloads::{self, Task};
use crate::{arch::cpu, smp};

/// How far the run is: one of the three below. Written by CPU 0; all others look at it between two steps.
static PHASE: Phase = Phase(AtomicU32::new(PREPARING));

/// Members that have started to sample. Written by each of them.
static STARTED: Phase = Phase(AtomicU32::new(0));

/// A word that changes a few times in a run, on lines of its own.
#[repr(align(128))]
struct Phase(AtomicU32);

const PREPARING: u32 = 0;
const WORKING: u32 = 1;
const OVER: u32 = 2;

/// The other CPUs that sample.
pub struct Team {
    members: Vec<Member>,
    tsc_hz: u64,
}

/// One of them.
struct Member {
    cpu: &'static PerCpu,
    /// What it has in the run, while it is parked.
    part: Arc<Mutex<Option<Part>>>,
}

/// What a CPU has in a run.
struct Part {
    seat: Seat,
    tasks: Vec<Task>,
}

impl Team {
    /// Lets these CPUs take their seats, with the line that CPU 0 has found, if that is what counts; hands the drain of
    /// each to `take`.
    ///
    /// # Context
    /// CPU 0, thread; the CPUs are parked.
    pub fn new(
        setup: Setup,
        line: Option<TickSource>,
        cpus: impl IntoIterator<Item = u16>,
        mut take: impl FnMut(Drain),
    ) -> Self {
        let tsc_hz = setup.frequencies.tsc_hz;
        let members = cpus.into_iter().filter_map(percpu::of).map(|cpu| {
            let (member, drain) = Member::new(setup, line, cpu);
            take(drain);
            member
        });
        Self { members: members.collect(), tsc_hz }
    }

    /// Refuses a team that does not count with what CPU 0 counts with: a capture has one list of events.
    pub fn require_same_pmu(&self, own: &Seat) {
        let own = own.pmu.info();
        for Member { cpu, part } in &self.members {
            let part = part.lock();
            let Some(other) = part.as_ref().map(|part| part.seat.pmu.info()) else { continue };
            if (other.kind, other.name) != (own.kind, own.name) {
                refuse(&alloc::format!(
                    "CPU {} counts with {}, CPU 0 with {}: leave one of them out with cpu_list=",
                    cpu.index,
                    other.name,
                    own.name
                ));
            }
        }
    }

    /// Tells whether CPU 0 is alone.
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sends every member to its place and lets them begin together; returns when all sample.
    pub fn start(&self) {
        PHASE.0.store(PREPARING, Ordering::Relaxed);
        self.members.iter().for_each(|member| member.go_to_work(self.tsc_hz));
        STARTED.0.store(0, Ordering::Relaxed);
        // Release: what CPU 0 has prepared is seen.
        PHASE.0.store(WORKING, Ordering::Release);
        while (STARTED.0.load(Ordering::Acquire) as usize) < self.members.len() {
            spin_loop();
        }
    }

    /// Lets every member stop, and waits until it has.
    pub fn stop(&self) {
        PHASE.0.store(OVER, Ordering::Release);
        for Member { cpu, .. } in &self.members {
            // One without tasks halts, and must be woken to see that it is over.
            while !wait_until(self.tsc_hz / 1000, || smp::is_parked(cpu.index)) {
                cpu.send_nmi(Message::Nudge);
            }
        }
    }

    /// Goes through the seats and tasks of all members.
    ///
    /// # Context
    /// CPU 0, thread; the run is over.
    pub fn for_each(&self, mut look: impl FnMut(&mut Seat, &[Task])) {
        for member in &self.members {
            if let Some(Part { seat, tasks }) = member.part.lock().as_mut() {
                look(seat, tasks);
            }
        }
    }
}

impl Member {
    /// Lets a CPU take its seat.
    fn new(setup: Setup, line: Option<TickSource>, cpu: &'static PerCpu) -> (Self, Drain) {
        let made = Arc::new(Mutex::new(None));
        let place = made.clone();
        let work = move |cpu: &'static PerCpu| {
            let made = take_seat(setup, line, cpu);
            *place.lock() = Some(made);
        };
        smp::assign(cpu, setup.frequencies.tsc_hz, Box::new(work));
        while !smp::is_parked(cpu.index) {
            spin_loop();
        }
        let (part, drain) = made.lock().take().expect("a CPU that is parked again has done its work");
        (Self { cpu, part: Arc::new(Mutex::new(Some(part))) }, drain)
    }

    fn go_to_work(&self, tsc_hz: u64) {
        let place = self.part.clone();
        let work = move |_: &'static PerCpu| {
            let part = place.lock().take();
            let part = part.map(Part::take_part);
            *place.lock() = part;
        };
        smp::assign(self.cpu, tsc_hz, Box::new(work));
    }
}

/// Lets the next CPU run where they run in turn.
///
/// Under icount an emulator's CPU runs until a timer is due, the next one for what is left until then, which is nothing,
/// and the first one again: the others may starve. After a `pause` there is something left.
pub fn give_way() {
    spin_loop();
}

/// Prepares everything for a CPU's part in the run.
///
/// # Context
/// Thread of the CPU.
fn take_seat(setup: Setup, line: Option<TickSource>, cpu: &'static PerCpu) -> (Part, Drain) {
    let Options { workloads, .. } = setup.options;
    let (seat, mut drain) = Seat::new(setup, cpu, line, Vec::new());
    seat.begin(&mut drain);
    // CPU 0 has refused names that nobody knows.
    let tasks = workloads::select(workloads).unwrap_or_default();
    (Part { seat, tasks }, drain)
}

impl Part {
    /// Works from the start of the run to its end.
    ///
    /// # Context
    /// Thread of the CPU.
    fn take_part(mut self) -> Self {
        while PHASE.0.load(Ordering::Acquire) == PREPARING {
            spin_loop();
        }
        self.seat.start();
        STARTED.0.fetch_add(1, Ordering::Release);
        let mut turns = (0..self.tasks.len()).cycle();
        while PHASE.0.load(Ordering::Relaxed) == WORKING {
            match turns.next() {
                Some(turn) => self.tasks[turn].step(),
                None => self.idle(),
            }
            self.seat.cpu.reserve.refill();
            give_way();
        }
        self.seat.stop();
        self
    }

    fn idle(&self) {
        self.seat.cpu.nmi.note_halt();
        cpu::wait_for_nmi();
    }
}
