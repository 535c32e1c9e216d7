//! Gates of the interrupt table: where a vector leads.

use crate::machine::Machine;

const GATE_BYTES: u64 = 16;
/// The bits of a gate's first word that are the address.
const LOW_OFFSET: u64 = 0xffff_0000_0000_ffff;

/// Points a vector to other code.
pub(super) fn set(machine: &mut Machine, vector: u64, address: u64) {
    let place = place(machine, vector);
    let low = machine.read_word(place).expect("a gate") & !LOW_OFFSET;
    machine.write_word(place, low | address & 0xffff | (address >> 16 & 0xffff) << 48).expect("a gate");
    machine.write_word(place + 8, address >> 32).expect("a gate");
}

/// Returns the code that a vector points to.
pub(super) fn target(machine: &mut Machine, vector: u64) -> u64 {
    let place = place(machine, vector);
    let [low, high] = [0, 8].map(|offset| machine.read_word(place + offset).expect("a gate"));
    low & 0xffff | low >> 32 & 0xffff_0000 | high << 32
}

fn place(machine: &mut Machine, vector: u64) -> u64 {
    machine.registers().idt.base + vector * GATE_BYTES
}
