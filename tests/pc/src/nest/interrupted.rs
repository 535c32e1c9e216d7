//! What an NMI has interrupted: dressed before, read after.

use crate::engine::CpuState;
use crate::machine::Machine;

/// Words of the interrupted stack that are compared.
const STACK_WORDS: u64 = 32;
/// CF, AF, AC, DF, OF and ID: flags that an NMI may interrupt and a handler must not keep or lose.
const FLAGS: u64 = 1 | 1 << 4 | 1 << 10 | 1 << 11 | 1 << 18 | 1 << 21;
/// RF can't be given back by `popfq`, and nothing here can see it.
const RESUME_FLAG: u64 = 1 << 16;
/// Breakpoint 0, locally, on accesses to I/O port 0, which nothing does.
const DR7: u64 = 1 << 17 | 1 << 10 | 1;
const CR2: u64 = 0x1234_5678_9000;
const RBP: usize = 5;

/// What the interrupted code has to find again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// General registers, in the order of their numbers.
    pub general: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// RFLAGS but for RF.
    pub rflags: u64,
    /// CR2.
    pub cr2: u64,
    /// DR7.
    pub dr7: u64,
    /// Words from RSP upwards.
    pub stack: Vec<Option<u64>>,
}

/// Gives the interrupted code something to lose, and returns it.
pub(super) fn dress(machine: &mut Machine) -> Interrupted {
    let mut state = machine.registers();
    let frame = state.general[CpuState::RSP];
    let rflags = (machine.read_word(frame + 16).expect("a frame") | FLAGS) & !RESUME_FLAG;
    machine.write_word(frame + 16, rflags).expect("a frame");
    for (number, register) in (1..).zip(&mut state.general) {
        let is_pattern = number != CpuState::RSP as u64 + 1 && number != RBP as u64 + 1;
        *register = if is_pattern { 0x0f0f_1248_0000_0000 * number + number } else { *register };
    }
    machine.set_registers(&state);
    machine.set_fault_address(CR2);
    machine.set_debug_control(DR7);
    let [rip, rsp] = [0, 24].map(|offset| machine.read_word(frame + offset).expect("a frame"));
    let mut general = state.general;
    general[CpuState::RSP] = rsp;
    Interrupted { general, rip, rflags, cr2: CR2, dr7: DR7, stack: read_stack(machine, rsp) }
}

/// Reads what the code has that runs now.
pub(super) fn read(machine: &mut Machine) -> Interrupted {
    let state = machine.registers();
    Interrupted {
        general: state.general,
        rip: state.rip,
        rflags: machine.rflags() & !RESUME_FLAG,
        cr2: state.control[2],
        dr7: machine.debug_control(),
        stack: read_stack(machine, state.general[CpuState::RSP]),
    }
}

fn read_stack(machine: &mut Machine, sp: u64) -> Vec<Option<u64>> {
    (0..STACK_WORDS).map(|index| machine.read_word(sp + 8 * index)).collect()
}
