//! The interrupted code of a placement of the NMI sweep.
//!
//! A placement is two NMIs at exact instructions: a self-NMI, sent by a store, and that of the local APIC's
//! timer, armed a few instructions before. [`run`] loads known values into every register and flag, does
//! both, runs a straight line of no-operations meanwhile, and tells what it finds in the registers then.
//!
//! # What `ticks` mean
//! Under QEMU's TCG with `-icount shift=0` one tick is one instruction, and every instruction counts, those of
//! the NMI too. A timer armed with `ticks` raises its NMI when `ticks + 1` more instructions have retired:
//!
//! | `ticks` | when the timer's NMI is raised |
//! |---|---|
//! | 1 to [`ENTRY_TICKS`] - 1 | in the lead: it is the first NMI then. The last of these interrupts `experiment_send` |
//! | [`ENTRY_TICKS`] + n | when n instructions of the first NMI have retired: the next is number n of its path, and 0 is the first of its entry |
//!
//! It is taken there if NMIs are not masked; else it is latched, and is taken after the next `iret`, before
//! the instruction that this goes to. An `iret` counts as one instruction, so does one that faults and is run
//! again after the fault; the delivery of an NMI or a fault counts as none.
//! No number of ticks merges the two NMIs into one: at `ENTRY_TICKS` the self-NMI is taken first.
//!
//! # The third NMI
//! It comes from the [HPET](crate::arch::hpet), whose tick is [`THIRD_TICK_INSTRUCTIONS`] long. Its count begins with
//! one store before the registers are loaded, and a run of no-operations between that store and the arming of the
//! timer makes up for what is left of a tick. So [`Third::at`] puts it on any tick of the timer.

#![expect(unsafe_code, reason = "leaves the registers to the code under test")]

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use super::apic::experiment::{COMMAND, INITIAL_COUNT, SELF_NMI};
use super::frame::WORD;
use super::gdt::{KERNEL_CODE, KERNEL_DATA};
use super::hpet::message::Hpet;
use crate::nmi::experiment::recover;

/// Instructions between the store that arms the timer and the one that sends the self-NMI.
pub const LEAD_INSTRUCTIONS: u32 = 8;
/// Ticks with which the timer's NMI is raised before the first instruction of the first NMI's entry.
pub const ENTRY_TICKS: u32 = LEAD_INSTRUCTIONS;
/// Instructions of the line. A timer of that many ticks runs out in the line at the latest.
pub const LINE_INSTRUCTIONS: u32 = 4096;

/// Instructions of one tick of the third NMI's source: 10 ns under `-icount shift=0`.
pub const THIRD_TICK_INSTRUCTIONS: u32 = 10;
/// No-operations between its start and the loading of the registers: what a tick can be off.
const PHASE_INSTRUCTIONS: u32 = THIRD_TICK_INSTRUCTIONS - 1;
/// Instructions that load the registers: RSP, 15 pops, the flags, RSP.
const LOAD_INSTRUCTIONS: u32 = 18;
/// Instructions from the store that starts the source, which is not one of them, to the one that arms the
/// timer, which is: a jump, the registers, and that store.
const START_TO_ARM: u32 = 1 + LOAD_INSTRUCTIONS + 1;

/// The one-byte no-operation: address and instruction count advance together.
const NOP: u8 = 0x90;
/// What the ABI asks of RSP at a call.
const STACK_ALIGN: usize = 16;
/// The flag that is always set; with everything else clear.
const RFLAGS_RESERVED: u32 = 1 << 1;

global_asm!(
    include_str!("experiment.S"),
    WORD = const WORD,
    INITIAL_COUNT = const INITIAL_COUNT,
    COMMAND = const COMMAND,
    SELF_NMI = const SELF_NMI,
    PHASE_INSTRUCTIONS = const PHASE_INSTRUCTIONS,
    LOAD_INSTRUCTIONS = const LOAD_INSTRUCTIONS,
    LEAD_INSTRUCTIONS = const LEAD_INSTRUCTIONS,
    LINE_INSTRUCTIONS = const LINE_INSTRUCTIONS,
    NOP = const NOP,
    STACK_ALIGN = const STACK_ALIGN,
    KERNEL_CODE = const KERNEL_CODE,
    KERNEL_DATA = const KERNEL_DATA,
    RFLAGS_RESERVED = const RFLAGS_RESERVED,
    recover = sym recover,
);

unsafe extern "C" {
    safe static experiment_line: u8;
    safe static experiment_line_end: u8;
    fn experiment_run(
        wanted: *const Registers,
        found_end: *mut Registers,
        stack_pointer: u64,
        start_register: *mut u32,
        start_value: u32,
        skipped: u64,
    ) -> u64;
    fn experiment_abandon() -> !;
}

/// Every general-purpose register but RSP, and the flags, in the order in which the assembly pops them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// RAX, RBX.
    pub rax_rbx: [u64; 2],
    /// RCX: its lower half is the timer's ticks.
    pub rcx: u64,
    /// RDX, RSI.
    pub rdx_rsi: [u64; 2],
    /// RDI: the address of the APIC's registers.
    pub rdi: u64,
    /// RBP, R8 to R15.
    pub rbp_to_r15: [u64; 9],
    /// RFLAGS. The trap flag must be clear.
    pub rflags: u64,
}

const _: () = assert!(size_of::<Registers>() == 16 * WORD, "the assembly pops and pushes 16 words");

impl Registers {
    /// Returns what the timer is armed with.
    #[expect(clippy::cast_possible_truncation, reason = "the assembly stores ECX")]
    pub const fn ticks(&self) -> u32 {
        self.rcx as u32
    }
}

/// When the third NMI comes.
#[derive(Clone, Copy, Debug)]
pub struct Third {
    source: Hpet,
    /// Ticks of its source.
    pub count: u32,
    /// No-operations to skip between its start and the arming of the timer.
    skipped: u32,
}

impl Third {
    /// Chooses the moment at which the timer's NMI would be raised if it were armed with `ticks`.
    pub const fn at(source: Hpet, ticks: u32) -> Self {
        // The timer raises its NMI `ticks + 1` instructions after it is armed.
        let instructions = START_TO_ARM + ticks + 1;
        let count = instructions.div_ceil(THIRD_TICK_INSTRUCTIONS);
        let phase = count * THIRD_TICK_INSTRUCTIONS - instructions;
        Self { source, count, skipped: PHASE_INSTRUCTIONS - phase }
    }

    /// Stops its source.
    pub fn disarm(&self) {
        self.source.stop();
    }
}

/// Runs the code of a placement on any stack pointer: the timer is armed with the lower half of `rcx`, 0 for not at
/// all, and the source of the third NMI is started, if there is one.
///
/// Returns the registers and RSP as they were after the line, or nothing if the NMI was [abandoned](abandon).
///
/// # Context
/// Thread. The APIC's timer raises NMIs, and a command goes to this CPU.
pub fn run(wanted: &Registers, third: Option<&Third>, stack_pointer: u64) -> Option<(Registers, u64)> {
    let (mut found, mut unused) = (Registers::default(), 0);
    let ((register, value), skipped) = match third {
        Some(third) => {
            third.source.set(third.count);
            (third.source.start_register(), third.skipped)
        }
        None => ((&raw mut unused, 0), PHASE_INSTRUCTIONS),
    };
    let found_end = (&raw mut found).wrapping_add(1);
    // SAFETY: (1) the assembly restores what the ABI wants restored, from memory; (2) it fills `found` from
    // its end; (3) nothing is pushed at the experiment's RSP: NMIs have a stack of their own, no other interrupt
    // is on, and the line's instructions raise nothing; (4) the register is that of an HPET, or a word of this
    // function; (5) `skipped` is at most what there is to skip.
    let rsp =
        unsafe { experiment_run(wanted, found_end, stack_pointer, register, value, u64::from(skipped)) };
    (rsp != 0).then_some((found, rsp))
}

/// Leaves an NMI that can't go on, as if the line had ended: [`run`] returns nothing.
///
/// # Safety
/// [`run`] runs on this CPU, and the caller is inside an NMI that interrupted it. None of the frames in
/// between has anything to drop.
pub unsafe fn abandon() -> ! {
    // SAFETY: (caller).
    unsafe { experiment_abandon() }
}

/// Tells whether an address lies in the line, beyond its first instruction: the first NMI has returned then, and
/// nothing is latched that came before.
pub fn is_beyond_return(rip: u64) -> bool {
    rip != line_start() && was_sent(rip)
}

/// Returns the address of the instruction after the one that sends the self-NMI.
pub fn line_start() -> u64 {
    (&raw const experiment_line) as u64
}

/// Tells from the interrupted address whether the self-NMI was sent.
#[inline]
pub fn was_sent(rip: u64) -> bool {
    (line_start()..=(&raw const experiment_line_end) as u64).contains(&rip)
}

/// Sets CR2, the address of the last page fault.
pub fn write_cr2(value: u64) {
    // SAFETY: nothing but a page-fault handler gives a meaning to the register, and it reads it first.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

const SCRATCH_WORDS: usize = 256;
const WORDS_BELOW_RSP: usize = 192;
/// Words just below RSP that an entry may write: it may return by `popfq; ret`, and code without a red
/// zone leaves them free.
const WORDS_FREE: usize = 2;

/// The stack of the interrupted code: it holds a pattern, above and below its RSP.
#[repr(align(16))]
pub struct ScratchStack([AtomicU64; SCRATCH_WORDS]);

impl ScratchStack {
    /// Creates a stack without its pattern.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; SCRATCH_WORDS])
    }

    /// Returns the RSP of the interrupted code.
    pub fn pointer(&self) -> u64 {
        self.0[WORDS_BELOW_RSP].as_ptr() as u64
    }

    /// Writes the pattern.
    pub fn paint(&self, seed: u64) {
        for (word, value) in self.0.iter().zip(seed..) {
            // Relaxed: the code under test runs on the same CPU, and is called in between.
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Tells whether the pattern is still there, but for the words that an entry may write.
    pub fn is_intact(&self, seed: u64) -> bool {
        let free = WORDS_BELOW_RSP - WORDS_FREE..WORDS_BELOW_RSP;
        let mut words = self.0.iter().zip(seed..).enumerate();
        words.all(|(index, (word, value))| free.contains(&index) || word.load(Ordering::Relaxed) == value)
    }
}
