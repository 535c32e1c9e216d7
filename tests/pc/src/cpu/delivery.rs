//! Delivery of interrupts and exceptions through the guest's own tables: gate, stack, frame.
//!
//! Source: SDM volume 3, "Interrupt and Exception Handling in 64-bit Mode"; APM volume 2, "Long-Mode Interrupt
//! Control Transfers".

use crate::engine::{CpuState, Engine, Segment};
use crate::watch::Watch;

const GATE_BYTES: u64 = 16;
const PRESENT: u64 = 1 << 47;
const TRAP_GATE: u64 = 1 << 40;
const TASK_RING_ZERO_STACK: u64 = 4;
const TASK_INTERRUPT_STACKS: u64 = 0x24;

const TRAP_FLAG: u64 = 1 << 8;
const INTERRUPT_FLAG: u64 = 1 << 9;
const NESTED_TASK: u64 = 1 << 14;
const RESUME_FLAG: u64 = 1 << 16;

const PRIVILEGE: u32 = 3;
/// A present 64-bit code segment of ring 0 that was accessed.
const KERNEL_CODE: u32 = 0x0020_9b00;
/// A present data segment of ring 0 that was accessed.
const KERNEL_DATA: u32 = 0x00c0_9300;

const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
const DOUBLE_FAULT: u8 = 8;
const GENERAL_PROTECTION: u8 = 13;

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Vector.
    pub vector: u8,
    /// Error code, for exceptions that have one.
    pub error: Option<u32>,
    /// What it is.
    pub origin: Origin,
}

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An interrupt or NMI.
    Outside,
    /// An exception.
    Exception,
    /// An INT instruction at this address, which the gate's privilege level has to allow.
    Instruction(u64),
}

/// The CPU could deliver neither the event nor a double fault: it shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TripleFault;

/// Delivers an event to the guest; the CPU is between two instructions, at RIP.
///
/// # Errors
/// [`TripleFault`].
pub fn deliver(engine: &mut Engine<Watch>, event: Event) -> Result<(), TripleFault> {
    match try_deliver(engine, event) {
        Some(()) => Ok(()),
        None if event.vector == DOUBLE_FAULT => Err(TripleFault),
        None => {
            let double = Event { vector: DOUBLE_FAULT, error: Some(0), origin: Origin::Exception };
            try_deliver(engine, double).ok_or(TripleFault)
        }
    }
}

/// Does so, or changes nothing.
fn try_deliver(engine: &mut Engine<Watch>, event: Event) -> Option<()> {
    let mut state = engine.state();
    let (root, flags) = (state.control[3], engine.rflags());
    let gate = read_gate(engine, &state, event.vector)?;
    if let Origin::Instruction(address) = event.origin
        && gate.privilege < state.privilege()
    {
        state.rip = address;
        engine.set_state(&state);
        let error = u32::from(event.vector) * 8 + 2;
        return try_deliver(
            engine,
            Event { vector: GENERAL_PROTECTION, error: Some(error), origin: Origin::Exception },
        );
    }
    let mut sp = stack(engine, &state, &gate)? & !0xf;
    let [code, data] = [CpuState::CS, CpuState::SS].map(|index| u64::from(state.segments[index].selector));
    let pushed_flags = if is_fault(event) { flags | RESUME_FLAG } else { flags };
    let frame = [data, state.general[CpuState::RSP], pushed_flags, code, state.rip];
    for word in frame.into_iter().chain(event.error.map(u64::from)) {
        sp = sp.wrapping_sub(8);
        engine.ram_mut().write_word(root, sp, word)?;
    }
    enter(&mut state, &gate, sp);
    let mut cleared = TRAP_FLAG | NESTED_TASK | RESUME_FLAG;
    cleared |= if gate.is_trap { 0 } else { INTERRUPT_FLAG };
    state.rflags_rest &= !cleared;
    engine.set_state(&state);
    engine.guest_mut().level_changed(state.privilege(), state.control[3]);
    Some(())
}

/// Puts the CPU at the gate's handler, in ring 0.
fn enter(state: &mut CpuState, gate: &Gate, sp: u64) {
    let from_user = state.privilege() != 0;
    state.general[CpuState::RSP] = sp;
    state.rip = gate.offset;
    state.mode &= !PRIVILEGE;
    state.segments[CpuState::CS] =
        Segment { selector: gate.selector, base: 0, limit: u32::MAX, attributes: KERNEL_CODE };
    if from_user {
        state.segments[CpuState::SS] =
            Segment { selector: 0, base: 0, limit: u32::MAX, attributes: KERNEL_DATA };
    }
}

/// Tells whether RIP is that of the instruction itself: then RF is set in the frame.
fn is_fault(event: Event) -> bool {
    event.origin == Origin::Exception && !matches!(event.vector, DEBUG | BREAKPOINT | OVERFLOW | DOUBLE_FAULT)
}

/// What a gate says.
struct Gate {
    offset: u64,
    selector: u32,
    stack_index: u64,
    privilege: u32,
    is_trap: bool,
}

fn read_gate(engine: &Engine<Watch>, state: &CpuState, vector: u8) -> Option<Gate> {
    let offset = u64::from(vector) * GATE_BYTES;
    if offset + GATE_BYTES - 1 > u64::from(state.idt.limit) {
        return None;
    }
    let (root, address) = (state.control[3], state.idt.base + offset);
    let low = engine.ram().read_word(root, address)?;
    let high = engine.ram().read_word(root, address + 8)?;
    (low & PRESENT != 0).then(|| Gate {
        offset: low & 0xffff | low >> 32 & 0xffff_0000 | high << 32,
        selector: u32::try_from(low >> 16 & 0xffff).unwrap_or(0),
        stack_index: low >> 32 & 7,
        privilege: u32::try_from(low >> 45 & 3).unwrap_or(0),
        is_trap: low & TRAP_GATE != 0,
    })
}

/// Finds the stack on which the frame begins.
fn stack(engine: &Engine<Watch>, state: &CpuState, gate: &Gate) -> Option<u64> {
    let offset = match gate.stack_index {
        0 if state.privilege() == 0 => return Some(state.general[CpuState::RSP]),
        0 => TASK_RING_ZERO_STACK,
        index => TASK_INTERRUPT_STACKS + (index - 1) * 8,
    };
    engine.ram().read_word(state.control[3], state.task.base + offset)
}
