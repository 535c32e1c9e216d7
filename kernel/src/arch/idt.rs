//! The interrupt descriptor table.
//!
//! Vectors 0 to 31 are the CPU's. Vector 2 is set by [`install_nmi`], because its entry is chosen at run
//! time, and one choice puts a stub before vector 13's, by [`install_general_protection`]. Of the others only
//! the tick's is used, and those that a controller may raise for nothing. Every gate is closed to user code:
//! `int` there is #GP, whatever its number (case 42), and every gate disables interrupts.

#![expect(unsafe_code, reason = "installs entry points")]

use core::ptr;

use spin::{Mutex, Once};
use x86_64::VirtAddr;
use x86_64::instructions::tables::sidt;
use x86_64::structures::idt::InterruptDescriptorTable;

use super::exception::stub;
use super::gdt::Ist;
use super::interrupt::{self, SERIAL_VECTOR, SPURIOUS_VECTORS, TICK_VECTORS};

static IDT: Once<Mutex<InterruptDescriptorTable>> = Once::new();

/// Fills the table, but for vector 2, and loads it into this CPU.
pub fn load() {
    let table = IDT.call_once(|| Mutex::new(exceptions()));
    // SAFETY: (1) the table is static; (2) the CPU reads it without the lock, and all that writes to it is
    // `install_nmi` and `install_general_protection`, one entry each, while no NMI can arrive.
    unsafe { (*table.lock()).load_unsafe() };
}

/// Sets the entry of vector 2, on its own stack.
///
/// # Safety
/// `entry` is an NMI entry for the stack that [`Ist::Nmi`] names, and no NMI can arrive yet.
pub unsafe fn install_nmi(entry: VirtAddr) {
    let table = IDT.call_once(|| Mutex::new(exceptions()));
    let mut table = table.lock();
    // SAFETY: (caller).
    let options = unsafe { table.non_maskable_interrupt.set_handler_addr(entry) };
    // SAFETY: (caller) the entry expects this stack.
    unsafe { options.set_stack_index(Ist::Nmi as u16) };
}

/// Returns the entry of vector 2.
#[cfg(feature = "selftest")]
pub fn nmi_entry() -> VirtAddr {
    let table = IDT.call_once(|| Mutex::new(exceptions()));
    table.lock().non_maskable_interrupt.handler_addr()
}

/// Tells whether vector 2 starts on its own stack, by the table that this CPU uses.
///
/// An NMI that started on the interrupted stack would find neither its counters nor its state.
pub fn nmi_has_its_stack() -> bool {
    const VECTOR: usize = 2;
    const DESCRIPTOR_WORDS: usize = 2;
    const STACK_INDEX_SHIFT: u32 = 32;
    let table = sidt();
    if usize::from(table.limit) < (VECTOR + 1) * DESCRIPTOR_WORDS * size_of::<u64>() - 1 {
        return false;
    }
    let descriptor = table.base.as_ptr::<u64>().wrapping_add(VECTOR * DESCRIPTOR_WORDS);
    // SAFETY: the table is loaded, and long enough (checked above).
    let low = unsafe { ptr::read_volatile(descriptor) };
    // The field counts from 1; 0 is no stack of its own.
    low >> STACK_INDEX_SHIFT & 0b111 == Ist::Nmi as u64 + 1
}

/// Takes the stack of its own from vector 2.
#[cfg(feature = "selftest")]
pub fn take_nmi_stack_away() {
    if let Some(table) = IDT.get() {
        let mut table = table.lock();
        let entry = table.non_maskable_interrupt.handler_addr();
        // SAFETY: the kernel refuses to go on before an NMI can come: the caller sees to that.
        unsafe { table.non_maskable_interrupt.set_handler_addr(entry) };
    }
}

/// Puts a stub before the shared one at vector 13: the poisoned return of an NMI raises #GP.
///
/// # Safety
/// `stub` takes an error code, on the interrupted stack, and jumps to `exception_stub_13` in the state in
/// which it was entered, but for what it knows to be its own.
pub unsafe fn install_general_protection(stub: VirtAddr) {
    let table = IDT.call_once(|| Mutex::new(exceptions()));
    // SAFETY: (caller).
    unsafe { table.lock().general_protection_fault.set_handler_addr(stub) };
}

/// Sends vector 1 to the entry of #MC, on the stack of #MC: what raises #DB then looks like a machine check.
#[cfg(feature = "selftest")]
pub fn swap_debug_for_machine_check() {
    let table = IDT.call_once(|| Mutex::new(exceptions()));
    let mut table = table.lock();
    let machine_check = stub(18);
    // SAFETY: neither exception pushes an error code.
    let options = unsafe { table.debug.set_handler_addr(machine_check) };
    // SAFETY: every CPU has this stack, and it is the one of the entry.
    unsafe { options.set_stack_index(Ist::MachineCheck as u16) };
}

/// Sets table fields to their exception stubs, on interrupt stacks where one is named.
macro_rules! set_stubs {
    ($idt:ident: $($field:ident = $vector:literal $(on $ist:ident)?),+ $(,)?) => {
        $(
            // SAFETY: the stub is that of this vector, with or without an error code as the CPU has it.
            let _options = unsafe { $idt.$field.set_handler_addr(stub($vector)) };
            $(
                // SAFETY: every CPU loads a task state that has this stack before it loads the table.
                unsafe { _options.set_stack_index(Ist::$ist as u16) };
            )?
        )+
    };
}

fn exceptions() -> InterruptDescriptorTable {
    let mut idt = InterruptDescriptorTable::new();
    set_stubs!(idt:
        divide_error = 0,
        debug = 1 on Debug,
        breakpoint = 3,
        overflow = 4,
        bound_range_exceeded = 5,
        invalid_opcode = 6,
        device_not_available = 7,
        double_fault = 8 on DoubleFault,
        invalid_tss = 10,
        segment_not_present = 11,
        stack_segment_fault = 12,
        general_protection_fault = 13,
        page_fault = 14,
        x87_floating_point = 16,
        alignment_check = 17,
        machine_check = 18 on MachineCheck,
        simd_floating_point = 19,
        virtualization = 20,
        cp_protection_exception = 21,
    );
    for vector in TICK_VECTORS {
        // SAFETY: the entry is that of an interrupt, which has no error code.
        unsafe { idt[vector].set_handler_addr(interrupt::tick_entry()) };
    }
    // SAFETY: as for the tick.
    unsafe { idt[SERIAL_VECTOR].set_handler_addr(interrupt::serial_entry()) };
    for vector in SPURIOUS_VECTORS {
        // SAFETY: as for the tick.
        unsafe { idt[vector].set_handler_addr(interrupt::spurious_entry()) };
    }
    idt
}
