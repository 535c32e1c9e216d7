//! Turnstiles: every order in which two CPUs can make their steps is forced, one after the other.
//!
//! A *step* is an access to something that another CPU accesses, too. Before each of its steps a CPU that races passes
//! a turnstile, where it waits until CPU 0 lets it through; CPU 0 does so when both racers wait or have finished. So
//! one step is made at a time, and what each race came to depends on the order of the steps alone. Wherever both wait
//! there is a choice; [`Orders`] goes through all of them, as model checkers do that have no model but the program
//! (Godefroid, "Model Checking for Programming Languages using VeriSoft", 1997).
//!
//! That is the program's order of sequentially consistent steps: what a weaker memory model allows beyond that is for a
//! long run on CPUs that do run in parallel.

#![expect(unsafe_code, reason = "touches pages")]

use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::arch::cpu;
use crate::arch::fallible;
use crate::arch::percpu::{self, PerCpu};
use crate::arch::startup::wait_until;
use crate::nmi::mailbox::Message;
use crate::report;

/// CPUs that race: 1 and 2.
pub const RACERS: usize = 2;
/// Steps of one race, at most.
const STEPS_MAX: u32 = 100;
/// Time for a step.
const TICKS_MAX: u64 = 1 << 32;
/// Levels of page tables.
const LEVELS: usize = 4;

/// Which turnstile it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Gate {
    /// Before each access to a table entry that another CPU may change, too.
    Tables = 1,
    /// At the start of an NMI that nobody explains, and where it has the right to look at system control port B.
    Port,
}

/// All turnstiles are open.
const OPEN: u32 = 0;

/// The [`Gate`] that is closed. Written by CPU 0 while nobody races.
static CLOSED: AtomicU32 = AtomicU32::new(OPEN);
/// Racers that are not at the starting line yet; 0 for no line.
static MISSING: AtomicUsize = AtomicUsize::new(0);
/// The CPUs that race, or may.
static RACING: [Racer; RACERS] = [const { Racer::new() }; RACERS];
/// Compare-exchanges of table entries that another CPU's had come before, by level.
static LOST: [AtomicU64; LEVELS] = [const { AtomicU64::new(0) }; LEVELS];

/// One CPU that races.
#[repr(align(128))]
struct Racer {
    /// [`FINISHED`] to [`WAITING`]. Written by CPU 0 from finished or waiting to running, and by its own CPU to all else.
    state: AtomicU32,
    /// What its next NMI is to do: one of the three below. Written by whoever sends it, and taken by it.
    job: AtomicU32,
    /// The pages to touch: the address of the first, the bytes to the next one, and how many. Written before the job.
    first: AtomicU64,
    stride: AtomicU64,
    pages: AtomicU64,
    /// The run at hand is this CPU's part of the race. Written by the NMI.
    is_part: AtomicU32,
    /// Touches that returned an error.
    errors: AtomicU64,
}

const FINISHED: u32 = 0;
const RUNNING: u32 = 1;
const WAITING: u32 = 2;

const NOTHING: u32 = 0;
/// Touch pages.
const TOUCH: u32 = 1;
/// Touch them, and have finished then.
const TOUCH_AND_FINISH: u32 = 2;

impl Racer {
    const fn new() -> Self {
        let [first, stride, pages, errors] = [const { AtomicU64::new(0) }; 4];
        let [state, job, is_part] = [const { AtomicU32::new(0) }; 3];
        Self { state, job, first, stride, pages, is_part, errors }
    }
}

fn racer(cpu: u16) -> Option<&'static Racer> {
    RACING.get(usize::from(cpu).checked_sub(1)?)
}

/// Waits until this CPU may make its next step, if it races and this turnstile is closed.
///
/// # Context
/// Any, the NMI and its faults included.
#[inline]
pub fn pass(gate: Gate) {
    // Relaxed: it changes while nobody races.
    if CLOSED.load(Ordering::Relaxed) == gate as u32 {
        wait_for_turn();
    }
}

#[cold]
fn wait_for_turn() {
    let Some(racer) = percpu::find().and_then(|cpu| racer(cpu.index)) else { return };
    if racer.state.load(Ordering::Relaxed) != RUNNING {
        return;
    }
    // Release and Acquire: what the one has done before its turn ends is seen by the other.
    racer.state.store(WAITING, Ordering::Release);
    while racer.state.load(Ordering::Acquire) == WAITING {
        spin_loop();
    }
}

/// Notes a lost race for an entry.
pub fn lost(level: u32) {
    if let Some(count) = LOST.get(level as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns how many races for entries were lost, by level.
pub fn lost_so_far() -> [u64; LEVELS] {
    LOST.each_ref().map(|count| count.load(Ordering::Relaxed))
}

/// Does at the start of an NMI what it was sent for.
///
/// # Context
/// NMI, while sampling is off.
pub fn begin_run(cpu: u16) {
    let Some(racer) = racer(cpu) else { return };
    // Acquire: pairs with `touch_in_next_nmi`.
    let job = racer.job.swap(NOTHING, Ordering::Acquire);
    if job == NOTHING {
        return;
    }
    racer.is_part.store((job == TOUCH_AND_FINISH).into(), Ordering::Relaxed);
    wait_at_line();
    pass(Gate::Port);
    for page in 0..racer.pages.load(Ordering::Relaxed) {
        let address = racer.first.load(Ordering::Relaxed) + page * racer.stride.load(Ordering::Relaxed);
        // SAFETY: an area that is made for races, in which nothing else lies.
        let touched = unsafe { fallible::touch_word(address) };
        racer.errors.fetch_add(touched.is_err().into(), Ordering::Relaxed);
    }
}

/// Draws a starting line, at which two NMIs wait for each other.
///
/// # Context
/// CPU 0, thread; nobody races.
pub fn draw_line() {
    MISSING.store(RACERS, Ordering::Release);
}

fn wait_at_line() {
    if MISSING.load(Ordering::Acquire) == 0 {
        return;
    }
    MISSING.fetch_sub(1, Ordering::AcqRel);
    // Not `pause`: that of an emulator is a long one.
    while MISSING.load(Ordering::Acquire) != 0 {
        cpu::nop_sled(1);
    }
}

/// Notes at the end of an NMI that the race is over for this CPU, if it was sent for that.
///
/// # Context
/// As for [`begin_run`].
pub fn end_run(cpu: u16) {
    if let Some(racer) = racer(cpu)
        && racer.is_part.swap(0, Ordering::Relaxed) != 0
    {
        finish(cpu);
    }
}

/// Lets the next NMI of a CPU touch pages, so many bytes apart; if that is so, its part of the race is over then.
///
/// # Context
/// Thread; no such NMI is on its way.
pub fn touch_in_next_nmi(cpu: u16, address: u64, pages: u64, stride: u64, finishes: bool) {
    if let Some(racer) = racer(cpu) {
        racer.first.store(address, Ordering::Relaxed);
        racer.stride.store(stride, Ordering::Relaxed);
        racer.pages.store(pages, Ordering::Relaxed);
        // Release: the pages come first.
        racer.job.store(if finishes { TOUCH_AND_FINISH } else { TOUCH }, Ordering::Release);
    }
}

/// Notes that the race is over for this CPU.
pub fn finish(cpu: u16) {
    if let Some(racer) = racer(cpu) {
        racer.state.store(FINISHED, Ordering::Release);
    }
}

/// Notes whether a thread's part has come out right.
pub fn note(cpu: u16, is_right: bool) {
    if let Some(racer) = racer(cpu) {
        racer.errors.fetch_add((!is_right).into(), Ordering::Relaxed);
    }
}

/// Tells whether a CPU races that is not held.
pub fn is_running() -> bool {
    RACING.iter().any(|racer| racer.state.load(Ordering::Acquire) == RUNNING)
}

/// Returns how many touches of a CPU have returned an error since this was asked last.
pub fn take_errors(cpu: u16) -> u64 {
    racer(cpu).map_or(0, |racer| racer.errors.swap(0, Ordering::Relaxed))
}

/// Closes one gate.
///
/// # Context
/// CPU 0, thread; nobody races.
pub fn close(gate: Gate) {
    CLOSED.store(gate as u32, Ordering::Release);
}

/// Opens it.
///
/// # Context
/// As for [`close`].
pub fn open() {
    CLOSED.store(OPEN, Ordering::Release);
}

/// Lets a CPU that is parked race: by an NMI, or by what `send` gives it to do.
pub fn begin(cpu: &'static PerCpu, send: impl FnOnce(&'static PerCpu)) {
    if let Some(racer) = racer(cpu.index) {
        racer.state.store(RUNNING, Ordering::Release);
    }
    send(cpu);
}

/// Sends an NMI that has a message.
pub fn by_nmi(cpu: &'static PerCpu) {
    cpu.send_nmi(Message::Nudge);
}

/// Every order of the steps.
pub struct Orders {
    /// Which racer's turn it is, wherever both wait.
    choices: Vec<usize>,
    /// How many of these the race at hand has come to.
    made: usize,
    /// Races so far.
    races: u64,
}

impl Orders {
    /// Begins with the order in which the first racer goes first, always.
    pub fn new() -> Self {
        Self { choices: Vec::with_capacity(STEPS_MAX as usize), made: 0, races: 0 }
    }

    /// Leads one race, which has begun, to its end.
    ///
    /// # Context
    /// CPU 0, thread.
    pub fn lead(&mut self) {
        self.made = 0;
        for _ in 0..STEPS_MAX {
            let turn = match waiting() {
                [true, true] => self.choose(),
                [true, false] => 0,
                [false, true] => 1,
                [false, false] => {
                    self.races += 1;
                    if self.made < self.choices.len() {
                        report::broken_setup(format_args!(
                            "a race did not come to the choices of the one before"
                        ));
                    }
                    return;
                }
            };
            RACING[turn].state.store(RUNNING, Ordering::Release);
        }
        report::broken_setup(format_args!("a race has no end"));
    }

    fn choose(&mut self) -> usize {
        if self.made == self.choices.len() {
            self.choices.push(0);
        }
        self.made += 1;
        self.choices[self.made - 1]
    }

    /// Goes on to the next order; tells whether there is one.
    pub fn advance(&mut self) -> bool {
        while let Some(last) = self.choices.pop() {
            if last + 1 < RACERS {
                self.choices.push(last + 1);
                return true;
            }
        }
        false
    }

    /// Returns how many races there were.
    pub const fn races(&self) -> u64 {
        self.races
    }
}

/// Waits until no racer runs; tells which ones wait.
fn waiting() -> [bool; RACERS] {
    RACING.each_ref().map(|racer| {
        // Acquire: pairs with the stores of the racers.
        if !wait_until(TICKS_MAX, || racer.state.load(Ordering::Acquire) != RUNNING) {
            report::broken_setup(format_args!("a CPU that races is stuck"));
        }
        racer.state.load(Ordering::Acquire) == WAITING
    })
}
