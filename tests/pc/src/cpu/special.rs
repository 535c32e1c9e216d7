//! Instructions that the machine executes in place of the engine.

use crate::cpu::decode::Special;
use crate::cpu::{cpuid, msr};
use crate::engine::{CpuState, Engine, Segment};
use crate::watch::Watch;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const R11: usize = 11;
const LOW: u64 = 0xffff_ffff;

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const FMASK: u32 = 0xc000_0084;
const EFER: u32 = 0xc000_0080;
const EFER_SYSTEM_CALL: u64 = 1;
const RESUME_FLAG: u64 = 1 << 16;
const CR4_TIME_FORBIDDEN: u64 = 1 << 2;
const CR4_COUNTERS_ALLOWED: u64 = 1 << 8;

/// A present 64-bit code segment of ring 0.
const KERNEL_CODE: u32 = 0x0020_9b00;
/// A present data segment of ring 0.
const KERNEL_DATA: u32 = 0x00c0_9300;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and RIP is where to go on.
    Done,
    /// It raised #GP.
    GeneralProtection,
    /// It raised #UD.
    InvalidOpcode,
    /// The CPU waits for an interrupt.
    Halted,
}

/// Executes the instruction at RIP, of so many bytes.
pub fn execute(engine: &mut Engine<Watch>, special: Special, len: u8) -> Outcome {
    let mut state = engine.state();
    if is_forbidden(&state, special) {
        return Outcome::GeneralProtection;
    }
    let next = state.rip.wrapping_add(u64::from(len));
    let number = u32::try_from(state.general[RCX] & LOW).unwrap_or(0);
    let done = match special {
        Special::CpuId => {
            let leaf = u32::try_from(state.general[RAX] & LOW).unwrap_or(0);
            let watch = engine.guest();
            let profile = watch.pmu.model().profile();
            let answer = cpuid::answer(profile, leaf, number, watch.msrs.offers_x2apic);
            for (register, value) in [RAX, RBX, RCX, RDX].into_iter().zip(answer) {
                state.general[register] = u64::from(value);
            }
            true
        }
        Special::ReadMsr => msr::read(engine, number).map(|value| give(&mut state, value)).is_some(),
        Special::WriteMsr => {
            let value = state.general[RAX] & LOW | state.general[RDX] << 32;
            return write_msr(engine, number, value, next);
        }
        Special::ReadCounter => {
            let value = engine.guest_mut().with_pmu(|model| model.rdpmc(number)).ok();
            value.map(|value| give(&mut state, value)).is_some()
        }
        Special::ReadTime | Special::ReadTimeAndCpu => {
            give(&mut state, engine.guest().clock);
            if special == Special::ReadTimeAndCpu {
                state.general[RCX] = 0;
            }
            true
        }
        Special::SystemCall => return system_call(engine, state, next),
        Special::Halt => {
            state.rip = next;
            engine.set_state(&state);
            return Outcome::Halted;
        }
    };
    if !done {
        return Outcome::GeneralProtection;
    }
    state.rip = next;
    engine.set_state(&state);
    Outcome::Done
}

/// Writes a register, and moves on: the engine's own state may have changed by it.
fn write_msr(engine: &mut Engine<Watch>, number: u32, value: u64, next: u64) -> Outcome {
    if msr::write(engine, number, value).is_none() {
        return Outcome::GeneralProtection;
    }
    let mut state = engine.state();
    state.rip = next;
    engine.set_state(&state);
    Outcome::Done
}

fn give(state: &mut CpuState, value: u64) {
    state.general[RAX] = value & LOW;
    state.general[RDX] = value >> 32;
}

/// Tells whether user code may not execute it now.
fn is_forbidden(state: &CpuState, special: Special) -> bool {
    let controls = state.control[4];
    state.privilege() != 0
        && match special {
            Special::CpuId | Special::SystemCall => false,
            Special::ReadTime | Special::ReadTimeAndCpu => controls & CR4_TIME_FORBIDDEN != 0,
            Special::ReadCounter => controls & CR4_COUNTERS_ALLOWED == 0,
            Special::ReadMsr | Special::WriteMsr | Special::Halt => true,
        }
}

/// Enters the kernel (SDM volume 2, "SYSCALL").
fn system_call(engine: &mut Engine<Watch>, mut state: CpuState, next: u64) -> Outcome {
    if engine.msr(EFER) & EFER_SYSTEM_CALL == 0 {
        return Outcome::InvalidOpcode;
    }
    let flags = engine.rflags();
    let selector = u32::try_from(engine.msr(STAR) >> 32 & 0xfffc).unwrap_or(0);
    state.general[RCX] = next;
    state.general[R11] = flags & !RESUME_FLAG;
    state.rip = engine.msr(LSTAR);
    state.mode &= !3;
    state.segments[CpuState::CS] = Segment { selector, base: 0, limit: u32::MAX, attributes: KERNEL_CODE };
    state.segments[CpuState::SS] =
        Segment { selector: selector + 8, base: 0, limit: u32::MAX, attributes: KERNEL_DATA };
    let mask = engine.msr(FMASK);
    engine.set_state(&state);
    engine.set_rflags(flags & !mask & !RESUME_FLAG);
    engine.guest_mut().level_changed(0, 0);
    Outcome::Done
}
